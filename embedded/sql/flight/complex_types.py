"""STRUCT, LIST and MAP as JSON texts: what clients get that send the header supports_complex_types: false."""

from __future__ import annotations

import pyarrow as pa

from embedded.sql.engine.results import json_encoder


def with_texts(schema: pa.Schema) -> pa.Schema:
    """The schema with a text in place of every complex column."""
    return pa.schema([field.with_type(pa.string()) if pa.types.is_nested(field.type) else field for field in schema])


def batch_as(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch's rows under its own schema, or under the one that `with_texts` makes of it."""
    if schema == batch.schema:
        return batch
    columns = [
        column if column.type == field.type else _texts(column)
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _texts(column: pa.Array) -> pa.Array:
    encode = json_encoder(column.type, number_as_string=False)
    return pa.array([None if value is None else encode(value) for value in column.to_pylist()], pa.string())
