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


def test_purchases_corrections_cancellations_and_deletions(source_postgres):
    dsn = source_postgres.dsn("retail")
    source.load(dsn, "tiny", lambda line: None)
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

    again = Traffic(dsn, rate=1_000_000).run(seconds=5)
    assert again.inserted < counts.inserted, "what is there is not bought again"
