"""The batch lane through real Airflow: exact, repeatable, safe for readers, red when it must be."""

from __future__ import annotations

import datetime as dt
import os
import threading
import time
from decimal import Decimal
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(4000)]

# `make soak-backfill` takes a whole month.
FIRST_DAY = dt.datetime(2017, 3, 1, 2, tzinfo=dt.UTC)
DAYS = int(os.environ.get("LAKEHOUSE_TEST_BACKFILL_DAYS", "2"))
SILVER_KEYS = {
    "households": "household_id",
    "products": "product_id",
    "stores": "store_id",
    "campaigns": "campaign_id",
    "orders": "order_id",
    "order_items": "order_item_id",
    "coupon_redemptions": "redemption_id",
    "promotions": "promotion_id",
}


class Reader:
    """Reads one gold view over and over; keeps every answer and every error."""

    def __init__(self, lakehouse: Any) -> None:
        lakehouse.refresh_endpoints()
        self._dremio = lakehouse.dremio
        self.answers: set[tuple[Any, ...]] = set()
        self.errors: list[str] = []
        self.reads = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def _read(self) -> None:
        query = "SELECT COUNT(*) AS n, SUM(revenue) AS revenue, SUM(units) AS units FROM lakehouse.gold.daily_revenue"
        while not self._stop.wait(0.05):
            try:
                self.answers.add(tuple(map(str, self._dremio.sql(query)[0].values())))
                self.reads += 1
            except Exception as error:
                self.errors.append(str(error))

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()


def test_every_count_and_every_cent_reconciles(lakehouse: Any, first_run: str) -> None:
    receipt = lakehouse.airflow.xcom("retail_batch", first_run, "receipt")
    assert {line["stream"] for line in receipt["streams"]} >= set(SILVER_KEYS)
    with lakehouse.source() as conn:
        for line in receipt["streams"]:
            (there,) = conn.execute(f"select count(*) as n from retail.{line['stream']}").fetchall()
            silver = receipt["layers"]["silver"][line["stream"]]
            counted = (line["source_rows"], line["bronze_keys"], silver["rows"] + silver["quarantined"])
            assert counted == (there["n"],) * 3, line["stream"]
        (money,) = conn.execute("select sum(sales_value) as amount from retail.order_items").fetchall()
    good = lakehouse.dremio.sql("SELECT SUM(sales_value) AS amount FROM lakehouse.silver.order_items")[0]["amount"]
    bad = lakehouse.dremio.sql("SELECT SUM(sales_value) AS amount FROM lakehouse.silver.order_items_quarantine")
    assert Decimal(str(good)) + Decimal(str(bad[0]["amount"] or 0)) == money["amount"]
    gold = lakehouse.dremio.sql("SELECT SUM(revenue) AS amount FROM lakehouse.gold.daily_revenue")[0]["amount"]
    assert Decimal(str(gold)) == Decimal(str(good))


def test_no_key_stands_twice_in_silver(lakehouse: Any) -> None:
    for view, key in SILVER_KEYS.items():
        row = lakehouse.dremio.sql(f"SELECT COUNT(*) AS n, COUNT(DISTINCT {key}) AS k FROM lakehouse.silver.{view}")[0]
        assert row["n"] == row["k"] > 0, view


def test_a_dashboard_query_is_answered_by_a_reflection(lakehouse: Any) -> None:
    _, job = lakehouse.dremio.job("SELECT SUM(revenue) FROM lakehouse.gold.daily_revenue")
    chosen = [r for r in job["acceleration"]["reflectionRelationships"] if r["relationship"] == "CHOSEN"]
    assert chosen, job


def syncs_of(lakehouse: Any, run_id: str) -> int:
    with lakehouse.ledger() as conn:
        row = conn.execute("select count(*) as n from lakehouse.sync_ledger where dag_run like %s", [run_id]).fetchone()
    return int(row["n"])


@pytest.mark.faults
@pytest.mark.timeout(0)
def test_a_second_run_and_a_backfill_twice_leave_gold_as_it_is_and_readers_undisturbed(lakehouse: Any) -> None:
    before = lakehouse.gold()
    with Reader(lakehouse) as reader:
        run_id = lakehouse.green()
    assert reader.errors == []
    assert len(reader.answers) == 1
    assert reader.reads > 10
    assert lakehouse.gold() == before
    assert syncs_of(lakehouse, run_id) == 3
    first, last = (day.isoformat() for day in (FIRST_DAY, FIRST_DAY + dt.timedelta(days=DAYS - 1)))
    for _ in range(2):
        assert lakehouse.backfill(first, last) == ["success"] * DAYS
        assert lakehouse.gold() == before
    test_no_key_stands_twice_in_silver(lakehouse)
    assert syncs_of(lakehouse, "backfill%") == 0, "a backfill must not touch the source"
    # The second backfill clears the first one's runs: a layer is one dbt process then too, and not one for each model.
    again = next(run["dag_run_id"] for run in lakehouse.airflow.runs("retail_batch") if run["run_type"] == "backfill")
    log = lakehouse.airflow.log("retail_batch", again, "gold.daily_revenue.run", 2)
    assert "Pulling status" in log
    assert "Retry attempt" not in log


@pytest.mark.faults
def test_a_correction_at_the_source_arrives_and_readers_see_only_before_or_after(lakehouse: Any) -> None:
    query = "SELECT SUM(revenue) AS amount FROM lakehouse.gold.daily_revenue"
    before = Decimal(str(lakehouse.dremio.sql(query)[0]["amount"]))
    with lakehouse.source() as conn:
        (item,) = conn.execute(
            "update retail.order_items set sales_value = sales_value + 1.23, updated_at = now() "
            "where order_item_id = (select min(order_item_id) from retail.order_items "
            "where sales_value > 1 and quantity between 1 and 5) returning order_item_id"
        ).fetchall()
    with Reader(lakehouse) as reader:
        lakehouse.green()
    assert reader.errors == []
    assert len(reader.answers) <= 2, reader.answers
    assert Decimal(str(lakehouse.dremio.sql(query)[0]["amount"])) == before + Decimal("1.23")
    found = lakehouse.dremio.sql(
        f"SELECT COUNT(*) AS n FROM lakehouse.silver.order_items WHERE order_item_id = {item['order_item_id']}"
    )
    assert found == [{"n": 1}]


@pytest.mark.faults
def test_a_failing_data_test_keeps_the_last_gold_up_the_run_red_and_tells_somebody(lakehouse: Any) -> None:
    before, told = lakehouse.gold(), len(lakehouse.alerts())
    with lakehouse.source() as conn:
        (right,) = conn.execute("select campaign_type from retail.campaigns where campaign_id = 1").fetchall()
        conn.execute("update retail.campaigns set campaign_type = 'Type Z' where campaign_id = 1")
    with Reader(lakehouse) as reader:
        run_id, state = lakehouse.run()
    assert state == "failed"
    assert any("campaigns" in task for task in lakehouse.failed_tasks(run_id))
    assert (reader.errors, len(reader.answers)) == ([], 1)
    assert lakehouse.gold() == before
    with lakehouse.ledger() as conn:
        marks = conn.execute("select distinct stale, reason from lakehouse.dataset_status").fetchall()
    assert marks == [{"stale": True, "reason": f"run {run_id} failed"}]
    end = time.monotonic() + 60
    while not any(alert["run_id"] == run_id for alert in lakehouse.alerts()[told:]):
        assert time.monotonic() < end, "no alert arrived"
        time.sleep(0.5)
    with lakehouse.source() as conn:
        conn.execute("update retail.campaigns set campaign_type = %s where campaign_id = 1", [right["campaign_type"]])
    lakehouse.green()
    with lakehouse.ledger() as conn:
        marks = conn.execute("select distinct stale from lakehouse.dataset_status").fetchall()
    assert marks == [{"stale": False}]


@pytest.mark.faults
def test_a_reflection_that_cannot_be_refreshed_fails_the_run_with_its_reason(lakehouse: Any) -> None:
    reason = "the distributed store is full"
    lakehouse.dremio.inject({"refresh_failures": {"count": 20, "reason": reason}})
    run_id, state = lakehouse.run()
    assert state == "failed"
    failed = lakehouse.failed_tasks(run_id)
    assert list(failed) == ["refresh_reflections"]
    assert reason in failed["refresh_reflections"]
    lakehouse.dremio.inject(None)
    lakehouse.green()


def test_new_files_are_invisible_until_the_metadata_is_refreshed(lakehouse: Any) -> None:
    query = "SELECT COUNT(*) AS n FROM bronze.retail.stores"
    before = lakehouse.dremio.sql(query)
    s3 = lakehouse.object_store()
    listed = s3.list_objects_v2(Bucket="lakehouse", Prefix="bronze/retail/stores/")["Contents"]
    copy = listed[0]["Key"].replace("_0.parquet", "_7.parquet")
    s3.copy_object(Bucket="lakehouse", Key=copy, CopySource={"Bucket": "lakehouse", "Key": listed[0]["Key"]})
    try:
        assert lakehouse.dremio.sql(query) == before
        lakehouse.dremio.sql("ALTER PDS bronze.retail.stores REFRESH METADATA")
        assert lakehouse.dremio.sql(query)[0]["n"] > before[0]["n"]
    finally:
        s3.delete_object(Bucket="lakehouse", Key=copy)
        lakehouse.dremio.sql("ALTER PDS bronze.retail.stores REFRESH METADATA")
    assert lakehouse.dremio.sql(query) == before
