"""How each PostgreSQL type travels: cast at the source, cast after DuckDB's scanner, and the Arrow type written.

The scanner alone is not exact: numeric without a scale becomes DOUBLE, NaN in numeric(p,s) becomes 0.00, a timestamp
near the end of PostgreSQL's range wraps around, a two-dimensional value in a one-dimensional array ends the query.
So every column has a plan, from the source's catalogue. Types are those of Airbyte's S3 Parquet output, except that
numeric(p,s) stays DECIMAL (unless `decimal_as_double`) and numeric without a scale is exact text.

A value that its type cannot carry becomes null, and `_airbyte_meta.changes` says so. Which values those are is found
in two ways: by a SQL predicate at the source (`guard`), or by a range check of the integers in Arrow (`low`, `high`),
which costs next to nothing for dates and times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedded.replication.postgres.discovery import Column, ColumnType

# Types as they are written, named by text: the server plans with them too, and need not load Arrow for it.
BOOLEAN, INTEGER, DOUBLE, STRING = "bool", "int64", "double", "string"
DATE, TIME, TIMESTAMP = "date32", "time64[us]", "timestamp[us, UTC]"

_INT64_MAX = 2**63 - 1
# Midnight of 4714-11-24 BC, PostgreSQL's first timestamp, in microseconds; anything lower wrapped around.
_FIRST_TIMESTAMP = -210_866_803_200_000_000
_LAST_MICROSECOND = 86_400_000_000 - 1
_DATE_INFINITY = 2**31 - 1
_DOUBLE_MAX = "1.7976931348623157e308::numeric"


@dataclass(frozen=True)
class TypePlan:
    """The way of one column. `{c}` in the SQL templates stands for the quoted column.

    remote: expression evaluated by PostgreSQL. local: type that DuckDB casts to; None keeps the scanner's.
    written: type in the Parquet file, see records.py. guard: predicate, true where the value cannot be carried.
    nulls: the remote expression itself must be null where the guard is true, because it would raise.
    low, high: inclusive range of values that can be carried, on the integers behind the type.
    """

    remote: str
    written: str
    local: str | None = None
    guard: str | None = None
    nulls: bool = False
    low: int | None = None
    high: int | None = None


_TEXT_PLAN = TypePlan("{c}::text", STRING)
_INTEGER_PLAN = TypePlan("{c}", INTEGER, local="BIGINT")
_DOUBLE_PLAN = TypePlan("{c}", DOUBLE, local="DOUBLE")
_TIMESTAMP_PLAN = TypePlan("{c}", TIMESTAMP, low=_FIRST_TIMESTAMP, high=_INT64_MAX - 1)

_SCALARS: dict[str, TypePlan] = {
    "bool": TypePlan("{c}", BOOLEAN),
    "int2": _INTEGER_PLAN,
    "int4": _INTEGER_PLAN,
    "int8": _INTEGER_PLAN,
    "oid": TypePlan("{c}::int8", INTEGER),
    "float4": _DOUBLE_PLAN,
    "float8": _DOUBLE_PLAN,
    "text": TypePlan("{c}", STRING),
    "varchar": TypePlan("{c}", STRING),
    "uuid": TypePlan("{c}", STRING, local="VARCHAR"),
    "json": TypePlan("{c}", STRING, local="VARCHAR"),
    "jsonb": TypePlan("{c}", STRING, local="VARCHAR"),
    "bytea": TypePlan(r"E'\\x' || encode({c}, 'hex')", STRING),
    "date": TypePlan("{c}", DATE, low=-_DATE_INFINITY + 1, high=_DATE_INFINITY - 1),
    "time": TypePlan("{c}", TIME, low=0, high=_LAST_MICROSECOND),
    "timetz": TypePlan("({c} at time zone 'UTC')::time", TIME, low=0, high=_LAST_MICROSECOND),
    # Airbyte writes both timestamp types adjusted to UTC.
    "timestamp": _TIMESTAMP_PLAN,
    "timestamptz": _TIMESTAMP_PLAN,
}  # fmt: skip


def plan(column: Column, decimal_as_double: bool) -> TypePlan:
    """The plan for a column; every type has one, text being the last resort."""
    type_ = column.type
    if type_.array:
        return _array(type_, decimal_as_double)
    if type_.kind != "b":
        return _TEXT_PLAN
    if type_.name in ("numeric", "money"):
        return _number(type_, decimal_as_double)
    return _SCALARS.get(type_.name, _TEXT_PLAN)


def _number(type_: ColumnType, decimal_as_double: bool) -> TypePlan:
    source = "{c}::numeric" if type_.name == "money" else "{c}"
    if decimal_as_double:
        guard = f"{source} not between -{_DOUBLE_MAX} and {_DOUBLE_MAX}"  # NaN is above all numbers
        return TypePlan(f"{source}::float8", DOUBLE, guard=guard, nulls=True)
    size = decimal_size(type_)
    if size is None:
        return TypePlan(f"{source}::text", STRING)
    precision, scale = size
    cast = f"{{c}}::numeric({precision},{scale})"
    return TypePlan(cast, decimal(precision, scale), guard="{c} = 'NaN'::numeric")


def decimal(precision: int, scale: int) -> str:
    return f"decimal128({precision}, {scale})"


def decimal_size(type_: ColumnType) -> tuple[int, int] | None:
    """Precision and scale that hold a numeric exactly, or None when it has no scale or more than 38 digits."""
    if type_.name != "numeric" or type_.modifier < 4:
        return None
    packed = type_.modifier - 4
    precision, scale = packed >> 16, ((packed & 0x7FF) ^ 1024) - 1024
    if scale < 0:  # numeric(3,-2): digits left of the point only
        precision, scale = precision - scale, 0
    precision = max(precision, scale)
    return (precision, scale) if precision <= 38 else None


def _array(type_: ColumnType, decimal_as_double: bool) -> TypePlan:
    """One-dimensional arrays become lists; declared matrices become JSON text."""
    if type_.dimensions > 1:
        return TypePlan("array_to_json({c})::text", STRING)
    flat = "array_ndims({c}) > 1"
    name = type_.name if type_.kind == "b" else ""
    size = decimal_size(type_)
    if name == "numeric" and decimal_as_double:
        guard = f"{flat} or 'NaN'::numeric = any({{c}}) or {_DOUBLE_MAX} < any({{c}}) or -{_DOUBLE_MAX} > any({{c}})"
        return _list("{c}::float8[]", DOUBLE, guard)
    if size is not None and name == "numeric":
        cast = f"{{c}}::numeric({size[0]},{size[1]})[]"
        return _list(cast, decimal(*size), f"{flat} or 'NaN'::numeric = any({{c}})")
    if name in ("int2", "int4", "int8", "oid"):
        return _list("{c}::int8[]", INTEGER, flat)
    if name in ("float4", "float8"):
        return _list("{c}::float8[]", DOUBLE, flat)
    if name == "bool":
        return _list("{c}", BOOLEAN, flat)
    if name == "date":
        return _list("{c}", DATE, f"{flat} or 'infinity' = any({{c}}) or '-infinity' = any({{c}})")
    if name in ("timestamp", "timestamptz"):
        guard = f"{flat} or '294247-01-01' <= any({{c}}) or '-infinity' = any({{c}})"
        return _list("{c}", TIMESTAMP, guard)
    return _list("{c}::text[]", STRING, flat)


def _list(remote: str, element: str, guard: str) -> TypePlan:
    return TypePlan(remote, f"list<{element}>", guard=guard, nulls=True)
