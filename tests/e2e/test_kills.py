"""kill -9 of each server in the middle of a run: the next run is green, gold is the same, nothing is left over."""

from __future__ import annotations

import time
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(4000)]

# Service, and the task during which it dies.
KILLS = {
    "replication": "ingest.sales.sync",
    "sql": "silver.dbt_producer_watcher",
    "object-store": "silver.dbt_producer_watcher",
    "postgres-source": "ingest.sales.sync",
    "postgres-platform": "gold.dbt_producer_watcher",
    "airflow-scheduler": "silver.dbt_producer_watcher",
    "airflow-triggerer": "refresh_reflections",
}


def wait_for_task(lakehouse: Any, run_id: str, task_id: str) -> None:
    """Until the task is at work, or already past: a kill then hits what follows it."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
        states = {task["task_id"]: task["state"] for task in lakehouse.airflow.tasks("retail_batch", run_id)}
        if states.get(task_id) not in (None, "scheduled", "queued"):
            return
        time.sleep(0.05)
    raise AssertionError(f"{task_id} did not start: {states}")


@pytest.mark.parametrize("service", KILLS)
def test_the_run_after_a_kill_is_green_and_gold_is_the_same(lakehouse: Any, service: str) -> None:
    before = lakehouse.gold()
    with lakehouse.source() as conn:  # something to sync and to merge, without changing gold
        conn.execute("update retail.order_items set updated_at = now() where order_item_id % 7 = 0")
        conn.commit()
    run_id = lakehouse.airflow.trigger("retail_batch")
    wait_for_task(lakehouse, run_id, KILLS[service])
    pid = lakehouse.stack.pid(service)
    lakehouse.kill(service)
    lakehouse.stack.wait_ready(service, timeout=120, other_than=pid)
    lakehouse.airflow.wait_for_run("retail_batch", run_id, 900)
    lakehouse.green()
    assert lakehouse.gold() == before
    assert lakehouse.running_jobs() == []
