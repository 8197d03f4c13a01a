"""What else keeps the platform safe: the off-site copies, the last retention plan, the alerts that are firing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from include import upkeep_alerts
from include.ledger import Connection
from include.mirror import lag, spec

# As the alert of include/platform/alerts/offsite_lag.yaml: three missed runs.
_MISSED_RUNS = 3
# A day, and the hours that a person may take to answer.
_PLAN_AGE = dt.timedelta(hours=48)


@dataclass(frozen=True)
class Copies:
    """A bucket's off-site copies. `age`: since the newest complete run's listing, None before the first."""

    bucket: str
    age: dt.timedelta | None
    allowed: dt.timedelta
    objects: int
    unproven: int
    reason: str

    @property
    def state(self) -> str:
        """As the page's pills: fresh, late, or failed."""
        if self.age is None or self.reason:
            return "failed"
        return "late" if self.age > self.allowed or self.unproven else "fresh"


@dataclass(frozen=True)
class Retention:
    """The newest plan. `asks`, `blocked`: rules that wait for a person, or that a guard stopped."""

    plan: int
    age: dt.timedelta
    asks: Sequence[str]
    blocked: Sequence[str]
    deleted: int
    freed: int

    @property
    def state(self) -> str:
        if self.blocked:
            return "failed"
        return "late" if self.asks or self.age > _PLAN_AGE else "fresh"


@dataclass(frozen=True)
class Upkeep:
    """`retention` is None before the first plan. `alerts`: alert, subject, text, since."""

    copies: Sequence[Copies]
    retention: Retention | None
    alerts: Sequence[Mapping[str, Any]]


_RETENTION = """
select p.plan_id as plan, clock_timestamp() - p.created_at as age,
       coalesce(array_agg(s.rule order by s.rule) filter (where s.status = 'asks'), '{}') as asks,
       coalesce(array_agg(s.rule order by s.rule) filter (where s.status = 'blocked'), '{}') as blocked,
       coalesce(sum(s.deleted), 0)::bigint as deleted, coalesce(sum(s.deleted_bytes), 0)::bigint as freed
from (select plan_id, created_at from lakehouse.retention_plans order by plan_id desc limit 1) as p
left join lakehouse.retention_sections as s using (plan_id)
group by p.plan_id, p.created_at
"""


def read(conn: Connection) -> Upkeep:
    """How upkeep stands now, by the ledger's clock."""
    plan = conn.execute(_RETENTION).fetchone()
    return Upkeep(_copies(conn), Retention(**plan) if plan else None, upkeep_alerts.firing(conn))


def _copies(conn: Connection) -> list[Copies]:
    mirror = spec.load()
    return [
        Copies(
            bucket=one.bucket,
            age=None if one.seconds is None else dt.timedelta(seconds=one.seconds),
            allowed=_MISSED_RUNS * mirror.every,
            objects=one.objects,
            unproven=one.unproven,
            reason=one.reason,
        )
        for one in lag.read(conn, mirror)
    ]
