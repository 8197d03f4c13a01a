"""Job results as Dremio's REST writes them: ordered keys, exact numbers, its own text for dates and times."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedded.sql.engine.datatypes import normalise, type_json

Encode = Callable[[Any], str]


def result_schema(schema: pa.Schema) -> list[dict[str, object]]:
    """The `schema` array of GET /job/{id}/results."""
    return [{"name": field.name, "type": type_json(field.type)} for field in schema]


def encode_results(table: pa.Table, offset: int, limit: int, *, number_as_string: bool = False) -> bytes:
    """The body of GET /job/{id}/results for rows [offset, offset + limit) of `table`.

    DECIMAL and BIGINT are JSON numbers with every digit, or strings with `number_as_string` (request header
    x-dremio-job-data-number-format). The document is assembled by hand: json.dumps cannot write an exact decimal.
    """
    page = table.slice(offset, limit)
    columns = [
        [_value(value, encode) for value in column.to_pylist()]
        for column, encode in ((c, json_encoder(c.type, number_as_string)) for c in page.columns)
    ]
    keys = [json.dumps(name) for name in page.column_names]
    rows = ",".join(
        "{" + ",".join(f"{key}:{value}" for key, value in zip(keys, row, strict=True)) + "}"
        for row in zip(*columns, strict=True)
    )
    schema = json.dumps(result_schema(table.schema))
    return f'{{"rowCount":{table.num_rows},"schema":{schema},"rows":[{rows}]}}'.encode()


def normalise_table(table: pa.Table) -> pa.Table:
    """Cast every column to its Dremio type (dremio.md 4.2 a: ms timestamps, no 8- or 16-bit integers, no HUGEINT)."""
    columns, fields = [], []
    for field, column in zip(table.schema, table.columns, strict=True):
        target = normalise(field.type)
        if target != column.type:
            column = cast_column(column, target)
        columns.append(column)
        fields.append(pa.field(field.name, target))
    return pa.table(columns, schema=pa.schema(fields)) if fields else table


def cast_column(column: pa.ChunkedArray | pa.Array, target: pa.DataType) -> pa.ChunkedArray | pa.Array:
    """A column as its Dremio type; timestamps with a zone become their instant in UTC."""
    if pa.types.is_timestamp(column.type) and column.type.tz is not None:
        column = column.cast(pa.timestamp(column.type.unit))  # the instant in UTC, without its zone
    return pc.cast(column, target, safe=False)


def _value(value: Any, encode: Encode) -> str:
    return "null" if value is None else encode(value)


def json_encoder(data_type: pa.DataType, number_as_string: bool) -> Encode:  # noqa: C901  a table written as code
    """What writes a value of this type, not null, as JSON."""
    data_type = normalise(data_type)
    t = pa.types
    if t.is_boolean(data_type):
        return lambda v: "true" if v else "false"
    if t.is_int64(data_type) or t.is_decimal(data_type):
        return (lambda v: f'"{_number(v)}"') if number_as_string else _number
    if t.is_integer(data_type):
        return str
    if t.is_float32(data_type):
        return lambda v: _float(v, str(np.float32(v)))
    if t.is_float64(data_type):
        return lambda v: _float(v, repr(v))
    if t.is_date(data_type):
        return lambda v: f'"{v.isoformat()}"'
    if t.is_timestamp(data_type):
        return _timestamp
    if t.is_time(data_type):
        return _time
    if t.is_binary(data_type):
        return lambda v: json.dumps(base64.b64encode(v).decode())
    if t.is_string(data_type):
        return lambda v: json.dumps(v, ensure_ascii=False)
    return _nested(data_type, number_as_string)


def _nested(data_type: pa.DataType, number_as_string: bool) -> Encode:
    encoder = partial(json_encoder, number_as_string=number_as_string)
    if pa.types.is_list(data_type):
        item = encoder(data_type.value_type)
        return lambda v: "[" + ",".join(_value(x, item) for x in v) + "]"
    if pa.types.is_struct(data_type):
        children = [(f.name, json.dumps(f.name), encoder(f.type)) for f in data_type]
        # Dremio's vectors leave unset children out of a struct.
        return lambda v: "{" + ",".join(f"{k}:{e(v[n])}" for n, k, e in children if v[n] is not None) + "}"
    if pa.types.is_map(data_type):
        key, item = encoder(data_type.key_type), encoder(data_type.item_type)
        return lambda v: "[" + ",".join(f'{{"key":{key(k)},"value":{_value(x, item)}}}' for k, x in v) + "]"
    return lambda v: json.dumps(str(v))


def _number(value: int | decimal.Decimal) -> str:
    return format(value, "f") if isinstance(value, decimal.Decimal) else str(value)


def _float(value: float, text: str) -> str:
    if math.isfinite(value):
        return text
    return '"NaN"' if math.isnan(value) else ('"Infinity"' if value > 0 else '"-Infinity"')


def _timestamp(value: datetime.datetime) -> str:
    return f'"{value.isoformat(sep=" ", timespec="milliseconds")}"'


def _time(value: datetime.time) -> str:
    return f'"{value.isoformat(timespec="milliseconds")}"'
