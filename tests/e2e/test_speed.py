"""The speed lane through real Airflow: what its serving views show is the source at the log's position, row for row."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from embedded.demo.traffic import Traffic

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(4000)]

SPEED = "retail_speed"
SECONDS = 600
UNITED = {"unified", "lagging"}
# What traffic inserts, corrects and deletes, by key.
CHANGING = {
    "orders": ("order_id", "household_id", "store_id"),
    "order_items": ("order_item_id", "order_id", "product_id", "quantity", "sales_value"),
    "coupon_redemptions": ("redemption_id", "household_id", "campaign_id"),
    "households": ("household_id", "age_range"),
}


def until(what: str, holds: Callable[[], Any], why: Callable[[], Any] = str) -> Any:
    end = time.monotonic() + SECONDS
    while not (found := holds()):
        assert time.monotonic() < end, f"{what}: not within {SECONDS} s; {why()}"
        time.sleep(0.5)
    return found


def status(lakehouse: Any) -> dict[str, dict[str, Any]]:
    rows = lakehouse.dremio.sql("SELECT * FROM lakehouse.serving.serving_status")
    return {row["entity"]: row for row in rows}


def differences(lakehouse: Any) -> list[str]:
    """Where a serving view is not the source's table; nothing changes the source meanwhile."""
    found = []
    with lakehouse.source() as conn:
        for entity, columns in CHANGING.items():
            names = ", ".join(columns)
            wanted = {tuple(map(_plain, row.values())) for row in conn.execute(f"select {names} from retail.{entity}")}
            rows = lakehouse.dremio.sql(f"SELECT {names} FROM lakehouse.serving.{entity}")
            served = [tuple(map(_plain, row.values())) for row in rows]
            if len(served) != len(set(served)):
                found.append(f"{entity}: {len(served) - len(set(served))} rows twice")
            if set(served) != wanted:
                found.append(f"{entity}: {sorted(wanted ^ set(served))[:6]}")
    return found


def _plain(value: Any) -> str:
    """Text as silver has it, and money in cents whoever wrote its digits."""
    return f"{Decimal(str(value)):.2f}" if isinstance(value, float | Decimal) else str(value).strip().upper()


@pytest.fixture(scope="module")
def united(platform: Any, first_run: str) -> Iterator[Any]:
    """The platform with both lanes: a log that has its snapshot, and serving views over it."""
    platform.airflow.wait_for_dag(SPEED)
    platform.airflow.unpause(SPEED)
    try:
        until("a green run of the speed lane", lambda: _ended_well(platform), lambda: platform.airflow.runs(SPEED))
        platform.green()
        yield platform
    finally:
        platform.airflow.pause(SPEED)


def _ended_well(lakehouse: Any) -> list[str]:
    return [run["dag_run_id"] for run in lakehouse.airflow.runs(SPEED) if run["state"] == "success"]


def test_changes_are_served_as_the_source_has_them(united: Any) -> None:
    before = status(united)
    assert {row["mode"] for row in before.values()} <= UNITED
    counts = Traffic(united.endpoints.source.dsn("retail"), rate=200).run(15)
    assert min(counts.inserted, counts.updated, counts.deleted) > 0
    with united.source() as conn:
        (row,) = conn.execute("select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint as lsn").fetchall()
    until(
        "the log's position after the traffic",
        lambda: all(int(view["applied_lsn"]) >= row["lsn"] for view in status(united).values()),
        lambda: (row, status(united), united.why(united.airflow.runs(SPEED)[0]["dag_run_id"], SPEED)),
    )
    assert differences(united) == []


def test_a_fold_changes_no_answer(united: Any) -> None:
    watermarks = {entity: row["watermark"] for entity, row in status(united).items()}
    Traffic(united.endpoints.source.dsn("retail"), rate=200, seed=2).run(5)
    united.green()
    after = status(united)
    assert {row["mode"] for row in after.values()} <= UNITED
    assert all(int(after[entity]["watermark"]) > int(watermarks[entity]) for entity in CHANGING)
    assert differences(united) == []


def test_a_run_that_misses_its_deadline_tells_somebody_and_the_lane_goes_on(united: Any) -> None:
    """A replication server that hangs: nothing fails, so only the deadline says that readers see old rows."""
    told = len(united.alerts())
    pid = united.stack.pid("replication")
    os.kill(pid, signal.SIGSTOP)
    try:
        run_id = united.airflow.trigger(SPEED)
        (alert,) = until(
            "an alert that the run is late",
            lambda: [one for one in united.alerts()[told:] if one["kind"] == "deadline_missed"],
            lambda: (united.alerts()[told:], united.airflow.run(SPEED, run_id)),
        )
    finally:
        os.kill(pid, signal.SIGCONT)
    assert alert["dag_id"] == SPEED
    Traffic(united.endpoints.source.dsn("retail"), rate=200, seed=3).run(2)
    united.green(SPEED)
    assert differences(united) == []
