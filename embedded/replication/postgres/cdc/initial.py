"""The snapshot that a change log begins with: every row at one consistent point, in ranges that survive a kill.

The point is that of a temporary slot made for it, whose exported snapshot shows exactly what was committed before it.
A snapshot that was interrupted goes on under a new one, later: rows read then may be newer than the point, and what
changed in between comes again from the log. So the log is exact from the last snapshot's point on, which is recorded.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from embedded.replication import changes
from embedded.replication.failures import SyncError
from embedded.replication.pipeline import Job, Log
from embedded.replication.postgres import stream
from embedded.replication.postgres.cdc import partitions
from embedded.replication.postgres.cdc.lsn import parse_lsn
from embedded.replication.postgres.cdc.pgoutput import CDC_FIELDS
from embedded.replication.postgres.cdc.wal import ReplicationConnection
from embedded.replication.postgres.discovery import Table
from embedded.replication.postgres.snapshot import Snapshot
from embedded.replication.postgres.tables import decimal_as_double
from embedded.replication.protocol import session_name
from embedded.replication.records import arrow_type

_LEAVES = """
select c.oid::bigint as oid, n.nspname as namespace, c.relname as name, pg_relation_filenode(c.oid)::bigint as file,
       pg_relation_size(c.oid) / current_setting('block_size')::int as blocks
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where c.relkind = 'r' and (c.oid = %(oid)s or c.oid in (select relid from pg_partition_tree(%(oid)s) where isleaf))
 order by c.oid
"""


@dataclass(frozen=True)
class Position:
    """How far a stream was read: in which table or partition, up to which block (None: to its end).

    file: its file on disk then. Another file means that the rows have moved (VACUUM FULL): it is read anew.
    """

    relation: str
    block: int | None
    file: int

    def as_json(self) -> dict[str, Any]:
        return {"relation": self.relation, "block": self.block, "file": self.file}


class InitialSnapshot:
    """A snapshot at a consistent point, open while its temporary slot's session is; a context manager."""

    def __init__(self, job: Job, folder: Path, log: Log) -> None:
        self._job = job
        self._log = log
        application = session_name(job.id)
        self._log("info", "waiting for a consistent point: transactions that began before it have to end")
        self._slot = ReplicationConnection(job.source, application, folder)
        try:
            name = f"lakehouse_job_{job.id}_{job.attempt}"
            create = f"CREATE_REPLICATION_SLOT \"{name}\" TEMPORARY LOGICAL pgoutput (SNAPSHOT 'export')"
            _, point, exported, _ = self._slot.command(create)
            self.point = parse_lsn(point)
            self._snapshot = Snapshot(job.source, application, folder, exported)
            self._snapshot.__enter__()
        except BaseException:
            self._slot.close()
            raise
        self._log("info", f"snapshot {exported} at consistent point {point}")

    def __enter__(self) -> InitialSnapshot:
        return self

    def __exit__(self, *error: Any) -> None:
        self._snapshot.__exit__(None, None, None)
        self._slot.close()

    def leaves(self, item: changes.Stream[Table], label: str, known: list[int]) -> list[dict[str, Any]]:
        """The tables that hold the rows, in the order to read them in: the known ones as before, then what joined."""
        found = self._snapshot.catalogue.execute(_LEAVES, {"oid": item.table.oid}).fetchall()
        by_oid = {int(leaf["oid"]): leaf for leaf in found}
        return [by_oid[oid] for oid in partitions.together(label, known, list(by_oid))]

    def read(
        self, item: changes.Stream[Table], leaves: list[dict[str, Any]], point: int, done: Position | None
    ) -> Iterator[tuple[pa.RecordBatch | None, Position]]:
        """The rows of one stream after position `done`: batches, and None with a position where a range is complete."""
        query = stream.build(item.table, item.columns, None, None, decimal_as_double(self._job))
        names = [f"{leaf['namespace']}.{leaf['name']}" for leaf in leaves]
        begin = names.index(done.relation) if done and done.relation in names else 0
        if done and done.relation not in names:
            raise SyncError("source", "config_error", f"Partition {done.relation} vanished while it was read. Rebuild.")
        for leaf, name in list(zip(leaves, names, strict=True))[begin:]:
            here = done if done and done.relation == name and done.file == leaf["file"] else None
            if here is not None and here.block is None:
                continue
            yield from self._leaf(query, leaf, point, here.block or 0 if here else 0)

    def _leaf(
        self, query: stream.StreamQuery, leaf: dict[str, Any], point: int, low: int
    ) -> Iterator[tuple[pa.RecordBatch | None, Position]]:
        relation = (leaf["namespace"], leaf["name"])
        blocks, name = int(leaf["blocks"]), ".".join(relation)
        step = self._job.source.cdc.snapshot_range_mb * 128  # blocks of 8 kB
        while True:
            last = low + step >= blocks
            # The last range is open: the table may have grown since its size was read, the snapshot says what counts.
            high = 2**32 - 1 if last else low + step
            part = stream.StreamQuery(query.table, query.columns, query.plans, None, None, (low, high), relation)
            text = self._snapshot.text_of(part.remote())
            position = Position(name, None if last else high, leaf["file"])
            for batch in self._snapshot.read(text, part.locals(), stream.batch_rows(self._snapshot, text)):
                yield with_cdc(batch, len(query.columns), point, guarded=bool(query.guarded)), position
            yield None, position
            if last:
                return
            low = high


def with_cdc(batch: pa.RecordBatch, columns: int, point: int, *, guarded: bool) -> pa.RecordBatch:
    """A batch of table rows as changes at a consistent point."""
    count = batch.num_rows
    lsn = pa.array(np.full(count, point, np.int64))
    updated = pa.array(np.full(count, _now(), np.int64)).cast(CDC_FIELDS[1].type)
    flags = batch.column(columns) if guarded else pa.nulls(count, pa.string())
    arrays = [*batch.columns[:columns], lsn, updated, pa.nulls(count, CDC_FIELDS[2].type), lsn, flags]
    return pa.RecordBatch.from_arrays(arrays, [f"c{i}" for i in range(len(arrays))])


def marker(written: list[str], point: int) -> pa.RecordBatch:
    """The row that says: all of the table before this point is void. It comes right before the point's rows."""
    stamp = pa.array([_now()], pa.int64()).cast(CDC_FIELDS[1].type)
    cdc = [pa.array([point - 1], pa.int64()), stamp, stamp, pa.array([point], pa.int64())]
    arrays = [*(pa.nulls(1, arrow_type(type_)) for type_ in written), *cdc, pa.nulls(1, pa.string())]
    return pa.RecordBatch.from_arrays(arrays, [f"c{i}" for i in range(len(arrays))])


def _now() -> int:
    return time.time_ns() // 1000
