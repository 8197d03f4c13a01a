"""Values of one column, as pgoutput sends them, into an Arrow array of the type that is written (see ../types.py).

A column arrives as positions in one buffer. The common types are decoded for all rows at once; the rest goes value by
value. What a type cannot carry (NaN in a DECIMAL, infinity in a date) becomes null and is reported as bad.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedded.replication.postgres import types
from embedded.replication.postgres.cdc.texts import array_as_json, elements, parser
from embedded.replication.records import arrow_type

Ints = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]
NULL, TEXT, BINARY, UNCHANGED = 0x6E, 0x74, 0x62, 0x75

_DAYS_2000 = 10_957
_MICROS_2000 = 946_684_800_000_000
_INT64_MAX = 2**63 - 1


class Buffer:
    """Bytes that are read as big-endian numbers at any position."""

    def __init__(self, data: bytes) -> None:
        # Padding: a number may be read near the end, and thrown away.
        self.bytes = np.frombuffer(data + bytes(8), np.uint8)

    def numbers(self, dtype: str, positions: Ints) -> Any:
        """The numbers of an unaligned big-endian type at these positions, in the machine's order."""
        size = int(dtype[-1])
        view: Any = np.ndarray((len(self.bytes) - size + 1,), dtype, self.bytes, strides=(1,))
        found = view[positions]
        return found.astype(found.dtype.newbyteorder("="))


@dataclass(frozen=True)
class Cells:
    """One column of many rows: how each value was sent (n null, t text, b binary, u unchanged), where, how long."""

    kinds: Bytes
    starts: Ints
    lengths: Ints


def decode(buffer: Buffer, cells: Cells, type_name: str, written: str) -> tuple[pa.Array, Bools | None]:
    """The values as an array of `written`, and which of them could not be carried (None: all could).

    type_name: pg_type.typname of the column's base type; of an array's element with `[]` after it.
    """
    null = cells.kinds == NULL
    kinds = cells.kinds[~null]
    fast = _BINARY.get((type_name, _family(written)))
    if fast is not None and (not len(kinds) or bool((kinds == BINARY).all())):
        return fast(buffer, cells, null, written)
    if not len(kinds):
        return pa.nulls(len(null), arrow_type(written)), None
    if type_name == "bpchar" and written == types.STRING:
        return _trimmed(buffer, cells, null, written)
    if type_name in _RAW and written == types.STRING:
        return strings(buffer, cells, null), None
    return _one_by_one(buffer, cells, null, type_name, written)


def _family(written: str) -> str:
    return "decimal" if written.startswith("decimal128") else written


def _array(values: Any, null: Bools, type_: pa.DataType) -> pa.Array:
    return pa.array(values, type_, mask=null if null.any() else None)


def _integers(dtype: str) -> Callable[..., tuple[pa.Array, None]]:
    def read(buffer: Buffer, cells: Cells, null: Bools, written: str) -> tuple[pa.Array, None]:
        return _array(buffer.numbers(dtype, cells.starts).astype(np.int64), null, pa.int64()), None

    return read


def _floats(dtype: str) -> Callable[..., tuple[pa.Array, None]]:
    def read(buffer: Buffer, cells: Cells, null: Bools, written: str) -> tuple[pa.Array, None]:
        # from_pandas would turn NaN into null: build the array from its buffers' view instead.
        values = pa.array(buffer.numbers(dtype, cells.starts).astype(np.float64), pa.float64(), from_pandas=False)
        if not null.any():
            return values, None
        return pa.Array.from_buffers(pa.float64(), len(null), [_validity(null), values.buffers()[1]]), None

    return read


def _validity(null: Bools) -> pa.Buffer:
    return pa.py_buffer(np.packbits(~null, bitorder="little"))


def _booleans(buffer: Buffer, cells: Cells, null: Bools, written: str) -> tuple[pa.Array, None]:
    return _array(buffer.bytes[cells.starts] == 1, null, pa.bool_()), None


def _dates(buffer: Buffer, cells: Cells, null: Bools, written: str) -> tuple[pa.Array, Bools | None]:
    days = buffer.numbers(">i4", cells.starts).astype(np.int64)
    bad = ((days == 2**31 - 1) | (days == -(2**31))) & ~null
    days = np.where(bad, 0, days) + _DAYS_2000
    return _array(days.astype(np.int32), null | bad, pa.int32()).cast(pa.date32()), _some(bad)


def _times(buffer: Buffer, cells: Cells, null: Bools, written: str) -> tuple[pa.Array, Bools | None]:
    micros = buffer.numbers(">i8", cells.starts)
    bad = (micros >= 86_400_000_000) & ~null  # 24:00:00
    return _array(micros, null | bad, pa.int64()).cast(pa.time64("us")), _some(bad)


def _timestamps(buffer: Buffer, cells: Cells, null: Bools, written: str) -> tuple[pa.Array, Bools | None]:
    micros = buffer.numbers(">i8", cells.starts)
    # Infinity either way, or beyond what 64 bits hold when counted from 1970.
    bad = ((micros > _INT64_MAX - 1 - _MICROS_2000) | (micros == -_INT64_MAX - 1)) & ~null
    micros = np.where(bad | null, 0, micros) + _MICROS_2000
    return _array(micros, null | bad, pa.int64()).cast(pa.timestamp("us", "UTC")), _some(bad)


def _some(bad: Bools) -> Bools | None:
    return bad if bad.any() else None


def _decimals(buffer: Buffer, cells: Cells, null: Bools, written: str) -> tuple[pa.Array, Bools | None]:
    """numeric's digits in base 10,000 into a 128-bit integer; 18 digits at a time fit 64 bits."""
    type_ = arrow_type(written)
    if type_.precision > 18:
        return _one_by_one(buffer, cells, null, "numeric", written)
    at = cells.starts
    count = np.where(null, 0, buffer.numbers(">i2", at)).astype(np.int64)
    weight = buffer.numbers(">i2", at + 2).astype(np.int64)
    sign = buffer.numbers(">u2", at + 4)
    bad = (sign & 0xC000 == 0xC000) & ~null
    total = np.zeros(len(at), np.int64)
    for digit in range(int(count.max(initial=0))):
        here = count > digit
        value = np.where(here, buffer.numbers(">i2", np.where(here, at + 8 + 2 * digit, 0)), 0).astype(np.int64)
        exponent = np.where(here, 4 * (weight - digit) + type_.scale, 0)
        total += value * _POWERS[np.clip(exponent, 0, 18)] // _POWERS[np.clip(-exponent, 0, 18)]
    total = np.where(sign == 0x4000, -total, total)
    wide = np.empty((len(at), 2), np.int64)
    wide[:, 0] = total
    wide[:, 1] = total >> 63
    empty = null | bad
    validity = _validity(empty) if empty.any() else None
    return pa.Array.from_buffers(type_, len(at), [validity, pa.py_buffer(wide)]), _some(bad)


_POWERS = 10 ** np.arange(19, dtype=np.int64)


def strings(buffer: Buffer, cells: Cells, null: Bools, skip: int = 0) -> pa.Array:
    """The bytes of the values, less the first `skip` of each, as text."""
    lengths = np.where(null, 0, cells.lengths - skip)
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    index = np.repeat(cells.starts + skip - offsets[:-1], lengths) + np.arange(offsets[-1])
    data = buffer.bytes[index]
    validity = _validity(null) if null.any() else None
    buffers = [validity, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.string(), len(lengths), buffers)


def _jsonb(buffer: Buffer, cells: Cells, null: Bools, written: str) -> tuple[pa.Array, None]:
    return strings(buffer, cells, null, skip=1), None  # a version byte comes first


def _plain(buffer: Buffer, cells: Cells, null: Bools, written: str) -> tuple[pa.Array, None]:
    return strings(buffer, cells, null), None


def _trimmed(buffer: Buffer, cells: Cells, null: Bools, written: str) -> tuple[pa.Array, None]:
    """Padding is no part of a char(n)'s value: PostgreSQL's cast to text drops it too."""
    return pc.utf8_rtrim(strings(buffer, cells, null), characters=" "), None


_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)


def _uuids(buffer: Buffer, cells: Cells, null: Bools, written: str) -> tuple[pa.Array, None]:
    raw = buffer.bytes[np.where(null, 0, cells.starts)[:, None] + np.arange(16)]
    text = np.full((len(raw), 36), ord("-"), np.uint8)
    at = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34]
    text[:, at] = _HEX[raw >> 4]
    text[:, [place + 1 for place in at]] = _HEX[raw & 15]
    offsets = np.arange(0, 36 * (len(raw) + 1), 36, dtype=np.int32)
    validity = _validity(null) if null.any() else None
    buffers = [validity, pa.py_buffer(offsets), pa.py_buffer(text)]
    return pa.Array.from_buffers(pa.string(), len(raw), buffers), None


_BINARY: dict[tuple[str, str], Callable[..., tuple[pa.Array, Bools | None]]] = {
    ("bool", types.BOOLEAN): _booleans,
    ("int2", types.INTEGER): _integers(">i2"),
    ("int4", types.INTEGER): _integers(">i4"),
    ("int8", types.INTEGER): _integers(">i8"),
    ("oid", types.INTEGER): _integers(">u4"),
    ("float4", types.DOUBLE): _floats(">f4"),
    ("float8", types.DOUBLE): _floats(">f8"),
    ("date", types.DATE): _dates,
    ("time", types.TIME): _times,
    ("timestamp", types.TIMESTAMP): _timestamps,
    ("timestamptz", types.TIMESTAMP): _timestamps,
    ("numeric", "decimal"): _decimals,
    ("uuid", types.STRING): _uuids,
    ("json", types.STRING): _plain,
    ("jsonb", types.STRING): _jsonb,
    ("text", types.STRING): _plain,
    ("varchar", types.STRING): _plain,
    ("bpchar", types.STRING): _trimmed,
    ("name", types.STRING): _plain,
}
# Their text is what is written, whichever way it was sent.
_RAW = frozenset({"text", "varchar", "json", "name"})
# Types of which the binary form is decoded here, alone and in arrays; of any other the text form is asked for.
DECODED = frozenset(name for name, _ in _BINARY)


def _one_by_one(
    buffer: Buffer, cells: Cells, null: Bools, type_name: str, written: str
) -> tuple[pa.Array, Bools | None]:
    """The general way. A value sent in binary is turned into PostgreSQL's text first."""
    data = buffer.bytes
    bad = np.zeros(len(null), bool)
    values: list[Any] = []
    for row, (kind, start, length) in enumerate(zip(cells.kinds, cells.starts, cells.lengths, strict=True)):
        if kind == NULL:
            values.append(None)
            continue
        raw = data[start : start + length].tobytes()
        value = convert(raw, type_name, written) if kind == TEXT else _from_binary(raw, type_name, written)
        bad[row] = value is None
        values.append(value)
    return pa.array(values, arrow_type(written)), _some(bad)


def convert(raw: bytes, type_name: str, written: str) -> Any:
    """A value from PostgreSQL's text, None if `written` cannot carry it."""
    text = raw.decode()
    if not written.startswith("list<"):
        if type_name.endswith("[]"):
            return array_as_json(text, type_name[:-2])
        if written == types.STRING:
            return text.replace("$", "").replace(",", "") if type_name == "money" else text
        value = parser(type_name, _family(written))(text, arrow_type(written))
        overflows = written == types.DOUBLE and type_name in ("numeric", "money") and not isfinite(value)
        return None if overflows else value
    element = written[5:-1]
    found = elements(text)
    if type_name == "bpchar[]":
        found = [item if item is None or isinstance(item, list) else item.rstrip(" ") for item in found]
    if any(isinstance(item, list) for item in found):
        return None  # more dimensions than the column was declared with
    parse = parser(type_name[:-2], _family(element))
    values = [None if item is None else parse(item, arrow_type(element)) for item in found]
    lost = any(value is None and item is not None for value, item in zip(values, found, strict=True))
    return None if lost else values


def _from_binary(raw: bytes, type_name: str, written: str) -> Any:
    if type_name == "numeric":
        number = _number(raw)
        return number if written == types.STRING or number is None else convert(number.encode(), type_name, written)
    raise ValueError(f"type {type_name} was sent in binary, which is not decoded here")


def _number(raw: bytes) -> str | None:
    """numeric as PostgreSQL prints it."""
    count, weight = int.from_bytes(raw[:2], "big"), int.from_bytes(raw[2:4], "big", signed=True)
    sign, scale = int.from_bytes(raw[4:6], "big"), int.from_bytes(raw[6:8], "big")
    if sign & 0xC000 == 0xC000:
        return {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}[sign]
    digits = [int.from_bytes(raw[8 + 2 * i : 10 + 2 * i], "big") for i in range(count)]
    number = 0
    for digit in digits:
        number = number * 10_000 + digit
    exponent = 4 * (weight - count + 1)
    scaled = number * 10 ** (exponent + scale) if exponent + scale >= 0 else number // 10 ** -(exponent + scale)
    text = f"{Decimal((0, tuple(map(int, str(scaled))), -scale)):f}"
    return f"-{text}" if sign == 0x4000 else text
