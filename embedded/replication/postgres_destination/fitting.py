"""What PostgreSQL cannot hold of a value is taken out of it, and `_airbyte_meta.changes` names it.

varchar and jsonb hold no U+0000, jsonb no NaN, no infinity, no half of a surrogate pair, no number longer than numeric.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedded.replication.postgres_destination.documents import offsets
from embedded.replication.protocol_connectors.exact import NULLED, TRUNCATED, Change, dumps, loads, noted
from embedded.replication.records import Field

Rows = np.ndarray[Any, np.dtype[np.int64]]
Lost = dict[int, list[Change]]

_NUMERIC_DIGITS, _NUMERIC_SCALE = 131_072, 16_383
_LONG = 16_000
_SUSPECT = r"\\u|[eE][+-]?\d{5}"
_ODD = re.compile(r"\\u0000|\\u[dD][89a-fA-F]|[eE][+-]?\d{5}|[\d.]{16000}")


def fit(array: pa.Array, field: Field) -> tuple[pa.Array, Lost]:
    """See records.Fit."""
    lost: Lost = {}
    if field.logical == "jsonb":
        return _json(array, field.source, lost), lost
    if pa.types.is_string(array.type) or pa.types.is_nested(array.type):
        array = _fitted(array, np.arange(len(array)), field.source, lost)
    return array, lost


def _fitted(array: pa.Array, rows: Rows, path: str, lost: Lost) -> pa.Array:
    """rows: of each value of `array`, the row of the batch that it is part of."""
    type_ = array.type
    if pa.types.is_string(type_):
        return _texts(array, rows, path, lost)
    if pa.types.is_floating(type_):
        return _numbers(array, rows, path, lost)
    if pa.types.is_list(type_):
        inner = rows[pc.list_parent_indices(array).to_numpy()]
        values = _fitted(array.flatten(), inner, path, lost)
        return pa.ListArray.from_arrays(pa.array(offsets(array)), values, type=type_, mask=array.is_null())
    if pa.types.is_struct(type_) and type_.num_fields:
        parts = [
            _fitted(part, rows, f"{path}.{item.name}", lost) for part, item in zip(array.flatten(), type_, strict=True)
        ]
        return pa.StructArray.from_arrays(parts, fields=list(type_), mask=array.is_null())
    return array


def _texts(array: pa.Array, rows: Rows, path: str, lost: Lost) -> pa.Array:
    bad = pc.match_substring(array, "\0")
    if not pc.any(bad).as_py():
        return array
    _note(lost, rows[_true(bad)], path, TRUNCATED)
    return pc.replace_substring(array, "\0", "")


def _numbers(array: pa.Array, rows: Rows, path: str, lost: Lost) -> pa.Array:
    finite = pc.is_finite(array)
    if pc.all(finite).as_py() is not False:
        return array
    _note(lost, rows[_true(pc.invert(finite))], path, NULLED)
    return pc.if_else(finite, array, pa.scalar(None, array.type))


def _true(mask: pa.Array) -> Rows:
    return np.flatnonzero(pc.fill_null(mask, False).to_numpy(zero_copy_only=False))


def _note(lost: Lost, rows: Iterable[int], path: str, change: str) -> None:
    for row in sorted(set(map(int, rows))):
        lost.setdefault(row, []).append(noted(path, change))


def _json(array: pa.Array, path: str, lost: Lost) -> pa.Array:
    """JSON texts: only those that look odd are read, and only those that lose something are written anew."""
    suspect = pc.or_(pc.match_substring_regex(array, _SUSPECT), pc.greater(pc.binary_length(array), _LONG))
    better: dict[int, str | None] = {}
    for row in map(int, _true(suspect)):
        text = array[row].as_py()
        if _ODD.search(text):
            changes: set[str] = set()
            found = _strict(text, changes)
            if changes:
                better[row] = found
                lost[row] = [noted(path, change) for change in sorted(changes)]
    if not better:
        return array
    take = np.arange(len(array))
    take[list(better)] = len(array) + np.arange(len(better))
    return pa.concat_arrays([array, pa.array(list(better.values()), array.type)]).take(pa.array(take))


def _strict(text: str, changes: set[str]) -> str | None:
    try:
        return dumps(_value(loads(text.encode()), changes))
    except (ValueError, RecursionError):
        changes.add(NULLED)
        return None


def _value(value: Any, changes: set[str]) -> Any:
    match value:
        case str():
            kept = value.replace("\0", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            if kept != value:
                changes.add(TRUNCATED)
            return kept
        case dict():
            return {_value(name, changes): _value(item, changes) for name, item in value.items()}
        case list():
            return [_value(item, changes) for item in value]
        case Decimal() if not _is_numeric(value):
            changes.add(NULLED)
            return None
    return value


def _is_numeric(value: Decimal) -> bool:
    exponent = value.as_tuple().exponent
    return isinstance(exponent, int) and value.adjusted() < _NUMERIC_DIGITS and -exponent <= _NUMERIC_SCALE
