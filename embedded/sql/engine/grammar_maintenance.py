"""The grammar of table maintenance: OPTIMIZE, VACUUM, ROLLBACK."""

from __future__ import annotations

from typing import TypeVar

from embedded.sql.engine import statements as st
from embedded.sql.engine.tokens import Cursor
from embedded.sql.errors import UnsupportedError, ValidationError

T = TypeVar("T")

_SIZES = {
    "TARGET_FILE_SIZE_MB": "target_mb",
    "MIN_FILE_SIZE_MB": "min_mb",
    "MAX_FILE_SIZE_MB": "max_mb",
    "MIN_INPUT_FILES": "min_files",
}


def parse_rollback(c: Cursor) -> st.Statement:
    """ROLLBACK TABLE t TO {SNAPSHOT 'id' | TIMESTAMP 'utc'}"""
    c.expect("ROLLBACK", "TABLE")
    path = c.path()
    c.expect("TO")
    if c.accept("SNAPSHOT"):
        return st.Rollback(path, c.string(), None)
    c.expect("TIMESTAMP")
    return st.Rollback(path, None, c.string())


def parse_vacuum(c: Cursor) -> st.Statement:
    """VACUUM TABLE t {EXPIRE SNAPSHOTS ... | REMOVE ORPHAN FILES ...} | VACUUM CATALOG source [EXCLUDE (...)]"""
    c.expect("VACUUM")
    if c.accept("CATALOG"):
        source = c.name()
        return st.VacuumCatalog(source, c.parenthesised(c.path) if c.accept("EXCLUDE") else ())
    c.expect("TABLE")
    path = c.path()
    if c.accept("REMOVE", "ORPHAN", "FILES"):
        return _remove_orphans(c, path)
    c.expect("EXPIRE", "SNAPSHOTS")
    older: str | None = None
    retain: int | None = None
    while not c.done():
        if c.accept("OLDER_THAN"):
            c.accept("=")
            older = _once(c, older, c.string())
        else:
            c.expect("RETAIN_LAST")
            c.accept("=")
            retain = _once(c, retain, c.integer())
    if retain is not None and retain < 1:
        raise ValidationError("Minimum number of snapshots to retain can be 1.")
    return st.Vacuum(path, older, retain)


def _remove_orphans(c: Cursor, path: tuple[str, ...]) -> st.RemoveOrphans:
    older: str | None = None
    location: str | None = None
    while not c.done():
        if c.accept("OLDER_THAN"):
            c.accept("=")
            older = _once(c, older, c.string())
        else:
            c.expect("LOCATION")
            c.accept("=")
            location = _once(c, location, c.string())
    return st.RemoveOrphans(path, older, location)


def _once(c: Cursor, before: T | None, value: T) -> T:
    if before is not None:
        raise c.error()
    return value


def parse_optimize(c: Cursor) -> st.Statement:
    """OPTIMIZE TABLE t [REWRITE MANIFESTS | [REWRITE DATA [USING BIN_PACK]] [(sizes)] [FOR PARTITIONS condition]]"""
    c.expect("OPTIMIZE", "TABLE")
    path = c.path()
    if c.accept("REWRITE", "MANIFESTS"):
        return st.Optimize(path, manifests=True)
    if c.accept("REWRITE"):
        c.expect("DATA")
        if c.accept("USING"):
            c.expect("BIN_PACK")
    sizes = dict(c.parenthesised(lambda: _size(c))) if c.sees("(") else {}
    where = c.text_until("(") if c.accept("FOR", "PARTITIONS") else None
    if c.sees("("):
        if sizes:
            raise c.error()
        sizes = dict(c.parenthesised(lambda: _size(c)))
    optimize = st.Optimize(path, where=where, **sizes)  # type: ignore[arg-type]
    _check_sizes(optimize)
    return optimize


def _size(c: Cursor) -> tuple[str, int]:
    word = c.one_of(*_SIZES)
    if word is None:
        raise c.error()
    c.expect("=")
    value = c.integer()
    if value < 1 and word != "MIN_FILE_SIZE_MB":
        raise ValidationError(f"Value of {word} [{value}] should be greater than 0.")
    return _SIZES[word], value


def _check_sizes(o: st.Optimize) -> None:
    low = o.min_mb if o.min_mb is not None else o.target_mb * 0.75
    high = o.max_mb if o.max_mb is not None else o.target_mb * 1.8
    if low > high:
        raise ValidationError(
            f"Value of MIN_FILE_SIZE_MB [{low:g}] cannot be greater than MAX_FILE_SIZE_MB [{high:g}]."
        )
    if not low <= o.target_mb <= high:
        raise ValidationError(
            f"Value of TARGET_FILE_SIZE_MB [{o.target_mb}] needs to be between MIN_FILE_SIZE_MB [{low:g}] and "
            f"MAX_FILE_SIZE_MB [{high:g}]."
        )


def parse_analyze(c: Cursor) -> st.Statement:
    """ANALYZE TABLE t FOR {ALL COLUMNS | COLUMNS (...)} {COMPUTE | DELETE} STATISTICS"""
    c.expect("ANALYZE", "TABLE")
    c.path()
    c.expect("FOR")
    if not c.accept("ALL", "COLUMNS"):
        c.expect("COLUMNS")
        c.names()
    if not c.one_of("COMPUTE", "DELETE"):
        raise c.error()
    c.expect("STATISTICS")
    raise UnsupportedError("ANALYZE TABLE is not supported by this server.")
