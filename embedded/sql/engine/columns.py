"""The clauses that CREATE TABLE, ALTER TABLE and reflections share: columns, partitions, sort order, options."""

from __future__ import annotations

from embedded.sql.engine import statements as st
from embedded.sql.engine.datatypes import parse_type
from embedded.sql.engine.tokens import Cursor
from embedded.sql.errors import UnsupportedError

_TRANSFORMS = ("identity", "year", "month", "day", "hour", "bucket", "truncate")


def column_definition(c: Cursor, *, untyped: bool = False) -> st.ColumnDefinition:
    """name type [NULL | NOT NULL]; with `untyped` a bare name is allowed too."""
    name = c.name()
    if untyped and (c.sees(",") or c.sees(")")):
        return st.ColumnDefinition(name, None)
    data_type = parse_type(c.text_until(",", "NOT", "NULL", "MASKING", "DEFAULT", "DROP"))
    if c.accept("NOT", "NULL"):
        return st.ColumnDefinition(name, data_type, nullable=False)
    c.accept("NULL")
    for word in ("MASKING", "DEFAULT", "DROP"):
        if c.sees(word):
            raise UnsupportedError(f"{word} in a column definition is not supported by this server.")
    return st.ColumnDefinition(name, data_type)


def partition_term(c: Cursor) -> st.PartitionTerm:
    """column | year(column) | bucket(n, column) | truncate(n, column)"""
    word = c.name()
    if not c.accept("("):
        return st.PartitionTerm(word)
    transform, argument = word.lower(), 0
    if transform not in _TRANSFORMS:
        raise c.error()
    if transform in ("bucket", "truncate"):
        argument = c.integer()
        c.expect(",")
    column = c.name()
    c.expect(")")
    return st.PartitionTerm(column, transform, argument)  # type: ignore[arg-type]


def named_options(c: Cursor) -> dict[str, object]:
    """( name => value, ... ); values are strings, numbers, TRUE or FALSE."""

    def option() -> tuple[str, object]:
        name = c.name()
        c.expect("=>")
        return name, _value(c)

    return dict(c.parenthesised(option))


def _value(c: Cursor) -> object:
    kind = c.peek().kind
    if kind == "string":
        return c.string()
    if kind == "number":
        return c.integer()
    if word := c.one_of("TRUE", "FALSE"):
        return word == "TRUE"
    raise c.error()


def layout(c: Cursor) -> st.Layout:
    """[method] PARTITION BY, DISTRIBUTE BY, LOCALSORT BY, TBLPROPERTIES, STORE AS, WITH SINGLE WRITER, in order."""
    partition: tuple[st.PartitionTerm, ...] = ()
    sort: tuple[str, ...] = ()
    options: dict[str, object] = {}
    method = c.one_of("HASH", "STRIPED", "ROUNDROBIN")
    if c.accept("PARTITION", "BY"):
        partition = c.parenthesised(lambda: partition_term(c))
    elif method:
        raise c.error()
    if c.accept("DISTRIBUTE", "BY"):
        c.names()  # how rows spread over executors; one process has one
    if c.accept("LOCALSORT", "BY"):
        sort = c.names()
    if c.accept("TBLPROPERTIES"):
        options |= dict(c.parenthesised(lambda: _property(c)))
    if c.accept("STORE", "AS"):
        options |= named_options(c)
        if str(options.get("type", "iceberg")).lower() not in ("iceberg", "parquet"):
            raise UnsupportedError(f"Tables of type [{options['type']}] cannot be written by this server.")
    _refuse(c, "CLUSTER", "LOCATION", "ROW")
    single = c.accept("WITH", "SINGLE", "WRITER")
    return st.Layout(partition, sort, options, single)


def _refuse(c: Cursor, *words: str) -> None:
    for word in words:
        if c.sees(word):
            raise UnsupportedError(f"{word} in CREATE TABLE is not supported by this server.")


def _property(c: Cursor) -> tuple[str, str]:
    name = c.string()
    c.expect("=")
    return name, c.string()
