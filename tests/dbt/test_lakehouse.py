"""The dbt project on a real lake: from the first build through late, wrong and lost data. One story, told in order."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from embedded.demo.source import stage

GOLD = {
    "daily_revenue": "order_date, department",
    "product_performance": "order_month, product_id",
    "store_performance": "order_month, store_id",
    "basket_analysis": "order_month, category_a, category_b",
    "customer_lifetime_value": "household_id",
    "campaign_effect": "campaign_id",
    "basket_departments": "order_id, department",
    "cohort_retention": "cohort_month, month_number",
    "promotion_lift": "department, promotion_kind, placement",
}
SILVER = {
    "households": "household_id",
    "stores": "store_id",
    "products": "product_id",
    "orders": "order_id",
    "order_items": "order_item_id",
    "campaigns": "campaign_id",
    "campaign_households": "campaign_id, household_id",
    "coupons": "coupon_upc, product_id, campaign_id",
    "coupon_redemptions": "redemption_id",
    "promotions": "promotion_id",
}
MARCH = {"run_mode": "backfill", "interval_start": "2017-03-01T00:00:00+00:00", "interval_end": "2017-04-01T00:00:00Z"}


@pytest.fixture(scope="module")
def lake(empty_lake):
    """One lake for all tests of this file, in their order."""
    return empty_lake


@pytest.fixture(scope="module")
def source():
    """The history as the source has it, in DuckDB."""
    with stage("tiny") as con:
        yield con


def rows_of(source: Any, stream: str, where: str = "true") -> pa.Table:
    return source.execute(f"from stage_{stream} where {where}").to_arrow_table()


def with_values(row: pa.Table, **values: Any) -> pa.Table:
    for name, value in values.items():
        at = row.column_names.index(name)
        row = row.set_column(at, name, pa.array([value] * row.num_rows, pa.scalar(value).type).cast(row[name].type))
    return row


def gold_content(dremio: Any) -> dict[str, Any]:
    return {table: dremio.content(f"lake.gold.{table}", order) for table, order in GOLD.items()}


def versions(dremio: Any) -> dict[str, int]:
    tables = [f"lake.silver.{t}" for t in SILVER] + [f"lake.gold.{t}" for t in GOLD]
    return {table: dremio.snapshots(table) for table in tables}


def test_first_build_is_green(lake, source):
    """All streams once, and what a real bronze holds besides: a failed sync, repeated rows, an old generation."""
    for stream in SILVER:
        everything = rows_of(source, stream)
        if stream == "stores":
            lake.sync(stream, with_values(everything, store_id=-1), generation=1)
            lake.sync(stream, everything, generation=2)
        elif stream == "campaigns":
            lake.sync(stream, everything, generation=1)
        else:
            lake.sync(stream, everything)
    lake.sync("order_items", with_values(rows_of(source, "order_items").slice(0, 5), sales_value=Decimal("999.99")))
    wrong = with_values(rows_of(source, "order_items"), quantity=99)
    lake.sync("order_items", wrong, status="failed")
    lake.sync("order_items", wrong, status="cancelled")
    lake.refresh()
    lake.sync("orders", rows_of(source, "orders").slice(0, 10))  # not seen before the next refresh
    # Undo the five wrong lines: a later version with the right money.
    lake.sync("order_items", rows_of(source, "order_items").slice(0, 5))
    lake.refresh(["order_items"])
    lake.build("--select", "tag:bronze", "tag:silver")
    lake.build("--select", "tag:gold")


def test_silver_has_every_key_and_every_cent(dremio, source):
    for table in SILVER:
        wanted = source.execute(f"select count(*) from stage_{table}").fetchall()[0][0]
        assert dremio.one(f"select count(*) from lake.silver.{table}") == wanted, table
    for column in ("sales_value", "retail_disc", "coupon_disc", "coupon_match_disc"):
        wanted = source.execute(f"select sum({column}) from stage_order_items").fetchall()[0][0]
        assert Decimal(str(dremio.one(f"select sum({column}) from lake.silver.order_items"))) == wanted, column


def test_quarantine_is_what_the_rules_say(dremio, source):
    found = dremio.sql(
        "select _quarantine_reason as reason, count(*) as n from lake.silver.order_items "
        "where _quarantine_reason is not null group by _quarantine_reason"
    )
    wanted = source.execute(
        "select case when sales_value > 0 then 'value_without_quantity' else 'empty_line' end as reason, count(*) as n "
        "from stage_order_items where quantity = 0 "
        "and (sales_value > 0 or (retail_disc = 0 and coupon_disc = 0 and coupon_match_disc = 0)) group by 1"
    ).fetchall()
    assert {row["reason"]: row["n"] for row in found} == dict(wanted)
    assert len(wanted) == 2


def test_gold_equals_sql_on_the_source(dremio, source):
    good = "not (quantity = 0 and (sales_value > 0 or retail_disc + coupon_disc + coupon_match_disc = 0))"
    wanted = source.execute(
        "select strftime(ordered_at, '%Y-%m-%d') as day, upper(coalesce(department, 'UNKNOWN')) as department, "
        "count(*), count(distinct order_id), sum(sales_value) "
        f"from stage_order_items left join stage_products using (product_id) where {good} group by 1, 2 order by 1, 2"
    ).fetchall()
    found = dremio.sql(
        "select order_date, department, order_lines, orders, revenue from lake.gold.daily_revenue order by 1, 2"
    )
    assert [(*list(row.values())[:4], Decimal(str(row["revenue"]))) for row in found] == wanted
    best = source.execute(
        f"select household_id, sum(sales_value) from stage_order_items join stage_orders using (order_id) where {good} "
        "group by 1 order by 2 desc, 1 limit 5"
    ).fetchall()
    found = dremio.sql(
        "select household_id, revenue from lake.gold.customer_lifetime_value "
        "order by revenue desc, household_id limit 5"
    )
    assert [(row["household_id"], Decimal(str(row["revenue"]))) for row in found] == best


def test_basket_pairs_equal_a_brute_force_count(dremio, source):
    wanted = source.execute(
        """
        with c as (
            select distinct order_id, product_category from stage_order_items join stage_products using (product_id)
            where strftime(ordered_at, '%Y-%m') = '2017-05'
              and not (quantity = 0 and (sales_value > 0 or retail_disc + coupon_disc + coupon_match_disc = 0))
        )
        select count(*) from c as a join c as b using (order_id)
        where a.product_category = 'FLUID MILK PRODUCTS' and b.product_category = 'SOFT DRINKS'
        """
    ).fetchall()[0][0]
    (found,) = dremio.sql(
        "select * from lake.gold.basket_analysis where order_month = date '2017-05-01' "
        "and category_a = 'FLUID MILK PRODUCTS' and category_b = 'SOFT DRINKS'"
    )
    assert found["baskets_both"] == wanted > 20
    expected = found["baskets_both"] * found["baskets_total"] / (found["baskets_a"] * found["baskets_b"])
    assert found["lift"] == pytest.approx(expected, abs=1e-6)


def test_every_column_is_documented(lake, dremio):
    """The documented columns are what Airflow publishes: a column without a line in the YAML would stay hidden."""
    manifest = json.loads((lake.target / "manifest.json").read_text(encoding="utf-8"))
    for node in manifest["nodes"].values():
        if node["resource_type"] != "model" or "serving" in node["tags"]:
            continue
        assert node["description"], node["name"]
        assert all(column["description"] for column in node["columns"].values()), node["name"]
        if "retail" not in node["tags"]:
            continue  # not built here
        place = f"{node['database']}.{node['schema']}"
        found = dremio.sql(
            "select column_name as name from information_schema.columns "
            f"where table_schema = '{place}' and table_name = '{node['alias']}' order by ordinal_position"
        )
        assert [row["name"] for row in found] == list(node["columns"]), node["name"]


@pytest.mark.faults
def test_second_build_commits_nothing(lake, dremio):
    lake.refresh()  # the ten repeated orders: versions that silver has, of a newer sync
    lake.build("--resource-type", "model", "--select", "orders+")
    before, versions_before = gold_content(dremio), versions(dremio)
    done = lake.build("--resource-type", "model")
    assert versions(dremio) == versions_before
    assert gold_content(dremio) == before
    assert done["daily_revenue"] == ("success", "PERIODS 0")
    assert done["order_items"] == ("success", "MERGE 0")


@pytest.mark.faults
def test_backfill_of_a_past_month_twice_changes_nothing(lake, dremio):
    before, silver = gold_content(dremio), dremio.content("lake.silver.order_items", "order_item_id")
    for _ in range(2):
        done = lake.build("--select", "order_items", "sales_lines", "tag:gold", "--resource-type", "model", **MARCH)
        assert done["daily_revenue"] == ("success", "PERIODS 31")
        assert done["store_performance"] == ("success", "PERIODS 1")
        assert done["order_items"] == ("success", "MERGE 0")
        assert gold_content(dremio) == before
    assert dremio.content("lake.silver.order_items", "order_item_id") == silver


@pytest.mark.faults
def test_backfill_repairs_its_interval_from_bronze(lake, dremio):
    before = gold_content(dremio)
    dremio.sql("update lake.silver.order_items set sales_value = 0 where ordered_at < timestamp '2017-03-05 00:00:00'")
    done = lake.build("--select", "order_items", "sales_lines", "daily_revenue", "--resource-type", "model", **MARCH)
    assert done["order_items"][1].startswith("MERGE ")
    february = [row for row in before["daily_revenue"] if row["order_date"] < "2017-03-01"]
    march = [row for row in before["daily_revenue"] if row["order_date"] >= "2017-03-01"]
    found = dremio.content("lake.gold.daily_revenue", GOLD["daily_revenue"])
    assert [row for row in found if row["order_date"] >= "2017-03-01"] == march
    assert [row for row in found if row["order_date"] < "2017-03-01"] != february
    lake.build("--resource-type", "model", "--select", "order_items+", full_rebuild="true")
    assert gold_content(dremio) == before


@pytest.mark.faults
def test_late_corrected_and_orphaned_rows(lake, dremio, source):
    before = gold_content(dremio)
    line = rows_of(source, "order_items", "quantity = 1 and sales_value = 1").slice(0, 1)
    day = line["ordered_at"][0].as_py()
    key = line["order_item_id"][0].as_py()
    newer, older = (pc.add(line["updated_at"], pa.scalar(s * 10**9, pa.duration("ns"))) for s in (3600, -3600))
    at = line.column_names.index("updated_at")
    corrected = with_values(line, sales_value=Decimal("5.00")).set_column(at, "updated_at", newer)
    late = with_values(line, sales_value=Decimal("77.00")).set_column(at, "updated_at", older)
    with stage("tiny", live=True) as con:
        orders = con.execute("from stage_orders limit 3").to_arrow_table()
        ids = ", ".join(str(order) for order in orders["order_id"].to_pylist())
        items = con.execute(f"from stage_order_items where order_id in ({ids})").to_arrow_table()
    lake.sync("order_items", corrected)
    lake.sync("order_items", late)
    lake.sync("order_items", items)  # their orders follow with the next sync
    lake.refresh()
    select = ("--select", "orders", "order_items", "sales_lines", "daily_revenue")
    done = lake.build(*select)
    assert dremio.one(f"select sales_value from lake.silver.order_items where order_item_id = {key}") == 5.0
    orphans = "select count(*) from lake.silver.order_items where _quarantine_reason = 'orphan_order'"
    assert dremio.one(orphans) == items.num_rows
    assert done["daily_revenue"] == ("success", "PERIODS 1")
    found = dremio.content("lake.gold.daily_revenue", GOLD["daily_revenue"])
    changed = [row for row in found if row not in before["daily_revenue"]]
    assert {row["order_date"] for row in changed} == {f"{day:%Y-%m-%d}"}

    lake.sync("orders", orders)
    lake.refresh(["orders"])
    lake.build("--resource-type", "model", "--select", "orders+")
    assert dremio.one(orphans) == 0
    incremental = gold_content(dremio)
    lake.build("--resource-type", "model", "--select", "orders+", full_rebuild="true")
    assert gold_content(dremio) == incremental


def test_a_run_that_died_heals(lake, dremio):
    """Killed between DELETE and INSERT, and before it dropped its temporary table."""
    before = gold_content(dremio)
    dremio.sql("delete from lake.gold.store_performance where order_month = date '2017-06-01'")
    dremio.sql("create table lake.gold.store_performance__tmp_20170101000000_deadbeef as select 1 as one")
    dremio.sql("create table lake.gold.store_performance__tmp_20990101000000_deadbeef as select 1 as one")
    done = lake.build("--select", "store_performance")
    assert done["store_performance"] == ("success", "PERIODS 1")
    assert gold_content(dremio) == before
    left = dremio.sql(
        "select table_name as name from information_schema.\"tables\" where table_name like '%!_!_tmp%' escape '!'"
    )
    assert [row["name"] for row in left] == ["store_performance__tmp_20990101000000_deadbeef"]
    dremio.sql("drop table lake.gold.store_performance__tmp_20990101000000_deadbeef")


def test_a_new_column_is_added_without_a_drop(lake, dremio):
    before = dremio.content("lake.silver.households", "household_id")
    count = dremio.snapshots("lake.silver.households")
    dremio.sql("alter table lake.silver.households drop column has_kids")
    lake.build("--select", "households", "--resource-type", "model", full_rebuild="true")
    found = dremio.content("lake.silver.households", "household_id")
    assert [dict(sorted(row.items())) for row in found] == [dict(sorted(row.items())) for row in before]
    assert dremio.snapshots("lake.silver.households") > count


def test_a_failing_data_test_fails_the_build(lake, dremio):
    """Somebody edits silver by hand: money without a quantity that no rule caught. The build is red and says which."""
    dremio.sql(
        "insert into lake.gold.campaign_effect (campaign_id, duration_days, targeted_households, redemptions, "
        "redeemed_coupons, redeeming_households, revenue_before, revenue_during) values (1, 1, 1, 0, 1, 1, 0, 0)"
    )
    done = lake.dbt("test", "--select", "campaign_effect", "--exclude-resource-type", "unit_test", ok=False)
    assert {name.split(".")[0] for name, result in done.items() if name and result[0] == "fail"} == {
        "is_key_campaign_effect_campaign_id",
        "campaign_effect_hold_their_rules",
    }
    dremio.sql("delete from lake.gold.campaign_effect where campaign_id = 1")
    lake.build("--select", "campaign_effect")


@pytest.mark.faults
def test_expired_bronze_fails_the_backfill_that_needs_it(lake, dremio):
    before = dremio.content("lake.silver.orders", "order_id")
    gone = lake.s3.list_objects_v2(Bucket="lakehouse", Prefix="bronze/retail/orders/")["Contents"]
    lake.s3.delete_object(Bucket="lakehouse", Key=gone[0]["Key"])
    lake.refresh(["orders"])
    done = lake.build("--select", "orders", ok=False, **MARCH)
    assert done["orders"][0] == "error"
    assert "orders: bronze no longer holds" in done["orders"][1]
    assert "2017-03-01 00:00:00, 2017-04-01 00:00:00) UTC: it has expired" in done["orders"][1]
    done = lake.build("--select", "orders", "--resource-type", "model", ok=False, full_rebuild="true")
    assert "a full rebuild would delete" in done["orders"][1]
    assert dremio.content("lake.silver.orders", "order_id") == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"run_mode": "sometimes"}, "run_mode must be 'scheduled' or 'backfill'"),
        ({**MARCH, "interval_end": "2017-04-01T00:00:00"}, "has no zone"),
    ],
)
def test_wrong_settings_say_what_to_mend(lake, settings, message):
    done = lake.build("--select", "coupon_redemptions", "--resource-type", "model", ok=False, **settings)
    assert message in done["coupon_redemptions"][1]
