"""Airbyte sources, destinations and connections as declared state, over the public API in plain JSON."""

from __future__ import annotations

from typing import Any

from include.connections import resolve
from include.paths import PLATFORM
from include.reconcile.plan import Change, declared, differences
from include.specs.pipeline import Pipeline, Stream
from lakehouse_providers.airbyte.calls import Kind
from lakehouse_providers.airbyte.client import AirbyteClient


def _stream(pipeline: Pipeline, stream: Stream) -> dict[str, Any]:
    body: dict[str, Any] = {
        "name": stream.name,
        "namespace": pipeline.source_schema,
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
        "namespaceDefinition": "source",
        "nonBreakingSchemaUpdatesBehavior": "propagate_columns",
        "status": "active",
    }


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


class AirbyteState:
    """Plans and applies; an object is found by its name, which must be unique in the workspace."""

    def __init__(self, client: AirbyteClient, pipelines: list[Pipeline]) -> None:
        self._client, self._pipelines = client, pipelines
        self.changes: list[Change] = []

    def _upsert(self, kind: Kind, wanted: dict[str, Any], *, apply: bool) -> str:
        """Gives the object's id ('' when it is only planned)."""
        there = self._client.find(kind, wanted["name"])
        if there is None:
            self.changes.append(Change("create", kind, wanted["name"]))
            return str(self._client.create(kind, wanted)[f"{kind}Id"]) if apply else ""
        identity = str(there[f"{kind}Id"])
        fields = differences({k: v for k, v in wanted.items() if k != "workspaceId"}, there)
        if fields:
            self.changes.append(Change("update", kind, wanted["name"], tuple(fields)))
        if apply and (fields or kind != "connection"):
            # Secrets are masked in replies and cannot be compared: sources and destinations are always written.
            patch = {k: v for k, v in wanted.items() if k in ("name", "configuration") or kind == "connection"}
            for fixed in ("sourceId", "destinationId"):
                patch.pop(fixed, None)
            self._client.update(kind, identity, patch)
        return identity

    def run(self, *, apply: bool) -> list[Change]:
        """Plans, and with `apply` also writes, in dependency order."""
        self.changes = []
        workspace = self._client.workspace_id()
        ids: dict[str, str] = {}
        kinds: tuple[Kind, ...] = ("source", "destination")
        for kind in kinds:
            for name, configuration in declared(PLATFORM / "airbyte" / f"{kind}s.yaml").items():
                body = {"name": name, "workspaceId": workspace, "configuration": resolve(configuration)}
                ids[f"{kind}/{name}"] = self._upsert(kind, body, apply=apply)
        for pipeline in self._pipelines:
            for group in pipeline.groups:
                self._upsert("connection", _connection(pipeline, group, ids), apply=apply)
            if pipeline.speed is not None:
                self._upsert("connection", _cdc_connection(pipeline, ids), apply=apply)
        return self.changes
