"""Backup, drill and an approved restore, and a plan of retention that asks, through real Airflow."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.test_speed import SPEED, UNITED, differences, status, united, until

__all__ = ["united"]
pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(7200)]
UPKEEP = ("backup", "restore_drill", "restore", "retention")


def decide(lakehouse: Any, dag_id: str, run_id: str, choice: str = "Approve", task_id: str = "approve") -> None:
    """As a person does on the page of required actions, and no sooner: a task that was answered before Airflow had
    parked it was seen to fail.
    """

    def asks() -> bool:
        tasks = lakehouse.airflow.tasks(dag_id, run_id)
        return any((task["task_id"], task["state"]) == (task_id, "awaiting_input") for task in tasks)

    until(f"{dag_id} asks", asks, lambda: lakehouse.why(run_id, dag_id))
    path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/-1/hitlDetails"
    lakehouse.airflow.request("PATCH", path, json={"chosen_options": [choice], "params_input": {}})


def units(lakehouse: Any) -> dict[str, Any]:
    with lakehouse.source() as conn:
        (row,) = conn.execute("select count(*) as n, sum(quantity) as units from retail.order_items").fetchall()
    return row


@pytest.fixture(scope="module")
def kept(united: Any) -> Any:
    """Both lanes at work, and upkeep's DAGs switched on."""
    for dag_id in UPKEEP:
        united.airflow.wait_for_dag(dag_id)
        united.airflow.unpause(dag_id)
    return united


@pytest.fixture(scope="module")
def proven(kept: Any) -> str:
    """A set that a drill has proven."""
    made = kept.airflow.xcom("backup", kept.green("backup"), "finish")
    assert made["kind"] in ("full", "incremental"), "unpausing may have made a scheduled set before this one"
    assert set(made["skipped"]) == {"elasticsearch"}
    kept.green("restore_drill")
    with kept.ledger() as conn:
        row = conn.execute(
            "select s.verified_at, s.state, d.rto_seconds, d.rpo_seconds, d.report from lakehouse.backup_sets as s "
            "join lakehouse.backup_drills as d using (set_id) where set_id = %s and d.passed",
            [made["set_id"]],
        ).fetchone()
    assert row is not None, f"no drill has proven {made['set_id']}"
    assert (row["state"], row["verified_at"] is None) == ("complete", False)
    print(f"RTO {row['rto_seconds']} s, RPO {row['rpo_seconds']} s, {row['report']['seconds']}")
    return str(made["set_id"])


def test_what_was_lost_comes_back_from_a_set_that_a_drill_has_proven(kept: Any, proven: str) -> None:
    assert {row["mode"] for row in status(kept).values()} <= UNITED
    before = units(kept)
    with kept.source() as conn:
        (lsn,) = conn.execute("select pg_current_wal_flush_lsn()::text as lsn").fetchall()
        conn.execute("truncate retail.order_items cascade")
    kept.green("backup")  # the log that holds the position is in the store now
    asked = {"instance": "source", "databases": ["retail"], "lsn": lsn["lsn"], "set_id": proven}
    refused, state = kept.run("restore", asked)
    assert state == "failed"
    assert "replace retail" in kept.why(refused, "restore")
    assert units(kept)["n"] == 0

    run_id = kept.airflow.trigger("restore", {**asked, "word": "replace retail"})
    decide(kept, "restore", run_id)
    assert kept.airflow.wait_for_run("restore", run_id, 900) == "success", kept.why(run_id, "restore")
    assert units(kept) == before


def test_after_a_restore_readers_have_batch_until_a_new_snapshot_is_folded(kept: Any, proven: str) -> None:
    """Runs after the restore above."""
    with kept.ledger() as conn:
        modes = conn.execute("select distinct mode, reason from lakehouse.serving_mode").fetchall()
        (pinned,) = conn.execute("select max(epoch) as epoch from lakehouse.watermarks").fetchall()
    assert [(row["mode"], proven in row["reason"]) for row in modes] == [("batch", True)]

    def epoch() -> int:
        with kept.ledger() as conn:
            (row,) = conn.execute("select epoch from lakehouse.applied_lsn").fetchall()
        return int(row["epoch"])

    until("a new snapshot", lambda: epoch() > pinned["epoch"], lambda: kept.airflow.runs(SPEED)[0])
    kept.green()
    assert {row["mode"] for row in status(kept).values()} <= UNITED
    assert differences(kept) == []


def test_retention_deletes_what_exceeds_its_limits_only_when_somebody_agrees(kept: Any) -> None:
    """Receipts of years ago, more than half of what the ledger has of them."""
    with kept.ledger() as conn:
        conn.execute(
            "insert into lakehouse.receipts (dag_id, run_id, receipt, written_at) "
            "select 'forgotten', n::text, '{}', clock_timestamp() - interval '400 days' - n * interval '1 minute' "
            "from generate_series(1, 3000) as n"
        )

    def forgotten() -> int:
        with kept.ledger() as conn:
            (row,) = conn.execute("select count(*) from lakehouse.receipts where dag_id = 'forgotten'").fetchall()
        return int(row["count"])

    until("the run that unpausing scheduled", lambda: _idle(kept, "retention"))
    run_id = kept.airflow.trigger("retention")
    decide(kept, "retention", run_id)
    assert forgotten() == 3000, "nothing goes before somebody has agreed"
    assert kept.airflow.wait_for_run("retention", run_id, 900) == "success", kept.why(run_id, "retention")
    assert forgotten() == 20, "the newest of each DAG"
    with kept.ledger() as conn:
        (row,) = conn.execute(
            "select status, decided_by from lakehouse.retention_sections where rule = 'ledger' "
            "order by plan_id desc limit 1"
        ).fetchall()
    assert row["status"] == "done"
    assert row["decided_by"] not in (None, "", "Airflow"), "who has agreed is written down"


def _idle(lakehouse: Any, dag_id: str) -> bool:
    return all(run["state"] not in ("queued", "running") for run in lakehouse.airflow.runs(dag_id))
