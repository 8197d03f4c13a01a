"""Live traffic: real transactions of the held-back weeks, counted as they are, and never twice."""

from __future__ import annotations

import psycopg

from embedded.demo import source
from embedded.demo.traffic import Traffic

COUNTS = """
select (select count(*) from retail.orders), (select count(*) from retail.order_items),
       (select count(*) from retail.coupon_redemptions)
"""


def rows(dsn: str) -> tuple[int, ...]:
    with psycopg.connect(dsn) as conn:
        found = conn.execute(COUNTS).fetchone()
    assert found is not None
    return found


def anew(dsn: str) -> None:
    """Loads the sample, whatever is there."""
    with psycopg.connect(dsn) as conn:
        conn.execute("create schema if not exists retail")
        conn.execute("comment on schema retail is null")
    source.load(dsn, "tiny", lambda line: None)


def test_purchases_corrections_cancellations_and_deletions(source_postgres):
    dsn = source_postgres.dsn("retail")
    anew(dsn)
    before = rows(dsn)
    counts = Traffic(dsn, rate=1_000_000).run()
    after = rows(dsn)
    assert counts.inserted > 1000
    assert min(counts.updated, counts.deleted) > 0
    assert sum(after) - sum(before) == counts.inserted - counts.deleted
    with psycopg.connect(dsn) as conn:
        fresh = conn.execute(
            "select count(*) from retail.orders where updated_at > now() - interval '1 hour'"
        ).fetchone()
        late = conn.execute("select max(ordered_at)::text from retail.orders").fetchone()
    assert fresh == (after[0] - before[0],)
    assert late is not None
    assert late[0].startswith(("2017-12", "2018-01")), "what was bought keeps its time"

    again = Traffic(dsn, rate=1_000_000).run()
    assert again.transactions == 0, "nothing is bought, corrected or cancelled again"
    assert rows(dsn) == after


def test_stopped_after_any_basket_it_goes_on_with_the_next(source_postgres):
    dsn = source_postgres.dsn("retail")
    anew(dsn)
    with psycopg.connect(dsn, autocommit=True) as conn:
        bought = []
        for _ in range(3):
            assert Traffic(dsn, rate=1_000_000).run(seconds=0).inserted > 0
            newest = conn.execute("select order_id from retail.orders order by updated_at desc limit 1").fetchone()
            conn.execute("delete from retail.order_items where order_id = %s", newest)
            conn.execute("delete from retail.orders where order_id = %s", newest)
            bought.append(newest)
        assert len(set(bought)) == 3, "a basket that was cancelled is not bought anew"
        replayed = conn.execute("select baskets from demo.traffic").fetchall()
        assert replayed == [(3,)]
        anew(dsn)
        Traffic(dsn, rate=1_000_000).run(seconds=0)
        first = conn.execute("select order_id from retail.orders order by updated_at desc limit 1").fetchone()
    assert first == bought[0], "a source that is loaded anew has had no traffic"


def test_nobody_is_given_the_table_that_remembers(source_postgres):
    """The platform's policy lets roles read what the owner makes later; an undeclared grant would be drift."""
    dsn = source_postgres.dsn("retail")
    anew(dsn)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("drop schema if exists demo cascade")
        conn.execute("alter default privileges grant select on tables to airbyte")
        conn.execute("alter default privileges grant usage on schemas to airbyte")
        try:
            Traffic(dsn, rate=1_000_000).run(seconds=0)
            granted = conn.execute(
                "select has_schema_privilege('airbyte', 'demo', 'usage'), "
                "has_table_privilege('airbyte', 'demo.traffic', 'select')"
            ).fetchone()
        finally:
            conn.execute("alter default privileges revoke select on tables from airbyte")
            conn.execute("alter default privileges revoke usage on schemas from airbyte")
    assert granted == (False, False)
