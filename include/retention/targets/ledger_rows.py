"""Rows of the ledger that nothing reads any more. What bronze, views or an open plan need stays whatever its age."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from include.retention.model import Item, Outcome, Survey
from include.retention.services import Services
from include.retention.targets.stored import days
from include.specs.reader import Node

_BATCH = 10_000
# What may go of a table: a condition on its rows, older than %(before)s.
_CUTS = {
    # The bronze views count the rows of succeeded syncs: those of the ledger must outlive them.
    "sync_ledger": (
        "age",
        "recorded_at < %(before)s and status <> 'succeeded' and job_id < (select max(newest.job_id) "
        "from lakehouse.sync_ledger as newest where newest.connection_id = t.connection_id)",
    ),
    "publications": (
        "age",
        "published_at < %(before)s and publication_id < (select max(newest.publication_id) "
        "from lakehouse.publications as newest where newest.dataset = t.dataset)",
    ),
    # The page of operations reads the newest runs.
    "receipts": (
        "receipts_age",
        "written_at < %(before)s and (dag_id, run_id) not in (select dag_id, run_id from (select dag_id, run_id, "
        "row_number() over (partition by dag_id order by written_at desc) as place from lakehouse.receipts) as r "
        "where place <= 20)",
    ),
    "retention_plans": (
        "plans_age",
        "created_at < %(before)s and not exists (select from lakehouse.retention_sections as s "
        "where s.plan_id = t.plan_id and s.status in ('asks', 'ready'))",
    ),
}


@dataclass(frozen=True)
class LedgerRows:
    kind: ClassVar[str] = "ledger_rows"
    needs: ClassVar[tuple[str, ...]] = ()
    age: dt.timedelta
    receipts_age: dt.timedelta
    plans_age: dt.timedelta

    @classmethod
    def read(cls, node: Node) -> Self:
        return cls(days(node), days(node, "receipts_days"), days(node, "plans_days"))

    def find(self, services: Services, now: dt.datetime, survey: Survey) -> Iterator[Item]:
        with services.ledger() as conn:
            for table, (age, condition) in _CUTS.items():
                before = now - getattr(self, age)
                row = conn.execute(
                    f"select count(*) as rows, count(*) filter (where {condition}) as old, "
                    f"pg_total_relation_size('lakehouse.{table}') as bytes from lakehouse.{table} as t".encode(),
                    {"before": before},
                ).fetchone()
                assert row is not None
                survey.saw(row["rows"], row["bytes"])
                survey.keep("younger, or needed", row["rows"] - row["old"])
                if row["old"]:
                    size = row["bytes"] * row["old"] // row["rows"]
                    yield Item(
                        f"lakehouse.{table}",
                        size,
                        before.isoformat(),
                        row["old"],
                        {"table": table, "before": before.isoformat()},
                    )

    def delete(self, services: Services, items: Sequence[Item]) -> Outcome:
        done = Outcome()
        for one in items:
            table = str(one.facts["table"])
            _, condition = _CUTS[table]
            went = 0
            while rows := self._delete_batch(services, table, condition, one.facts["before"]):
                went += rows
            done += Outcome(deleted=went, bytes=one.bytes * went // one.count)
        return done

    @staticmethod
    def _delete_batch(services: Services, table: str, condition: str, before: str) -> int:
        """One short transaction: writers of the ledger wait for none of these locks."""
        chosen = f"select ctid from lakehouse.{table} as t where {condition} limit {_BATCH}"
        with services.ledger() as conn:
            if table == "sync_ledger":
                conn.execute(
                    "delete from lakehouse.sync_streams where (connection_id, job_id) in "
                    f"(select t.connection_id, t.job_id from lakehouse.sync_ledger as t where {condition})".encode(),
                    {"before": before},
                )
            return conn.execute(
                f"delete from lakehouse.{table} where ctid = any(array({chosen}))".encode(), {"before": before}
            ).rowcount
