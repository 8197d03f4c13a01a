"""What a Parquet file says about itself, and how the schemas of many files become one."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from embedded.sql.datasets import S3Access
from embedded.sql.engine.datatypes import normalise, type_text
from embedded.sql.errors import DataReadError, SqlError, UnsupportedError, ValidationError


@dataclass(frozen=True)
class Footer:
    uri: str
    schema: pa.Schema  # Dremio's types
    rows: int


@lru_cache(maxsize=32)
def filesystem(access: S3Access) -> pa.fs.FileSystem:
    return pa.fs.S3FileSystem(
        access_key=access.access_key,
        secret_key=access.secret_key,
        endpoint_override=access.endpoint,
        scheme="https" if access.secure else "http",
        region=access.region,
        connect_timeout=5,
        request_timeout=60,
    )


def read_footers(uris: Sequence[str], access: S3Access) -> list[Footer]:
    """The footers of these files, in order. Raises DataReadError that names the first bad file."""
    files = filesystem(access)
    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="footers") as pool:
        return list(pool.map(lambda uri: _read(files, uri), uris))


def _read(files: pa.fs.FileSystem, uri: str) -> Footer:
    try:
        with files.open_input_file(uri.removeprefix("s3://")) as handle:
            parquet = pq.ParquetFile(handle)
            schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise DataReadError(f"DATA_READ ERROR: {uri} is not a readable Parquet file: {error}") from error
    fields = [pa.field(field.name, _typed(field, uri)) for field in schema]
    return Footer(uri, pa.schema(fields), rows)


def _typed(field: pa.Field, uri: str) -> pa.DataType:
    try:
        kind = normalise(field.type)
        type_text(kind)
    except SqlError as error:
        raise UnsupportedError(f"Column '{field.name}' of {uri}: {error.message}") from error
    return kind


def merge(known: pa.Schema | None, footers: Sequence[Footer], table: str) -> pa.Schema:
    """One schema for all files: columns are added, types widened. Raises ValidationError naming column and files.

    Names ignore case; the first spelling stays. Known columns come first, so that positions do not move.
    """
    fields: dict[str, pa.Field] = {field.name.lower(): field for field in (known or ())}
    origin: dict[str, str] = dict.fromkeys(fields, "the files read before")
    for footer in footers:
        for field in footer.schema:
            name = field.name.lower()
            if name not in fields:
                fields[name], origin[name] = field, footer.uri
                continue
            wide = widen(fields[name].type, field.type)
            if wide is None:
                raise ValidationError(
                    f"The files of {table} disagree on column '{field.name}': {type_text(fields[name].type)} in "
                    f"{origin[name]}, {type_text(field.type)} in {footer.uri}. Rewrite one of them, or move it away, "
                    f"then refresh the metadata again."
                )
            if wide != fields[name].type:
                fields[name], origin[name] = pa.field(fields[name].name, wide), footer.uri
    return pa.schema(list(fields.values()))


def widen(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The type that holds both without loss, or None."""
    if one == other:
        return one
    if {one, other} == {pa.float32(), pa.float64()}:
        return pa.float64()
    if {one, other} == {pa.int32(), pa.int64()}:
        return pa.int64()
    if pa.types.is_decimal(one) and pa.types.is_decimal(other):
        scale = max(one.scale, other.scale)
        precision = max(one.precision - one.scale, other.precision - other.scale) + scale
        return pa.decimal128(precision, scale) if precision <= 38 else None
    if pa.types.is_list(one) and pa.types.is_list(other):
        item = widen(one.value_type, other.value_type)
        return pa.list_(item) if item is not None else None
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        return _widen_struct(one, other)
    return None


def _widen_struct(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    fields = {field.name.lower(): field for field in one}
    for field in other:
        known = fields.get(field.name.lower())
        kind = field.type if known is None else widen(known.type, field.type)
        if kind is None:
            return None
        fields[field.name.lower()] = pa.field(known.name if known is not None else field.name, kind)
    return pa.struct(list(fields.values()))
