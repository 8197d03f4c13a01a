"""The grammar of statements that change rows: INSERT, UPDATE, DELETE, MERGE, TRUNCATE, COPY INTO."""

from __future__ import annotations

from embedded.sql.engine import statements as st
from embedded.sql.engine.tokens import Cursor
from embedded.sql.errors import UnsupportedError, ValidationError

_COPY_OPTIONS: dict[str, frozenset[str]] = {
    "csv": frozenset(
        "DATE_FORMAT TIME_FORMAT TIMESTAMP_FORMAT EMPTY_AS_NULL NULL_IF ON_ERROR TRIM_SPACE ESCAPE_CHAR "
        "EXTRACT_HEADER FIELD_DELIMITER QUOTE_CHAR RECORD_DELIMITER SKIP_LINES".split()
    ),
    "json": frozenset("DATE_FORMAT TIME_FORMAT TIMESTAMP_FORMAT EMPTY_AS_NULL NULL_IF ON_ERROR TRIM_SPACE".split()),
    "parquet": frozenset(["ON_ERROR"]),
}
_ON_ERROR = {"csv": ("abort", "continue", "skip_file"), "json": ("abort", "continue", "skip_file")}


def parse_insert(c: Cursor) -> st.Statement:
    """INSERT INTO t [(columns)] query"""
    c.expect("INSERT", "INTO")
    path, columns = c.path(), ()
    _no_version(c)
    if c.sees("(") and c.peek(1).text.upper() not in ("SELECT", "WITH", "VALUES", "("):
        columns = c.names()  # type: ignore[assignment]
    return st.Insert(path, columns, c.rest())


def _no_version(c: Cursor) -> None:
    if c.sees("AT"):
        raise UnsupportedError("DML is supported on the current state of a table only.")


def _target(c: Cursor, *stops: str) -> st.Target:
    path = c.path()
    _no_version(c)
    alias = path[-1]
    if c.accept("AS") or (not c.done() and c.peek().text.upper() not in stops):
        alias = c.name()
    return st.Target(path, alias)


def _assignments(c: Cursor, *stops: str) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    while True:
        column = c.path()[-1]
        c.expect("=")
        found.append((column, c.text_until(",", *stops)))
        if not c.accept(","):
            return tuple(found)


def parse_delete(c: Cursor) -> st.Statement:
    """DELETE FROM t [[AS] a] [USING source] [WHERE condition]"""
    c.expect("DELETE", "FROM")
    target = _target(c, "USING", "WHERE")
    using = c.text_until("WHERE") if c.accept("USING") else None
    where = c.rest() if c.accept("WHERE") else None
    return st.Delete(target, using, where)


def parse_update(c: Cursor) -> st.Statement:
    """UPDATE t [[AS] a] SET c = v, ... [FROM source] [WHERE condition]"""
    c.expect("UPDATE")
    target = _target(c, "SET")
    c.expect("SET")
    assignments = _assignments(c, "FROM", "WHERE")
    source = c.text_until("WHERE") if c.accept("FROM") else None
    where = c.rest() if c.accept("WHERE") else None
    return st.Update(target, assignments, source, where)


def parse_merge(c: Cursor) -> st.Statement:
    """MERGE INTO t USING s ON c [WHEN MATCHED THEN UPDATE SET ...] [WHEN NOT MATCHED THEN INSERT ...]"""
    c.expect("MERGE")
    if c.accept("BRANCH"):
        return _merge_branch(c)
    c.expect("INTO")
    target = _target(c, "USING")
    c.expect("USING")
    source = c.text_until("ON")
    c.expect("ON")
    on = c.text_until("WHEN")
    update: tuple[tuple[str, str], ...] | str | None = None
    columns: tuple[str, ...] = ()
    values: tuple[str, ...] | str | None = None
    while c.accept("WHEN"):
        if c.accept("MATCHED", "THEN"):
            if update is not None or values is not None or not c.sees("UPDATE"):
                raise c.error()  # Dremio has no WHEN MATCHED THEN DELETE, and one clause of each kind in this order
            c.expect("UPDATE", "SET")
            update = "*" if c.accept("*") else _assignments(c, "WHEN")
        else:
            c.expect("NOT", "MATCHED", "THEN", "INSERT")
            if values is not None:
                raise c.error()
            columns, values = _merge_insert(c)
    if update is None and values is None:
        raise c.error()
    return st.Merge(target, source, on, update, columns, values)  # type: ignore[arg-type]


def _merge_insert(c: Cursor) -> tuple[tuple[str, ...], tuple[str, ...] | str]:
    """* | [(columns)] VALUES (...) | [(columns)] (VALUES (...))"""
    if c.accept("*"):
        return (), "*"
    columns: tuple[str, ...] = ()
    if c.sees("(") and not c.sees("(", "VALUES"):
        columns = c.names()
    wrapped = c.accept("(")
    c.expect("VALUES")
    values = c.parenthesised(lambda: c.text_until(","))
    if wrapped:
        c.expect(")")
    return columns, values


def _merge_branch(c: Cursor) -> st.Statement:
    """MERGE BRANCH a INTO b IN source [...]"""
    c.accept("DRY", "RUN")
    c.name()
    c.expect("INTO")
    c.name()
    source = c.path() if c.accept("IN") else ()
    if not c.done():
        c.rest()  # what to do about conflicts
    return st.Versioned("MERGE BRANCH", source)


def parse_truncate(c: Cursor) -> st.Statement:
    """TRUNCATE [TABLE] [IF EXISTS] t"""
    c.expect("TRUNCATE")
    c.accept("TABLE")
    exists = c.accept("IF", "EXISTS")
    path = c.path()
    _no_version(c)
    return st.Truncate(path, exists)


def parse_copy(c: Cursor) -> st.Statement:
    """COPY INTO t FROM '@source/folder' [FILES (...) | REGEX '...'] [FILE_FORMAT '...'] [(options)]"""
    c.expect("COPY", "INTO")
    path = c.path()
    _no_version(c)
    c.expect("FROM")
    select: tuple[str, ...] = ()
    wrapped = c.accept("(")
    if wrapped:
        c.expect("SELECT")
        select = _copy_select(c)
        c.expect("FROM")
    location = _location(c.string())
    if wrapped:
        c.expect(")")
    files: tuple[str, ...] = ()
    regex = None
    if c.accept("FILES"):
        files = c.parenthesised(c.string)
    elif c.accept("REGEX"):
        regex = c.string()
    file_format = c.string().lower() if c.accept("FILE_FORMAT") else None
    if file_format not in (None, *_COPY_OPTIONS):
        raise ValidationError(f"Specified File Format '{file_format}' is not supported")
    options = _copy_options(c, file_format) if c.sees("(") else {}
    return st.CopyInto(path, location, files, regex, file_format, options, select)  # type: ignore[arg-type]


def _copy_select(c: Cursor) -> tuple[str, ...]:
    items = [c.text_until(",", "FROM")]
    while c.accept(","):
        items.append(c.text_until(",", "FROM"))
    return tuple(items)


def _location(text: str) -> tuple[str, ...]:
    parts = tuple(part for part in text.removeprefix("@").split("/") if part)
    if not text.startswith("@") or not parts:
        raise ValidationError(f"Invalid storage location [{text}]: write '@source/folder/file'")
    return parts


def _copy_options(c: Cursor, file_format: str | None) -> dict[str, object]:
    """( NAME value, ... ); the commas may be left out, as in Dremio's own examples."""
    known = _COPY_OPTIONS.get(file_format or "", frozenset().union(*_COPY_OPTIONS.values()))
    found: dict[str, object] = {}
    c.expect("(")
    while not c.accept(")"):
        name = c.name().upper()
        if name not in known:
            raise ValidationError(f"Specified '{name}' option is not supported by COPY INTO")
        if name in found:
            raise ValidationError(f"Duplicate option specified: '{name}'")
        found[name] = _copy_value(c, name)
        c.accept(",")
    allowed = _ON_ERROR.get(file_format or "csv", ("abort", "skip_file"))
    action = str(found.get("ON_ERROR", "abort")).lower()
    if action not in allowed:
        raise ValidationError(f"Specified value '{action}' is not a valid ON_ERROR action: {', '.join(allowed)}")
    return found


def _copy_value(c: Cursor, name: str) -> object:
    if name == "NULL_IF":
        return c.parenthesised(c.string)
    if name == "SKIP_LINES":
        return c.integer()
    if name in ("EMPTY_AS_NULL", "TRIM_SPACE", "EXTRACT_HEADER"):
        return _boolean(c, name)
    text = c.string()
    if name in ("FIELD_DELIMITER", "QUOTE_CHAR", "ESCAPE_CHAR") and len(_unescaped(text)) != 1:
        raise ValidationError(f"Specified value '{text}' is not a single character: {name}")
    return _unescaped(text)


def _boolean(c: Cursor, name: str) -> bool:
    if c.peek().kind == "string":
        text = c.string().lower()
        if text not in ("true", "false"):
            raise ValidationError(f"Specified value '{text}' is not a boolean: {name}")
        return text == "true"
    if word := c.one_of("TRUE", "FALSE"):
        return word == "TRUE"
    return True  # the bare name switches it on


def _unescaped(text: str) -> str:
    for written, meant in (("\\n", "\n"), ("\\r", "\r"), ("\\t", "\t")):
        text = text.replace(written, meant)
    return text
