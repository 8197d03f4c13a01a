"""Live traffic: the four weeks held back from the sample, as transactions of the retailer's till.

    python -m embedded demo-traffic --rate 50

Most transactions are a basket: its order and its lines. Between them stand a corrected line, a cancelled basket (order
and lines deleted), a new household's answer, a redeemed coupon and one that is taken back. Times of change are now;
what was bought keeps its time of 2017. Stopped and started again it goes on after the last basket: how many were
replayed stands in the source, and commits with the basket, since a cancelled one leaves no row to tell it by.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from embedded.demo.source import SCHEMA, TRAFFIC, SourceError, loaded_scale, stage

Row = dict[str, Any]
Session = psycopg.Connection[Any]
Basket = tuple[Row, list[Row], list[Row]]  # order, lines and redemptions of its household and day

CORRECTIONS, CANCELLATIONS, TAKEN_BACK, ANSWERS = 0.15, 0.04, 0.02, 0.04  # per basket
AGES = ("19-24", "25-34", "35-44", "45-54", "55-64", "65+")
BATCH = 500  # baskets whose lines are read from the sample at once


@dataclass
class Counts:
    """Row changes and transactions so far."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    transactions: int = 0

    @property
    def changes(self) -> int:
        return self.inserted + self.updated + self.deleted


@dataclass
class Traffic:
    """Changes of one source. `seed` decides which rows are corrected and cancelled."""

    dsn: str = field(repr=False)
    rate: float
    seed: int = 1
    counts: Counts = field(default_factory=Counts)

    def run(self, seconds: float | None = None, report: Callable[[Counts], None] | None = None) -> Counts:
        """Until the held-back weeks are over, or for `seconds`. Raises SourceError when no sample is loaded."""
        chance = random.Random(self.seed)
        began = told = time.monotonic()
        with psycopg.connect(self.dsn, autocommit=True) as session:
            scale = loaded_scale(session)
            if scale is None:
                raise SourceError("no sample is loaded; run `make demo`, or `python -m embedded.demo.source load`")
            done = _replayed(session)
            for number, basket in enumerate(_baskets(scale, done), start=done + 1):
                self._transact(session, chance, basket, number)
                now = time.monotonic()
                if report is not None and now - told >= 5:
                    told = now
                    report(self.counts)
                if seconds is not None and now - began >= seconds:
                    break
                ahead = self.counts.changes / self.rate - (now - began)
                if ahead > 0:
                    time.sleep(ahead)
        return self.counts

    def _transact(self, session: Session, chance: random.Random, basket: Basket, number: int) -> None:
        order, lines, redemptions = basket
        with session.transaction():
            self.counts.inserted += _insert(session, "orders", [order])
            self.counts.inserted += _insert(session, "order_items", lines)
            self.counts.inserted += _insert(session, "coupon_redemptions", redemptions)
            session.execute(_REMEMBER, [number])
        self.counts.transactions += 1
        if lines and chance.random() < CORRECTIONS:
            self._one(session, _CORRECT, [chance.randint(1, 99), chance.choice(lines)["order_item_id"]], "updated")
        if chance.random() < ANSWERS:
            self._one(session, _ANSWER, [chance.choice(AGES), order["household_id"]], "updated")
        if redemptions and chance.random() < TAKEN_BACK / max(len(redemptions), 1) + 0.1:
            self._one(session, _TAKE_BACK, [redemptions[0]["redemption_id"]], "deleted")
        if chance.random() < CANCELLATIONS:
            with session.transaction():
                self.counts.deleted += session.execute(_CANCEL_LINES, [order["order_id"]]).rowcount
                self.counts.deleted += session.execute(_CANCEL, [order["order_id"]]).rowcount
            self.counts.transactions += 1

    def _one(self, session: Session, statement: str, values: list[Any], kind: str) -> None:
        """A transaction of one statement."""
        done = session.execute(statement.encode(), values).rowcount
        setattr(self.counts, kind, getattr(self.counts, kind) + done)
        self.counts.transactions += 1


_CORRECT = (
    "update retail.order_items set sales_value = sales_value + %s * 0.01, updated_at = clock_timestamp() "
    "where order_item_id = %s"
)
_ANSWER = "update retail.households set age_range = %s, updated_at = clock_timestamp() where household_id = %s"
_TAKE_BACK = "delete from retail.coupon_redemptions where redemption_id = %s"
_CANCEL_LINES = b"delete from retail.order_items where order_id = %s"
_CANCEL = b"delete from retail.orders where order_id = %s"


_TABLE = sql.Identifier(*TRAFFIC)
_REMEMBER = sql.SQL("update {} set baskets = %s").format(_TABLE)


def _replayed(session: Session) -> int:
    """How many baskets were replayed; makes the table that remembers it."""
    with session.transaction():
        session.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(TRAFFIC[0])))
        session.execute(sql.SQL("create table if not exists {} (baskets bigint not null)").format(_TABLE))
        _keep_private(session)
        row = session.execute(sql.SQL("select baskets from {}").format(_TABLE)).fetchone()
        if row is None:
            session.execute(sql.SQL("insert into {} values (0)").format(_TABLE))
    return int(row[0]) if row else 0


_GRANTEES = """
select distinct pg_get_userbyid(x.grantee) as name
from (
    select nspacl, nspowner from pg_namespace where nspname = %s
    union all select relacl, relowner from pg_class where oid = %s::regclass
) as made (acl, owner) cross join aclexplode(made.acl) as x
where x.grantee <> made.owner and x.grantee <> 0
"""


def _keep_private(session: Session) -> None:
    """Whoever may read what the owner makes later (a default privilege) means the retailer's tables, not this one."""
    for (name,) in session.execute(_GRANTEES, [TRAFFIC[0], ".".join(TRAFFIC)]).fetchall():
        role = sql.Identifier(name)
        session.execute(sql.SQL("revoke all on schema {} from {}").format(sql.Identifier(TRAFFIC[0]), role))
        session.execute(sql.SQL("revoke all on table {} from {}").format(_TABLE, role))


def _insert(session: Session, table: str, rows: list[Row]) -> int:
    """Rows that are there already are left as they are."""
    if not rows:
        return 0
    names = list(rows[0])
    statement = sql.SQL("insert into {} ({}) values ({}) on conflict do nothing").format(
        sql.Identifier(SCHEMA, table),
        sql.SQL(", ").join(map(sql.Identifier, names)),
        sql.SQL(", ").join(
            sql.SQL("clock_timestamp()") if name in ("created_at", "updated_at") else sql.Placeholder(name)
            for name in names
        ),
    )
    with session.cursor() as cursor:
        cursor.executemany(statement, rows)
        return cursor.rowcount


def _baskets(scale: str, done: int) -> Iterator[Basket]:
    """By time of purchase, without the first `done`; a day's redemptions come with its household's first basket."""
    with stage(scale, live=True) as con:
        redeemed: dict[tuple[Any, Any], list[Row]] = {}
        for row in _rows(con.execute("from stage_coupon_redemptions")):
            redeemed.setdefault((row["household_id"], row["redeemed_on"]), []).append(row)
        orders = list(_rows(con.execute("from stage_orders order by ordered_at, order_id")))
        for order in orders[:done]:
            redeemed.pop(_household_day(order), None)
        for start in range(done, len(orders), BATCH):
            chosen = orders[start : start + BATCH]
            ids = ", ".join(str(int(order["order_id"])) for order in chosen)
            lines: dict[Any, list[Row]] = {}
            for row in _rows(con.execute(f"from stage_order_items where order_id in ({ids}) order by order_item_id")):
                lines.setdefault(row["order_id"], []).append(row)
            for order in chosen:
                yield order, lines.get(order["order_id"], []), redeemed.pop(_household_day(order), [])


def _household_day(order: Row) -> tuple[Any, Any]:
    return order["household_id"], order["ordered_at"].date()


def _rows(result: Any) -> Iterator[Row]:
    names = [column[0] for column in result.description or []]
    return (dict(zip(names, values, strict=True)) for values in result.fetchall())
