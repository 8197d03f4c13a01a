"""How far the mirror is behind, from the ledger alone."""

from __future__ import annotations

from dataclasses import dataclass

from include.ledger import Connection
from include.mirror.spec import Mirror


@dataclass(frozen=True)
class Lag:
    """`seconds`: since the listing of the newest complete run, None before the first. `reason`: of the last failure."""

    bucket: str
    seconds: float | None
    objects: int
    bytes: int
    unproven: int
    reason: str


def read(conn: Connection, mirror: Mirror) -> list[Lag]:
    rows = conn.execute(
        """
        select b.bucket,
               extract(epoch from clock_timestamp() - (
                   select max(listed_at) from lakehouse.mirror_runs as r where r.bucket = b.bucket and r.status = 'ok'
               ))::double precision as seconds,
               count(m.key) as objects, coalesce(sum(m.size), 0)::bigint as bytes,
               count(m.key) filter (
                   where coalesce(m.verified_at, m.copied_at) < clock_timestamp() - make_interval(secs => %(read_back)s)
               ) as unproven,
               coalesce((
                   select case when r.status = 'failed' then r.reason else '' end from lakehouse.mirror_runs as r
                   where r.bucket = b.bucket and r.status <> 'running' order by r.run_id desc limit 1
               ), '') as reason
        from unnest(%(buckets)s::text[]) as b (bucket)
        left join lakehouse.mirror_objects as m on m.bucket = b.bucket
        group by b.bucket order by b.bucket
        """,
        {"buckets": list(mirror.sources), "read_back": mirror.read_back.total_seconds()},
    ).fetchall()
    return [Lag(**row) for row in rows]
