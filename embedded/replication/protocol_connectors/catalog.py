"""What a connector discovers, as the server's own description of a source, and the catalog that a read is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from embedded.replication.failures import SyncError
from embedded.replication.protocol_connectors.schema import Shape, shape

# Written types with an order that a cursor can follow.
_ORDERED = ("int64", "double", "string", "date32", "time64[us]", "timestamp[us, UTC]")
FULL_REFRESH, INCREMENTAL = "full_refresh", "incremental"


@dataclass(frozen=True)
class Column:
    """A top-level field of a stream."""

    name: str
    shape: Shape

    @property
    def written(self) -> str:
        return self.shape.written

    @property
    def type_text(self) -> str:
        return self.shape.kind if self.shape.kind in ("json", "number text") else self.shape.written

    @property
    def is_cursor(self) -> bool:
        return self.shape.written in _ORDERED and self.shape.kind != "json"


@dataclass(frozen=True)
class Stream:
    """A stream as the connector offers it. raw: its own description, handed back to it when it is read."""

    namespace: str
    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    incremental: bool
    source_defined_cursor: bool
    default_cursor: tuple[str, ...]
    raw: Mapping[str, Any] = field(repr=False)
    readable: bool = True

    @property
    def change_key(self) -> tuple[str, ...]:
        return ()

    def change_problem(self) -> str | None:
        return f"Stream {self.name} is a connector's: its changes cannot be captured."

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)


Streams = dict[tuple[str, str], Stream]


def streams(catalog: Mapping[str, Any]) -> Streams:
    """The streams of an AirbyteCatalog by (namespace, name); raises SyncError for one that is malformed."""
    try:
        found = [_stream(item) for item in catalog["streams"]]
    except (KeyError, TypeError, AttributeError) as error:
        message = f"The connector's catalog cannot be understood: {type(error).__name__} {error}."
        raise SyncError("source", "system_error", message) from None
    return {(stream.namespace, stream.name): stream for stream in found}


def _stream(item: Mapping[str, Any]) -> Stream:
    modes = item.get("supported_sync_modes") or [FULL_REFRESH]
    key = item.get("source_defined_primary_key") or []
    return Stream(
        namespace=item.get("namespace") or "",
        name=str(item["name"]),
        columns=tuple(
            Column(str(name), shape(schema)) for name, schema in (item["json_schema"].get("properties") or {}).items()
        ),
        # A nested key has no column of its own: it is the connector's business only.
        primary_key=tuple(path[0] for path in key) if all(len(path) == 1 for path in key) else (),
        incremental=INCREMENTAL in modes,
        source_defined_cursor=bool(item.get("source_defined_cursor")),
        default_cursor=tuple(item.get("default_cursor_field") or ()),
        raw=item,
    )


def configured(stream: Stream, config: Mapping[str, Any], selected: list[str]) -> dict[str, Any]:
    """One stream of a ConfiguredAirbyteCatalog. `selected`: the fields that are kept; the others are not asked for."""
    mode = str(config["syncMode"])
    raw = dict(stream.raw)
    properties = raw["json_schema"].get("properties") or {}
    raw["json_schema"] = {**raw["json_schema"], "properties": {n: s for n, s in properties.items() if n in selected}}
    return {
        "stream": raw,
        "sync_mode": INCREMENTAL if mode.startswith("incremental") else FULL_REFRESH,
        "destination_sync_mode": "overwrite" if mode == "full_refresh_overwrite" else "append",
        "cursor_field": list(config.get("cursorField") or stream.default_cursor),
        "primary_key": config.get("primaryKey") or [],
    }
