"""Jobs and their attempts. Every change of status depends on the status before: whoever comes late changes nothing.

A job is open (pending, running, incomplete) or ended (succeeded, failed, cancelled); one open job per connection is
the database's own rule (a partial unique index).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from embedded.replication.failures import SyncError
from embedded.replication.store.database import Connection

Row = DictRow
OPEN = ("pending", "queued", "running", "incomplete")
STATUSES = (*OPEN, "failed", "succeeded", "cancelled")


class JobOpen(Exception):
    """The connection has an open job already."""


class NoLongerRunning(Exception):
    """The attempt is not the running one any more: cancelled, timed out, or taken over after a crash."""


@dataclass(frozen=True)
class JobFilter:
    """What GET /jobs can ask for; empty means all."""

    connection_id: UUID | None = None
    workspace_ids: tuple[UUID, ...] = ()
    job_type: str | None = None
    statuses: tuple[str, ...] = ()
    created_from: datetime | None = None
    created_to: datetime | None = None
    updated_from: datetime | None = None
    updated_to: datetime | None = None


@dataclass(frozen=True)
class Retries:
    """How often a job is tried again. Defaults are Airbyte's.

    in_row: failures without progress, one after the other, that end a job; twice as many in all do, and four times as
    many failures with progress. seconds: the wait after the first failure without progress, tripled for each further
    one, at most 1800; after progress there is none. disable_after: failed jobs in a row that make a connection
    inactive (0: never), as a week of nothing else does.
    """

    in_row: int = 5
    seconds: float = 10.0
    disable_after: int = 30

    def wait(self, progressed: list[bool]) -> float | None:
        """Seconds until the next attempt, by what the failed ones achieved; None: there is none."""
        complete, partial = progressed.count(False), progressed.count(True)
        row = next((n for n, made in enumerate(reversed(progressed)) if made), len(progressed))
        if row >= self.in_row or complete >= 2 * self.in_row or partial >= 4 * self.in_row:
            return None
        return min(self.seconds * 3.0 ** (row - 1), 1800.0) if row else 0.0


def create_job(db: Connection, connection_id: UUID, type_: str, options: dict[str, Any] | None = None) -> Row:
    """Raises JobOpen."""
    try:
        row = db.execute(
            "insert into jobs (connection_id, type, status, options) values (%s, %s, 'pending', %s) returning *",
            [connection_id, type_, Jsonb(options or {})],
        ).fetchone()
    except psycopg.errors.UniqueViolation:
        raise JobOpen from None
    assert row is not None
    return row


def get_job(db: Connection, job_id: int, *, lock: bool = False) -> Row | None:
    query = "select * from jobs where id = %s" + (" for update" if lock else "")
    return db.execute(query.encode(), [job_id]).fetchone()


def list_jobs(db: Connection, wanted: JobFilter, order: str, descending: bool, limit: int, offset: int) -> list[Row]:
    """`order` is created_at or updated_at."""
    query = sql.SQL(
        "select j.* from jobs j join connections c on c.id = j.connection_id"
        " where (%(connection)s::uuid is null or j.connection_id = %(connection)s)"
        " and (cardinality(%(workspaces)s::uuid[]) = 0 or c.workspace_id = any(%(workspaces)s))"
        " and (%(type)s::text is null or j.type = %(type)s)"
        " and (cardinality(%(statuses)s::text[]) = 0 or j.status = any(%(statuses)s))"
        " and (%(created_from)s::timestamptz is null or j.created_at >= %(created_from)s)"
        " and (%(created_to)s::timestamptz is null or j.created_at <= %(created_to)s)"
        " and (%(updated_from)s::timestamptz is null or j.updated_at >= %(updated_from)s)"
        " and (%(updated_to)s::timestamptz is null or j.updated_at <= %(updated_to)s)"
        " order by j.{order} {direction}, j.id {direction} limit %(limit)s offset %(offset)s"
    ).format(order=sql.Identifier(order), direction=sql.SQL("desc" if descending else "asc"))
    return db.execute(
        query,
        {
            "connection": wanted.connection_id,
            "workspaces": list(wanted.workspace_ids),
            "type": wanted.job_type,
            "statuses": list(wanted.statuses),
            "created_from": wanted.created_from,
            "created_to": wanted.created_to,
            "updated_from": wanted.updated_from,
            "updated_to": wanted.updated_to,
            "limit": limit,
            "offset": offset,
        },
    ).fetchall()


def due_jobs(db: Connection, limit: int) -> list[Row]:
    """Jobs that may start now, the oldest first."""
    return db.execute(
        "select * from jobs where status in ('pending', 'incomplete') and next_attempt_at <= now()"
        " order by next_attempt_at, id limit %s",
        [limit],
    ).fetchall()


def start_attempt(db: Connection, job_id: int) -> int | None:
    """Make a due job running; gives the attempt's number (1, 2, ...), or None when the job is not due any more."""
    with db.transaction():
        moved = db.execute(
            "update jobs set status = 'running', updated_at = now()"
            " where id = %s and status in ('pending', 'incomplete') returning id",
            [job_id],
        ).fetchone()
        if moved is None:
            return None
        row = db.execute(
            "insert into attempts (job_id, number, status)"
            " select %(job)s, coalesce(max(number), 0) + 1, 'running' from attempts where job_id = %(job)s"
            " returning number",
            {"job": job_id},
        ).fetchone()
        assert row is not None
        return int(row["number"])


def hold_attempt(db: Connection, job_id: int, attempt: int) -> Row:
    """Lock the job inside the caller's transaction, if the attempt still is the running one; raises NoLongerRunning.

    Every write of a worker that others can see goes through here: a worker that outlived its job writes nothing.
    """
    job = get_job(db, job_id, lock=True)
    query = "select * from attempts where job_id = %s and number = %s and status = 'running'"
    running = db.execute(query, [job_id, attempt]).fetchone()
    if job is None or job["status"] != "running" or running is None:
        raise NoLongerRunning(f"attempt {attempt} of job {job_id} is not running any more")
    return job


def end_attempt(db: Connection, job_id: int, attempt: int, status: str, failure: dict[str, Any] | None) -> None:
    db.execute(
        "update attempts set status = %s, failure = %s, ended_at = now()"
        " where job_id = %s and number = %s and status = 'running'",
        [status, None if failure is None else Jsonb(failure), job_id, attempt],
    )


def end_job(db: Connection, job_id: int, status: str, records: int = 0, bytes_: int = 0) -> None:
    db.execute(
        "update jobs set status = %s, records = %s, bytes = %s, updated_at = now(), ended_at = now() where id = %s",
        [status, records, bytes_, job_id],
    )


def fail_attempt(
    db: Connection, job_id: int, attempt: int, error: SyncError, retries: Retries, *, at_once: bool = False
) -> str | None:
    """End a running attempt as failed and decide what becomes of its job; gives the job's new status.

    A config_error ends the job. Anything else is tried again as `retries` says; `at_once` without a wait (the attempt
    was not at fault).
    """
    with db.transaction():
        try:
            job = hold_attempt(db, job_id, attempt)
        except NoLongerRunning:
            return None
        end_attempt(db, job_id, attempt, "failed", error.as_json())
        if error.disables_connection:
            _disable(db, job["connection_id"], error.message)
        progressed = [row["progressed"] for row in get_attempts(db, job_id)]
        wait = None if error.kind == "config_error" else retries.wait(progressed)
        if wait is None:
            end_job(db, job_id, "failed")
            _disable_if_hopeless(db, job["connection_id"], retries.disable_after)
            return "failed"
        db.execute(
            "update jobs set status = 'incomplete', updated_at = now(),"
            " next_attempt_at = now() + make_interval(secs => %s) where id = %s",
            [0.0 if at_once else wait, job_id],
        )
        return "incomplete"


def _disable(db: Connection, connection_id: UUID, reason: str) -> None:
    query = "update connections set status = 'inactive', status_reason = %s where id = %s and status = 'active'"
    db.execute(query, [reason, connection_id])


def _disable_if_hopeless(db: Connection, connection_id: UUID, limit: int) -> None:
    """A connection whose jobs only fail stops, so that somebody looks: after `limit` of them, or a week."""
    row = db.execute(
        "select count(*) as failed, min(created_at) <= now() - interval '7 days' as a_week from jobs"
        " where connection_id = %(id)s and status = 'failed' and created_at > coalesce("
        "   (select max(created_at) from jobs where connection_id = %(id)s and status = 'succeeded'), '-infinity')",
        {"id": connection_id},
    ).fetchone()
    assert row is not None
    if limit and (row["failed"] >= limit or (row["a_week"] and row["failed"] > 1)):
        reason = f"{row['failed']} jobs failed in a row. Mend the cause and set the connection active again."
        _disable(db, connection_id, reason)


def cancel_job(db: Connection, job_id: int, failure: dict[str, Any]) -> Row | None:
    """Make an open job cancelled; gives the job, or None when it has ended already."""
    with db.transaction():
        job = get_job(db, job_id, lock=True)
        if job is None or job["status"] not in OPEN:
            return None
        db.execute(
            "update attempts set status = 'cancelled', failure = %s, ended_at = now()"
            " where job_id = %s and status = 'running'",
            [Jsonb(failure), job_id],
        )
        end_job(db, job_id, "cancelled")
        return get_job(db, job_id)


def open_job_of(db: Connection, connection_id: UUID) -> Row | None:
    query = "select * from jobs where connection_id = %s and status = any(%s)"
    return db.execute(query, [connection_id, list(OPEN)]).fetchone()


def running_attempts(db: Connection) -> list[Row]:
    """Attempts that claim to run. Right after start, with the runner's lock held, all of them are orphans."""
    return db.execute("select job_id, number from attempts where status = 'running' order by job_id").fetchall()


def beat(db: Connection, job_id: int, attempt: int) -> None:
    """Note that the attempt heard from its source."""
    query = "update attempts set heard_at = now() where job_id = %s and number = %s"
    db.execute(query, [job_id, attempt])


def silent_attempts(db: Connection, seconds: float) -> set[tuple[int, int]]:
    """Running attempts that heard nothing for so long."""
    rows = db.execute(
        "select job_id, number from attempts where status = 'running' and heard_at < now() - make_interval(secs => %s)",
        [seconds],
    )
    return {(row["job_id"], row["number"]) for row in rows}


def stale_jobs(db: Connection, seconds: float) -> list[int]:
    """Jobs that were created so long ago and never began."""
    rows = db.execute(
        "select id from jobs where status = 'pending' and created_at < now() - make_interval(secs => %s)", [seconds]
    )
    return [row["id"] for row in rows]


def unsettled_jobs(db: Connection) -> list[int]:
    """Jobs that began, ended without success, and of which nobody has undone what they left behind."""
    rows = db.execute(
        "select id from jobs j where status in ('failed', 'cancelled') and settled_at is null"
        " and exists (select from attempts a where a.job_id = j.id) order by id"
    )
    return [int(row["id"]) for row in rows]


def set_settled(db: Connection, job_id: int) -> None:
    db.execute("update jobs set settled_at = now() where id = %s", [job_id])


def get_progress(db: Connection, job_id: int) -> dict[str, Any] | None:
    """What earlier attempts of an open job have brought for good, see sync.py."""
    row = get_job(db, job_id)
    return None if row is None or row["progress"] is None else dict(row["progress"])


def set_progress(db: Connection, job_id: int, attempt: int, progress: dict[str, Any]) -> None:
    db.execute("update jobs set progress = %s where id = %s", [Jsonb(progress), job_id])
    set_progressed(db, job_id, attempt)


def set_progressed(db: Connection, job_id: int, attempt: int) -> None:
    """The attempt has brought something that outlives it: if it fails, the next one follows at once."""
    db.execute("update attempts set progressed = true where job_id = %s and number = %s", [job_id, attempt])


def get_attempts(db: Connection, job_id: int) -> list[Row]:
    return db.execute("select * from attempts where job_id = %s order by number", [job_id]).fetchall()


def set_outcome(db: Connection, job_id: int, attempt: int, outcome: dict[str, Any]) -> None:
    query = "update attempts set outcome = %s where job_id = %s and number = %s"
    db.execute(query, [Jsonb(outcome), job_id, attempt])


def drop_outcome(db: Connection, job_id: int) -> None:
    """The uploads of a job are lost after all: its next attempt reads everything again."""
    with db.transaction():
        db.execute("update attempts set outcome = null where job_id = %s", [job_id])
        db.execute("update jobs set progress = null where id = %s", [job_id])
        db.execute("update objects set kept = false where job_id = %s", [job_id])


def prepared_attempt(db: Connection, job_id: int) -> Row | None:
    """The attempt of a job, if any, whose data was uploaded completely."""
    query = "select * from attempts where job_id = %s and outcome is not null order by number desc limit 1"
    return db.execute(query, [job_id]).fetchone()


def log(db: Connection, job_id: int, attempt: int, level: str, message: str) -> None:
    query = "insert into job_log (job_id, attempt, level, message) values (%s, %s, %s, %s)"
    db.execute(query, [job_id, attempt, level, message])


def get_log(db: Connection, job_id: int, after: int, limit: int) -> list[Row]:
    query = "select id, attempt, at, level, message from job_log where job_id = %s and id > %s order by id limit %s"
    return db.execute(query, [job_id, after, limit]).fetchall()


def job_streams(db: Connection, job_id: int) -> list[Row]:
    return db.execute("select * from job_streams where job_id = %s order by namespace, name", [job_id]).fetchall()


def add_job_stream(
    db: Connection, job_id: int, namespace: str, name: str, mode: str, generation: int, minimum: int
) -> None:
    db.execute(
        "insert into job_streams (job_id, namespace, name, sync_mode, generation_id, minimum_generation_id)"
        " values (%s, %s, %s, %s, %s, %s)",
        [job_id, namespace, name, mode, generation, minimum],
    )


def set_stream_stats(db: Connection, job_id: int, namespace: str, name: str, stats: dict[str, Any]) -> None:
    query = "update job_streams set stats = %s where job_id = %s and namespace = %s and name = %s"
    db.execute(query, [Jsonb(stats), job_id, namespace, name])
