"""A backup, its drill and an approved restore through real Airflow: what was lost comes back, readers get batch."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(4000)]


def approve(lakehouse: Any, dag_id: str, run_id: str, task_id: str = "approve") -> None:
    """As a person does on the page of required actions."""
    end = time.monotonic() + 900
    path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/-1/hitlDetails"
    while True:
        try:
            lakehouse.airflow.request("PATCH", path, json={"chosen_options": ["Approve"], "params_input": {}})
            return
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND or time.monotonic() > end:
                raise
            time.sleep(0.5)


def test_what_was_lost_comes_back_from_a_set_that_a_drill_has_proven(lakehouse: Any, first_run: str) -> None:
    for dag_id in ("backup", "restore_drill", "restore"):
        lakehouse.airflow.wait_for_dag(dag_id)
        lakehouse.airflow.unpause(dag_id)
    made = lakehouse.airflow.xcom("backup", lakehouse.green("backup"), "finish")
    assert made["kind"] in ("full", "incremental"), "unpausing may have made a scheduled set before this one"
    assert set(made["skipped"]) == {"elasticsearch"}
    lakehouse.green("restore_drill")
    with lakehouse.ledger() as conn:
        row = conn.execute(
            "select verified_at, state from lakehouse.backup_sets where set_id = %s", [made["set_id"]]
        ).fetchone()
        drill = conn.execute("select rto_seconds, rpo_seconds, report from lakehouse.backup_drills").fetchone()
    assert row["state"] == "complete"
    assert row["verified_at"] is not None
    print(f"RTO {drill['rto_seconds']} s, RPO {drill['rpo_seconds']} s, {drill['report']['seconds']}")

    with lakehouse.source() as conn:
        (before,) = conn.execute("select count(*) as n, sum(quantity) as units from retail.order_items").fetchall()
        (lsn,) = conn.execute("select pg_current_wal_flush_lsn()::text as lsn").fetchall()
        conn.execute("truncate retail.order_items cascade")
    lakehouse.green("backup")  # the log that holds the position is in the store now
    asked = {"instance": "source", "databases": ["retail"], "lsn": lsn["lsn"], "set_id": made["set_id"]}
    refused, state = lakehouse.run("restore", asked)
    assert state == "failed"
    assert "replace retail" in lakehouse.why(refused, "restore")

    run_id = lakehouse.airflow.trigger("restore", {**asked, "word": "replace retail"})
    approve(lakehouse, "restore", run_id)
    assert lakehouse.airflow.wait_for_run("restore", run_id, 900) == "success", lakehouse.why(run_id, "restore")
    with lakehouse.source() as conn:
        (after,) = conn.execute("select count(*) as n, sum(quantity) as units from retail.order_items").fetchall()
    assert after == before
    with lakehouse.ledger() as conn:
        modes = conn.execute("select distinct mode, reason from lakehouse.serving_mode").fetchall()
    assert [row["mode"] for row in modes] == ["batch"]
    assert made["set_id"] in modes[0]["reason"]
    lakehouse.airflow.wait_for_dag("retail_speed")
    lakehouse.airflow.unpause("retail_speed")
    lakehouse.green("retail_speed")  # a new epoch, from a new slot and a new snapshot
    with lakehouse.ledger() as conn:
        (newest,) = conn.execute("select epoch, snapshot_lsn from lakehouse.applied_lsn").fetchall()
        pinned = conn.execute("select max(epoch) as epoch from lakehouse.watermarks").fetchone()
    assert newest["epoch"] > pinned["epoch"]
