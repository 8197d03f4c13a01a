"""GetXdbcTypeInfo: Dremio's types as JDBC and ODBC describe them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa


def _needed(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


SCHEMA = pa.schema(
    [
        _needed("type_name", pa.string()),
        _needed("data_type", pa.int32()),
        pa.field("column_size", pa.int32()),
        pa.field("literal_prefix", pa.string()),
        pa.field("literal_suffix", pa.string()),
        pa.field("create_params", pa.list_(pa.field("item", pa.string(), nullable=False))),
        _needed("nullable", pa.int32()),
        _needed("case_sensitive", pa.bool_()),
        _needed("searchable", pa.int32()),
        pa.field("unsigned_attribute", pa.bool_()),
        _needed("fixed_prec_scale", pa.bool_()),
        pa.field("auto_increment", pa.bool_()),
        pa.field("local_type_name", pa.string()),
        pa.field("minimum_scale", pa.int32()),
        pa.field("maximum_scale", pa.int32()),
        _needed("sql_data_type", pa.int32()),
        pa.field("datetime_subcode", pa.int32()),
        pa.field("num_prec_radix", pa.int32()),
        pa.field("interval_precision", pa.int32()),
    ]
)

_NULLABLE, _NOT_LIKE, _ALL = 1, 2, 3  # searchable: without LIKE, with all predicates
# JDBC's number, size in digits or characters, what stands around a literal, its ODBC number where it differs.
_TYPES: dict[str, tuple[int, int | None, str | None, str | None]] = {
    "BOOLEAN": (16, 1, None, None),
    "INTEGER": (4, 10, None, None),
    "BIGINT": (-5, 19, None, None),
    "FLOAT": (6, 7, None, None),
    "DOUBLE": (8, 15, None, None),
    "DECIMAL": (3, 38, None, None),
    "CHARACTER VARYING": (12, 65536, "'", "'"),
    "BINARY VARYING": (-3, 65536, None, None),
    "DATE": (91, 10, "DATE '", "'"),
    "TIME": (92, 12, "TIME '", "'"),
    "TIMESTAMP": (93, 23, "TIMESTAMP '", "'"),
    "INTERVAL DAY TO SECOND": (1111, None, "INTERVAL '", "'"),
    "INTERVAL YEAR TO MONTH": (1111, None, "INTERVAL '", "'"),
    "ARRAY": (2003, None, None, None),
    "ROW": (2002, None, None, None),
    "MAP": (1111, None, None, None),
}
_NUMBERS = {"INTEGER": 0, "BIGINT": 0, "FLOAT": None, "DOUBLE": None, "DECIMAL": 38}  # largest scale
_DATETIME_CODES = {"DATE": 1, "TIME": 2, "TIMESTAMP": 3}


def table(data_type: int | None) -> pa.Table:
    """All types, or those with this JDBC number, ordered by it as the contract wants."""
    chosen = sorted((facts[0], name) for name, facts in _TYPES.items() if data_type in (None, facts[0]))
    return pa.Table.from_pylist([_row(name) for _, name in chosen], schema=SCHEMA)


def _row(name: str) -> dict[str, Any]:
    number, size, prefix, suffix = _TYPES[name]
    numeric = name in _NUMBERS
    return {
        "type_name": name,
        "data_type": number,
        "column_size": size,
        "literal_prefix": prefix,
        "literal_suffix": suffix,
        "create_params": ["precision", "scale"] if name == "DECIMAL" else None,
        "nullable": _NULLABLE,
        "case_sensitive": name == "CHARACTER VARYING",
        "searchable": _ALL if name == "CHARACTER VARYING" else _NOT_LIKE,
        "unsigned_attribute": False if numeric else None,
        "fixed_prec_scale": False,
        "auto_increment": False,
        "local_type_name": name,
        "minimum_scale": 0 if _NUMBERS.get(name) is not None else None,
        "maximum_scale": _NUMBERS.get(name),
        "sql_data_type": 9 if name in _DATETIME_CODES else number,
        "datetime_subcode": _DATETIME_CODES.get(name),
        "num_prec_radix": (2 if name in ("FLOAT", "DOUBLE") else 10) if numeric else None,
        "interval_precision": None,
    }
