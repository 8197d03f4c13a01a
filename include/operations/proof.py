"""Whether there is a backup that counts: the newest set that a drill has proven, and how far the log is archived."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from include.ledger import Connection

# An hour for the drill of the next night, on top of a day and its backup.
OLDEST = dt.timedelta(hours=26)
LONGEST_GAP = dt.timedelta(minutes=15)


@dataclass(frozen=True)
class Archive:
    """One server's log. `late`: its newest piece was stored longer ago than what may be lost."""

    instance: str
    age: dt.timedelta

    @property
    def late(self) -> bool:
        return self.age > LONGEST_GAP


@dataclass(frozen=True)
class Proof:
    """`set_id`: the newest proven set, None when there is none. `reason`: of the last drill, when it failed."""

    set_id: str | None
    age: dt.timedelta | None
    rto_seconds: float | None
    rpo_seconds: float | None
    reason: str
    archives: Sequence[Archive]

    @property
    def state(self) -> str:
        """As the page's pills: fresh, late, or failed."""
        if self.reason or self.age is None:
            return "failed"
        return "late" if self.age > OLDEST or any(one.late for one in self.archives) else "fresh"


_VERIFIED = """
select s.set_id, clock_timestamp() - s.verified_at as age, d.rto_seconds, d.rpo_seconds
from lakehouse.backup_sets as s
left join lateral (
    select rto_seconds, rpo_seconds from lakehouse.backup_drills
    where set_id = s.set_id and passed order by drill_id desc limit 1
) as d on true
where s.state = 'complete' and s.verified_at is not null
order by s.completed_at desc limit 1
"""

_LAST = "select passed, reason from lakehouse.backup_drills order by drill_id desc limit 1"

_ARCHIVES = "select instance, clock_timestamp() - written_at as age from lakehouse.wal_archive order by instance"


def read(conn: Connection) -> Proof:
    """How the backups stand now, by the ledger's clock."""
    row = conn.execute(_VERIFIED).fetchone() or {}
    last = conn.execute(_LAST).fetchone()
    return Proof(
        row.get("set_id"),
        row.get("age"),
        row.get("rto_seconds"),
        row.get("rpo_seconds"),
        last["reason"] if last and not last["passed"] else "",
        [Archive(one["instance"], one["age"]) for one in conn.execute(_ARCHIVES)],
    )
