"""pgoutput messages into rows of columns, many transactions at a time and without a loop over rows.

https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html. A block of whole transactions is one
buffer; numpy finds the messages of a relation in it, steps through their columns side by side, and values.py makes an
Arrow array of each column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedded.replication.failures import SyncError
from embedded.replication.postgres.cdc import values
from embedded.replication.postgres.cdc.values import NULL, UNCHANGED, Bools, Buffer, Bytes, Cells, Ints
from embedded.replication.postgres.cdc.wal import HEADER
from embedded.replication.records import arrow_type

_B, _C, _D, _I, _R, _T, _U = (ord(letter) for letter in "BCDIRTU")
_K, _N, _O = (ord(letter) for letter in "KNO")
_MICROS_2000 = 946_684_800_000_000

CDC_FIELDS = (
    pa.field("_ab_cdc_lsn", pa.int64()),
    pa.field("_ab_cdc_updated_at", pa.timestamp("us", "UTC")),
    pa.field("_ab_cdc_deleted_at", pa.timestamp("us", "UTC")),
    pa.field("_ab_cdc_commit_lsn", pa.int64()),
)


@dataclass(frozen=True)
class CapturedColumn:
    """One column to take out of the log.

    type_name: base type, `[]` after an array's element; oid, modifier: of the declared type, modifier -1 for none.
    """

    name: str
    type_name: str
    written: str
    oid: int
    modifier: int = -1

    def fits(self, oid: int, modifier: int) -> bool:
        """Whether values that were logged under this type are values of the column's type now."""
        if oid != self.oid or modifier == self.modifier or "decimal128" not in self.written:
            return oid == self.oid
        if modifier < 4:  # a numeric of any size
            return False
        (whole, scale), (whole_now, scale_now) = _digits(modifier), _digits(self.modifier)
        return whole <= whole_now and scale <= scale_now


@dataclass(frozen=True)
class Captured:
    """One stream of the log. after: changes committed at or before this LSN are in the stream's snapshot already."""

    index: int
    label: str
    oid: int
    columns: tuple[CapturedColumn, ...]
    key: tuple[str, ...]
    after: int


@dataclass(frozen=True)
class Relation:
    """A table's shape at some point of the log: its columns by name, with their position, type and modifier."""

    namespace: str
    name: str
    columns: Mapping[str, tuple[int, int, int]]


@dataclass
class Decoded:
    """Rows of one stream: its columns, the CDC columns, flags. truncations: the rows are those, not changes."""

    stream: int
    batch: pa.RecordBatch
    truncations: bool = False


@dataclass
class Decoder:
    """Keeps what the log said about relations; everything else is in the messages themselves."""

    streams: Mapping[int, Captured]
    relations: dict[int, Relation] = field(default_factory=dict)

    def decode(self, messages: list[bytes], within: tuple[int, int] | None = None) -> Iterator[Decoded]:
        """Rows of a block of whole transactions; `within`: the block is a part of one with this commit LSN and time."""
        if not messages:
            return
        block = _block(messages, within)
        for begin, end in self._parts(messages):
            yield from self._decode(block.part(begin, end))

    def _parts(self, messages: list[bytes]) -> Iterator[tuple[int, int]]:
        """Cut where a captured relation changes its shape: rows before and after it are laid out differently."""
        begun = 0
        for at, message in enumerate(messages):
            if message[HEADER] != _R:
                continue
            oid, relation = _relation(message)
            if oid not in self.streams:
                continue
            known = self.relations.get(oid)
            if known is not None and known != relation:
                yield begun, at
                begun = at
            self.relations[oid] = relation
            self._check(oid, relation)
        yield begun, len(messages)

    def _check(self, oid: int, relation: Relation) -> None:
        stream = self.streams.get(oid)
        for column in stream.columns if stream else ():
            there = relation.columns.get(column.name)
            if stream and there and not column.fits(*there[1:]):
                message = (
                    f"Column {column.name} of {stream.label} had another type when the changes now in the log were"
                    " made. Review the connection and rebuild it: POST /api/lakehouse/v1/connections/<id>/rebuild"
                )
                raise SyncError("source", "config_error", message)

    def _decode(self, block: _Block) -> Iterator[Decoded]:
        for oid in block.touched():
            stream = self.streams.get(oid)
            if stream is None:
                continue
            if oid not in self.relations:
                raise SyncError("source", "system_error", f"The log has rows of {stream.label}, but not its columns.")
            yield from block.rows(stream, self.relations[oid])


def _digits(modifier: int) -> tuple[int, int]:
    """Digits before and after the point of a numeric with this type modifier."""
    packed = modifier - 4
    scale = ((packed & 0x7FF) ^ 1024) - 1024
    return (packed >> 16) - scale, scale


def _relation(message: bytes) -> tuple[int, Relation]:
    at = HEADER + 1
    oid = int.from_bytes(message[at : at + 4], "big")
    namespace, at = _text(message, at + 4)
    name, at = _text(message, at)
    count = int.from_bytes(message[at + 1 : at + 3], "big")
    at += 3
    columns = {}
    for position in range(count):
        column, end = _text(message, at + 1)
        modifier = int.from_bytes(message[end + 4 : end + 8], "big", signed=True)
        columns[column] = (position, int.from_bytes(message[end : end + 4], "big"), modifier)
        at = end + 8
    return oid, Relation(namespace or "pg_catalog", name, columns)


def _text(message: bytes, at: int) -> tuple[str, int]:
    end = message.index(0, at)
    return message[at:end].decode(), end + 1


@dataclass(frozen=True)
class _Block:
    """Messages in one buffer, as columns.

    at: where each begins, after its header; relations: that of its row, 0 if it has none; ends, stamps: where its
    transaction's commit ends and when it was.
    """

    buffer: Buffer
    at: Ints
    kinds: Bytes
    relations: Ints
    ends: Ints
    stamps: Ints

    def part(self, begin: int, end: int) -> _Block:
        here = slice(begin, end)
        return _Block(
            self.buffer, self.at[here], self.kinds[here], self.relations[here], self.ends[here], self.stamps[here]
        )

    def touched(self) -> list[int]:
        """The relations that have rows or truncations here."""
        found = {int(oid) for oid in np.unique(self.relations)} | {
            oid for at in self.at[self.kinds == _T] for oid in self._truncated(int(at))
        }
        return sorted(found - {0})

    def _truncated(self, at: int) -> list[int]:
        data = self.buffer.bytes
        count = int.from_bytes(data[at + 1 : at + 5].tobytes(), "big")
        return [int.from_bytes(data[at + 6 + 4 * i : at + 10 + 4 * i].tobytes(), "big") for i in range(count)]

    def rows(self, stream: Captured, relation: Relation) -> Iterator[Decoded]:
        messages = np.flatnonzero(self.relations == stream.oid)
        if stream.after:
            messages = messages[self.ends[messages] > stream.after]
        if len(messages):
            yield self._changes(stream, relation, messages)
        truncations = [i for i in np.flatnonzero(self.kinds == _T) if stream.oid in self._truncated(int(self.at[i]))]
        truncations = [i for i in truncations if self.ends[i] > stream.after]
        if truncations:
            yield self._markers(stream, np.array(truncations, np.int64))

    def _changes(self, stream: Captured, relation: Relation, messages: Ints) -> Decoded:
        buffer, width = self.buffer, len(relation.columns)
        at = self.at[messages]
        tuples = at + 8
        deleted = self.kinds[messages] == _D
        replaced = np.flatnonzero((self.kinds[messages] == _U) & (buffer.bytes[at + 5] != _N))
        old = _walk(buffer, tuples[replaced], width) if len(replaced) else None
        if old is not None:
            tuples[replaced] = old.end + 3  # past the old row: `N`, the number of columns
        cells = _walk(buffer, tuples, width).cells
        if old is not None:
            _fill_unchanged(cells, old.cells, replaced, buffer.bytes[at[replaced] + 5] == _O)
        if any(bool((column.kinds == UNCHANGED).any()) for column in cells):
            raise _unchanged(stream)
        order, deleted_rows = messages, deleted
        if old is not None:
            moved = self._key_changed(stream, relation, cells, old.cells, replaced)
            if len(moved):
                # The row left its old key: a deletion of that before the row under its new key.
                cells = [_append(new, gone, moved) for new, gone in zip(cells, old.cells, strict=True)]
                order = np.concatenate([messages, messages[replaced[moved]]])
                deleted_rows = np.concatenate([deleted, np.ones(len(moved), bool)])
                place = np.lexsort((~deleted_rows, order))
                cells = [Cells(c.kinds[place], c.starts[place], c.lengths[place]) for c in cells]
                order, deleted_rows = order[place], deleted_rows[place]
        return Decoded(stream.index, self._batch(stream, relation, cells, order, deleted_rows))

    def _key_changed(
        self, stream: Captured, relation: Relation, new: list[Cells], old: list[Cells], replaced: Ints
    ) -> Ints:
        """Which of the replaced rows have another key now."""
        changed = np.zeros(len(replaced), bool)
        for name in stream.key:
            position = relation.columns[name][0]
            before, now = old[position], _pick(new[position], replaced)
            none = np.zeros(len(replaced), bool)
            same = pc.equal(values.strings(self.buffer, before, none), values.strings(self.buffer, now, none))
            changed |= ~np.asarray(same.to_numpy(zero_copy_only=False), bool)
        return np.flatnonzero(changed)

    def _batch(
        self, stream: Captured, relation: Relation, cells: list[Cells], order: Ints, deleted: Bools
    ) -> pa.RecordBatch:
        arrays: list[pa.Array] = []
        flags: dict[int, list[str]] = {}
        for index, column in enumerate(stream.columns):
            there = relation.columns.get(column.name)
            if there is None:  # added to the table later than these changes
                arrays.append(pa.nulls(len(order), arrow_type(column.written)))
                continue
            array, bad = values.decode(self.buffer, cells[there[0]], column.type_name, column.written)
            arrays.append(array)
            for row in np.flatnonzero(bad) if bad is not None else ():
                flags.setdefault(int(row), []).append(str(index))
        arrays += self._cdc(order, deleted)
        texts = [",".join(flags[row]) if row in flags else None for row in range(len(order))] if flags else None
        arrays.append(pa.array(texts, pa.string()) if texts else pa.nulls(len(order), pa.string()))
        return pa.RecordBatch.from_arrays(arrays, [f"c{i}" for i in range(len(arrays))])

    def _cdc(self, order: Ints, deleted: Bools) -> list[pa.Array]:
        """The four CDC columns of the rows of these messages."""
        lsn = self.buffer.numbers(">i8", self.at[order] - HEADER + 1)
        stamps = self.stamps[order]
        type_ = CDC_FIELDS[1].type
        return [
            pa.array(lsn, pa.int64()),
            pa.array(stamps, pa.int64()).cast(type_),
            pa.array(stamps, pa.int64(), mask=~deleted).cast(type_),
            pa.array(self.ends[order], pa.int64()),
        ]

    def _markers(self, stream: Captured, order: Ints) -> Decoded:
        count = len(order)
        arrays = [pa.nulls(count, arrow_type(column.written)) for column in stream.columns]
        arrays += [*self._cdc(order, np.ones(count, bool)), pa.nulls(count, pa.string())]
        batch = pa.RecordBatch.from_arrays(arrays, [f"c{i}" for i in range(len(arrays))])
        return Decoded(stream.index, batch, truncations=True)


def _block(messages: list[bytes], within: tuple[int, int] | None) -> _Block:
    lengths = np.fromiter(map(len, messages), np.int64, len(messages))
    at = np.zeros(len(messages), np.int64)
    np.cumsum(lengths[:-1], out=at[1:])
    at += HEADER
    buffer = Buffer(b"".join(messages))
    kinds = buffer.bytes[at]
    relations = np.where(np.isin(kinds, (_I, _U, _D)), buffer.numbers(">u4", at + 1).astype(np.int64), 0)
    if within is not None:
        ends, stamps = (np.full(len(at), value, np.int64) for value in within)
        return _Block(buffer, at, kinds, relations, ends, stamps)
    commits = at[kinds == _C]
    # A message belongs to the first commit after it: to one beyond the part that it may stand in.
    transaction = np.cumsum(kinds == _C) - (kinds == _C)
    ends = buffer.numbers(">i8", commits + 10)[transaction]
    stamps = buffer.numbers(">i8", commits + 18)[transaction] + _MICROS_2000
    return _Block(buffer, at, kinds, relations, ends, stamps)


@dataclass
class _Walked:
    cells: list[Cells]
    end: Ints


def _walk(buffer: Buffer, tuples: Ints, width: int) -> _Walked:
    """Step through the columns of many rows at once; `tuples`: where the first column of each row begins."""
    at = tuples.copy()
    cells = []
    for _ in range(width):
        kinds = buffer.bytes[at]
        valued = (kinds != NULL) & (kinds != UNCHANGED)
        lengths = np.where(valued, buffer.numbers(">i4", at + 1), 0).astype(np.int64)
        starts = np.where(valued, at + 5, 0)
        cells.append(Cells(kinds, starts, lengths))
        at += 1 + np.where(valued, lengths + 4, 0)
    return _Walked(cells, at)


def _fill_unchanged(cells: list[Cells], old: list[Cells], replaced: Ints, complete: Bools) -> None:
    """A long value that did not change is not sent again: it stands in the old row, if that is `complete`."""
    for new, before in zip(cells, old, strict=True):
        missing = (new.kinds[replaced] == UNCHANGED) & complete
        rows = replaced[missing]
        new.kinds.setflags(write=True)
        new.kinds[rows] = before.kinds[missing]
        new.starts[rows] = before.starts[missing]
        new.lengths[rows] = before.lengths[missing]


def _pick(cells: Cells, rows: Ints) -> Cells:
    return Cells(cells.kinds[rows], cells.starts[rows], cells.lengths[rows])


def _append(cells: Cells, more: Cells, rows: Ints) -> Cells:
    return Cells(
        np.concatenate([cells.kinds, more.kinds[rows]]),
        np.concatenate([cells.starts, more.starts[rows]]),
        np.concatenate([cells.lengths, more.lengths[rows]]),
    )


def _unchanged(stream: Captured) -> SyncError:
    message = (
        f"The log lacks long values of {stream.label} that did not change: its replica identity was not FULL when the"
        " rows were changed. Set it, then rebuild: POST /api/lakehouse/v1/connections/<id>/rebuild"
    )
    return SyncError("source", "config_error", message)
