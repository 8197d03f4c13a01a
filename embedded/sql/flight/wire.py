"""Protocol buffers' wire format, as far as Flight SQL's small messages need it: numbers, texts, messages in messages.

Contract: protobuf.dev/programming-guides/encoding. A message is read into {field number: values in order}.
"""

from __future__ import annotations

from collections.abc import Iterable

Value = int | bytes
Fields = dict[int, list[Value]]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class WireError(ValueError):
    """The bytes are no protocol buffer message."""


def read(data: bytes) -> Fields:
    """The fields of a message; fixed-size numbers are given as their bytes. Raises WireError."""
    fields: Fields = {}
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        value: Value
        if number == 0:
            raise WireError("field number 0")
        if kind == _VARINT:
            value, at = _varint(data, at)
        elif kind in (_BYTES, _FIXED64, _FIXED32):
            length, at = _varint(data, at) if kind == _BYTES else ({_FIXED64: 8, _FIXED32: 4}[kind], at)
            value, at = data[at : at + length], at + length
            if len(value) != length:
                raise WireError("a field is longer than its message")
        else:
            raise WireError(f"wire type {kind}")
        fields.setdefault(number, []).append(value)
    return fields


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise WireError("a number does not end")


def _number(value: int) -> bytes:
    value &= 0xFFFF_FFFF_FFFF_FFFF  # negative numbers are written as 64 bits
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def write(*fields: tuple[int, int | bytes | str | None]) -> bytes:
    """A message of these (number, value) pairs; None is left out."""
    written = bytearray()
    for number, value in fields:
        if value is None:
            continue
        if isinstance(value, int):
            written += _number(number << 3 | _VARINT) + _number(value)
        else:
            content = value.encode() if isinstance(value, str) else value
            written += _number(number << 3 | _BYTES) + _number(len(content)) + content
    return bytes(written)


def last_bytes(fields: Fields, number: int) -> bytes | None:
    """A field of bytes; the last one counts. Raises WireError when it is a number."""
    values = fields.get(number)
    if not values:
        return None
    if not isinstance(values[-1], bytes):
        raise WireError(f"field {number} is no text")
    return values[-1]


def text(fields: Fields, number: int) -> str | None:
    """A field of text. Raises WireError when it is not UTF-8."""
    content = last_bytes(fields, number)
    try:
        return None if content is None else content.decode()
    except UnicodeDecodeError:
        raise WireError(f"field {number} is not UTF-8") from None


def texts(fields: Fields, number: int) -> list[str]:
    return [value.decode(errors="replace") for value in fields.get(number, ()) if isinstance(value, bytes)]


def flag(fields: Fields, number: int) -> bool:
    return bool(fields.get(number, [0])[-1])


def integer(fields: Fields, number: int) -> int | None:
    """A signed field. Raises WireError when it is no number."""
    values = fields.get(number)
    if not values:
        return None
    if not isinstance(values[-1], int):
        raise WireError(f"field {number} is no number")
    return values[-1] - (1 << 64) if values[-1] >> 63 else values[-1]


def integers(fields: Fields, number: int) -> list[int]:
    """A repeated number, packed or not."""
    found: list[int] = []
    for value in fields.get(number, ()):
        if isinstance(value, int):
            found.append(value)
            continue
        at = 0
        while at < len(value):
            one, at = _varint(value, at)
            found.append(one)
    return found


def mapping(fields: Fields, number: int) -> Iterable[tuple[str, bytes]]:
    """A map<string, message>."""
    for entry in fields.get(number, ()):
        if isinstance(entry, bytes):
            parts = read(entry)
            yield text(parts, 1) or "", last_bytes(parts, 2) or b""


_PREFIX = "type.googleapis.com/"


def pack(name: str, message: bytes) -> bytes:
    """google.protobuf.Any around a message of Flight SQL."""
    return write((1, f"{_PREFIX}arrow.flight.protocol.sql.{name}"), (2, message))


def unpack(data: bytes) -> tuple[str, bytes] | None:
    """The short name and the content of a packed Flight SQL message; None when `data` is something else."""
    try:
        fields = read(data)
        url, content = text(fields, 1), last_bytes(fields, 2)
    except WireError:
        return None
    package = f"{_PREFIX}arrow.flight.protocol.sql."
    if url is None or not url.startswith(package) or set(fields) - {1, 2}:
        return None
    return url.removeprefix(package), content or b""
