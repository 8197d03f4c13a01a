"""Arrow batches as PostgreSQL's binary COPY format, all rows at once.

https://www.postgresql.org/docs/current/sql-copy.html. Every column says how long each value is and writes its values
at given places of one buffer; rows are laid out by sums of lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedded.replication.postgres_destination.documents import documents
from embedded.replication.records import META

Ints = np.ndarray[Any, np.dtype[np.int64]]
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
_DAYS_2000 = 10_957
_MICROS_2000 = 946_684_800_000_000


@dataclass(frozen=True)
class _Encoded:
    """A column: the length of each value (-1: null), and what writes the others to their places."""

    lengths: Ints
    write: Callable[[Any, Ints], None]


def encode(batch: pa.RecordBatch, types: Sequence[str]) -> bytes:
    """The rows of a batch, without header and trailer. types: PostgreSQL's type of each column."""
    columns = [_column(array, type_) for array, type_ in zip(batch.columns, types, strict=True)]
    rows = batch.num_rows
    sizes = np.full(rows, 2 + 4 * len(columns), np.int64)
    for column in columns:
        sizes += np.maximum(column.lengths, 0)
    ends = np.cumsum(sizes)
    at = ends - sizes
    # Padding for numbers written through overlapping views.
    out = np.zeros(int(ends[-1]) + 8 if rows else 8, np.uint8)
    _put(out, ">i2", at, np.full(rows, len(columns)))
    at = at + 2
    for column in columns:
        _put(out, ">i4", at, column.lengths)
        column.write(out, at + 4)
        at = at + 4 + np.maximum(column.lengths, 0)
    return out[: len(out) - 8].tobytes()


def _put(out: Any, dtype: str, at: Ints, values: Any) -> None:
    """Write big-endian numbers at any positions."""
    view: Any = np.ndarray((len(out) - int(dtype[-1]) + 1,), dtype, out, strides=(1,))
    view[at] = values


def _column(array: pa.Array, type_: str) -> _Encoded:
    base = type_.split("(")[0]
    return _ENCODERS[base](array)


def _valid(array: pa.Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.asarray(array.is_valid().to_numpy(zero_copy_only=False), bool)


def _numbers(dtype: str, ready: Callable[[pa.Array], Any]) -> Callable[[pa.Array], _Encoded]:
    size = int(dtype[-1])

    def encoder(array: pa.Array) -> _Encoded:
        values = ready(array)
        if array.null_count == 0:
            return _Encoded(np.full(len(array), size, np.int64), lambda out, at: _put(out, dtype, at, values))
        valid = _valid(array)
        return _Encoded(np.where(valid, size, -1), lambda out, at: _put(out, dtype, at[valid], values[valid]))

    return encoder


def _integers(type_: pa.DataType, shift: int = 0) -> Callable[[pa.Array], Any]:
    def ready(array: pa.Array) -> Any:
        filled = pc.fill_null(array.cast(type_), 0) if array.null_count else array.cast(type_)
        return filled.to_numpy(zero_copy_only=False) - shift if shift else filled.to_numpy(zero_copy_only=False)

    return ready


def _timestamps(array: pa.Array) -> Any:
    micros = array.cast(pa.timestamp("us", array.type.tz)) if array.type.unit != "us" else array
    return _integers(pa.int64(), _MICROS_2000)(micros.view(pa.int64()))


def _dates(array: pa.Array) -> Any:
    return _integers(pa.int64(), _DAYS_2000)(array.view(pa.int32()))


def _times(array: pa.Array) -> Any:
    return _integers(pa.int64())(array.view(pa.int64()))


def _floats(array: pa.Array) -> Any:
    return (pc.fill_null(array, 0.0) if array.null_count else array).to_numpy(zero_copy_only=False)


def _booleans(array: pa.Array) -> Any:
    return _integers(pa.int8())(array.cast(pa.int8()))


def _texts(prefix: bytes = b"") -> Callable[[pa.Array], _Encoded]:
    def encoder(array: pa.Array) -> _Encoded:
        texts = _as_text(array)
        _, offsets_buffer, data_buffer = texts.buffers()
        offsets = np.frombuffer(offsets_buffer, np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
        data = np.frombuffer(data_buffer, np.uint8) if data_buffer is not None else np.zeros(0, np.uint8)
        lengths = np.diff(offsets)
        valid = _valid(texts)
        extra = len(prefix)

        def write(out: Any, at: Ints) -> None:
            for index, byte in enumerate(prefix):
                out[at[valid] + index] = byte
            # A null has length 0 in Arrow, as a rule; where it has not, its bytes are left out.
            kept = np.where(valid, lengths, 0)
            source = _spread(offsets[:-1], kept)
            out[_spread(at + extra, kept)] = data[source]

        return _Encoded(np.where(valid, lengths + extra, -1), write)

    return encoder


def _spread(starts: Ints, lengths: Ints) -> Ints:
    """start, start + 1, ... of each run, one after the other."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(total)


def _as_text(array: pa.Array) -> pa.Array:
    if pa.types.is_string(array.type):
        return array
    if array.type.equals(META) and len(array) and not len(array.field("changes").flatten()):
        return pa.repeat(pa.scalar(documents(array.slice(0, 1))[0]), len(array))  # nearly always: one text for all
    if pa.types.is_nested(array.type):
        return pa.array(documents(array), pa.string())
    return array.cast(pa.string())


def _numerics(array: pa.Array) -> _Encoded:
    """DECIMAL of up to 18 digits as base-10,000 digits of a fixed number; anything else value by value."""
    type_ = array.type
    if not pa.types.is_decimal(type_):
        return _raw([None if value is None else _numeric(Decimal(str(value))) for value in array.to_pylist()])
    fraction = -(-type_.scale // 4)
    if type_.precision + 4 * fraction - type_.scale > 18:
        return _raw([None if value is None else _numeric(value) for value in array.to_pylist()])
    whole = -(-(type_.precision - type_.scale) // 4)
    count = whole + fraction
    words = np.frombuffer(array.buffers()[1], np.int64)[2 * array.offset :: 2][: len(array)]
    valid = _valid(array)
    values = np.where(valid, words, 0)
    rest = np.abs(values) * 10 ** (4 * fraction - type_.scale)
    width = 8 + 2 * count
    raw = np.zeros((len(array), width), np.uint8)
    raw[:, 0:2] = _bytes(">i2", np.full(len(array), count))
    raw[:, 2:4] = _bytes(">i2", np.full(len(array), whole - 1))
    raw[:, 4:6] = _bytes(">u2", np.where(values < 0, 0x4000, 0))
    raw[:, 6:8] = _bytes(">i2", np.full(len(array), type_.scale))
    for digit in reversed(range(count)):
        rest, part = np.divmod(rest, 10_000)
        raw[:, 8 + 2 * digit : 10 + 2 * digit] = _bytes(">i2", part)

    def write(out: Any, at: Ints) -> None:
        out[at[valid][:, None] + np.arange(width)] = raw[valid]

    return _Encoded(np.where(valid, width, -1), write)


def _bytes(dtype: str, values: Any) -> Any:
    return values.astype(dtype).view(np.uint8).reshape(len(values), 2)


def _numeric(value: Decimal) -> bytes:
    if not value.is_finite():
        sign = 0xC000 if value.is_nan() else (0xF000 if value < 0 else 0xD000)
        return bytes(4) + sign.to_bytes(2, "big") + bytes(2)
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    scale = max(0, -exponent)
    number = int("".join(map(str, digits))) * 10 ** max(0, exponent)
    number *= 10 ** (-scale % 4)
    groups: list[int] = []
    while number:
        number, part = divmod(number, 10_000)
        groups.insert(0, part)
    weight = len(groups) - -(-scale // 4) - 1
    head = (len(groups), weight, 0x4000 if sign else 0, scale)
    return b"".join(part.to_bytes(2, "big", signed=part < 0) for part in (*head, *groups))


def _raw(values: list[bytes | None]) -> _Encoded:
    lengths = np.array([-1 if value is None else len(value) for value in values], np.int64)
    data = np.frombuffer(b"".join(value for value in values if value is not None), np.uint8)

    def write(out: Any, at: Ints) -> None:
        out[_spread(at, np.maximum(lengths, 0))] = data

    return _Encoded(lengths, write)


_ENCODERS: dict[str, Callable[[pa.Array], _Encoded]] = {
    "bigint": _numbers(">i8", _integers(pa.int64())),
    "boolean": _numbers(">i1", _booleans),
    "double precision": _numbers(">f8", _floats),
    "date": _numbers(">i4", _dates),
    "time": _numbers(">i8", _times),
    "timestamp": _numbers(">i8", _timestamps),
    "timestamptz": _numbers(">i8", _timestamps),
    "numeric": _numerics,
    "varchar": _texts(),
    "jsonb": _texts(b"\x01"),
}
