"""Checks a reflection's definition against the columns of its dataset, and brings it into one form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from embedded.sql.errors import ValidationError

MEASURES = ("MIN", "MAX", "SUM", "COUNT", "APPROX_COUNT_DISTINCT")
_TRANSFORMS = ("IDENTITY", "YEAR", "MONTH", "DAY", "HOUR", "BUCKET", "TRUNCATE")
_LISTS = (
    "displayFields",
    "dimensionFields",
    "measureFields",
    "partitionFields",
    "distributionFields",
    "sortFields",
)


def normalise(kind: str, body: Mapping[str, Any], columns: pa.Schema) -> dict[str, Any]:
    """The field lists of a definition, with defaults and the dataset's own spelling of columns.

    Raises ValidationError that names the field when a column is unknown or of a type that cannot be used.
    """
    known = {field.name.lower(): field for field in columns}
    definition: dict[str, Any] = {}
    for name in _LISTS:
        items = body.get(name) or []
        if items:
            definition[name] = [_field(name, item, known) for item in items]
    # dbt-dremio sends its date dimensions apart.
    for item in body.get("dateFields") or []:
        definition.setdefault("dimensionFields", []).append(
            _field("dimensionFields", {**item, "granularity": "DATE"}, known)
        )
    _check_kind(kind, definition)
    strategy = str(body.get("partitionDistributionStrategy") or "CONSOLIDATED").strip().upper()
    if strategy not in ("CONSOLIDATED", "STRIPED"):
        raise ValidationError("Invalid value found at: partitionDistributionStrategy")
    definition["partitionDistributionStrategy"] = strategy
    definition["arrowCachingEnabled"] = bool(body.get("arrowCachingEnabled"))
    return definition


def _check_kind(kind: str, definition: Mapping[str, Any]) -> None:
    if kind == "RAW":
        if not definition.get("displayFields"):
            raise ValidationError("Raw reflection must have at least one display field configured")
        if definition.get("dimensionFields") or definition.get("measureFields"):
            raise ValidationError("Raw reflection can not contain dimension or measure fields")
    elif kind == "AGGREGATION":
        if not definition.get("dimensionFields") and not definition.get("measureFields"):
            raise ValidationError("Aggregate reflection must have at least one dimension or measure field configured")
        if definition.get("displayFields"):
            raise ValidationError("Aggregate reflection can not contain display fields")
    else:
        raise ValidationError("Invalid value found at: type")


def _field(name: str, item: Any, known: Mapping[str, pa.Field]) -> dict[str, Any]:
    if not isinstance(item, Mapping) or not item.get("name"):
        raise ValidationError(f"Invalid value found at: {name}")
    column = known.get(str(item["name"]).lower())
    if column is None:
        raise ValidationError(f"Reflection field [{item['name']}] of {name} is not a column of the dataset")
    field: dict[str, Any] = {"name": column.name}
    if name in ("dimensionFields", "measureFields") and pa.types.is_nested(column.type):
        raise ValidationError(f"Reflection field [{column.name}] of {name} must not be a list, map or struct")
    if name == "dimensionFields":
        field["granularity"] = _granularity(item, column)
    elif name == "measureFields":
        field["measureTypeList"] = _measures(item, column)
    elif name == "partitionFields":
        field["transform"] = _transform(item)
    return field


def _granularity(item: Mapping[str, Any], column: pa.Field) -> str:
    word = str(item.get("granularity") or "DATE").strip().upper()
    if word not in ("DATE", "NORMAL"):
        raise ValidationError("Invalid value found at: dimensionFields.granularity")
    return word


def _measures(item: Mapping[str, Any], column: pa.Field) -> list[str]:
    numeric = pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)
    # Blanks are trimmed: dbt-dremio splits "SUM, COUNT" at the comma.
    words = [
        str(word).strip().upper()
        for word in item.get("measureTypeList") or (["SUM", "COUNT"] if numeric else ["COUNT"])
    ]
    for word in words:
        if word not in MEASURES:
            raise ValidationError(f"Invalid value found at: measureFields.measureTypeList ({word})")
        if word == "SUM" and not numeric:
            raise ValidationError(f"Measure SUM cannot be used on column [{column.name}], which is not a number")
    return words


def _transform(item: Mapping[str, Any]) -> dict[str, Any]:
    transform = dict(item.get("transform") or {"type": "IDENTITY"})
    word = str(transform.get("type", "IDENTITY")).strip().upper()
    if word not in _TRANSFORMS:
        raise ValidationError("Invalid value found at: partitionFields.transform.type")
    return {**transform, "type": word}


def missing_columns(definition: Mapping[str, Any], columns: pa.Schema) -> list[str]:
    """Columns that a stored definition needs and the dataset no longer has."""
    known = {name.lower() for name in columns.names}
    used = {item["name"] for name in _LISTS for item in definition.get(name, ())}
    return sorted(name for name in used if name.lower() not in known)
