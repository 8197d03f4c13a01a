"""source-postgres with replication method Standard: tables read with DuckDB's scanner, in one snapshot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from psycopg import sql
from psycopg.rows import DictRow

from embedded.replication import changes
from embedded.replication.catalog import offer
from embedded.replication.failures import SyncError
from embedded.replication.pipeline import (
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
from embedded.replication.postgres import discovery, stream, types
from embedded.replication.postgres.discovery import Column
from embedded.replication.postgres.snapshot import Snapshot
from embedded.replication.protocol import session_name
from embedded.replication.records import Field, arrow_type

# Up to this many rows (planner's estimate) a stream's rows are also counted by the source.
_COUNT_ROWS = 3_000_000


class TableReader:
    """Implements pipeline.Reader; a context manager."""

    def __init__(self, job: Job, folder: Path, log: Log, reach: Reach) -> None:
        self._job = job
        self._log = log
        self._reach = reach
        self._snapshot = Snapshot(job.source, session_name(job.id), folder)
        self._selected: list[changes.Stream] = []

    def __enter__(self) -> TableReader:
        snapshot = self._snapshot.__enter__()
        self._log("info", f"source snapshot {snapshot.name} at LSN {snapshot.lsn}, horizon {snapshot.horizon}")
        self._reach("after_snapshot")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._snapshot.__exit__(kind, error, trace)

    def position(self) -> dict[str, Any]:
        return {"name": self._snapshot.name, "lsn": self._snapshot.lsn, "horizon": self._snapshot.horizon}

    def select(self, configured: list[DictRow], behaviour: str, shared: State | None) -> Selection:
        tables = find_tables(self._snapshot.catalogue, self._job, configured, behaviour)
        offered = offer(self._job.source, self._job.destination.TYPE)
        self._selected, notes, stored = changes.resolve(configured, tables, behaviour, offered)
        return Selection([self._describe(item) for item in self._selected], notes, stored)

    def _describe(self, item: changes.Stream) -> SourceStream:
        query = self._query(item, None)
        distinct = stream.distinct_columns(self._snapshot, item.table)
        return SourceStream(
            item.table.namespace,
            item.table.name,
            item.config,
            fields(query, distinct),
            tuple(query.guarded),
            item.fields,
            item.table.primary_key,
        )

    def _query(self, item: changes.Stream, state: State | None) -> stream.StreamQuery:
        cursor = item.config["cursorField"][0] if item.config["syncMode"].startswith("incremental") else None
        as_double = decimal_as_double(self._job)
        return stream.build(item.table, item.columns, cursor, state if cursor else None, as_double)

    def read(self, selection: Selection, states: Mapping[Key, State | None], shared: State | None) -> Iterator[Event]:
        for index, item in enumerate(self._selected):
            yield from self._read(index, item, states.get((item.table.namespace, item.table.name)))

    def _read(self, index: int, item: changes.Stream, state: State | None) -> Iterator[Event]:
        query = self._query(item, state)
        text = self._snapshot.text_of(query.remote())
        since = query.since.value if query.since else None
        name = f"{item.table.namespace}.{item.table.name}"
        self._log("info", f"stream {name}: {item.config['syncMode']}, from {since or 'the start'}")
        read = 0
        for batch in self._snapshot.read(text, query.locals(), stream.batch_rows(self._snapshot, text)):
            read += batch.num_rows
            yield Rows(index, batch)
        cursor, stats = self._cursor(query)
        yield StreamEnd(index, cursor, {**stats, "sourceRowCount": self._source_count(query, read)})

    def _cursor(self, query: stream.StreamQuery) -> tuple[State | None, dict[str, Any]]:
        found = stream.cursor_range(self._snapshot, query)
        if found is None:
            return None, {"cursorMin": None, "cursorMax": None}
        low, cursor = found
        hidden = self._snapshot.hidden_sessions()
        if hidden:
            self._log(
                "warn",
                f"{hidden} sessions of the source hide when their transactions began; rows they stamped but commit"
                f" later may be missed. Grant pg_read_all_stats to {self._job.source.username}.",
            )
        return cursor.as_json(), {"cursorMin": low, "cursorMax": cursor.value}

    def _source_count(self, query: stream.StreamQuery, read: int) -> int | None:
        """All rows of the table in the snapshot, counted by the source where cheap; checked when all were read."""
        if query.table.estimated_rows > _COUNT_ROWS:
            return None if query.since else read
        row = self._snapshot.ask(sql.SQL("select count(*) as rows from {}").format(query.relation))
        count = int(row["rows"])
        if query.since is None and count != read:
            name = f"{query.table.namespace}.{query.table.name}"
            message = f"Read {read} rows of {name}, but its snapshot has {count}."
            raise SyncError("replication", "system_error", message)
        return count

    def acknowledge(self, state: State) -> None:
        """Nothing is kept for us by the source."""


def find_tables(db: Any, job: Job, configured: list[DictRow], behaviour: str) -> dict[Key, discovery.Table]:
    """The source's tables that matter to this sync."""
    schemas = sorted({row["namespace"] for row in configured})
    names = [row["name"] for row in configured]
    if behaviour in ("propagate_fully", "disable_connection"):
        schemas, names = sorted({*schemas, *job.source.schemas}), []
    return discovery.discover(db, schemas, names or None)


def decimal_as_double(job: Job) -> bool:
    """Whether numeric(p,s) is written as DOUBLE: the connection's wish, or else the destination's."""
    own = job.connection["decimal_as_double"]
    options = getattr(job.destination, "format", None)
    return bool(getattr(options, "decimalAsDouble", False)) if own is None else bool(own)


def fields(query: stream.StreamQuery, distinct: set[str]) -> tuple[Field, ...]:
    return tuple(
        Field(
            column.name,
            column.name,
            arrow_type(item.written),
            item.low,
            item.high,
            column.name in distinct,
            logical_type(column, item.written),
        )
        for column, item in zip(query.columns, query.plans, strict=True)
    )


def logical_type(column: Column, written: str) -> str | None:
    """PostgreSQL's own type, where a destination that has it can keep more than the Arrow type says."""
    type_ = column.type
    if type_.array or type_.kind != "b":
        return None
    if type_.name in ("json", "jsonb"):
        return "jsonb"
    if type_.name == "timestamp":
        return "timestamp"
    exact = type_.name in ("numeric", "money") and written == types.STRING
    return "numeric" if exact else None
