"""The JSON schema of a stream's fields, as the types that are written. Loads no Arrow: the server reads catalogs too.

Types are those of Airbyte's S3 Parquet output: integer is a 64-bit integer, number a double, both kinds of timestamp
are adjusted to UTC, an object with properties is a struct (keys it does not declare are dropped), an array with items
is a list. What has no one type (an object without properties, an array without items, a union) is JSON text; Airbyte
writes a union as a record of its alternatives. `big_integer` and `big_number` are exact text, as `numeric` without a
scale is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from embedded.replication.postgres import types

_DEEPEST = 12
JSON, NUMBER_TEXT, STRUCT, LIST = "json", "number text", "struct", "list"
_SCALARS = {JSON: types.STRING, NUMBER_TEXT: types.STRING}
_TEMPORAL = (types.DATE, types.TIME, types.TIMESTAMP)
_BY_FORMAT = {"date-time": types.TIMESTAMP, "date": types.DATE, "time": types.TIME}
_BY_HINT = {
    "timestamp_with_timezone": types.TIMESTAMP,
    "timestamp_without_timezone": types.TIMESTAMP,
    "time_with_timezone": types.TIME,
    "time_without_timezone": types.TIME,
    "integer": types.INTEGER,
    "big_integer": NUMBER_TEXT,
    "big_number": NUMBER_TEXT,
}


@dataclass(frozen=True)
class Shape:
    """What a field holds. kind: a scalar of postgres/types.py, or one of JSON, NUMBER_TEXT, STRUCT, LIST."""

    kind: str
    fields: tuple[tuple[str, Shape], ...] = ()
    element: Shape | None = None

    @property
    def written(self) -> str:
        """The type in the file, as the connection remembers it."""
        if self.kind == STRUCT:
            return f"struct<{json.dumps({name: shape.written for name, shape in self.fields}, sort_keys=True)}>"
        if self.kind == LIST and self.element is not None:
            return f"list<{self.element.written}>"
        return _SCALARS.get(self.kind, self.kind)

    @property
    def native(self) -> bool:
        """Whether Arrow's JSON reader gives it as it is."""
        if self.kind == STRUCT:
            return all(shape.native for _, shape in self.fields)
        if self.element is not None:
            return self.element.native
        return self.kind not in (JSON, NUMBER_TEXT, *_TEMPORAL)

    @property
    def temporal(self) -> bool:
        return self.kind in _TEMPORAL

    @property
    def has_numbers(self) -> bool:
        """Whether a long number may lose digits on the fast path."""
        below = [shape for _, shape in self.fields] + ([self.element] if self.element else [])
        return self.kind in (types.DOUBLE, JSON, NUMBER_TEXT) or any(shape.has_numbers for shape in below)


def shape(schema: Any, depth: int = 0) -> Shape:
    """The shape of one property's schema; whatever is not understood is JSON text."""
    schema = _single(schema) if isinstance(schema, Mapping) else None
    if schema is None or depth > _DEEPEST:
        return Shape(JSON)
    kinds = _kinds(schema)
    hint = _BY_HINT.get(str(schema.get("airbyte_type", "")))
    if kinds == ["object"]:
        return _object(schema, depth)
    if kinds == ["array"]:
        items = schema.get("items")
        return Shape(LIST, element=shape(items, depth + 1)) if isinstance(items, Mapping) and items else Shape(JSON)
    if kinds == ["string"]:
        return Shape(hint or _BY_FORMAT.get(str(schema.get("format", "")), types.STRING))
    if kinds == ["boolean"]:
        return Shape(types.BOOLEAN)
    if kinds == ["integer"]:
        return Shape(hint or types.INTEGER)
    if kinds in (["number"], ["integer", "number"]):
        return Shape(hint or types.DOUBLE)
    return Shape(JSON)


def _single(schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """A schema without its union, where that has one alternative that is not null."""
    for word in ("oneOf", "anyOf", "allOf"):
        options = schema.get(word)
        if options is None:
            continue
        some = [item for item in options if isinstance(item, Mapping) and item.get("type") not in ("null", ["null"])]
        return {**{k: v for k, v in schema.items() if k != word}, **some[0]} if len(some) == 1 else None
    return schema


def _kinds(schema: Mapping[str, Any]) -> list[str]:
    """The types a value may have, without null."""
    named = schema.get("type", "object" if "properties" in schema else [])
    return sorted({str(kind) for kind in ([named] if isinstance(named, str) else named)} - {"null"})


def _object(schema: Mapping[str, Any], depth: int) -> Shape:
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or not properties:
        return Shape(JSON)
    return Shape(STRUCT, fields=tuple((str(name), shape(item, depth + 1)) for name, item in properties.items()))
