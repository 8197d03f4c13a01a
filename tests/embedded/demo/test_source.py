"""The sample source: what each scale holds, that loading is atomic and idempotent, that keys and money are real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from decimal import Decimal

import psycopg
import pytest

from embedded.demo import source

TINY_ROWS = {
    "households": 100, "stores": 143, "products": 15_352, "campaigns": 27, "campaign_households": 274,
    "coupons": 22_140, "orders": 6_005, "order_items": 50_082, "coupon_redemptions": 60, "promotions": 38_910,
}  # fmt: skip


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def dsn(source_postgres) -> str:
    url = source_postgres.dsn("retail")
    source.load(url, "tiny", quiet)
    return str(url)


@pytest.fixture
def conn(dsn):
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


def test_tiny_holds_exactly_this(dsn):
    found = source.summary(dsn)
    assert {table: totals.rows for table, totals in found.items()} == TINY_ROWS
    assert found["order_items"].money == {
        "sales_value": Decimal("154416.83"),
        "retail_disc": Decimal("28323.89"),
        "coupon_disc": Decimal("678.63"),
        "coupon_match_disc": Decimal("89.79"),
    }


def test_money_is_what_the_package_sums_to(dsn):
    """Cents are rounded one by one; the package's doubles are off by 1e-15 at most, so the sum is the true one."""
    with source.stage("tiny") as con:
        total = con.execute("select round(sum(sales_value), 2)::decimal(12, 2) from chosen_purchases where week < 50")
        assert total.fetchall()[0][0] == source.summary(dsn)["order_items"].money["sales_value"]


def test_same_scale_twice_changes_nothing(dsn, conn):
    conn.execute("create table if not exists retail.witness as select 1 as one")
    lines: list[str] = []
    assert source.load(dsn, "tiny", lines.append) is False
    assert lines == ["source: scale tiny is loaded already"]
    conn.execute("drop table retail.witness")


def test_every_table_has_key_cursor_and_index(conn):
    without_key = conn.execute(
        "select c.relname from pg_class c where c.relnamespace = 'retail'::regnamespace and c.relkind = 'r' "
        "and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)"
    ).fetchall()
    assert without_key == []
    for table in source.TABLES:
        columns = dict(
            conn.execute(
                "select column_name, data_type from information_schema.columns "
                "where table_schema = 'retail' and table_name = %s and is_nullable = 'NO'",
                [table],
            ).fetchall()
        )
        assert columns["created_at"] == columns["updated_at"] == "timestamp with time zone", table
        indexes = [row[0] for row in conn.execute("select indexdef from pg_indexes where tablename = %s", [table])]
        assert any(index.endswith("(updated_at)") for index in indexes), table


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("update retail.order_items set quantity = -1", psycopg.errors.CheckViolation),
        ("update retail.order_items set sales_value = null", psycopg.errors.NotNullViolation),
        ("update retail.orders set household_id = -1", psycopg.errors.ForeignKeyViolation),
        ("delete from retail.orders", psycopg.errors.ForeignKeyViolation),
        ("insert into retail.stores select * from retail.stores", psycopg.errors.UniqueViolation),
        ("update retail.coupon_redemptions set campaign_id = -1", psycopg.errors.ForeignKeyViolation),
    ],
)
def test_the_schema_refuses(conn, statement, error):
    with pytest.raises(error):
        conn.execute(statement)


def test_the_last_four_weeks_are_held_back_and_derivable(conn):
    newest = conn.execute("select max(week), max(ordered_at)::text from retail.order_items").fetchone()
    assert newest == (49, "2017-12-04 02:15:05+00")
    assert conn.execute("select max(redeemed_on)::text from retail.coupon_redemptions").fetchone() < ("2017-12-04",)
    with source.stage("tiny", live=True) as con:
        live = con.execute("select min(ordered_at)::varchar, count(*) from stage_orders").fetchall()[0]
        assert live[0] >= "2017-12-04 05:00:00+00"
        assert live[1] + TINY_ROWS["orders"] == 6_503  # every basket of these households
        assert con.execute("select count(*) from stage_products").fetchall() == [(0,)]


def test_identifiers_do_not_depend_on_the_scale():
    with source.stage("tiny") as small, source.stage("default") as big:
        for table, key in (("order_items", "order_item_id"), ("coupon_redemptions", "redemption_id")):
            some = small.execute(f"from stage_{table} order by {key} limit 50").fetchall()
            keys = ", ".join(str(row[0]) for row in some)
            assert big.execute(f"from stage_{table} where {key} in ({keys}) order by {key}").fetchall() == some


def test_promotion_ids_are_unique_over_everything():
    with source.stage("full") as con:
        counted = con.execute("select count(*), count(distinct promotion_id) from stage_promotions where week < 4")
        rows, ids = counted.fetchall()[0]
        assert rows == ids > 1_000_000


def test_killed_half_way_leaves_the_old_load(dsn):
    before = source.summary(dsn)
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "embedded.demo.source", "load", "--scale", "default"],
        env={**os.environ, "LAKEHOUSE_SOURCE_DATABASE_URL": dsn},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.split()[0] == "order_items":
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert source.summary(dsn) == before
    assert source.load(dsn, "tiny", quiet) is False
