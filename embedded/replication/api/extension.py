"""What Airbyte's public API lacks: reasons, attempts, streams, files, logs, checks. Under /api/lakehouse/v1."""

from __future__ import annotations

from typing import Any, Literal

from psycopg.rows import DictRow
from pydantic import BaseModel

from embedded.replication import configuration as configurations
from embedded.replication import connectors, sources
from embedded.replication.api import connections as connection_calls
from embedded.replication.api import jobs as job_calls
from embedded.replication.api import page
from embedded.replication.api.calls import Call
from embedded.replication.failures import SyncError, scrub
from embedded.replication.problems import bad_request, not_found
from embedded.replication.protocol import APPLICATION
from embedded.replication.protocol_connectors import registry
from embedded.replication.protocol_connectors.states import is_legacy
from embedded.replication.store import actors, connections, jobs, objects

_LOG_LINES = 1000


def health(call: Call) -> dict[str, Any]:
    with call.services.pool.connection(timeout=5) as db:
        running = len(jobs.running_attempts(db))
    runner = call.services.runner
    return {
        "status": "ok",
        "leading": runner.leading,
        "runningJobs": running,
        "maxJobs": call.services.settings.max_jobs,
    }


def job(call: Call) -> dict[str, Any]:
    """A job with everything that is known about it."""
    with call.services.pool.connection() as db:
        row = job_calls.existing(db, call)
        attempts = jobs.get_attempts(db, row["id"])
        streams = jobs.job_streams(db, row["id"])
    failures = [attempt["failure"] for attempt in attempts if attempt["failure"]]
    succeeded = row["status"] == "succeeded"
    waits = row["status"] in ("pending", "incomplete")
    return {
        **job_calls.as_json(row),
        "url": page.link(call, row["id"]),
        "failureReason": None if succeeded or not failures else failures[-1],
        "nextAttemptAt": row["next_attempt_at"].isoformat() if waits else None,
        "attempts": [_attempt(attempt) for attempt in attempts],
        "streams": [_stream(stream) for stream in streams],
    }


def _attempt(row: DictRow) -> dict[str, Any]:
    snapshot = (row["outcome"] or {}).get("snapshot")
    return {
        "number": row["number"],
        "status": row["status"],
        "startedAt": row["started_at"].isoformat(),
        "endedAt": row["ended_at"].isoformat() if row["ended_at"] else None,
        "failureReason": row["failure"],
        "snapshot": snapshot,
    }


def _stream(row: DictRow) -> dict[str, Any]:
    stats = {key: value for key, value in row["stats"].items() if key != "cursor"}
    return {
        "namespace": row["namespace"],
        "name": row["name"],
        "syncMode": row["sync_mode"],
        "generationId": row["generation_id"],
        "minimumGenerationId": row["minimum_generation_id"],
        **stats,
    }


def files(call: Call) -> dict[str, Any]:
    """The objects of a job: what a reader should find, to be checked against a listing."""
    with call.services.pool.connection() as db:
        row = job_calls.existing(db, call)
        rows = objects.of_job(db, row["id"], ["planned", "uploaded", "visible", "removed"])
    wanted = ("namespace", "name", "bucket", "key", "records", "bytes", "status", "attempt")
    data = [
        {**{key: item[key] for key in wanted}, "generationId": item["generation_id"], "partNumber": item["part_number"]}
        for item in rows
    ]
    return {"data": data}


def log(call: Call) -> dict[str, Any]:
    """Lines after number `after`; read on with `next` until there are none."""
    text = call.query.get("after", "0")
    if not text.isascii() or not text.isdigit():
        raise bad_request(f"after must be a number, not {text!r}.")
    with call.services.pool.connection() as db:
        row = job_calls.existing(db, call)
        lines = jobs.get_log(db, row["id"], int(text), _LOG_LINES)
    data = [{**line, "at": line["at"].isoformat()} for line in lines]
    return {"data": data, "next": lines[-1]["id"] if lines else int(text)}


def state(call: Call) -> dict[str, Any]:
    """Where each stream of a connection stands."""
    with call.services.pool.connection() as db:
        row = connection_calls.existing(db, call.path_id("connectionId"))
        states = connections.get_states(db, row["id"])
    data = [
        {
            "namespace": item["namespace"],
            "name": item["name"],
            "generationId": item["generation_id"],
            "minimumGenerationId": item["minimum_generation_id"],
            "cursor": item["cursor"],
            "jobId": item["job_id"],
        }
        for item in states.values()
    ]
    return {"data": sorted(data, key=lambda item: (item["namespace"], item["name"]))}


def check_source(call: Call) -> dict[str, Any]:
    """Whether the source can be used now; for change data capture also its slot and publication."""
    row = _actor(call, "source")
    try:
        with call.services.scratch.folder("check") as folder:
            sources.check(row, call.services.pool.connection, folder)
    except SyncError as error:
        return _failed(error, row)
    return {"status": "succeeded", "message": None}


def check_destination(call: Call) -> dict[str, Any]:
    """Whether the bucket or database is there and answers to these credentials."""
    row = _actor(call, "destination")
    destination: Any = connectors.parse(connectors.AVAILABLE["destination"][row["type"]], row["configuration"])
    try:
        if isinstance(destination, connectors.S3Destination):
            _check_bucket(destination)
        else:
            _check_database(destination)
    except SyncError as error:
        return _failed(error, row)
    return {"status": "succeeded", "message": None}


def _check_bucket(destination: connectors.S3Destination) -> None:
    from embedded.replication.s3 import client  # boto3 is heavy, and only this call of the server needs it

    client.check(client.client(destination), destination)


def _check_database(destination: connectors.PostgresDestination) -> None:
    from embedded.replication.postgres_destination.database import Database  # with Arrow and numpy

    database = Database(destination, f"{APPLICATION} check")
    try:
        if destination.applied_lsn_table:
            database.require_applied_table(destination.applied_lsn_table)
    finally:
        database.close()


def _actor(call: Call, kind: str) -> DictRow:
    actor_id = call.path_id(f"{kind}Id")
    with call.services.pool.connection() as db:
        row = actors.get_actor(db, kind, actor_id)
    if row is None:
        raise not_found(kind, str(actor_id))
    return row


def _failed(error: SyncError, row: DictRow) -> dict[str, Any]:
    return {"status": "failed", "message": scrub(str(error), configurations.secrets(row))}


def list_connectors(call: Call) -> dict[str, Any]:
    """The connectors of PyPI that this server knows, and whether they are installed here."""
    return {"data": [_connector(item) for item in registry.definitions().values()]}


def _connector(item: registry.Definition) -> dict[str, Any]:
    try:
        item.require()
        missing = None
    except registry.NotInstalled as error:
        missing = str(error)
    return {
        "name": item.name,
        "sourceType": item.type,
        "definitionId": str(item.definition_id),
        "version": item.version,
        "installed": missing is None,
        "message": missing,
    }


class StreamName(BaseModel):
    name: str
    namespace: str | None = None


class ClearBody(BaseModel):
    streams: list[StreamName] | None = None


class RefreshBody(ClearBody):
    mode: Literal["truncate", "merge"] = "truncate"


def refresh(call: Call) -> dict[str, Any]:
    """Read streams again from the start, in a new generation; the public API refuses that.

    `truncate` makes older generations void once the job succeeds, `merge` keeps them. No file is deleted.
    """
    body = call.parse(RefreshBody)
    with call.services.pool.connection() as db:
        row = connection_calls.existing(db, call.path_id("connectionId"))
        source = actors.get_actor(db, "source", row["source_id"])
        legacy = is_legacy(connections.get_shared_state(db, row["id"]))
    if legacy and body.streams is not None:
        raise bad_request(
            "The connector keeps one state for all its streams, so that none of them can be read again alone."
            " Leave streams out to refresh all of them."
        )
    if source is not None and (source["configuration"].get("replication_method") or {}).get("method") == "CDC":
        raise bad_request("The connection captures changes: POST .../rebuild begins a new snapshot of all its streams.")
    return _start(call, "refresh", body, {"mode": body.mode})


def clear(call: Call) -> dict[str, Any]:
    """As jobType clear of the public API, for some streams: forget their states, make what was copied void."""
    return _start(call, "reset", call.parse(ClearBody), {})


def _start(call: Call, type_: str, body: ClearBody, options: dict[str, Any]) -> dict[str, Any]:
    connection_id = call.path_id("connectionId")
    with call.services.pool.connection() as db:
        connection_calls.existing(db, connection_id)
        if body.streams is not None:
            options["streams"] = _known(connections.get_streams(db, connection_id), body.streams)
    return job_calls.start(call, connection_id, type_, options)


def _known(rows: list[DictRow], wanted: list[StreamName]) -> list[dict[str, str]]:
    found = []
    for item in wanted:
        same = [row for row in rows if row["name"] == item.name and item.namespace in (None, row["namespace"])]
        if len(same) != 1:
            names = ", ".join(f"{row['namespace']}.{row['name']}".lstrip(".") for row in rows)
            raise bad_request(f"Stream {item.name}: {len(same)} streams of the connection fit. It has: {names}.")
        found.append({"namespace": same[0]["namespace"], "name": same[0]["name"]})
    return found


def set_faults(call: Call) -> dict[str, Any]:
    """Replace the injected faults; only where the server was started with fault injection."""
    if not call.services.faults.enabled:
        raise not_found("faults", "disabled")
    rules = call.json()
    try:
        call.services.faults.replace(rules)
    except (TypeError, ValueError, AttributeError) as error:
        raise bad_request(str(error)) from None
    return {"status": "ok"}
