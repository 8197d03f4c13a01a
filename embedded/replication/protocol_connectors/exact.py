"""One JSON value at a time, exactly: what the fast path cannot read, and what it would round.

A value that its type cannot carry becomes null, one that is carried but for its last digits is rounded, and
`_airbyte_meta.changes` names both, with the path of a nested one: `address.zip`.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from decimal import Decimal, InvalidOperation
from typing import Any

from embedded.replication.postgres import types
from embedded.replication.protocol_connectors.schema import LIST, NUMBER_TEXT, STRUCT, Shape

NULLED, TRUNCATED = "NULLED", "TRUNCATED"
Change = dict[str, str]

_LONG_INTEGER = 4000  # digits; Python refuses to convert much longer ones
_NANOSECONDS = re.compile(r"\.\d{6}\d*[1-9]")
_NO_OFFSET_MINUTES = re.compile(r"(:\d\d(?:\.\d+)?[+-]\d\d)$")
_BOOLEANS = {"true": True, "false": False}
_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def noted(path: str, change: str) -> Change:
    """An entry of `_airbyte_meta.changes`."""
    reason = "DESTINATION_SERIALIZATION_ERROR" if change == NULLED else "DESTINATION_FIELD_SIZE_LIMITATION"
    return {"field": path, "change": change, "reason": reason}


class _Unfit(Exception):
    """The type cannot carry the value."""


def loads(text: bytes) -> Any:
    """JSON with every digit of its numbers kept; raises ValueError."""
    return json.loads(text, parse_float=Decimal, parse_int=_integer)


def _integer(text: str) -> int | Decimal:
    return int(text) if len(text) < _LONG_INTEGER else Decimal(text)


def dumps(value: Any) -> str:
    """Compact JSON of what `loads` gave."""
    match value:
        case Decimal():
            return str(value)
        case dict():
            return "{" + ",".join(f"{json.dumps(k, ensure_ascii=False)}:{dumps(v)}" for k, v in value.items()) + "}"
        case list():
            return "[" + ",".join(map(dumps, value)) + "]"
        case float() if not math.isfinite(value):
            return json.dumps(str(value))  # NaN is no JSON; it is kept as text
    return json.dumps(value, ensure_ascii=False)


class Coercion:
    """Turns one value after another into what Arrow takes, and notes what could not be kept."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    def __call__(self, value: Any, shape: Shape, path: str) -> Any:
        """The value as `shape` carries it."""
        if value is None:
            return None
        try:
            if shape.kind == STRUCT:
                return self._struct(value, shape, path)
            if shape.kind == LIST and shape.element is not None:
                return self._list(value, shape.element, path)
            return self._scalar(value, shape.kind, path)
        except _Unfit:
            self._note(path, NULLED)
            return None

    def _note(self, path: str, change: str) -> None:
        self.changes.append(noted(path, change))

    def _struct(self, value: Any, shape: Shape, path: str) -> Any:
        if not isinstance(value, dict):
            raise _Unfit
        return {name: self(value.get(name), item, f"{path}.{name}") for name, item in shape.fields}

    def _list(self, value: Any, element: Shape, path: str) -> Any:
        if not isinstance(value, list):
            raise _Unfit
        return [self(item, element, path) for item in value]

    def _scalar(self, value: Any, kind: str, path: str) -> Any:
        match kind:
            case types.BOOLEAN:
                return _boolean(value)
            case types.INTEGER:
                return _int64(value)
            case types.DOUBLE:
                return self._double(value, path)
            case types.STRING:
                return self._text(value if isinstance(value, str) else dumps(value), path)
            case types.TIMESTAMP:
                return self._timestamp(value, path)
            case types.DATE:
                return _date(value)
            case types.TIME:
                return _time(value)
        if kind == NUMBER_TEXT:
            return _number_text(value)
        return self._text(dumps(value), path)

    def _double(self, value: Any, path: str) -> float:
        if isinstance(value, bool):
            raise _Unfit
        if isinstance(value, float):
            return value  # NaN and the infinities: json gives them so
        if isinstance(value, str) and value in _SPECIAL:
            return _SPECIAL[value]
        exact = _decimal(value)
        try:
            near = float(exact)
        except OverflowError:
            raise _Unfit from None
        if not math.isfinite(near):
            raise _Unfit
        if Decimal(repr(near)) != exact:
            self._note(path, TRUNCATED)
        return near

    def _text(self, text: str, path: str) -> str:
        try:
            text.encode()
        except UnicodeEncodeError:  # half of a surrogate pair has no UTF-8
            self._note(path, TRUNCATED)
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return text

    def _timestamp(self, value: Any, path: str) -> dt.datetime:
        if not isinstance(value, str):
            raise _Unfit
        try:
            at = dt.datetime.fromisoformat(_NO_OFFSET_MINUTES.sub(r"\1:00", value.strip()))
            utc = at.replace(tzinfo=dt.UTC) if at.tzinfo is None else at.astimezone(dt.UTC)
        except (ValueError, OverflowError):
            raise _Unfit from None
        if _NANOSECONDS.search(value):
            self._note(path, TRUNCATED)
        return utc


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _BOOLEANS:
        return _BOOLEANS[value.lower()]
    raise _Unfit


def _int64(value: Any) -> int:
    if isinstance(value, bool | float):
        raise _Unfit
    exact = _decimal(value)
    if exact != exact.to_integral_value() or not -(2**63) <= exact < 2**63:
        raise _Unfit
    return int(exact)


def _decimal(value: Any) -> Decimal:
    """A finite number, also from its text."""
    if not isinstance(value, int | Decimal | str):
        raise _Unfit
    try:
        exact = Decimal(value)
    except (InvalidOperation, ValueError):
        raise _Unfit from None
    if not exact.is_finite():
        raise _Unfit
    return exact


def _number_text(value: Any) -> str:
    if isinstance(value, bool):
        raise _Unfit
    _decimal(value)
    return str(value)


def _date(value: Any) -> dt.date:
    try:
        return dt.date.fromisoformat(value[:10] if isinstance(value, str) and value[10:11] in ("T", " ") else value)
    except (TypeError, ValueError):
        raise _Unfit from None


def _time(value: Any) -> dt.time:
    """A time with a zone is moved to UTC, as PostgreSQL's are."""
    try:
        at = dt.time.fromisoformat(value)
    except (TypeError, ValueError):
        raise _Unfit from None
    if at.tzinfo is None:
        return at
    return dt.datetime.combine(dt.date(2000, 1, 1), at).astimezone(dt.UTC).time()
