"""Jobs: start, look, list, cancel."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow
from pydantic import BaseModel

from embedded.replication.api import connections
from embedded.replication.api.calls import Call, as_uuid
from embedded.replication.failures import SyncError
from embedded.replication.problems import already_running, bad_request, not_found, state_conflict, unprocessable
from embedded.replication.store import jobs
from embedded.replication.store.database import Connection

TYPES = ("sync", "reset", "refresh", "clear")
_ENDED = ("succeeded", "failed", "cancelled")
_ORDERS = {"createdAt": "created_at", "updatedAt": "updated_at"}


class CreateBody(BaseModel):
    connectionId: UUID
    jobType: str


def instant(time: datetime) -> str:
    """As Java's Instant prints whole seconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def iso_duration(seconds: int) -> str:
    """As Java's Duration prints whole seconds: PT0S, PT1M5S, PT26H."""
    hours, rest = divmod(max(0, seconds), 3600)
    minutes, rest = divmod(rest, 60)
    parts = [f"{value}{unit}" for value, unit in ((hours, "H"), (minutes, "M"), (rest, "S")) if value]
    return "PT" + ("".join(parts) or "0S")


def as_json(row: DictRow) -> dict[str, Any]:
    """JobResponse. Counts are of committed records and bytes: nothing is committed before a job has succeeded."""
    body: dict[str, Any] = {
        "jobId": row["id"],
        "status": row["status"],
        "jobType": row["type"],
        "startTime": instant(row["created_at"]),
        "connectionId": str(row["connection_id"]),
        "bytesSynced": row["bytes"],
        "rowsSynced": row["records"],
    }
    ended = row["status"] in _ENDED
    if ended:
        body["lastUpdatedAt"] = instant(row["updated_at"])
    if row["status"] != "pending":
        until = row["updated_at"] if ended else datetime.now(UTC)
        body["duration"] = iso_duration(int(until.timestamp()) - int(row["created_at"].timestamp()))
    return body


def create(call: Call) -> dict[str, Any]:
    body = call.parse(CreateBody)
    if body.jobType not in TYPES:
        raise bad_request(f"jobType must be one of {', '.join(TYPES)}, not {body.jobType!r}.")
    if body.jobType == "refresh":
        raise unprocessable("Refreshes are not supported in the public API")
    return start(call, body.connectionId, "sync" if body.jobType == "sync" else "reset", {})


def start(call: Call, connection_id: UUID, type_: str, options: dict[str, Any]) -> dict[str, Any]:
    """Make a job of an active connection that has none; raises a 409 problem."""
    with call.services.pool.connection() as db:
        connection = connections.existing(db, connection_id)
        if connection["status"] != "active":
            raise state_conflict("Could not fulfill request")
        try:
            row = jobs.create_job(db, connection_id, type_, options)
        except jobs.JobOpen:
            raise already_running(str(connection_id)) from None
    call.services.runner.wake()
    return as_json(row)


def get(call: Call) -> dict[str, Any]:
    with call.services.pool.connection() as db:
        return as_json(existing(db, call))


def cancel(call: Call) -> dict[str, Any]:
    """End the job now. Its worker is killed; what it uploaded is undone in the background; no state has moved."""
    with call.services.pool.connection() as db:
        job = existing(db, call)
        reason = SyncError("replication", "config_error", "The job was cancelled.")
        row = jobs.cancel_job(db, job["id"], reason.as_json())
    if row is None:
        raise state_conflict("Job is not currently running")
    call.services.runner.kill(row["id"])
    return as_json(row)


def list_(call: Call) -> dict[str, Any]:
    page = call.page()
    order, descending = _order(call.query.get("orderBy"))
    connection = call.query.get("connectionId")
    wanted = jobs.JobFilter(
        connection_id=as_uuid("connectionId", connection) if connection else None,
        workspace_ids=tuple(call.uuids("workspaceIds")),
        job_type=call.choice("jobType", TYPES),
        statuses=tuple(filter(None, [call.choice("status", jobs.STATUSES)])),
        created_from=call.time("createdAtStart"),
        created_to=call.time("createdAtEnd"),
        updated_from=call.time("updatedAtStart"),
        updated_to=call.time("updatedAtEnd"),
    )
    with call.services.pool.connection() as db:
        rows = jobs.list_jobs(db, wanted, order, descending, page.limit, page.offset)
    return call.listing(page, [as_json(row) for row in rows])


def _order(text: str | None) -> tuple[str, bool]:
    """`createdAt|DESC`; the real server's default is the newest first."""
    name, _, direction = (text or "createdAt|DESC").partition("|")
    if name not in _ORDERS or direction not in ("ASC", "DESC"):
        raise bad_request(f"orderBy must be createdAt or updatedAt, then |ASC or |DESC, not {text!r}.")
    return _ORDERS[name], direction == "DESC"


def existing(db: Connection, call: Call) -> DictRow:
    text = call.path["jobId"]
    if not text.isascii() or not text.isdigit():
        raise bad_request(f"jobId must be a number, not {text!r}.")
    row = jobs.get_job(db, int(text)) if len(text) < 19 else None
    if row is None:
        raise not_found("job", text)
    return row
