"""The sync ledger: one row per sync, written after its data is durable; leases, publications and receipts beside it.

Plain PostgreSQL, no Airflow: every function takes a psycopg connection and joins the caller's transaction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

Connection = psycopg.Connection[dict[str, Any]]


class LedgerError(Exception):
    """Base of what the ledger refuses."""


class LeaseHeldError(LedgerError):
    """Another run holds the lease; the message names it and when its lease ends."""


@dataclass(frozen=True)
class Sync:
    """Facts of one Airbyte job. `lsn_*` are PostgreSQL's text form, None where nobody read them."""

    connection_id: str
    job_id: int
    connection: str
    pipeline: str
    lane: str
    status: str
    dag_run: str
    interval_start: str | None
    interval_end: str | None
    started_at: str
    ended_at: str | None
    rows_committed: int
    bytes_committed: int
    lsn_before: str | None
    lsn_after: str | None


def migrate(conn: Connection, folder: Path) -> list[str]:
    """Applies the new versioned scripts of `folder` in order and gives their names; safe to run twice at once."""
    with conn.transaction():
        conn.execute("select pg_advisory_xact_lock(hashtext('lakehouse.migrations'))")
        conn.execute("create schema if not exists lakehouse")
        conn.execute(
            "create table if not exists lakehouse.migrations "
            "(version text primary key, applied_at timestamptz not null default clock_timestamp())"
        )
        done = {row["version"] for row in conn.execute("select version from lakehouse.migrations")}
        fresh = [script for script in sorted(folder.glob("*.sql")) if script.stem not in done]
        for script in fresh:
            conn.execute(script.read_text(encoding="utf-8").encode())
            conn.execute("insert into lakehouse.migrations (version) values (%s)", [script.stem])
    return [script.stem for script in fresh]


def pending(conn: Connection, folder: Path) -> list[str]:
    """The scripts that `migrate` would apply."""
    exists = conn.execute("select to_regclass('lakehouse.migrations') is not null as there").fetchone()
    done = set()
    if exists and exists["there"]:
        done = {row["version"] for row in conn.execute("select version from lakehouse.migrations")}
    return [script.stem for script in sorted(folder.glob("*.sql")) if script.stem not in done]


def last_job(conn: Connection, connection_id: str) -> int:
    """The newest job of a connection that the ledger knows, 0 when none."""
    row = conn.execute(
        "select coalesce(max(job_id), 0) as job_id from lakehouse.sync_ledger where connection_id = %s", [connection_id]
    ).fetchone()
    return int(row["job_id"]) if row else 0


def record(conn: Connection, syncs: Sequence[Sync]) -> None:
    """Writes syncs in job order; a sync already written keeps the positions it was written with."""
    for sync in sorted(syncs, key=lambda s: s.job_id):
        columns = list(sync.__dict__)
        conn.execute(
            sql.SQL(
                "insert into lakehouse.sync_ledger ({}) values ({}) on conflict (connection_id, job_id) do nothing"
            ).format(
                sql.SQL(", ").join(map(sql.Identifier, columns)), sql.SQL(", ").join(map(sql.Placeholder, columns))
            ),
            sync.__dict__,
        )


def syncs(conn: Connection, connection_id: str, jobs: Sequence[int]) -> list[Sync]:
    """What the ledger has of these jobs, oldest first."""
    rows = conn.execute(
        "select to_jsonb(l) - 'recorded_at' as sync from lakehouse.sync_ledger as l "
        "where connection_id = %s and job_id = any(%s) order by job_id",
        [connection_id, list(jobs)],
    )
    return [Sync(**row["sync"]) for row in rows]


def succeeded_jobs(conn: Connection, pipeline: str, connection: str) -> list[int]:
    """Jobs whose bronze rows count, oldest first."""
    rows = conn.execute(
        "select job_id from lakehouse.sync_ledger where pipeline = %s and connection = %s and status = 'succeeded' "
        "order by job_id",
        [pipeline, connection],
    )
    return [int(row["job_id"]) for row in rows]


def committed_rows(conn: Connection, connection: str, job_id: int) -> int:
    """Rows that Airbyte reported as committed by one job."""
    row = conn.execute(
        "select rows_committed from lakehouse.sync_ledger where connection = %s and job_id = %s", [connection, job_id]
    ).fetchone()
    return int(row["rows_committed"]) if row else 0


def record_streams(conn: Connection, job: int, connection: str, counts: Mapping[str, tuple[int, int | None]]) -> None:
    """Per-stream rows and generation of one job, as found in bronze."""
    for stream, (rows, generation) in counts.items():
        conn.execute(
            "insert into lakehouse.sync_streams (connection_id, job_id, stream, rows_committed, generation) "
            "select connection_id, job_id, %s, %s, %s from lakehouse.sync_ledger where job_id = %s and connection = %s "
            "on conflict (connection_id, job_id, stream) do update set rows_committed = excluded.rows_committed",
            [stream, rows, generation, job, connection],
        )


def hold_lease(conn: Connection, name: str, holder: str, seconds: int) -> int:
    """Takes or renews a lease and gives its fencing token, which grows with every change of holder.

    Raises LeaseHeldError while somebody else holds it. The clock is PostgreSQL's alone.
    """
    row = conn.execute(
        """
        insert into lakehouse.leases as l (name, holder, token, expires_at)
        values (%(name)s, %(holder)s, 1, clock_timestamp() + make_interval(secs => %(seconds)s))
        on conflict (name) do update
           set token = l.token + (l.holder <> excluded.holder)::int,
               holder = excluded.holder,
               expires_at = excluded.expires_at
         where l.holder = excluded.holder or l.expires_at < clock_timestamp()
        returning token
        """,
        {"name": name, "holder": holder, "seconds": seconds},
    ).fetchone()
    if row:
        return int(row["token"])
    other = conn.execute("select holder, expires_at from lakehouse.leases where name = %s", [name]).fetchone()
    assert other is not None
    raise LeaseHeldError(f"'{name}' is held by {other['holder']} until {other['expires_at']:%Y-%m-%d %H:%M:%S %Z}")


def release_lease(conn: Connection, name: str, holder: str) -> bool:
    """Lets go of a lease that `holder` has; the row stays so that the token never falls."""
    done = conn.execute(
        "update lakehouse.leases set expires_at = '-infinity' where name = %s and holder = %s", [name, holder]
    )
    return done.rowcount == 1


def record_publication(
    conn: Connection, *, pipeline: str, dataset: str, view_path: str, snapshot_id: int, dag_run: str, fence_token: int
) -> None:
    conn.execute(
        "insert into lakehouse.publications (pipeline, dataset, view_path, snapshot_id, dag_run, fence_token) "
        "values (%s, %s, %s, %s, %s, %s)",
        [pipeline, dataset, view_path, snapshot_id, dag_run, fence_token],
    )
    set_status(conn, pipeline, [dataset], stale=False, reason="")


def published(conn: Connection, pipeline: str) -> dict[str, int]:
    """The snapshot that each dataset of a pipeline shows to readers now."""
    rows = conn.execute(
        "select distinct on (dataset) dataset, snapshot_id from lakehouse.publications where pipeline = %s "
        "order by dataset, publication_id desc",
        [pipeline],
    )
    return {row["dataset"]: int(row["snapshot_id"]) for row in rows}


def set_status(conn: Connection, pipeline: str, datasets: Sequence[str], *, stale: bool, reason: str) -> None:
    """Marks datasets stale or fresh; `since` moves only when the mark changes."""
    for dataset in datasets:
        conn.execute(
            """
            insert into lakehouse.dataset_status as d (dataset, pipeline, stale, reason)
            values (%(dataset)s, %(pipeline)s, %(stale)s, %(reason)s)
            on conflict (dataset) do update
               set since = case when d.stale = excluded.stale then d.since else clock_timestamp() end,
                   stale = excluded.stale, reason = excluded.reason, pipeline = excluded.pipeline
            """,
            {"dataset": dataset, "pipeline": pipeline, "stale": stale, "reason": reason},
        )


def write_receipt(conn: Connection, dag_id: str, run_id: str, receipt: Mapping[str, Any]) -> None:
    conn.execute(
        "insert into lakehouse.receipts (dag_id, run_id, receipt) values (%s, %s, %s) "
        "on conflict (dag_id, run_id) do update set receipt = excluded.receipt, written_at = clock_timestamp()",
        [dag_id, run_id, json.dumps(receipt, default=str)],
    )


def note_in_receipt(conn: Connection, dag_id: str, run_id: str, key: str, facts: Mapping[str, Any]) -> None:
    """Adds what became known after the receipt was written; when that was stays as it is."""
    conn.execute(
        "update lakehouse.receipts set receipt = receipt || jsonb_build_object(%s::text, %s::jsonb) "
        "where dag_id = %s and run_id = %s",
        [key, json.dumps(facts, default=str), dag_id, run_id],
    )
