"""Replicates the stream groups of a pipeline into bronze and writes what was committed into the sync ledger."""

from __future__ import annotations

import datetime as dt
from typing import Any

from airflow.sdk import get_current_context, task, task_group

from include import assets, connections, ledger, source
from include.connections import AIRBYTE, LEDGER
from include.specs.pipeline import Group, Pipeline
from lakehouse_providers.airbyte.hook import AirbyteSyncHook
from lakehouse_providers.airbyte.operators import AirbyteSyncOperator

POOL = "ingest"


def _sync_row(pipeline: Pipeline, group: Group, job: dict[str, Any], positions: dict[str, str | None]) -> ledger.Sync:
    context = get_current_context()
    start, end = context.get("data_interval_start"), context.get("data_interval_end")
    return ledger.Sync(
        connection_id=job["connectionId"],
        job_id=int(job["jobId"]),
        connection=group.connection,
        pipeline=pipeline.name,
        lane="batch",
        status=job["status"],
        dag_run=context["dag_run"].run_id,
        interval_start=start.isoformat() if start else None,
        interval_end=end.isoformat() if end else None,
        started_at=job["startTime"],
        ended_at=job.get("lastUpdatedAt"),
        rows_committed=int(job.get("rowsSynced") or 0),
        bytes_committed=int(job.get("bytesSynced") or 0),
        **positions,
    )


def _facts(sync: ledger.Sync) -> dict[str, Any]:
    kept = ("connection", "job_id", "status", "rows_committed", "bytes_committed", "started_at", "ended_at")
    return {key: getattr(sync, key) for key in (*kept, "lsn_before", "lsn_after")}


def _position_after(pipeline: Pipeline) -> str | None:
    if pipeline.source_connection is None:
        return None
    with connections.connect(pipeline.source_connection) as conn:
        return source.position_after(conn)


def _group_tasks(pipeline: Pipeline, group: Group) -> Any:
    @task_group(group_id=group.name)
    def replicate() -> None:
        @task(task_id="read_position")
        def read_position() -> str | None:
            """The source's LSN before the sync: silver built from it is exact at this position or later."""
            if pipeline.source_connection is None:
                print("the source has no positions; what its syncs committed is all that counts")
                return None
            with connections.connect(pipeline.source_connection) as conn:
                return source.position_before(conn)

        sync = AirbyteSyncOperator(
            task_id="sync",
            airbyte_conn_id=AIRBYTE,
            connection_name=group.connection,
            deferrable=True,
            poll_interval=1.0,
            defer_after=5.0,
            timeout=pipeline.timeout.total_seconds(),
            pool=POOL,
        )

        @task(task_id="record", outlets=[assets.bronze(pipeline, group.name)])
        def record(lsn_before: str | None, facts: dict[str, Any]) -> list[dict[str, Any]]:
            """Writes every finished job that the ledger lacks: a run that died between sync and record lost nothing.

            Gives what the ledger has of them and of the run's own, which an earlier try may have written.
            """
            lsn_after = _position_after(pipeline)
            with connections.connect(LEDGER) as conn:
                jobs = AirbyteSyncHook(AIRBYTE).finished_jobs(
                    facts["connection_id"], after=ledger.last_job(conn, facts["connection_id"])
                )
                mine: dict[str, str | None] = {"lsn_before": lsn_before, "lsn_after": lsn_after}
                nobody: dict[str, str | None] = {"lsn_before": None, "lsn_after": None}
                rows = [
                    _sync_row(pipeline, group, job, mine if int(job["jobId"]) == int(facts["job_id"]) else nobody)
                    for job in jobs
                ]
                ledger.record(conn, rows)
                jobs_of_run = [*(row.job_id for row in rows), int(facts["job_id"])]
                recorded = ledger.syncs(conn, facts["connection_id"], jobs_of_run)
            for row in recorded:
                print(f"job {row.job_id} {row.status}: {row.rows_committed} rows, {row.bytes_committed} bytes")
            return [_facts(row) for row in recorded]

        before = read_position()
        before >> sync
        record(before, sync.output)  # type: ignore[arg-type]  # XComArg stands for the value

    return replicate()


def sync(pipeline: Pipeline) -> tuple[Any, list[str]]:
    """The task group `ingest`, and the ids of its first tasks for the branch before it."""

    @task_group(group_id="ingest", default_args={"retries": 3, "retry_delay": dt.timedelta(seconds=10)})
    def ingest() -> None:
        for group in pipeline.groups:
            _group_tasks(pipeline, group)

    return ingest(), [f"ingest.{group.name}.read_position" for group in pipeline.groups]
