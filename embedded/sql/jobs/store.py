"""Jobs in PostgreSQL: one write when a job is accepted, one when it ends."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from embedded.sql.database import Database, Row
from embedded.sql.jobs.model import FAILED, Job

LOST = (
    "The server stopped while this job was running. Its statement was either carried out as a whole or not at all; "
    "check the target before you run it again."
)


class JobStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    def insert(self, job: Job) -> None:
        self._database.execute(
            "insert into jobs (id, state, query_type, user_name, sql, context, submitted_at, details)"
            " values (%s, %s, %s, %s, %s, %s, %s, %s)",
            (
                job.id,
                job.state,
                job.query_type,
                job.user,
                job.sql.replace("\x00", ""),
                list(job.context),
                job.submitted_at,
                Jsonb(job.details),
            ),
        )

    def finish(self, job: Job, state: str) -> None:
        """Write the end of a job. `state` is given apart: readers must not see it before it is durable."""
        self._database.execute(
            "update jobs set state = %s, query_type = %s, started_at = %s, ended_at = %s, row_count = %s, error = %s,"
            " cancellation_reason = %s, details = %s where id = %s",
            (
                state,
                job.query_type,
                job.started_at,
                job.ended_at,
                job.row_count,
                job.error.replace("\x00", ""),
                job.cancellation_reason,
                Jsonb(job.details),
                job.id,
            ),
        )

    def get(self, job_id: str) -> Job | None:
        try:
            row = self._database.row("select * from jobs where id = %s", (uuid.UUID(job_id),))
        except ValueError:
            return None
        return _job(row) if row else None

    def recent(self, limit: int = 1000) -> list[Job]:
        rows = self._database.rows("select * from jobs order by submitted_at desc limit %s", (limit,))
        return [_job(row) for row in rows]

    def fail_lost(self) -> list[str]:
        """After a start: whatever had not ended is dead. Returns the ids."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                "update jobs set state = %s, error = %s, ended_at = now()"
                " where state not in ('COMPLETED', 'CANCELED', 'FAILED') returning id",
                (FAILED, LOST),
            ).fetchall()
        return [str(row["id"]) for row in rows]

    def expire(self, before: datetime, forget: Callable[[Sequence[str]], None]) -> int:
        """Forget jobs that ended before a time, their results first."""
        rows = self._database.rows(
            "select id from jobs where ended_at < %s and state in ('COMPLETED', 'CANCELED', 'FAILED') limit 5000",
            (before,),
        )
        ids = [str(row["id"]) for row in rows]
        if ids:
            forget(ids)
            self._database.execute("delete from jobs where id = any(%s::uuid[])", (ids,))
        return len(ids)


def _job(row: Row) -> Job:
    names: tuple[str, ...] = ("sql", "state", "query_type", "submitted_at", "started_at", "ended_at", "row_count")
    names += ("error", "cancellation_reason", "details")
    values: dict[str, Any] = {name: row[name] for name in names}
    job = Job(id=str(row["id"]), user=row["user_name"], context=tuple(row["context"]), **values)
    if job.final:
        job.done.set()
    return job
