"""ALTER {TABLE|VIEW|VDS|PDS|DATASET} and what may follow (dremio.md 2.3)."""

from __future__ import annotations

from collections.abc import Callable

from embedded.sql.datasets import Path
from embedded.sql.engine import statements as st
from embedded.sql.engine.columns import column_definition, partition_term
from embedded.sql.engine.grammar_objects import parse_alter_account
from embedded.sql.engine.grammar_session import assign, parse_option
from embedded.sql.engine.tokens import Cursor
from embedded.sql.errors import UnsupportedError

_MEASURES = ("COUNT", "MIN", "MAX", "SUM")


def parse_alter(c: Cursor) -> st.Statement:  # noqa: C901  one line per form reads better than a table of them
    c.expect("ALTER")
    if not c.one_of("TABLE", "VIEW", "VDS", "PDS", "DATASET"):
        return _alter_other(c)
    path = c.path()
    if c.sees("AT"):
        raise UnsupportedError("ALTER ... AT a version is not supported by this server.")
    for start, parse in _LAYOUTS:
        if c.accept(*start.split()):
            return parse(c, path)
    if c.accept("ADD", "COLUMNS"):
        return st.AddColumns(path, c.parenthesised(lambda: column_definition(c)))
    if c.accept("DROP", "COLUMN"):
        return st.DropColumn(path, c.name())
    if c.accept("DROP", "REFLECTION"):
        return st.DropReflection(path, c.name())
    if c.accept("REFRESH", "METADATA"):
        return _refresh_metadata(c, path)
    if c.accept("FORGET", "METADATA"):
        return st.ForgetMetadata(path)
    if c.accept("REFRESH", "REFLECTIONS"):
        return st.RefreshReflections(path)
    if c.accept("CREATE") or c.accept("ADD"):
        return _create_reflection(c, path)
    if verb := c.one_of("ENABLE", "DISABLE"):
        raw = c.accept("RAW")
        if not raw:
            c.expect("AGGREGATE")
        c.expect("ACCELERATION")
        return st.SetAcceleration(path, "RAW" if raw else "AGGREGATION", verb == "ENABLE")
    if c.accept("SET", "ENABLE_DEFAULT_REFLECTION"):
        c.expect("=")
        value = c.one_of("TRUE", "FALSE")
        if not value:
            raise c.error()
        return st.EnableDefaultReflection(path, value == "TRUE")
    if c.one_of("ALTER", "MODIFY", "CHANGE"):
        c.expect("COLUMN")
        return _alter_column(c, path)
    for words in _REFUSED:
        if c.sees(*words.split()):
            raise UnsupportedError(f"ALTER TABLE ... {words} is not supported by this server.")
    raise c.error()


_REFUSED = (
    "SET", "RESET", "ROUTE", "CLUSTER BY", "DROP CLUSTERING KEY", "ADD ROW ACCESS POLICY", "DROP ROW ACCESS POLICY",
    "ENABLE SCHEMA LEARNING", "DISABLE SCHEMA LEARNING",
)  # fmt: skip


def _alter_other(c: Cursor) -> st.Statement:
    if scope := c.one_of("SYSTEM", "SESSION"):
        return parse_option(c, scope)
    if c.sees("BRANCH") or c.sees("TAG"):
        return assign(c, "ALTER")
    if kind := c.one_of("USER", "ROLE"):
        return parse_alter_account(c, kind)
    for word in ("FOLDER", "SPACE", "SOURCE", "PIPE"):
        if c.sees(word):
            raise UnsupportedError(f"ALTER {word} is not supported by this server.")
    raise c.error()


def _alter_column(c: Cursor, path: Path) -> st.Statement:
    name = c.name()
    for words in ("SET", "RESET", "UNSET"):
        if c.sees(words) and c.peek(1).kind in ("word", "name"):
            raise UnsupportedError(f"ALTER COLUMN ... {words} is not supported by this server.")
    return st.AlterColumn(path, name, column_definition(c))


def _sort(c: Cursor, path: Path) -> st.Statement:
    return st.SetSort(path, c.names())


def _set_properties(c: Cursor, path: Path) -> st.Statement:
    def pair() -> tuple[str, str | None]:
        name = c.string()
        c.expect("=")
        return name, c.string()

    return st.SetProperties(path, c.parenthesised(pair))


def _unset_properties(c: Cursor, path: Path) -> st.Statement:
    names: tuple[str, ...] = c.parenthesised(c.string)
    return st.SetProperties(path, tuple((name, None) for name in names))


_LAYOUTS: tuple[tuple[str, Callable[[Cursor, Path], st.Statement]], ...] = (
    ("ADD PARTITION FIELD", lambda c, path: st.AlterPartition(path, partition_term(c), True)),
    ("DROP PARTITION FIELD", lambda c, path: st.AlterPartition(path, partition_term(c), False)),
    ("ADD PRIMARY KEY", lambda c, path: st.SetPrimaryKey(path, c.names())),
    ("DROP PRIMARY KEY", lambda c, path: st.SetPrimaryKey(path, ())),
    ("LOCALSORT BY", _sort),
    ("DROP LOCALSORT", lambda c, path: st.SetSort(path, ())),
    ("SET TBLPROPERTIES", _set_properties),
    ("UNSET TBLPROPERTIES", _unset_properties),
)


def _refresh_metadata(c: Cursor, path: tuple[str, ...]) -> st.RefreshMetadata:
    options: dict[str, object] = {}
    if c.accept("FOR"):
        if c.accept("FILES"):
            options["files"] = c.parenthesised(c.string)
        elif c.accept("PARTITIONS"):
            options["partitions"] = dict(c.parenthesised(lambda: _partition_value(c)))
        else:
            c.expect("ALL")
            if not c.one_of("FILES", "PARTITIONS"):
                raise c.error()
    if word := c.one_of("AUTO", "AVOID"):
        c.expect("PROMOTION")
        options["promotion"] = word
    if word := c.one_of("FORCE", "LAZY"):
        c.expect("UPDATE")
        options["update"] = word
    if word := c.one_of("DELETE", "MAINTAIN"):
        c.expect("WHEN", "MISSING")
        options["missing"] = word
    return st.RefreshMetadata(path, options)


def _partition_value(c: Cursor) -> tuple[str, str | None]:
    name = c.name()
    c.expect("=")
    return name, None if c.accept("NULL") else c.string()


def _create_reflection(c: Cursor, path: tuple[str, ...]) -> st.CreateReflection:
    kind = c.one_of("AGGREGATE", "RAW", "EXTERNAL")
    c.expect("REFLECTION")
    if kind == "EXTERNAL":
        raise UnsupportedError("External reflections are not supported by this server.")
    definition: dict[str, object] = {"name": c.name(), "enabled": True, "entityType": "reflection"}
    c.expect("USING")
    if kind == "RAW":
        definition |= {"type": "RAW", "displayFields": _fields(c, "DISPLAY")}
    elif kind == "AGGREGATE":
        definition["type"] = "AGGREGATION"
        if c.accept("DIMENSIONS"):
            definition["dimensionFields"] = list(c.parenthesised(lambda: _dimension(c)))
        if c.accept("MEASURES"):
            definition["measureFields"] = list(c.parenthesised(lambda: _measure(c)))
        if "dimensionFields" not in definition and "measureFields" not in definition:
            raise c.error()
    else:
        raise c.error()
    if c.accept("DISTRIBUTE", "BY"):
        definition["distributionFields"] = [{"name": name} for name in c.names()]
    definition["partitionDistributionStrategy"] = c.one_of("STRIPED", "CONSOLIDATED") or "CONSOLIDATED"
    if c.accept("PARTITION", "BY"):
        definition["partitionFields"] = list(c.parenthesised(lambda: _partition(c)))
    if c.accept("LOCALSORT", "BY"):
        definition["sortFields"] = [{"name": name} for name in c.names()]
    definition["arrowCachingEnabled"] = c.accept("ARROW", "CACHE")
    return st.CreateReflection(path, definition)


def _fields(c: Cursor, keyword: str) -> list[dict[str, str]]:
    c.expect(keyword)
    return [{"name": name} for name in c.names()]


def _dimension(c: Cursor) -> dict[str, str]:
    name = c.name()
    return {"name": name, "granularity": "DATE" if c.accept("BY", "DAY") else "NORMAL"}


def _measure(c: Cursor) -> dict[str, object]:
    name = c.name()
    functions = list(c.parenthesised(lambda: _function(c))) if c.sees("(") else ["SUM", "COUNT"]
    return {"name": name, "measureTypeList": functions}


def _function(c: Cursor) -> str:
    if c.accept("APPROXIMATE"):
        c.expect("COUNT", "DISTINCT")
        return "APPROX_COUNT_DISTINCT"
    if c.accept("APPROX_COUNT_DISTINCT"):
        return "APPROX_COUNT_DISTINCT"
    if word := c.one_of(*_MEASURES):
        return word
    raise c.error()


def _partition(c: Cursor) -> dict[str, object]:
    term = partition_term(c)
    field: dict[str, object] = {"name": term.column}
    if term.transform != "identity":
        transform: dict[str, object] = {"type": term.transform.upper()}
        if term.transform == "bucket":
            transform["bucketTransform"] = {"bucketCount": term.argument}
        if term.transform == "truncate":
            transform["truncateTransform"] = {"truncateLength": term.argument}
        field["transform"] = transform
    return field
