"""Batches of source rows become batches of Airbyte records: four `_airbyte_*` columns, then the row. No row loops."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedded.replication.postgres import types

CHANGE = pa.struct([("field", pa.string()), ("change", pa.string()), ("reason", pa.string())])
META = pa.struct([("sync_id", pa.int64()), ("changes", pa.list_(CHANGE))])
# A row of a change log that is no record says so here: all of the table before it is gone.
MARKER_FIELD, MARKER_CHANGE = "*", "TRUNCATED"
MARKER_REASONS = {"truncate": "SOURCE_TRUNCATE", "snapshot": "SOURCE_SNAPSHOT"}
META_FIELDS = (
    pa.field("_airbyte_raw_id", pa.string(), nullable=False),
    pa.field("_airbyte_extracted_at", pa.timestamp("ms", "UTC"), nullable=False),
    pa.field("_airbyte_meta", META, nullable=False),
    pa.field("_airbyte_generation_id", pa.int64(), nullable=False),
)

# What happened to the values of one row: Airbyte's `changes`.
Changes = Sequence[Mapping[str, str]]

_BLOCK = 65536
# No batch has more rows (see postgres/stream.py).
_LONGEST = 65536
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
_INTEGERS = {32: pa.int32(), 64: pa.int64()}


@dataclass(frozen=True)
class Field:
    """One column to write: its name in the source (for `changes`) and in the file, its type, its range of integers.

    distinct: nearly all values differ, so that a dictionary of them would be built in vain.
    logical: PostgreSQL's type for a destination that has it (jsonb, timestamp, numeric), where `type` says less.
    """

    source: str
    name: str
    type: pa.DataType
    low: int | None = None
    high: int | None = None
    distinct: bool = False
    logical: str | None = None


Fit = Callable[[pa.Array, Field], tuple[pa.Array, Mapping[int, Changes]]]
"""A column as a destination can hold it, of the same type, and by row what had to be taken out for that."""


def arrow_type(written: str) -> pa.DataType:
    """The Arrow type of a `written` type of postgres/types.py."""
    if written.startswith("list<"):
        return pa.list_(arrow_type(written[5:-1]))
    if written.startswith("decimal128("):
        precision, scale = written[11:-1].split(",")
        return pa.decimal128(int(precision), int(scale))
    return _TYPES[written]


_TYPES = {
    types.BOOLEAN: pa.bool_(),
    types.INTEGER: pa.int64(),
    types.DOUBLE: pa.float64(),
    types.STRING: pa.string(),
    types.DATE: pa.date32(),
    types.TIME: pa.time64("us"),
    types.TIMESTAMP: pa.timestamp("us", "UTC"),
}


def schema(fields: Sequence[Field]) -> pa.Schema:
    return pa.schema([*META_FIELDS, *(pa.field(field.name, field.type) for field in fields)])


class RawIds:
    """UUIDs of version 7 (RFC 9562, method 2): time, 42 random bits, then a counter. A batch costs one copy.

    Random identifiers would be two thirds of the Parquet file and a third of the CPU; a counter compresses to nothing.
    """

    def __init__(self) -> None:
        self._next = 0
        self._rows = np.tile(np.frombuffer(b"00000000-0000-7000-8000-000000000000", np.uint8), (_BLOCK, 1))
        counter = np.arange(_BLOCK)
        for digit in range(4):
            self._rows[:, 35 - digit] = _HEX[(counter >> (4 * digit)) & 15]
        self._offsets = pa.py_buffer(np.arange(0, 36 * (_BLOCK + 1), 36, dtype=np.int32))
        self._new_prefix()

    def _new_prefix(self) -> None:
        """The 28 characters before the counter: milliseconds, version, variant, random."""
        stamp = f"{time.time_ns() // 1_000_000:012x}"
        noise = f"7{secrets.randbits(12):03x}-{8 | secrets.randbits(2):x}{secrets.randbits(12):03x}"
        prefix = f"{stamp[:8]}-{stamp[8:]}-{noise}-{secrets.randbits(16):04x}".encode()
        self._rows[:, :28] = np.frombuffer(prefix, np.uint8)
        self._next = 0
        self._set_block()

    def _set_block(self) -> None:
        """The upper half of the counter; the lower half is in the rows already."""
        self._rows[:, 28:32] = np.frombuffer(f"{self._next // _BLOCK:04x}".encode(), np.uint8)

    def take(self, count: int) -> pa.StringArray:
        chunks = []
        while count:
            start = self._next % _BLOCK
            length = min(count, _BLOCK - start)
            copied = self._rows[start : start + length].copy()
            chunks.append(pa.StringArray.from_buffers(length, self._offsets, pa.py_buffer(copied)))
            self._next += length
            count -= length
            if self._next >> 32:
                self._new_prefix()
            elif self._next % _BLOCK == 0:
                self._set_block()
        if len(chunks) == 1:
            return chunks[0]
        return pa.concat_arrays(chunks) if chunks else pa.array([], pa.string())


class Records:
    """Shapes the batches of one stream in one sync."""

    def __init__(
        self, fields: Sequence[Field], guarded: Sequence[int], sync_id: int, generation: int, fit: Fit | None = None
    ) -> None:
        self._fields = list(fields)
        self._fit = fit
        self._has_flags = bool(guarded)
        self._sync_id = sync_id
        self._ids = RawIds()
        # Most batches have the same three columns: made once, cut to length without a copy.
        self._generations = pa.array(np.full(_LONGEST, generation, np.int64))
        self._plain_meta = self._make_meta(np.zeros(_LONGEST + 1, np.int32), [])
        self.schema = schema(fields)
        self.changed = 0

    def shape(
        self,
        batch: pa.RecordBatch,
        event: str | None = None,
        extracted: pa.Array | None = None,
        noted: Mapping[int, Changes] | None = None,
    ) -> pa.RecordBatch:
        """One batch of the source (c0, c1, ..., flags) as records; values that cannot be carried become null.

        event: the rows are markers of this event (see MARKER_REASONS), not records. extracted: when each row was read,
        where the source says so. noted: by row, what the reader changed itself.
        """
        count = batch.num_rows
        bad: dict[int, np.ndarray[Any, Any]] = self._flagged(batch) if self._has_flags else {}
        lost: dict[int, list[Mapping[str, str]]] = {row: list(items) for row, items in (noted or {}).items()}
        columns = []
        for index, field in enumerate(self._fields):
            array = batch.column(index)
            outside = _outside(array, field)
            if outside is not None:
                bad[index] = outside | bad.get(index, False)
            if array.type != field.type:
                array = array.cast(field.type)
            if index in bad:
                array = pc.if_else(pa.array(bad[index]), pa.scalar(None, field.type), array)
            if self._fit is not None:
                array, taken = self._fit(array, field)
                for row, items in taken.items():
                    lost.setdefault(row, []).extend(items)
            columns.append(array)
        if extracted is None:
            extracted = pa.array(np.full(count, time.time_ns() // 1_000_000)).view(META_FIELDS[1].type)
        meta = self._meta(count, bad, lost) if bad or lost else self._plain_meta[:count]
        if event is not None:
            marker = {"field": MARKER_FIELD, "change": MARKER_CHANGE, "reason": MARKER_REASONS[event]}
            meta = self._make_meta(np.arange(count + 1, dtype=np.int32), [marker] * count)
        all_columns = [self._ids.take(count), extracted, meta, self._generations[:count], *columns]
        return pa.RecordBatch.from_arrays(all_columns, schema=self.schema)

    def _flagged(self, batch: pa.RecordBatch) -> dict[int, np.ndarray[Any, Any]]:
        """Rows that the source flagged, by column; flags are texts like `0,3` in few rows."""
        flags = batch.column(len(self._fields))
        found: dict[int, np.ndarray[Any, Any]] = {}
        if flags.null_count == len(flags):
            return found
        for row in np.flatnonzero(flags.is_valid().to_numpy(zero_copy_only=False)):
            for index in flags[int(row)].as_py().split(","):
                found.setdefault(int(index), np.zeros(len(flags), bool))[row] = True
        return found

    def _meta(self, count: int, bad: dict[int, np.ndarray[Any, Any]], noted: Mapping[int, Changes]) -> pa.StructArray:
        per_row: np.ndarray[Any, Any] = np.zeros(count, np.int32)
        for mask in bad.values():
            per_row += mask
        for at, items in noted.items():
            per_row[at] += len(items)
        offsets = np.zeros(count + 1, np.int32)
        np.cumsum(per_row, out=offsets[1:])
        changes: list[Mapping[str, str]] = []
        for row in map(int, np.flatnonzero(per_row)):
            for index in sorted(bad):
                if bad[index][row]:
                    reason = "DESTINATION_SERIALIZATION_ERROR"
                    changes.append({"field": self._fields[index].source, "change": "NULLED", "reason": reason})
            changes += noted.get(row, ())
        self.changed += len(changes)
        return self._make_meta(offsets, changes)

    def _make_meta(self, offsets: np.ndarray[Any, Any], changes: Sequence[Mapping[str, str]]) -> pa.StructArray:
        lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(list(changes), CHANGE))
        syncs = pa.array(np.full(len(lists), self._sync_id, np.int64))
        return pa.StructArray.from_arrays([syncs, lists], fields=list(META))


def _outside(array: pa.Array, field: Field) -> np.ndarray[Any, Any] | None:
    """Which values lie outside the field's range; None when, as nearly always, none does."""
    if field.low is None or not len(array):
        return None
    integers = array.view(_INTEGERS[field.type.bit_width])
    ends = pc.min_max(integers)
    low, high = ends["min"].as_py(), ends["max"].as_py()
    if low is None or (low >= field.low and high <= field.high):
        return None
    mask = pc.or_(pc.less(integers, field.low), pc.greater(integers, field.high))
    return np.asarray(pc.fill_null(mask, False).to_numpy(zero_copy_only=False), bool)
