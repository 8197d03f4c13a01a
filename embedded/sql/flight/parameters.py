"""Values for the `?` of prepared statements, written into the statement as typed literals."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa

from embedded.sql.engine.datatypes import literal, normalise, type_text
from embedded.sql.engine.results import normalise_table
from embedded.sql.engine.tokens import Word, scan
from embedded.sql.errors import ValidationError


def places(sql: str) -> list[int]:
    """Where the `?` of a statement stand, those in texts, names and comments left out. Raises ParseError."""
    return [word.start for word in scan(sql) if word.kind == "symbol" and word.text == "?"]


def schema_of(count: int) -> pa.Schema:
    """The parameters as clients are told of them: their types are open, so text, which every client can bind."""
    return pa.schema([pa.field(f"parameter_{i}", pa.string()) for i in range(1, count + 1)])


def fill(sql: str, values: Sequence[str]) -> str:
    """The statement with these literals in place of its `?`. Raises ValidationError when their number differs."""
    found = places(sql)
    if len(found) != len(values):
        raise ValidationError(f"The statement has {len(found)} parameters, but {len(values)} values are bound")
    parts, at = [], 0
    for place, value in zip(found, values, strict=True):
        parts += [sql[at:place], value]
        at = place + 1
    return "".join([*parts, sql[at:]])


def literals(table: pa.Table) -> list[list[str]]:
    """Each row's values as SQL. Raises ValidationError for a type that no literal has."""
    table = normalise_table(table)
    columns = [[_literal(value, column.type) for value in column.to_pylist()] for column in table.columns]
    return [list(row) for row in zip(*columns, strict=True)] if columns else [[] for _ in range(table.num_rows)]


def _literal(value: Any, data_type: pa.DataType) -> str:
    kind = type_text(data_type)
    if value is None:
        return f"CAST(NULL AS {kind})"
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int):
        return f"CAST({literal(str(value))} AS {kind})" if value < 0 or abs(value) > 2**31 - 1 else str(value)
    if isinstance(value, (float, Decimal)):
        return _number(value, kind)
    if isinstance(value, str):
        return literal(value)
    if isinstance(value, bytes):
        return f"FROM_HEX({literal(value.hex())})"
    if isinstance(value, (datetime.datetime, datetime.time)):
        return f"CAST({literal(_moment(value))} AS {kind})"
    if isinstance(value, datetime.date):
        return f"DATE {literal(value.isoformat())}"
    raise ValidationError(f"A parameter of type {normalise(data_type)} is not supported")


def _number(value: float | Decimal, kind: str) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValidationError("A parameter must be a finite number")
    return f"CAST({literal(repr(value) if isinstance(value, float) else format(value, 'f'))} AS {kind})"


def _moment(value: datetime.datetime | datetime.time) -> str:
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ", timespec="milliseconds")
    return value.isoformat(timespec="milliseconds")


def several_rows(sql: str, rows: Sequence[Sequence[str]]) -> str | None:
    """One INSERT of all rows, where the statement ends in VALUES (...) that holds its parameters; None elsewhere."""
    words = [word for word in scan(sql) if not (word.kind == "symbol" and word.text == ";")]
    opening = _last_row(words)
    if opening is None or words[0].text.upper() != "INSERT":
        return None
    start, end = words[opening].start, words[-1].end
    template = sql[start:end]
    if len(places(template)) != len(places(sql)):
        return None
    return sql[:start] + ", ".join(fill(template, row) for row in rows)


def _last_row(words: Sequence[Word]) -> int | None:
    """The index of the parenthesis after VALUES, when its partner is the last word."""
    depth = 0
    for index in range(len(words) - 1, 0, -1):
        if words[index].kind != "symbol":
            continue
        depth += (words[index].text == ")") - (words[index].text == "(")
        if depth <= 0:
            return index if words[index].text == "(" and words[index - 1].text.upper() == "VALUES" else None
    return None
