"""Rows of a job over REST: exact values by their declared types, Arrow, and what fits into an XCom. No Airflow."""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from lakehouse_providers.dremio.models import Row

if TYPE_CHECKING:
    import pyarrow as pa

Type = Mapping[str, Any]  # {"name", "precision"?, "scale"?, "subSchema"?: [{"name"?, "type"}]}


@dataclass(frozen=True)
class Result:
    """`schema`: name and type of each column, as Dremio gives them. `total`: rows of the job, `rows` the first."""

    schema: list[dict[str, Any]]
    rows: list[Row]
    total: int


def exact(rows: Sequence[Row], schema: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Rows parsed with decimals in place of floats: DOUBLE and FLOAT become floats again, DECIMAL stays exact."""
    types = {column["name"]: column["type"] for column in schema}
    return [{name: _exact(value, types.get(name, {})) for name, value in row.items()} for row in rows]


def _exact(value: Any, kind: Type) -> Any:
    if isinstance(value, Decimal):
        return value if kind.get("name") == "DECIMAL" else float(value)
    if kind.get("name") == "DECIMAL" and isinstance(value, int | str):
        return Decimal(value)
    if isinstance(value, list):
        inner = (kind.get("subSchema") or [{}])[0].get("type", {})
        return [_exact(item, inner) for item in value]
    if isinstance(value, dict):
        inner_types = {part.get("name"): part["type"] for part in kind.get("subSchema") or []}
        return {name: _exact(item, inner_types.get(name, {})) for name, item in value.items()}
    return value


def _children(kind: Type) -> list[tuple[str, Type]]:
    return [(str(part.get("name") or "item"), part["type"]) for part in kind.get("subSchema") or []]


def _decimal_type(kind: Type) -> pa.DataType:
    import pyarrow as pa

    return pa.decimal128(int(kind.get("precision") or 38), int(kind.get("scale") or 0))


def arrow_type(kind: Type) -> pa.DataType:
    """The Arrow type of a column; what REST shows as text only (intervals, maps, unions) is text."""
    import pyarrow as pa

    name = kind["name"]
    if name == "DECIMAL":
        return _decimal_type(kind)
    if name == "LIST" and kind.get("subSchema"):
        return pa.list_(arrow_type(_children(kind)[0][1]))
    if name == "STRUCT" and kind.get("subSchema"):
        return pa.struct([(child, arrow_type(inner)) for child, inner in _children(kind)])
    plain = {
        "BOOLEAN": pa.bool_(),
        "INTEGER": pa.int32(),
        "BIGINT": pa.int64(),
        "FLOAT": pa.float32(),
        "DOUBLE": pa.float64(),
        "VARBINARY": pa.binary(),
        "DATE": pa.date32(),
        "TIME": pa.time32("ms"),
        "TIMESTAMP": pa.timestamp("ms"),
    }
    return plain.get(name, pa.string())


_READERS: dict[str, Callable[[Any], Any]] = {
    "VARBINARY": base64.b64decode,
    "DATE": dt.date.fromisoformat,
    "TIME": dt.time.fromisoformat,
    "TIMESTAMP": dt.datetime.fromisoformat,
}


def _arrow_value(value: Any, kind: Type) -> Any:
    if value is None:
        return None
    name = kind["name"]
    if name in _READERS:
        return _READERS[name](value)
    if name == "LIST" and kind.get("subSchema"):
        return [_arrow_value(item, _children(kind)[0][1]) for item in value]
    if name == "STRUCT" and kind.get("subSchema"):
        return {child: _arrow_value(value.get(child), inner) for child, inner in _children(kind)}
    if isinstance(value, dict | list):
        return json.dumps(value, default=str)
    return value


def to_arrow(result: Result) -> pa.Table:
    """Columns in Dremio's order, also of a result without rows."""
    import pyarrow as pa

    columns = [(column["name"], column["type"]) for column in result.schema]
    arrays = [
        pa.array([_arrow_value(row.get(name), kind) for row in result.rows], arrow_type(kind)) for name, kind in columns
    ]
    return pa.Table.from_arrays(arrays, names=[name for name, _ in columns])


def plain(value: Any) -> Any:
    """A value as JSON keeps it without loss: decimals as text."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value


@dataclass(frozen=True)
class Excerpt:
    """The first rows, no more than fit into `limit` bytes of JSON."""

    rows: list[Row] = field(default_factory=list)
    truncated: bool = False


def excerpt(result: Result, limit: int) -> Excerpt:
    chosen: list[Row] = []
    used = 2
    for row in result.rows:
        safe = {name: plain(value) for name, value in row.items()}
        used += len(json.dumps(safe)) + 2
        if used > limit:
            break
        chosen.append(safe)
    return Excerpt(chosen, truncated=len(chosen) < result.total)


def describe(schema: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The schema in short: [{"name": "amount", "type": "DECIMAL(38,2)"}]."""
    found = []
    for column in schema:
        kind = column["type"]
        detail = (
            f"({kind['precision']},{kind.get('scale', 0)})" if kind["name"] == "DECIMAL" and "precision" in kind else ""
        )
        found.append({"name": column["name"], "type": kind["name"] + detail})
    return found
