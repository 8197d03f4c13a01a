"""source-postgres with replication method Standard: tables read with DuckDB's scanner, in one snapshot."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

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
        self._selected: list[changes.Stream[discovery.Table]] = []

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

    def _describe(self, item: changes.Stream[discovery.Table]) -> SourceStream:
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

    def _query(self, item: changes.Stream[discovery.Table], state: State | None) -> stream.StreamQuery:
        cursor = item.config["cursorField"][0] if item.config["syncMode"].startswith("incremental") else None
        as_double = decimal_as_double(self._job)
        return stream.build(item.table, item.columns, cursor, state if cursor else None, as_double)

    def restarted(self, shared: State | None, keys: Collection[Key]) -> State | None:
        return shared

    def read(self, selection: Selection, states: Mapping[Key, State | None], shared: State | None) -> Iterator[Event]:
        for index, item in enumerate(self._selected):
            yield from self._read(index, item, states.get((item.table.namespace, item.table.name)))

    def _read(self, index: int, item: changes.Stream[discovery.Table], state: State | None) -> Iterator[Event]:
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
        if read == 0 and stats["cursorMin"] is not None:
            raise _missed(name, 0, "more")
        writes = self._writes(query, state, stats)
        if cursor is not None:
            cursor |= {"writes": writes}
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
        if cursor.type not in stream.TEMPORAL and self._snapshot.was_overtaken:
            self._log(
                "warn",
                f"{query.table.namespace}.{query.table.name}: transactions were open at the source. Rows that they"
                f" commit later with a smaller {cursor.field} are missed: only a cursor of time, or change data"
                " capture, knows of them.",
            )
        return cursor.as_json(), {"cursorMin": low, "cursorMax": cursor.value}

    def _writes(self, query: stream.StreamQuery, state: State | None, stats: dict[str, Any]) -> int | None:
        """The source's count of inserted and updated rows. Writes that moved no cursor are told: a sync misses them.

        A warning and no failure: the counters run late, and count what was rolled back too.
        """
        row = self._snapshot.ask(stream.writes_of(query.table))
        now, before = row["writes"], (state or {}).get("writes")
        if query.since and now is not None and before is not None and stats["cursorMax"] == query.since.value:
            missed = now - before
            stats["writesWithoutCursor"] = max(0, missed)
            if missed > 0:
                self._log(
                    "warn",
                    f"{missed} rows of {query.table.namespace}.{query.table.name} were inserted or updated since the"
                    f" last sync, and none has a newer {query.since.field}: does every write set it?",
                )
        return None if now is None else int(now)

    def _source_count(self, query: stream.StreamQuery, read: int) -> int | None:
        """All rows of the table in the snapshot, counted by the source where cheap; so are those that were to be read.

        Raises SyncError when they are not those that were read.
        """
        if query.table.estimated_rows > _COUNT_ROWS:
            return None if query.since else read
        row = self._snapshot.ask(query.counts())
        if int(row["wanted"]) != read:
            raise _missed(f"{query.table.namespace}.{query.table.name}", read, str(row["wanted"]))
        return int(row["rows"])

    def acknowledge(self, state: State) -> None:
        """Nothing is kept for us by the source."""


def _missed(name: str, read: int, wanted: str) -> SyncError:
    message = f"Read {read} rows of {name}, but its snapshot has {wanted} to read."
    return SyncError("replication", "system_error", message)


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
