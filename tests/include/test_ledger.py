"""The ledger against a real PostgreSQL: idempotent, leased, never rewinding."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from include import ledger
from include.paths import PLATFORM

MIGRATIONS = PLATFORM / "postgres" / "ledger"
CONNECTION = "8d1f6e3c-0000-4000-8000-000000000001"


def sync(job_id: int, **changes: Any) -> ledger.Sync:
    facts: dict[str, Any] = {
        "connection_id": CONNECTION,
        "job_id": job_id,
        "connection": "retail_sales",
        "pipeline": "retail",
        "lane": "batch",
        "status": "succeeded",
        "dag_run": "run-1",
        "interval_start": "2017-01-01T00:00:00+00:00",
        "interval_end": "2017-01-02T00:00:00+00:00",
        "started_at": "2017-01-02T02:00:00+00:00",
        "ended_at": None,
        "rows_committed": 5,
        "bytes_committed": 500,
        "lsn_before": "0/10",
        "lsn_after": "0/20",
    }
    return ledger.Sync(**{**facts, **changes})


def test_migrations_are_applied_once(conn: ledger.Connection) -> None:
    assert ledger.migrate(conn, MIGRATIONS) == []
    assert ledger.pending(conn, MIGRATIONS) == []


def test_a_sync_recorded_twice_keeps_its_first_positions(conn: ledger.Connection) -> None:
    ledger.record(conn, [sync(1)])
    ledger.record(conn, [sync(1, lsn_before=None, rows_committed=9)])
    row = conn.execute("select lsn_before::text as lsn, rows_committed from lakehouse.sync_ledger").fetchall()
    assert row == [{"lsn": "0/10", "rows_committed": 5}]


def test_only_succeeded_jobs_count_and_the_newest_job_is_known(conn: ledger.Connection) -> None:
    ledger.record(conn, [sync(3), sync(1), sync(2, status="failed")])
    assert ledger.succeeded_jobs(conn, "retail", "retail_sales") == [1, 3]
    assert ledger.last_job(conn, CONNECTION) == 3
    assert ledger.last_job(conn, "8d1f6e3c-0000-4000-8000-000000000002") == 0
    assert ledger.committed_rows(conn, "retail_sales", 3) == 5


def test_an_unknown_status_is_refused(conn: ledger.Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        ledger.record(conn, [sync(1, status="green")])


def test_a_lease_is_held_by_one_and_its_token_grows_with_every_new_holder(conn: ledger.Connection) -> None:
    assert ledger.hold_lease(conn, "retail", "a", 60) == 1
    assert ledger.hold_lease(conn, "retail", "a", 60) == 1
    with pytest.raises(ledger.LeaseHeldError, match="'retail' is held by a until"):
        ledger.hold_lease(conn, "retail", "b", 60)
    assert ledger.release_lease(conn, "retail", "b") is False
    assert ledger.release_lease(conn, "retail", "a") is True
    assert ledger.hold_lease(conn, "retail", "b", 60) == 2


def test_a_lease_that_ran_out_is_taken_over_and_its_old_holder_is_fenced(conn: ledger.Connection) -> None:
    ledger.hold_lease(conn, "retail", "a", -1)
    assert ledger.hold_lease(conn, "retail", "b", 60) == 2
    with pytest.raises(ledger.LeaseHeldError):
        ledger.hold_lease(conn, "retail", "a", 60)


def test_publication_makes_a_dataset_fresh_and_a_failure_marks_it_stale(conn: ledger.Connection) -> None:
    ledger.set_status(conn, "retail", ["gold.daily_revenue"], stale=True, reason="run x failed")
    for snapshot in (7, 8):
        ledger.record_publication(
            conn,
            pipeline="retail",
            dataset="gold.daily_revenue",
            view_path='"lakehouse"."gold"."daily_revenue"',
            snapshot_id=snapshot,
            dag_run="run-2",
            fence_token=1,
        )
    assert ledger.published(conn, "retail") == {"gold.daily_revenue": 8}
    row = conn.execute("select stale, reason from lakehouse.dataset_status").fetchall()
    assert row == [{"stale": False, "reason": ""}]


def test_a_receipt_written_again_replaces_the_first(conn: ledger.Connection) -> None:
    ledger.write_receipt(conn, "retail_batch", "run-1", {"rows": 1})
    ledger.write_receipt(conn, "retail_batch", "run-1", {"rows": 2})
    assert conn.execute("select receipt from lakehouse.receipts").fetchall() == [{"receipt": {"rows": 2}}]


def test_what_is_known_later_joins_the_receipt(conn: ledger.Connection) -> None:
    """The dashboards' times come after it was written; the dashboard on health reads them as a column."""
    ledger.write_receipt(conn, "retail_batch", "run-1", {"rows": 1, "started": "2026-01-01T00:00:00+00:00"})
    written = conn.execute("select written_at from lakehouse.receipts").fetchall()
    for facts in ({"p95_ms": 90.5}, {"p95_ms": 81.5}):
        ledger.note_in_receipt(conn, "retail_batch", "run-1", "dashboards", facts)
    ledger.note_in_receipt(conn, "retail_batch", "another", "dashboards", {"p95_ms": 1})
    (row,) = conn.execute("select receipt, written_at from lakehouse.receipts").fetchall()
    assert (row["receipt"]["rows"], row["receipt"]["dashboards"]) == (1, {"p95_ms": 81.5})
    assert [{"written_at": row["written_at"]}] == written
    assert conn.execute("select dashboard_p95_ms from lakehouse.run_facts").fetchall() == [{"dashboard_p95_ms": 81.5}]
