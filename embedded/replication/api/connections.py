"""Connections, and what a source offers them (GET /streams)."""

from __future__ import annotations

import re
from typing import Any, Literal
from uuid import UUID

from psycopg.rows import DictRow
from pydantic import BaseModel, Field
from starlette.responses import Response

from embedded.replication.api.calls import NO_CONTENT, Call, Services, as_uuid
from embedded.replication.catalog import Catalog, CatalogError, StreamConfigs, configure, offer, stream_properties
from embedded.replication.configuration import secrets
from embedded.replication.connectors import PostgresSource, parse
from embedded.replication.failures import SyncError, scrub
from embedded.replication.problems import Problem, bad_request, not_found, unavailable, unprocessable
from embedded.replication.sources import offered
from embedded.replication.store import actors, connections, jobs
from embedded.replication.store.database import Connection

Status = Literal["active", "inactive", "deprecated", "locked"]
Namespace = Literal["source", "destination", "custom_format"]
Behaviour = Literal["ignore", "disable_connection", "propagate_columns", "propagate_fully"]


class Schedule(BaseModel):
    scheduleType: Literal["manual", "cron"]
    cronExpression: str | None = None


class Tag(BaseModel):
    tagId: str
    name: str
    color: str
    workspaceId: str


class PatchBody(BaseModel):
    """Every key is optional: PATCH changes those that are given. `decimalAsDouble` is this server's own."""

    name: str | None = Field(default=None, min_length=1)
    configurations: StreamConfigs | None = None
    schedule: Schedule | None = None
    namespaceDefinition: Namespace | None = None
    namespaceFormat: str | None = None
    prefix: str | None = None
    nonBreakingSchemaUpdatesBehavior: Behaviour | None = None
    status: Status | None = None
    tags: list[Tag] | None = None
    dataResidency: str | None = None
    decimalAsDouble: bool | None = None


class CreateBody(PatchBody):
    sourceId: UUID
    destinationId: UUID


_DEFAULTS: dict[str, Any] = {
    "name": None,
    "status": "active",
    "status_reason": None,
    "schedule": {"scheduleType": "manual"},
    "namespace_definition": "destination",
    "namespace_format": None,
    "prefix": "",
    "schema_updates": "ignore",
    "decimal_as_double": None,
    "tags": [],
}
_COLUMN_OF = {
    "name": "name",
    "status": "status",
    "namespaceDefinition": "namespace_definition",
    "namespaceFormat": "namespace_format",
    "prefix": "prefix",
    "nonBreakingSchemaUpdatesBehavior": "schema_updates",
    "decimalAsDouble": "decimal_as_double",
}


def as_json(row: DictRow, streams: list[DictRow]) -> dict[str, Any]:
    body = {
        "connectionId": str(row["id"]),
        "name": row["name"],
        "sourceId": str(row["source_id"]),
        "destinationId": str(row["destination_id"]),
        "workspaceId": str(row["workspace_id"]),
        "status": "deprecated" if row["deleted_at"] else row["status"],
        "schedule": row["schedule"],
        "configurations": {"streams": [stream["config"] for stream in streams]},
        "createdAt": int(row["created_at"].timestamp()),
        "tags": row["tags"],
        "namespaceDefinition": row["namespace_definition"],
        "namespaceFormat": row["namespace_format"],
        "prefix": row["prefix"],
        "nonBreakingSchemaUpdatesBehavior": row["schema_updates"],
        "statusReason": row["status_reason"],
        "decimalAsDouble": row["decimal_as_double"],
    }
    optional = ("namespaceFormat", "statusReason", "decimalAsDouble")
    return {key: value for key, value in body.items() if value is not None or key not in optional}


def list_(call: Call) -> dict[str, Any]:
    page = call.page()
    with call.services.pool.connection() as db:
        rows = connections.list_connections(
            db,
            call.uuids("workspaceIds"),
            call.values("tagIds"),
            call.flag("includeDeleted"),
            page.limit,
            page.offset,
        )
        data = [as_json(row, connections.get_streams(db, row["id"])) for row in rows]
    return call.listing(page, data)


def get(call: Call) -> dict[str, Any]:
    with call.services.pool.connection() as db:
        row = existing(db, call.path_id("connectionId"))
        return as_json(row, connections.get_streams(db, row["id"]))


def create(call: Call) -> dict[str, Any]:
    body = call.parse(CreateBody)
    with call.services.pool.connection() as db:
        source = _actor(db, "source", body.sourceId)
        destination = _actor(db, "destination", body.destinationId)
        values = _values(body, {**_DEFAULTS, "name": f"{source['name']} <> {destination['name']}"})
    streams = _configured(call.services, body.configurations, source, destination)
    with call.services.pool.connection() as db, db.transaction():
        row = connections.create_connection(db, source["workspace_id"], source["id"], destination["id"], values)
        connections.replace_streams(db, row["id"], streams)
        return as_json(row, connections.get_streams(db, row["id"]))


def patch(call: Call) -> dict[str, Any]:
    """Change what is given; `configurations` is replaced whole. States of streams are never cleared by it."""
    return _change(call, call.parse(PatchBody), None)


def put(call: Call) -> dict[str, Any]:
    """Replace everything but source and destination: what is not given gets its default."""
    return _change(call, call.parse(PatchBody), _DEFAULTS)


def _change(call: Call, body: PatchBody, start: dict[str, Any] | None) -> dict[str, Any]:
    connection_id = call.path_id("connectionId")
    with call.services.pool.connection() as db:
        row = existing(db, connection_id)
        source = _actor(db, "source", row["source_id"])
        destination = _actor(db, "destination", row["destination_id"])
    replaces = body.configurations is not None or start is not None
    streams = _configured(call.services, body.configurations, source, destination) if replaces else None
    with call.services.pool.connection() as db, db.transaction():
        current = connections.get_connection(db, connection_id, lock=True)
        if current is None:
            raise not_found("connection", str(connection_id))
        base = {**start, "name": current["name"]} if start else {key: current[key] for key in _DEFAULTS}
        changed = connections.update_connection(db, connection_id, _values(body, base))
        if streams is not None:
            connections.replace_streams(db, connection_id, streams)
        return as_json(changed, connections.get_streams(db, connection_id))


def delete(call: Call) -> Response:
    """Delete it and cancel its open job. No data is touched."""
    with call.services.pool.connection() as db:
        row = existing(db, call.path_id("connectionId"))
        remove(call.services, db, row["id"])
    return NO_CONTENT


def remove(services: Services, db: Connection, connection_id: UUID) -> None:
    connections.delete_connection(db, connection_id)
    job = jobs.open_job_of(db, connection_id)
    if job is not None:
        reason = SyncError("replication", "config_error", "The connection was deleted.")
        jobs.cancel_job(db, job["id"], reason.as_json())
        services.runner.kill(job["id"])


def existing(db: Connection, connection_id: UUID) -> DictRow:
    row = connections.get_connection(db, connection_id)
    if row is None:
        raise not_found("connection", str(connection_id))
    return row


def streams(call: Call) -> list[dict[str, Any]]:
    """GET /streams: what a source offers, as a bare array. PostgreSQL is read afresh, whatever ignoreCache says."""
    if not call.query.get("sourceId"):
        raise bad_request("sourceId is needed.")
    destination_id = call.query.get("destinationId")
    with call.services.pool.connection() as db:
        source = _actor(db, "source", as_uuid("sourceId", call.query["sourceId"]))
        wanted = as_uuid("destinationId", destination_id) if destination_id else None
        destination = _actor(db, "destination", wanted) if wanted else None
    within = 0.0 if call.flag("ignoreCache") else call.services.settings.discover_seconds
    found = _discover(call.services, source, within).values()
    own = _own(source)
    modes = offer(own, destination["type"]) if destination else None
    cdc = own is not None and own.cdc is not None
    tables = [table for table in found if table.readable and table.columns]
    return [stream_properties(table, modes, cdc=cdc) for table in tables if table.change_key or not cdc]


def _own(source: DictRow) -> PostgresSource | None:
    """The configuration of this server's own source; None for a connector's."""
    return parse(PostgresSource, source["configuration"]) if source["type"] == PostgresSource.TYPE else None


def _actor(db: Connection, kind: str, actor_id: UUID) -> DictRow:
    row = actors.get_actor(db, kind, actor_id)
    if row is None:
        raise not_found(kind, str(actor_id))
    return row


def _configured(
    services: Services, wanted: StreamConfigs | None, source: DictRow, destination: DictRow
) -> list[dict[str, Any]]:
    modes = offer(_own(source), destination["type"])
    try:
        return configure(wanted, _discover(services, source, services.settings.discover_seconds), modes)
    except CatalogError as error:
        raise bad_request(str(error)) from None


def _discover(services: Services, source: DictRow, within: float) -> Catalog:
    """The source's streams; raises a 422 problem when it cannot be used, 503 when it cannot be reached."""
    try:
        with services.scratch.folder("discover") as folder:
            return offered(source, services.pool.connection, folder, within=within)
    except SyncError as error:
        raise _refusal(error, source) from None


def _refusal(error: SyncError, source: DictRow) -> Problem:
    message = scrub(str(error), secrets(source))
    return unprocessable(message) if error.kind == "config_error" else unavailable(message)


def _values(body: PatchBody, base: dict[str, Any]) -> dict[str, Any]:
    """The columns of a connection: `base` with what the body gives."""
    values = dict(base)
    for name in body.model_fields_set & set(_COLUMN_OF):
        value = getattr(body, name)
        if value is not None or name in ("namespaceFormat", "decimalAsDouble"):
            values[_COLUMN_OF[name]] = value
    if body.schedule is not None:
        values["schedule"] = _schedule(body.schedule)
    if body.tags is not None:
        values["tags"] = [tag.model_dump() for tag in body.tags]
    if body.status is not None:
        values["status_reason"] = None
    return values


_CRON_FIELD = re.compile(r"[0-9A-Za-z*?/,#LW-]+")


def _schedule(schedule: Schedule) -> dict[str, Any]:
    """Manual only: Airflow is this platform's scheduler. A cron expression is checked as Airbyte does, then refused."""
    if schedule.scheduleType == "manual":
        return {"scheduleType": "manual"}
    expression = (schedule.cronExpression or "").removesuffix("UTC").strip()
    fields = expression.split()
    if len(fields) not in (6, 7) or not all(_CRON_FIELD.fullmatch(field) for field in fields):
        example = "0 0 12 * * ?"
        raise bad_request(f"Cron expression {expression!r} is not a Quartz expression of 6 or 7 fields ({example}).")
    if "*" in fields[0] or "*" in fields[1]:
        raise bad_request(f"Cron expression {expression!r} is too frequent: seconds and minutes may not be *.")
    raise unprocessable("This server runs no schedules: set scheduleType to manual and let Airflow trigger the syncs.")
