"""Airbyte sources, destinations and connections as declared state, over the public API in plain JSON.

The same files serve a real Airbyte and the embedded server. A source or destination is written as its configuration
with `sourceType` (`destinationType`), or, where a connector has no such name, as `definitionId` and `configuration`:

    shop:
      definitionId: dfd88b22-b603-4c3d-aad7-3701784586b1
      configuration: {count: 1000}

`optional: true` beside it: made where Airbyte has the connector; where it has not, that is no difference.
Connections of pipelines come from the pipelines; `connections.yaml` declares others.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from include.connections import resolve
from include.paths import PLATFORM
from include.reconcile.plan import Change, declared, differences
from include.specs.pipeline import Pipeline, Stream
from lakehouse_providers.airbyte.calls import Kind
from lakehouse_providers.airbyte.client import AirbyteClient
from lakehouse_providers.airbyte.errors import AirbyteRequestError

FOLDER = PLATFORM / "airbyte"
# The embedded server's word for a connector that nobody has installed; a real Airbyte has all of its own.
_NOT_INSTALLED = "is not installed"
_ENDS: tuple[Kind, ...] = ("source", "destination")
_CONNECTION_KEYS = frozenset(
    {
        "source", "destination", "streams", "namespaceDefinition", "namespaceFormat", "prefix", "status",
        "nonBreakingSchemaUpdatesBehavior",
    }
)  # fmt: skip


def _stream(pipeline: Pipeline, stream: Stream) -> dict[str, Any]:
    body: dict[str, Any] = {
        "name": stream.name,
        # Only a database has namespaces; elsewhere the destination gives one.
        **({"namespace": pipeline.source_schema} if pipeline.source_connection else {}),
        "syncMode": stream.mode,
        "primaryKey": [[column] for column in stream.key],
    }
    if stream.incremental:
        body["cursorField"] = [stream.cursor]
    return body


def _connection(pipeline: Pipeline, group: Any, ids: dict[str, str]) -> dict[str, Any]:
    return {
        "name": group.connection,
        "sourceId": ids[f"source/{pipeline.source}"],
        "destinationId": ids[f"destination/{pipeline.destination}"],
        "configurations": {"streams": [_stream(pipeline, stream) for stream in group.streams]},
        "schedule": {"scheduleType": "manual"},
        **_namespace(pipeline),
        "nonBreakingSchemaUpdatesBehavior": "propagate_columns",
        "status": "active",
    }


def _namespace(pipeline: Pipeline) -> dict[str, str]:
    """Bronze's folder of the pipeline: the source's schema, or the same name given by the destination."""
    if pipeline.source_connection:
        return {"namespaceDefinition": "source"}
    return {"namespaceDefinition": "custom_format", "namespaceFormat": pipeline.source_schema}


def _cdc_connection(pipeline: Pipeline, ids: dict[str, str]) -> dict[str, Any]:
    """All captured streams in one connection: they share one slot, one position and the order of transactions."""
    assert pipeline.speed is not None
    streams = [
        {
            "name": stream.name,
            "namespace": pipeline.source_schema,
            "syncMode": "incremental_append",
            "primaryKey": [[column] for column in stream.key],
        }
        for stream in pipeline.cdc_streams
    ]
    return {
        "name": pipeline.speed.connection,
        "sourceId": ids[f"source/{pipeline.speed.source}"],
        "destinationId": ids[f"destination/{pipeline.speed.destination}"],
        "configurations": {"streams": streams},
        "schedule": {"scheduleType": "manual"},
        "namespaceDefinition": "destination",
        "nonBreakingSchemaUpdatesBehavior": "propagate_columns",
        "status": "active",
    }


def _end(kind: Kind, name: str, definition: Any) -> dict[str, Any]:
    """A source or destination as the API takes it; raises ValueError naming file and entry."""
    where = f"{kind}s.yaml: {name}"
    if not isinstance(definition, Mapping):
        raise ValueError(f"{where} must be a configuration")
    definition = {key: value for key, value in definition.items() if key != "optional"}
    if "definitionId" in definition:
        unknown = sorted(set(definition) - {"definitionId", "configuration"})
        if unknown or not isinstance(definition.get("configuration"), Mapping):
            raise ValueError(f"{where} has definitionId: beside it there must be configuration, and nothing else")
        return {
            "name": name,
            "definitionId": str(definition["definitionId"]),
            "configuration": resolve(definition["configuration"]),
        }
    if not definition.get(f"{kind}Type"):
        raise ValueError(f"{where} needs {kind}Type, or definitionId and configuration")
    return {"name": name, "configuration": resolve(definition)}


def _declared_connection(name: str, definition: Any, ids: dict[str, str]) -> dict[str, Any]:
    """An entry of connections.yaml; `source` and `destination` are names, the rest is Airbyte's own JSON."""
    where = f"connections.yaml: {name}"
    if not isinstance(definition, Mapping) or not definition.get("streams"):
        raise ValueError(f"{where} needs source, destination and streams")
    unknown = sorted(set(definition) - _CONNECTION_KEYS)
    if unknown:
        raise ValueError(f"{where} has unknown keys {', '.join(unknown)}; use {', '.join(sorted(_CONNECTION_KEYS))}")
    ends = {}
    for kind in _ENDS:
        named = definition.get(kind)
        if f"{kind}/{named}" not in ids:
            raise ValueError(f"{where}: {kind} {named!r} is not declared in {kind}s.yaml")
        ends[f"{kind}Id"] = ids[f"{kind}/{named}"]
    rest = {key: value for key, value in definition.items() if key not in (*_ENDS, "streams")}
    defaults = {"namespaceDefinition": "source", "nonBreakingSchemaUpdatesBehavior": "propagate_columns"}
    streams = [dict(stream) for stream in definition["streams"]]
    body = {"name": name, **ends, "configurations": {"streams": streams}, "schedule": {"scheduleType": "manual"}}
    return {**body, "status": "active", **defaults, **rest}


def drift(kind: Kind, wanted: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """The fields of an object that differ from what is declared, by name."""
    compared = {key: value for key, value in wanted.items() if key not in ("workspaceId", "configuration")}
    fields = differences(compared, there)
    # A server may leave the type out of the configuration of a source it does not know, or put it in unasked.
    type_field = f"{kind}Type"
    actual = {type_field: there.get(type_field), **(there.get("configuration") or {})}
    if "configuration" in wanted:
        fields += differences({"configuration": wanted["configuration"]}, {"configuration": actual})
    if "configurations" in wanted:
        names = {stream["name"] for stream in wanted["configurations"]["streams"]}
        others = (there.get("configurations") or {}).get("streams") or []
        fields += [f"configurations.streams.{s['name']}" for s in others if s.get("name") not in names]
    return fields


class AirbyteState:
    """Plans and applies; an object is found by its name, which must be unique in the workspace."""

    def __init__(self, client: AirbyteClient, pipelines: list[Pipeline], folder: Path = FOLDER) -> None:
        self._client, self._pipelines, self._folder = client, pipelines, folder
        self.changes: list[Change] = []

    def _await(self, kind: str, name: str, why: str) -> None:
        self.changes.append(Change("await", kind, name, (why,)))

    def _upsert(self, kind: Kind, wanted: dict[str, Any], *, apply: bool) -> str:
        """Gives the object's id ('' when it is only planned)."""
        there = self._client.find(kind, wanted["name"])
        if there is None:
            identity = str(self._client.create(kind, wanted)[f"{kind}Id"]) if apply else ""
            self.changes.append(Change("create", kind, wanted["name"]))
            return identity
        identity = str(there[f"{kind}Id"])
        fields = drift(kind, wanted, there)
        if fields:
            self.changes.append(Change("update", kind, wanted["name"], tuple(fields)))
        moved = [field for field in fields if field in ("sourceId", "destinationId", "definitionId")]
        if apply and moved:
            raise ValueError(
                f"Airbyte {kind} {wanted['name']!r}: {', '.join(moved)} cannot change; delete it in Airbyte or give the"
                " declared one another name"
            )
        if apply and (fields or kind != "connection"):
            # Secrets are masked in replies and cannot be compared: sources and destinations are always written.
            patch = {k: v for k, v in wanted.items() if k in ("name", "configuration") or kind == "connection"}
            for fixed in ("sourceId", "destinationId"):
                patch.pop(fixed, None)
            self._client.update(kind, identity, patch)
        return identity

    def _make_end(self, kind: Kind, name: str, definition: Any, *, apply: bool) -> str | None:
        """Gives the id of a source or destination; None when it waits for its connector."""
        body = {**_end(kind, name, definition), "workspaceId": self._client.workspace_id()}
        if definition.get("optional") and not apply and self._client.find(kind, name) is None:
            self._await(kind, name, "optional: apply makes it where Airbyte has its connector")
            return None
        try:
            return self._upsert(kind, body, apply=apply)
        except AirbyteRequestError as error:
            if _NOT_INSTALLED not in str(error):
                raise
            self._await(kind, name, str(error))
            return None

    def run(self, *, apply: bool) -> list[Change]:
        """Plans, and with `apply` also writes, in dependency order. Deletes nothing."""
        self.changes = []
        ids: dict[str, str] = {}
        for kind in _ENDS:
            for name, definition in declared(self._folder / f"{kind}s.yaml").items():
                identity = self._make_end(kind, name, definition, apply=apply)
                if identity is not None:
                    ids[f"{kind}/{name}"] = identity
        for pipeline in self._pipelines:
            if f"source/{pipeline.source}" not in ids:
                self._await("connection", pipeline.name, f"source {pipeline.source} is not there")
                continue
            for group in pipeline.groups:
                self._upsert("connection", _connection(pipeline, group, ids), apply=apply)
            if pipeline.speed is not None:
                self._upsert("connection", _cdc_connection(pipeline, ids), apply=apply)
        for name, definition in declared(self._folder / "connections.yaml").items():
            self._upsert("connection", _declared_connection(name, definition, ids), apply=apply)
        return self.changes
