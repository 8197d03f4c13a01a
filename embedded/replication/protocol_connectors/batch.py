"""The raw `data` objects of one stream become Arrow columns without a Python object per record.

Arrow's JSON reader parses with an explicit schema; DuckDB cuts out what is kept as JSON text; texts of times are cast
column by column. A batch with a value that does not fit its type is read again value by value (exact.py), and so are
single records with a number longer than a double holds.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from embedded.replication.failures import SyncError
from embedded.replication.postgres import types
from embedded.replication.protocol_connectors import exact
from embedded.replication.protocol_connectors.exact import Change, Coercion
from embedded.replication.protocol_connectors.schema import LIST, STRUCT, Shape
from embedded.replication.records import arrow_type as scalar_type

# A double carries 15 digits for certain; with the point that makes 16 characters.
_SAFE_NUMBER = 16
_ZONED = r":\d\d(\.\d+)?(Z|[+-]\d\d(:?\d\d)?)$"
_NAIVE = pa.timestamp("us")


def arrow_type(shape: Shape) -> pa.DataType:
    if shape.kind == STRUCT:
        return pa.struct([(name, arrow_type(item)) for name, item in shape.fields])
    if shape.kind == LIST and shape.element is not None:
        return pa.list_(arrow_type(shape.element))
    return scalar_type(shape.written)


class Columns:
    """Converts the records of one stream. `changes` of `convert` are by row."""

    def __init__(self, stream: str, fields: Sequence[tuple[str, Shape]]) -> None:
        self._stream = stream
        self._fields = list(fields)
        self._types = [arrow_type(shape) for _, shape in fields]
        parsed = [(name, shape) for name, shape in fields if shape.native or shape.temporal]
        self._options = pj.ParseOptions(
            explicit_schema=pa.schema(
                [(name, arrow_type(shape) if shape.native else pa.string()) for name, shape in parsed]
            ),
            unexpected_field_behavior="ignore",
        )
        self._parsed = bool(parsed)
        self._cut = [name for name, shape in fields if not (shape.native or shape.temporal)]
        self._engine = _engine() if self._cut else None
        self._has_numbers = any(shape.has_numbers for _, shape in fields)

    def convert(self, lines: list[bytes]) -> tuple[list[pa.Array], dict[int, list[Change]]]:
        """Columns in the order of the fields, and what could not be kept. Raises SyncError."""
        body = b"\n".join(lines)
        changes: dict[int, list[Change]] = {}
        try:
            columns = self._fast(lines, body, changes)
        except (pa.ArrowInvalid, duckdb.Error):
            changes.clear()
            return self._slow(lines, range(len(lines)), changes), changes
        rows = long_numbers(body) if self._has_numbers else []
        if rows:
            for row in rows:
                changes.pop(row, None)
            columns = _patched(columns, self._slow([lines[row] for row in rows], rows, changes), rows)
        return columns, changes

    def _fast(self, lines: list[bytes], body: bytes, changes: dict[int, list[Change]]) -> list[pa.Array]:
        found: dict[str, pa.Array] = {}
        if self._parsed:
            options = pj.ReadOptions(use_threads=False, block_size=max(len(body) + 1, 1 << 16))
            table = pj.read_json(io.BytesIO(body), options, self._options)
            found = dict(zip(table.column_names, map(_whole, table.columns), strict=True))
            if table.num_rows != len(lines):
                raise pa.ArrowInvalid("a record is not one line")
        found |= self._cut_out(lines)
        columns = []
        for (name, shape), type_ in zip(self._fields, self._types, strict=True):
            column = found[name]
            if shape.temporal:
                column = _temporal(column, shape, name, changes)
            elif not shape.native and (shape.kind in (STRUCT, LIST) or shape.written != shape.kind):
                column = _from_text(column, shape, type_, name, changes)
            columns.append(column)
        return columns

    def _cut_out(self, lines: list[bytes]) -> dict[str, pa.Array]:
        """The text of the fields that Arrow cannot read; null where it is JSON's null or missing."""
        if self._engine is None:
            return {}
        records = pa.table({"data": pa.array(lines, pa.binary()).cast(pa.string())})
        items = [f"nullif(json_extract(data, {_pointer(name)})::varchar, 'null')" for name in self._cut]
        result = self._engine.from_arrow(records).project(", ".join(items)).fetch_arrow_table()
        return dict(zip(self._cut, map(_whole, result.columns), strict=True))

    def _slow(self, lines: list[bytes], rows: Sequence[int], changes: dict[int, list[Change]]) -> list[pa.Array]:
        values: list[list[Any]] = [[] for _ in self._fields]
        for row, line in zip(rows, lines, strict=True):
            record = self._record(line)
            coerce = Coercion()
            for column, (name, shape) in zip(values, self._fields, strict=True):
                column.append(coerce(record.get(name), shape, name))
            if coerce.changes:
                changes[row] = coerce.changes
        return [pa.array(column, type_) for column, type_ in zip(values, self._types, strict=True)]

    def _record(self, line: bytes) -> dict[str, Any]:
        try:
            record = exact.loads(line)
        except (ValueError, RecursionError) as error:
            message = f"A record of stream {self._stream} is not JSON: {error}."
            raise SyncError("source", "system_error", message) from None
        if not isinstance(record, dict):
            raise SyncError("source", "system_error", f"A record of stream {self._stream} is not an object.")
        return record


def _engine() -> duckdb.DuckDBPyConnection:
    options: dict[str, Any] = {"threads": 1, "memory_limit": "64MB"}
    options |= {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    return duckdb.connect(config=options)


def _pointer(name: str) -> str:
    """A field's JSON pointer (RFC 6901) as a SQL literal."""
    escaped = name.replace("~", "~0").replace("/", "~1").replace("'", "''")
    return f"'/{escaped}'"


def _whole(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    return whole if isinstance(whole, pa.Array) else pa.concat_arrays(whole.chunks)


def _from_text(
    column: pa.Array, shape: Shape, type_: pa.DataType, name: str, changes: dict[int, list[Change]]
) -> pa.Array:
    """A column of JSON texts, value by value. Plain JSON text stays as it is."""
    if shape.kind == "json":
        return column
    values = []
    for row, text in enumerate(column.to_pylist()):
        coerce = Coercion()
        values.append(None if text is None else coerce(exact.loads(text.encode()), shape, name))
        if coerce.changes:
            changes.setdefault(row, []).extend(coerce.changes)
    return pa.array(values, type_)


def _temporal(texts: pa.Array, shape: Shape, name: str, changes: dict[int, list[Change]]) -> pa.Array:
    """A column of ISO 8601 texts: all at once, or, if one of them is odd, one by one."""
    try:
        match shape.kind:
            case types.DATE:
                return texts.cast(pa.date32())
            case types.TIME:
                moments = pc.binary_join_element_wise("1970-01-01T", texts, "").cast(_NAIVE)
                return moments.cast(pa.time64("us"))
        return _timestamps(texts)
    except pa.ArrowInvalid:
        pass
    values = []
    for row, text in enumerate(texts.to_pylist()):
        coerce = Coercion()
        values.append(coerce(text, shape, name))
        if coerce.changes:
            changes.setdefault(row, []).extend(coerce.changes)
    return pa.array(values, arrow_type(shape))


def _timestamps(texts: pa.Array) -> pa.Array:
    """With a zone, without one (then it is UTC: connectors declare zones they do not send), or mixed."""
    utc = pa.timestamp("us", "UTC")
    try:
        return texts.cast(utc)
    except pa.ArrowInvalid:
        pass
    zoned = pc.match_substring_regex(texts, _ZONED)
    missing = pa.scalar(None, pa.string())
    naive = pc.if_else(zoned, missing, texts).cast(_NAIVE)
    return pc.coalesce(pc.if_else(zoned, texts, missing).cast(utc), naive.view(pa.int64()).view(utc))


def long_numbers(body: bytes) -> list[int]:
    """Rows with a run of digits and points longer than a double is sure to carry; in texts too, which does no harm."""
    characters = np.frombuffer(body, np.uint8)
    run = (characters - np.uint8(46)) < 12  # . / 0 ... 9
    length = 1
    while length < _SAFE_NUMBER:
        run = run[:-length] & run[length:]
        length *= 2
    # `run` is now true where _SAFE_NUMBER such characters begin; one more makes it too long.
    starts = np.flatnonzero(run[:-1] & run[1:])
    if not len(starts):
        return []
    ends = np.flatnonzero(characters == 10)
    return [int(row) for row in np.unique(np.searchsorted(ends, starts))]


def _patched(columns: list[pa.Array], better: list[pa.Array], rows: list[int]) -> list[pa.Array]:
    """`columns` with the values at `rows` replaced."""
    count = len(columns[0])
    take = np.arange(count)
    take[rows] = count + np.arange(len(rows))
    return [pa.concat_arrays([old, new]).take(pa.array(take)) for old, new in zip(columns, better, strict=True)]
