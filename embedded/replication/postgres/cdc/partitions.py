"""The partitions of a captured table. What is done to one as a table leaves no change of a row in the log."""

from __future__ import annotations

from dataclasses import dataclass

from embedded.replication.failures import SyncError
from embedded.replication.postgres.cdc.slot import REBUILD
from embedded.replication.postgres.connection import Connection

_LEAVES = """
select r.oid::bigint as root, c.oid::bigint as oid, c.oid::regclass::text as name, pg_relation_size(c.oid) > 0 as filled
  from unnest(%s::oid[]) r (oid)
 cross join lateral (select relid from pg_partition_tree(r.oid) where isleaf union select r.oid) leaf
  join pg_class c on c.oid = leaf.relid
 where c.relkind = 'r'
 order by c.oid
"""


@dataclass(frozen=True)
class Leaf:
    """A partition that holds rows itself, or a table that has none. filled: whether it has, or had, rows."""

    oid: int
    name: str
    filled: bool


def leaves(db: Connection, tables: list[int]) -> dict[int, list[Leaf]]:
    """The leaves of each of these tables."""
    found: dict[int, list[Leaf]] = {table: [] for table in tables}
    for row in db.execute(_LEAVES, [tables]):
        found[row["root"]].append(Leaf(row["oid"], row["name"], row["filled"]))
    return found


def together(label: str, known: list[int], now: list[int]) -> list[int]:
    """The known leaves, then those that joined; raises SyncError when one is gone, and with it rows."""
    before = set(known)
    gone = len(before.difference(now))
    if gone:
        message = f"Stream {label} lost {gone} of its partitions (dropped or detached): the log does not have that."
        raise SyncError("source", "config_error", f"{message} {REBUILD}")
    return known + [oid for oid in now if oid not in before]
