"""Lists and structs as strict JSON, column by column: whatever Arrow holds, also where Python's types end."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from math import isfinite
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def documents(array: pa.Array) -> list[str | None]:
    """The JSON text of each value, None where that is null. What JSON has no number for (NaN) is null within."""
    type_ = array.type
    if pa.types.is_struct(type_):
        texts = _structs(array)
    elif pa.types.is_list(type_):
        texts = _lists(array)
    elif pa.types.is_date(type_):
        texts = [json.dumps(_day(text)) for text in _moments(array.cast(pa.int32()), "datetime64[D]")]
    elif pa.types.is_timestamp(type_):
        micros = array.cast(pa.timestamp("us", type_.tz)).view(pa.int64())
        texts = [json.dumps(_instant(text)) for text in _moments(micros, "datetime64[us]")]
    else:
        write = _writer(type_)
        texts = ["null" if value is None else write(value) for value in array.to_pylist()]
    return [text if valid else None for text, valid in zip(texts, array.is_valid().to_pylist(), strict=True)]


def _structs(array: pa.StructArray) -> list[str]:
    names = [json.dumps(field.name, ensure_ascii=False) for field in array.type]
    columns = [documents(column) for column in array.flatten()]
    rows = zip(*columns, strict=True) if columns else ([()] * len(array))
    return [
        "{" + ", ".join(f"{name}: {text or 'null'}" for name, text in zip(names, row, strict=True)) + "}"
        for row in rows
    ]


def _lists(array: pa.ListArray) -> list[str]:
    items = [text or "null" for text in documents(array.flatten())]
    return ["[" + ", ".join(items[start:end]) + "]" for start, end in pairwise(offsets(array).tolist())]


def offsets(array: pa.ListArray) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Where each list begins and ends in `array.flatten()`."""
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


def _writer(type_: pa.DataType) -> Callable[[Any], str]:
    if pa.types.is_floating(type_):
        return lambda value: repr(value) if isfinite(value) else "null"
    if pa.types.is_decimal(type_):
        return lambda value: format(value, "f")
    if pa.types.is_boolean(type_) or pa.types.is_integer(type_):
        return lambda value: str(value).lower()
    return lambda value: json.dumps(str(value), ensure_ascii=False)


def _moments(numbers: pa.Array, unit: str) -> list[str]:
    filled = pc.fill_null(numbers, 0).to_numpy(zero_copy_only=False)
    return [str(text) for text in np.datetime_as_string(filled.astype(unit))]


def _day(text: str) -> str:
    """A date of any year as PostgreSQL writes and reads it: 1 BC is the year 0 of the ISO."""
    year = int(text[:-6])
    return f"{year:04d}{text[-6:]}" if year > 0 else f"{1 - year:04d}{text[-6:]} BC"


def _instant(text: str) -> str:
    day, _, clock = text.partition("T")
    year, _, era = _day(day).partition(" ")
    return f"{year} {clock.removesuffix('.000000')}+00:00{' ' + era if era else ''}"
