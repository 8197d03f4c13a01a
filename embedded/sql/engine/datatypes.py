"""Dremio's types, and how Arrow, DuckDB and Iceberg write them.

Arrow is the common form inside the engine: every column has one Arrow type out of a small set (`normalise`), and each
other notation is derived from it. Sources: Dremio's data type page (26.x) and dremio-oss 25.2 APIFieldDescriber.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimeType,
)

from embedded.sql.errors import ParseError, UnsupportedError

TIMESTAMP = pa.timestamp("ms")
TIME = pa.time32("ms")

_REST_NAMES: dict[pa.DataType, str] = {
    pa.bool_(): "BOOLEAN",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
    pa.binary(): "VARBINARY",
    pa.date32(): "DATE",
    TIME: "TIME",
    TIMESTAMP: "TIMESTAMP",
}
# INFORMATION_SCHEMA.COLUMNS and DESCRIBE use Calcite's names, not the REST ones.
_SQL_NAMES = {"VARCHAR": "CHARACTER VARYING", "VARBINARY": "BINARY VARYING", "LIST": "ARRAY", "STRUCT": "ROW"}

_SIMPLE: dict[str, pa.DataType] = {
    "BOOLEAN": pa.bool_(),
    "BIT": pa.bool_(),
    "INT": pa.int32(),
    "INTEGER": pa.int32(),
    "TINYINT": pa.int32(),
    "SMALLINT": pa.int32(),
    "BIGINT": pa.int64(),
    "FLOAT": pa.float32(),
    "REAL": pa.float32(),
    "DOUBLE": pa.float64(),
    "DOUBLE PRECISION": pa.float64(),
    "VARCHAR": pa.string(),
    "CHAR": pa.string(),
    "CHARACTER": pa.string(),
    "CHARACTER VARYING": pa.string(),
    "STRING": pa.string(),
    "VARBINARY": pa.binary(),
    "BINARY VARYING": pa.binary(),
    "BINARY": pa.binary(),
    "DATE": pa.date32(),
    "TIME": TIME,
    "TIMESTAMP": TIMESTAMP,
}


def normalise(data_type: pa.DataType) -> pa.DataType:  # noqa: C901  a table written as code
    """The Arrow type of a Dremio column for any Arrow type that DuckDB, Parquet or PostgreSQL may give."""
    t = pa.types
    if t.is_int8(data_type) or t.is_int16(data_type) or t.is_uint8(data_type) or t.is_uint16(data_type):
        return pa.int32()
    if t.is_uint32(data_type) or t.is_uint64(data_type):
        return pa.int64()
    if t.is_float16(data_type):
        return pa.float32()
    if t.is_timestamp(data_type):
        return TIMESTAMP
    if t.is_date(data_type):
        return pa.date32()
    if t.is_time(data_type):
        return TIME
    if t.is_decimal(data_type):
        return pa.decimal128(data_type.precision, data_type.scale)
    if t.is_dictionary(data_type):
        return normalise(data_type.value_type)
    if t.is_large_string(data_type) or t.is_string_view(data_type) or isinstance(data_type, pa.BaseExtensionType):
        return pa.string()
    if t.is_large_binary(data_type) or t.is_fixed_size_binary(data_type) or t.is_binary_view(data_type):
        return pa.binary()
    if t.is_null(data_type):
        return pa.int32()
    if t.is_list(data_type) or t.is_large_list(data_type) or t.is_fixed_size_list(data_type):
        return pa.list_(normalise(data_type.value_type))
    if t.is_map(data_type):
        return pa.map_(normalise(data_type.key_type), normalise(data_type.item_type))
    if t.is_struct(data_type):
        return pa.struct([pa.field(f.name, normalise(f.type)) for f in data_type])
    return data_type


def dremio_type(data_type: pa.DataType) -> str:
    """REST type name: BIGINT, DECIMAL, LIST, STRUCT, MAP, "INTERVAL DAY TO SECOND"...; OTHER when there is none."""
    data_type = normalise(data_type)
    if name := _REST_NAMES.get(data_type):
        return name
    t = pa.types
    if t.is_decimal(data_type):
        return "DECIMAL"
    if t.is_list(data_type):
        return "LIST"
    if t.is_struct(data_type):
        return "STRUCT"
    if t.is_map(data_type):
        return "MAP"
    if t.is_interval(data_type) or t.is_duration(data_type):
        return "INTERVAL DAY TO SECOND"
    return "OTHER"


def sql_type(data_type: pa.DataType) -> str:
    """The name that DESCRIBE and INFORMATION_SCHEMA show: CHARACTER VARYING, BINARY VARYING, ARRAY, ROW..."""
    name = dremio_type(data_type)
    return _SQL_NAMES.get(name, name)


def type_json(data_type: pa.DataType) -> dict[str, object]:
    """The `type` object of a REST field: name, precision and scale of decimals, subSchema of nested types."""
    data_type = normalise(data_type)
    described: dict[str, object] = {"name": dremio_type(data_type)}
    if pa.types.is_decimal(data_type):
        described |= {"precision": data_type.precision, "scale": data_type.scale}
    elif pa.types.is_list(data_type):
        described["subSchema"] = [{"type": type_json(data_type.value_type)}]
    elif pa.types.is_struct(data_type):
        described["subSchema"] = [{"name": f.name, "type": type_json(f.type)} for f in data_type]
    elif pa.types.is_map(data_type):
        described["subSchema"] = [
            {"name": "key", "type": type_json(data_type.key_type)},
            {"name": "value", "type": type_json(data_type.item_type)},
        ]
    return described


def type_text(data_type: pa.DataType) -> str:
    """One-line text that `parse_type` reads back: DECIMAL(12,2), LIST(BIGINT), ROW("a" BIGINT, "b" VARCHAR)."""
    data_type = normalise(data_type)
    if name := _REST_NAMES.get(data_type):
        return name
    if pa.types.is_decimal(data_type):
        return f"DECIMAL({data_type.precision},{data_type.scale})"
    if pa.types.is_list(data_type):
        return f"LIST({type_text(data_type.value_type)})"
    if pa.types.is_struct(data_type):
        return f"ROW({', '.join(f'{quote(f.name)} {type_text(f.type)}' for f in data_type)})"
    if pa.types.is_map(data_type):
        return f"MAP({type_text(data_type.key_type)}, {type_text(data_type.item_type)})"
    raise UnsupportedError(f"Type {data_type} has no Dremio type.")


def quote(identifier: str) -> str:
    """A double-quoted SQL identifier; the quoting is the same in Dremio and DuckDB."""
    if "\x00" in identifier:
        raise ParseError("Failure parsing the query. An identifier must not hold the character NUL.")
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A single-quoted SQL string; the quoting is the same in Dremio and DuckDB."""
    if "\x00" in text:
        raise ParseError("Failure parsing the query. A string must not hold the character NUL.")
    return "'" + text.replace("'", "''") + "'"


_TOKEN = re.compile(r'\s*(?:("(?:[^"]|"")*")|([A-Za-z_][A-Za-z_0-9$]*)|(\d+)|([(),<>:]))')


class _TypeReader:
    """Recursive descent over the small grammar of type texts."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[str] = []
        at = 0
        while at < len(text.rstrip()):
            match = _TOKEN.match(text, at)
            if not match:
                raise ParseError(f"Failure parsing the query. Unknown data type: {text}")
            self.tokens.append(match[match.lastindex or 0])
            at = match.end()
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, *expected: str) -> str:
        token = self.peek()
        if not token or (expected and token.upper() not in expected):
            raise ParseError(f"Failure parsing the query. Unknown data type: {self.text}")
        self.at += 1
        return token

    def read(self) -> pa.DataType:
        word = self.take().upper()
        if word in ("CHARACTER", "CHAR", "BINARY") and self.peek().upper() == "VARYING":
            word += " " + self.take().upper()
        if word == "DOUBLE" and self.peek().upper() == "PRECISION":
            self.take()
        if word in ("DECIMAL", "DEC", "NUMERIC"):
            return self.decimal()
        if word in ("LIST", "ARRAY", "ROW", "STRUCT", "MAP"):
            return self.nested(word)
        if word not in _SIMPLE:
            raise ParseError(f"Failure parsing the query. Unknown data type: {self.text}")
        if self.peek() == "(":  # VARCHAR(20), TIMESTAMP(3): Dremio reads and ignores the length
            self.take()
            if not self.take().isdigit():
                raise ParseError(f"Failure parsing the query. Unknown data type: {self.text}")
            self.take(")")
        return _SIMPLE[word]

    def decimal(self) -> pa.DataType:
        if self.peek() != "(":
            return pa.decimal128(38, 0)
        self.take("(")
        precision, scale = self.take(), "0"
        if self.peek() == ",":
            self.take()
            scale = self.take()
        self.take(")")
        if (
            not (precision.isdigit() and scale.isdigit())
            or not 1 <= int(precision) <= 38
            or int(scale) > int(precision)
        ):
            raise ParseError(f"Failure parsing the query. Unknown data type: {self.text}")
        return pa.decimal128(int(precision), int(scale))

    def nested(self, word: str) -> pa.DataType:
        closing = {"(": ")", "<": ">"}[self.take("(", "<")]
        parts: list[pa.Field] = []
        while True:
            name = "item"
            if word in ("ROW", "STRUCT"):
                raw = self.take()
                name = raw[1:-1].replace('""', '"') if raw.startswith('"') else raw
                if self.peek() == ":":
                    self.take()
            parts.append(pa.field(name, self.read()))
            if self.peek() != ",":
                break
            self.take()
        self.take(closing)
        if word in ("ROW", "STRUCT"):
            return pa.struct(parts)
        if word == "MAP" and len(parts) == 2:
            return pa.map_(parts[0].type, parts[1].type)
        if word in ("LIST", "ARRAY") and len(parts) == 1:
            return pa.list_(parts[0].type)
        raise ParseError(f"Failure parsing the query. Unknown data type: {self.text}")


def parse_type(text: str) -> pa.DataType:
    """Read a Dremio type text; ParseError names the text when it is not one."""
    reader = _TypeReader(text)
    data_type = reader.read()
    if reader.peek():
        raise ParseError(f"Failure parsing the query. Unknown data type: {text}")
    return data_type


def duckdb_type(data_type: pa.DataType) -> str:
    """The DuckDB type that holds a normalised type. Timestamps are microseconds there; their values are whole ms."""
    data_type = normalise(data_type)
    if pa.types.is_binary(data_type):
        return "BLOB"
    if name := _REST_NAMES.get(data_type):
        return name
    if pa.types.is_decimal(data_type):
        return f"DECIMAL({data_type.precision},{data_type.scale})"
    if pa.types.is_list(data_type):
        return duckdb_type(data_type.value_type) + "[]"
    if pa.types.is_struct(data_type):
        return f"STRUCT({', '.join(f'{quote(f.name)} {duckdb_type(f.type)}' for f in data_type)})"
    if pa.types.is_map(data_type):
        return f"MAP({duckdb_type(data_type.key_type)}, {duckdb_type(data_type.item_type)})"
    raise UnsupportedError(f"Type {data_type} has no Dremio type.")


_ICEBERG: dict[pa.DataType, IcebergType] = {
    pa.bool_(): BooleanType(),
    pa.int32(): IntegerType(),
    pa.int64(): LongType(),
    pa.float32(): FloatType(),
    pa.float64(): DoubleType(),
    pa.string(): StringType(),
    pa.binary(): BinaryType(),
    pa.date32(): DateType(),
    TIME: TimeType(),
    TIMESTAMP: TimestampType(),
}


class _Ids:
    def __init__(self) -> None:
        self.last = 0

    def next(self) -> int:
        self.last += 1
        return self.last


def iceberg_type(data_type: pa.DataType, ids: _Ids | None = None) -> IcebergType:
    """The Iceberg type of a normalised type. Field ids of nested types are fresh; the catalog reassigns them."""
    ids = ids or _Ids()
    data_type = normalise(data_type)
    if simple := _ICEBERG.get(data_type):
        return simple
    if pa.types.is_decimal(data_type):
        return DecimalType(data_type.precision, data_type.scale)
    if pa.types.is_list(data_type):
        element = ids.next()
        return ListType(element, iceberg_type(data_type.value_type, ids), element_required=False)
    if pa.types.is_map(data_type):
        key, value = ids.next(), ids.next()
        return MapType(
            key,
            iceberg_type(data_type.key_type, ids),
            value,
            iceberg_type(data_type.item_type, ids),
            value_required=False,
        )
    if pa.types.is_struct(data_type):
        return StructType(*_fields(list(data_type), ids))
    raise UnsupportedError(f"Type {data_type} cannot be stored in an Iceberg table.")


def _fields(fields: Sequence[pa.Field], ids: _Ids) -> list[NestedField]:
    own = [ids.next() for _ in fields]  # parents before children, as a catalog assigns them
    return [
        NestedField(number, field.name, iceberg_type(field.type, ids), required=not field.nullable)
        for number, field in zip(own, fields, strict=True)
    ]


def iceberg_schema(schema: pa.Schema) -> Schema:
    """The Iceberg schema of a normalised Arrow schema."""
    return Schema(*_fields(list(schema), _Ids()))
