"""PostgreSQL's text form of values, one at a time: dates, times, numbers, array literals.

The session prints them in UTC and ISO style (see ../connection.py). A parser gives None for what its type cannot carry.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from embedded.replication.postgres import types

_STAMP = re.compile(
    r"(\d{4,})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?(?:([+-])(\d\d)(?::?(\d\d))?(?::(\d\d))?)?( BC)?"
)
_TIME = re.compile(r"(\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?(?:([+-])(\d\d)(?::(\d\d))?(?::(\d\d))?)?")
_DATE = re.compile(r"(\d{4,})-(\d\d)-(\d\d)( BC)?")
_DAY = 86_400_000_000
_INT64_MAX = 2**63 - 1


def _days(year: int, month: int, day: int) -> int:
    """Days since 1970 in the proleptic Gregorian calendar, of any year (Howard Hinnant's algorithm)."""
    year -= month <= 2
    era, month_of_era = divmod(year, 400)
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    day_of_era = month_of_era * 365 + month_of_era // 4 - month_of_era // 100 + day_of_year
    return era * 146_097 + day_of_era - 719_468


def _micros(hour: str, minute: str, second: str, fraction: str | None) -> int:
    whole = (int(hour) * 60 + int(minute)) * 60 + int(second)
    return whole * 1_000_000 + int((fraction or "").ljust(6, "0") or 0)


def _offset(sign: str | None, hour: str | None, minute: str | None, second: str | None) -> int:
    if sign is None:
        return 0
    total = (int(hour or 0) * 60 + int(minute or 0)) * 60 + int(second or 0)
    return (total if sign == "+" else -total) * 1_000_000


def timestamp(text: str, type_: pa.DataType) -> Any:
    found = _STAMP.fullmatch(text)
    if found is None:
        return None  # infinity
    year = 1 - int(found[1]) if found[12] else int(found[1])
    micros = _days(year, int(found[2]), int(found[3])) * _DAY + _micros(found[4], found[5], found[6], found[7])
    micros -= _offset(found[8], found[9], found[10], found[11])
    return pa.scalar(micros, pa.int64()).cast(type_) if micros < _INT64_MAX else None


def day(text: str, type_: pa.DataType) -> Any:
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    year = 1 - int(found[1]) if found[4] else int(found[1])
    return pa.scalar(_days(year, int(found[2]), int(found[3])), pa.int32()).cast(type_)


def clock(text: str, type_: pa.DataType) -> Any:
    """A time of day, brought to UTC if it has a zone; 24:00:00 has no place in the type."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    micros = _micros(found[1], found[2], found[3], found[4])
    if found[5] is not None:
        micros = (micros - _offset(found[5], found[6], found[7], found[8])) % _DAY
    return pa.scalar(micros, pa.int64()).cast(type_) if micros < _DAY else None


def boolean(text: str, type_: pa.DataType) -> bool:
    return text == "t"


def integer(text: str, type_: pa.DataType) -> int:
    return int(text)


def double(text: str, type_: pa.DataType) -> float:
    """Also a numeric that is written as DOUBLE: NaN is a float's own value only there."""
    return float(text)


def real(text: str, type_: pa.DataType) -> float:
    """The shortest text of a float4, as the double that the float4 itself is."""
    return float(np.float32(text))


def decimal(text: str, type_: pa.DataType) -> Decimal | None:
    number = Decimal(text.replace("$", "").replace(",", ""))
    return number if number.is_finite() else None


def string(text: str, type_: pa.DataType) -> str:
    return text


TEXT_PARSERS: dict[str, Callable[[str, pa.DataType], Any]] = {
    types.BOOLEAN: boolean,
    types.INTEGER: integer,
    types.DOUBLE: double,
    types.STRING: string,
    types.DATE: day,
    types.TIME: clock,
    types.TIMESTAMP: timestamp,
    "decimal": decimal,
}


def parser(type_name: str, written: str) -> Callable[[str, pa.DataType], Any]:
    """type_name: of a value or of an array's element; written: its family, "decimal" for all decimals."""
    return real if type_name == "float4" and written == types.DOUBLE else TEXT_PARSERS[written]


def elements(text: str) -> list[Any]:
    """The elements of an array literal as texts, None or nested lists."""
    body = text[text.index("=") + 1 :] if text.startswith("[") else text  # [2:3]={...}: other lower bounds
    found, end = _nested(body, 0)
    if end != len(body):
        raise ValueError(f"not an array literal: {text[:60]}")
    return found


def _nested(text: str, at: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    at += 1
    while text[at] != "}":
        if text[at] == ",":
            at += 1
        item, at = _element(text, at)
        found.append(item)
    return found, at + 1


def _element(text: str, at: int) -> tuple[Any, int]:
    if text[at] == "{":
        return _nested(text, at)
    if text[at] == '"':
        match = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL).match(text, at)
        if match is None:
            raise ValueError("an array literal ends inside a quoted element")
        return re.sub(r"\\(.)", r"\1", match[1], flags=re.DOTALL), match.end()
    end = at
    while text[end] not in ",}":
        end += 1
    word = text[at:end]
    return (None if word == "NULL" else word), end


def array_as_json(text: str, type_name: str) -> str:
    """An array literal as PostgreSQL's array_to_json prints it; type_name: the element's."""
    return _json(elements(text), _JSON.get(type_name, _json_string))


def _json(found: Any, scalar: Callable[[str], str]) -> str:
    if found is None:
        return "null"
    if isinstance(found, list):
        return f"[{','.join(_json(item, scalar) for item in found)}]"
    return scalar(found)


def _json_string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _json_number(text: str) -> str:
    return _json_string(text) if text.lstrip("-").isalpha() else text  # NaN, Infinity


def _json_stamp(text: str) -> str:
    return _json_string(text.replace(" ", "T", 1).replace("+00", "+00:00"))


_JSON: dict[str, Callable[[str], str]] = {
    "bool": lambda text: "true" if text == "t" else "false",
    **dict.fromkeys(("int2", "int4", "int8", "float4", "float8", "numeric"), _json_number),
    **dict.fromkeys(("timestamp", "timestamptz"), _json_stamp),
    **dict.fromkeys(("json", "jsonb"), str),
}
