"""source-postgres with replication method CDC: a snapshot once, then the log from where the last sync ended.

A sync reads up to the position of the log at its start and ends. The source is told to forget log only after the
destination has it and the state says so.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg
import pyarrow as pa
from psycopg.rows import DictRow

from embedded.replication import changes
from embedded.replication.catalog import offer
from embedded.replication.connectors import ChangeDataCapture
from embedded.replication.failures import SyncError
from embedded.replication.pipeline import (
    Checkpoint,
    Event,
    Job,
    Key,
    Log,
    Reach,
    Rows,
    Selection,
    SourceStream,
    State,
    StreamEnd,
)
from embedded.replication.postgres import types
from embedded.replication.postgres.cdc import partitions
from embedded.replication.postgres.cdc import slot as slots
from embedded.replication.postgres.cdc.initial import InitialSnapshot, Position, marker
from embedded.replication.postgres.cdc.lsn import format_lsn, parse_lsn
from embedded.replication.postgres.cdc.pgoutput import CDC_FIELDS, Captured, CapturedColumn, Decoder
from embedded.replication.postgres.cdc.transactions import Transactions
from embedded.replication.postgres.cdc.values import DECODED
from embedded.replication.postgres.cdc.wal import ReplicationConnection, WalStream
from embedded.replication.postgres.connection import connect, translate
from embedded.replication.postgres.discovery import Table
from embedded.replication.postgres.tables import decimal_as_double, find_tables, logical_type
from embedded.replication.postgres.types import plan
from embedded.replication.protocol import session_name
from embedded.replication.records import Field, arrow_type

# Changes between two checkpoints, at the end of a transaction.
_CHECKPOINT_ROWS = 200_000
_LONGEST_BATCH = 65_536

_HEARTBEAT = "select pg_logical_emit_message(true, 'lakehouse', 'heartbeat')::text as lsn"
# What a table was when its rows were captured: another oid is another table, another membership may have missed some.
_ORIGINS = """
select c.oid::bigint as oid, coalesce(
         (select r.oid from pg_publication_rel r where r.prpubid = p.oid and r.prrelid = c.oid),
         (select n.oid from pg_publication_namespace n where n.pnpubid = p.oid and n.pnnspid = c.relnamespace),
         p.oid)::bigint as membership
  from pg_class c, pg_publication p where p.pubname = %s and c.oid = any(%s)
"""
_TYPES = """
select attname as name, atttypid::bigint as oid, atttypmod as modifier
  from pg_attribute where attrelid = %s and attnum > 0
"""


class ChangeReader:
    """Implements pipeline.Reader; a context manager."""

    def __init__(self, job: Job, folder: Path, log: Log, reach: Reach) -> None:
        options = job.source.cdc
        assert isinstance(options, ChangeDataCapture)
        self._options = options
        self._job = job
        self._folder = folder
        self._log = log
        self._reach = reach
        self._state: State = {}
        self._wal: WalStream | None = None
        self._items: list[changes.Stream[Table]] = []
        self._selection: list[SourceStream] = []

    def __enter__(self) -> ChangeReader:
        self._db = connect(self._job.source, session_name(self._job.id), self._folder)
        try:
            self._replication = ReplicationConnection(self._job.source, session_name(self._job.id), self._folder)
        except BaseException:
            self._db.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._replication.close()
        self._db.close()

    def position(self) -> dict[str, Any]:
        lsn = self._state.get("lsn")
        return {"lsn": None if lsn is None else format_lsn(lsn), "epoch": self._state.get("epoch")}

    def select(self, configured: list[DictRow], behaviour: str, shared: State | None) -> Selection:
        try:
            tables = find_tables(self._db, self._job, configured, behaviour)
            offered = offer(self._job.source, self._job.destination.TYPE)
            self._items, notes, stored = changes.resolve(configured, tables, behaviour, offered)
            for item in self._items:
                _check_table(item)
            self._prepare_state(shared)
            self._selection = [self._describe(item) for item in self._items]
            described = [(stream, item.table) for stream, item in zip(self._selection, self._items, strict=True)]
            slots.check_publication(self._db, self._options, described)
            self._check_origins()
        except psycopg.Error as error:
            raise translate(error, self._job.source) from None
        return Selection(self._selection, notes, stored)

    def _prepare_state(self, shared: State | None) -> None:
        """The state to go on from: as it was left, or that of a new epoch (named by the job that begins it)."""
        identity = self._replication.identify()
        rebuilds = shared is not None and bool(shared.get("rebuild"))
        find = slots.require
        if shared is not None and not rebuilds:
            slot = find(self._db, self._options, self._job.source)
            slots.check_position(slot, identity, shared, self._options)
            self._state = copy.deepcopy(shared)
        else:
            if rebuilds:
                slot = slots.replace(self._db, self._options, self._job.source, self._log)
            else:
                slot = find(self._db, self._options, self._job.source)
            self._state = {"epoch": self._job.id, "lsn": None, "snapshot_lsn": None, "streams": {}}
            self._log("info", f"epoch {self._job.id} begins with a snapshot of every stream")
        self._state |= {"system": identity.system, "timeline": identity.timeline}
        slots.check_size(slot, self._options, self._log)

    def _check_origins(self) -> None:
        """A stream whose table or membership in the publication is another one than before may have missed changes."""
        oids = [item.table.oid for item in self._items]
        rows = self._db.execute(_ORIGINS, [self._options.publication, oids]).fetchall()
        now = {row["oid"]: row["membership"] for row in rows}
        leaves = partitions.leaves(self._db, oids)
        known, kept = self._state["streams"], {}
        for stream, item in zip(self._selection, self._items, strict=True):
            entry = known.get(stream.label)
            origin = {"oid": item.table.oid, "membership": now.get(item.table.oid)}
            if entry is not None and {name: entry[name] for name in origin} != origin:
                same = entry["oid"] == item.table.oid
                what = "left the publication and came back" if same else "is another table now"
                message = f"Stream {stream.label} {what}: changes may have been missed. {slots.REBUILD}"
                raise SyncError("source", "config_error", message)
            kept[stream.label] = self._with_leaves(stream.label, entry or origin, leaves[item.table.oid])
        # What is no longer copied is forgotten: if it comes back, it begins with a snapshot again.
        self._state["streams"] = kept

    def _with_leaves(self, label: str, entry: State, leaves: list[partitions.Leaf]) -> State:
        """The entry with the leaves of now: one that came with rows is told, for the log does not have those."""
        now = [leaf.oid for leaf in leaves]
        known = entry.get("leaves", now)
        together = partitions.together(label, known, now)
        for leaf in leaves:
            if entry.get("complete") and leaf.filled and leaf.oid not in known:
                self._log(
                    "warn",
                    f"stream {label}: partition {leaf.name} joined and has rows. The log has those written since then;"
                    f" if it had rows when it was attached, they are missing. {slots.REBUILD}",
                )
        return {**entry, "leaves": together}

    def _describe(self, item: changes.Stream[Table]) -> SourceStream:
        fields = [
            Field(column.name, column.name, arrow_type(item_.written), item_.low, item_.high, False,
                  logical_type(column, item_.written))
            for column, item_ in self._plans(item)
        ]  # fmt: skip
        fields += [Field(field.name, field.name, field.type) for field in CDC_FIELDS]
        return SourceStream(
            item.table.namespace,
            item.table.name,
            item.config,
            tuple(fields),
            tuple(range(len(fields))),
            item.fields,
            item.table.primary_key,
            generation=int(self._state["epoch"]),
        )

    def _plans(self, item: changes.Stream[Table]) -> list[tuple[Any, types.TypePlan]]:
        as_double = decimal_as_double(self._job)
        return [(column, plan(column, as_double)) for column in item.table.columns if column.name in item.columns]

    def restarted(self, shared: State | None, keys: Collection[Key]) -> State | None:
        return shared  # a capture's streams are only ever read anew together, see rebuild

    def read(self, selection: Selection, states: Mapping[Key, State | None], shared: State | None) -> Iterator[Event]:
        if any(not entry.get("complete") for entry in self._state["streams"].values()):
            yield from self._initial()
        yield from self._changes()
        for index in range(len(self._selection)):
            stats = {"lsn": format_lsn(self._state["lsn"]), "epoch": self._state["epoch"]}
            entry = self._state["streams"][self._selection[index].label]
            yield StreamEnd(index, None, stats, entry["point"] if entry.pop("fresh", False) else None)
        yield Checkpoint(copy.deepcopy(self._state), last=True)

    def _initial(self) -> Iterator[Event]:
        with InitialSnapshot(self._job, self._folder, self._log) as snapshot:
            self._reach("after_snapshot")
            if self._state["lsn"] is None:
                self._state["lsn"] = snapshot.point
            self._state["snapshot_lsn"] = max(self._state["snapshot_lsn"] or 0, snapshot.point)
            for index, stream in enumerate(self._selection):
                entry = self._state["streams"][stream.label]
                if not entry.get("complete"):
                    yield from self._initial_stream(snapshot, index, entry)
                    self._reach("mid_snapshot")
        self._log("info", "the snapshot is complete")

    def _initial_stream(self, snapshot: InitialSnapshot, index: int, entry: State) -> Iterator[Event]:
        stream, item = self._selection[index], self._items[index]
        done = Position(**entry["position"]) if entry.get("position") else None
        leaves = snapshot.leaves(item, stream.label, entry["leaves"] if "point" in entry else [])
        entry["leaves"] = [int(leaf["oid"]) for leaf in leaves]
        if "point" not in entry:
            entry["point"] = snapshot.point
            entry["fresh"] = True  # until a sync succeeds
            written = [item_.written for _, item_ in self._plans(item)]
            yield Rows(index, marker(written, snapshot.point), "snapshot")
        else:
            self._log("info", f"stream {stream.label}: the snapshot goes on after {done or 'its beginning'}")
        for batch, position in snapshot.read(item, leaves, entry["point"], done):
            if batch is not None:
                yield Rows(index, batch)
                continue
            entry["position"] = position.as_json()
            yield Checkpoint(copy.deepcopy(self._state))
            self._reach("mid_range")
        entry.pop("position", None)
        entry["complete"] = True
        yield Checkpoint(copy.deepcopy(self._state))

    def _changes(self) -> Iterator[Event]:
        position = int(self._state["lsn"])
        target = max(position, self._target())
        captured = self._captured()
        binary = all(column.type_name in DECODED for stream in captured for column in stream.columns)
        self._replication.start(self._options.replication_slot, self._options.publication, position, binary=binary)
        self._log("info", f"log from {format_lsn(position)} to {format_lsn(target)}")
        self._wal = WalStream(self._replication, position, target)
        decoder = Decoder({stream.oid: stream for stream in captured})
        transactions = Transactions(self._wal, decoder, self._folder, position)
        rows = 0
        for decoded in transactions.read():
            if decoded is None:
                # Every transaction up to here is complete.
                if rows >= _CHECKPOINT_ROWS:
                    rows = 0
                    self._state["lsn"] = transactions.complete
                    yield Checkpoint(copy.deepcopy(self._state))
                continue
            rows += decoded.batch.num_rows
            event = "truncate" if decoded.truncations else None
            for batch in _slices(decoded.batch):
                yield Rows(decoded.stream, batch, event)
        self._state["lsn"] = target

    def _target(self) -> int:
        """The end of the log now, after a message of ours: so the slot of an idle source moves on as well."""
        try:
            if self._options.heartbeat_action_query:
                self._db.execute(self._options.heartbeat_action_query.encode())
            self._db.execute("set synchronous_commit = on")
            row = self._db.execute(_HEARTBEAT).fetchone()
        except psycopg.Error as error:
            raise translate(error, self._job.source) from None
        assert row is not None
        return parse_lsn(row["lsn"])

    def _captured(self) -> list[Captured]:
        found = []
        for index, (stream, item) in enumerate(zip(self._selection, self._items, strict=True)):
            rows = self._db.execute(_TYPES, [item.table.oid])
            declared = {row["name"]: (row["oid"], row["modifier"]) for row in rows}
            columns = tuple(
                CapturedColumn(
                    column.name, f"{column.type.name}[]" if column.type.array else column.type.name,
                    item_.written, *declared[column.name],
                )
                for column, item_ in self._plans(item)
            )  # fmt: skip
            after = int(self._state["streams"][stream.label]["point"])
            key = item.table.primary_key
            found.append(Captured(index, stream.label, item.table.oid, columns, key, after))
        return found

    def acknowledge(self, state: State) -> None:
        if self._wal is not None:
            self._wal.flushed = max(self._wal.flushed, int(state["lsn"]))
            self._wal.report()


def _check_table(item: changes.Stream[Table]) -> None:
    problem = item.table.change_problem()
    missing = [name for name in item.table.primary_key if name not in item.columns]
    if not problem and missing:
        problem = f"Stream {item.table.name}: its primary key {', '.join(missing)} must be among the selected fields."
    if problem:
        raise SyncError("source", "config_error", problem)


def _slices(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    for start in range(0, batch.num_rows, _LONGEST_BATCH):
        yield batch.slice(start, _LONGEST_BATCH)
