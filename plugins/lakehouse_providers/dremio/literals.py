"""Values as Dremio SQL text. Dremio's Flight takes no bound parameters, so they are written into the statement."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any

from lakehouse_providers.dremio.errors import DremioConfigurationError
from lakehouse_providers.dremio.sql import identifier
from lakehouse_providers.dremio.sql import literal as quoted

# A question mark inside a text, a quoted name or a comment (`//` begins one, too) is no placeholder.
_TOKENS = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|//[^\n]*|/\*.*?\*/|\?""", re.DOTALL)


def literal(value: Any) -> str:
    """SQL for a value; moments with a zone become UTC, and Dremio keeps their milliseconds only.

    Raises DremioConfigurationError for a type that has no literal.
    """
    if value is None:
        return "NULL"
    for kind, write in _WRITERS:  # in this order: True is an int, and a datetime is a date
        if isinstance(value, kind):
            return write(value)
    raise DremioConfigurationError(f"A {type(value).__name__} cannot be written as SQL; convert it to text or a number")


def _text(value: str) -> str:
    if "\0" in value:
        raise DremioConfigurationError("A text with a zero byte cannot be written as SQL")
    return quoted(value)


def _float(value: float) -> str:
    return f"CAST({value!r} AS DOUBLE)" if math.isfinite(value) else f"CAST('{_special(value)}' AS DOUBLE)"


def _special(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise DremioConfigurationError(f"Decimal {value} cannot be written as SQL")
    return format(value, "f")


def _moment(value: dt.datetime) -> str:
    naive = value.astimezone(dt.UTC).replace(tzinfo=None) if value.tzinfo is not None else value
    return f"TIMESTAMP '{naive.isoformat(sep=' ', timespec='milliseconds')}'"


_WRITERS: Sequence[tuple[type, Callable[[Any], str]]] = (
    (bool, lambda value: "TRUE" if value else "FALSE"),
    (int, str),
    (float, _float),
    (Decimal, _decimal),
    (str, _text),
    (bytes, lambda value: f"FROM_HEX('{value.hex()}')"),
    (dt.datetime, _moment),
    (dt.date, lambda value: f"DATE '{value.isoformat()}'"),
    (dt.time, lambda value: f"TIME '{value.isoformat(timespec='milliseconds')}'"),
)


def bind(statement: str, parameters: Iterable[Any] | None) -> str:
    """The statement with its `?` replaced. Raises DremioConfigurationError when their number differs."""
    if parameters is None:
        return statement
    if not isinstance(parameters, Sequence) or isinstance(parameters, str | bytes):
        raise DremioConfigurationError("Parameters must be a list or tuple, one value for each ? of the statement")
    left = list(parameters)

    def put(match: re.Match[str]) -> str:
        if match[0] != "?":
            return match[0]
        if not left:
            raise DremioConfigurationError(f"The statement has more ? than the {len(parameters)} parameters")
        return literal(left.pop(0))

    bound = _TOKENS.sub(put, statement)
    if left:
        raise DremioConfigurationError(f"{len(left)} of {len(parameters)} parameters have no ? in the statement")
    return bound


def insert(table: str | Sequence[str], rows: Sequence[Sequence[Any]], columns: Sequence[str] = ()) -> str:
    """One INSERT of all the rows: in an Iceberg table each statement is a snapshot."""
    names = f" ({', '.join(identifier([column]) for column in columns)})" if columns else ""
    values = ", ".join(f"({', '.join(literal(value) for value in row)})" for row in rows)
    return f"INSERT INTO {identifier(table)}{names} VALUES {values}"
