"""The seam between reading a source and writing a destination: any reader combines with any writer.

A reader yields Arrow batches, ends of streams and checkpoints; sync.py shapes the batches into Airbyte records and
hands them to the destination. Data is durable there before a state that covers it is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import pyarrow as pa
from psycopg.rows import DictRow

from embedded.replication.records import Changes, Field, Fit

Key = tuple[str, str]
State = dict[str, Any]
Log = Callable[[str, str], None]
Reach = Callable[[str], None]


@dataclass(frozen=True)
class Refresh:
    """Streams that are read from the start in a new generation. truncate: older generations are void once it succeeds.

    streams: None means all.
    """

    truncate: bool
    streams: frozenset[Key] | None

    def covers(self, key: Key) -> bool:
        return self.streams is None or key in self.streams


@dataclass(frozen=True)
class Job:
    """What one attempt works on. `source` and `destination` are configurations, see connectors.py."""

    id: int
    attempt: int
    connection: DictRow
    source: Any
    destination: Any
    started: datetime
    object_bytes: int
    checkpoint_seconds: float = 300.0
    refresh: Refresh | None = None


@dataclass(frozen=True)
class SourceStream:
    """One stream as it will be read in this attempt.

    fields: the columns of its batches, in order. guarded: positions of columns that the reader checks; its batches then
    end with a text column that is null, or names the positions of the values that could not be carried: `0,3`.
    remembered: the columns as the connection remembers them from now on, if the sync succeeds.
    """

    namespace: str
    name: str
    config: dict[str, Any]
    fields: tuple[Field, ...]
    guarded: tuple[int, ...]
    remembered: list[dict[str, str]]
    primary_key: tuple[str, ...] = ()
    # Set where the source itself says which generation its rows belong to (the epoch of a change log).
    generation: int | None = None

    @property
    def key(self) -> Key:
        return self.namespace, self.name

    @property
    def label(self) -> str:
        return f"{self.namespace}.{self.name}" if self.namespace else self.name


@dataclass(frozen=True)
class Selection:
    """What a reader will read: the streams, what changed in words, and the stored list if that itself changed."""

    streams: list[SourceStream]
    notes: list[str]
    stored: list[dict[str, Any]] | None


@dataclass(frozen=True)
class Rows:
    """Rows of the stream at position `stream` of the selection. Streams may take turns in any order.

    event: what the rows stand for when they are no records but mark an event (see records.MARKER_REASONS).
    """

    stream: int
    batch: pa.RecordBatch
    event: str | None = None
    extracted: pa.Array | None = None  # timestamp(ms, UTC) of each row, where the source says when it read it
    changes: Mapping[int, Changes] | None = None  # by row, what the reader could not keep


@dataclass(frozen=True)
class StreamEnd:
    """All of a stream was read. `state` is where its next sync begins (None: anew); `stats` are for people.

    snapshot: where a change log's snapshot stands in it, if no sync has succeeded since that was taken: with this one's
    success all that came before it is void.
    """

    stream: int
    state: State | None
    stats: dict[str, Any]
    snapshot: int | None = None


@dataclass(frozen=True)
class Checkpoint:
    """Everything yielded before is complete up to `state`, the state of the whole connection (Airbyte's GLOBAL).

    last: nothing follows; the state is recorded together with the job's success.
    """

    state: State
    last: bool = False


@dataclass(frozen=True)
class Progress:
    """Rows yielded before are complete up to these states: by position of the stream, and of the whole connection.

    Unlike a Checkpoint it is a place to resume from within this job only, until the job succeeds.
    """

    states: Mapping[int, State]
    shared: State | None = None


Event = Rows | StreamEnd | Checkpoint | Progress


class Reader(Protocol):
    """A source, open for one attempt. Its methods raise SyncError."""

    def position(self) -> dict[str, Any]:
        """Where the source stands, for people who read the attempt's details."""

    def select(self, configured: list[DictRow], behaviour: str, shared: State | None) -> Selection:
        """Check the configured streams (rows of `streams`) against the source. `shared`: as for `read`."""

    def restarted(self, shared: State | None, keys: Collection[Key]) -> State | None:
        """The state of the whole connection when these streams are read from the start, and only they."""

    def read(self, selection: Selection, states: Mapping[Key, State | None], shared: State | None) -> Iterator[Event]:
        """Everything new since the given states: per stream, and that of the whole connection."""

    def acknowledge(self, state: State) -> None:
        """A checkpoint's rows are durable and its state is recorded: the source may forget what lies before."""


@dataclass(frozen=True)
class Target:
    """A stream's place in the destination. What is of a generation below the minimum is void once the job succeeds."""

    namespace: str
    name: str
    generation: int
    minimum_generation: int


@dataclass
class Written:
    """What a writer has written."""

    records: int = 0
    bytes: int = 0
    files: int = 0

    def __add__(self, other: Written) -> Written:
        return Written(self.records + other.records, self.bytes + other.bytes, self.files + other.files)


class Writer(Protocol):
    """Takes the records of one stream (see records.py)."""

    def write(self, batch: pa.RecordBatch) -> None: ...

    def supersede(self, snapshot: int) -> None:
        """All records are written, and a snapshot at this commit LSN of the target's generation is among them.

        A table of the latest versions loses what is older when the rest becomes visible.
        """

    def close(self) -> Written:
        """Everything is durable, but not necessarily visible."""


class Destination(Protocol):
    """A destination, open for one job. Its methods raise SyncError.

    finishes_forward: what an attempt has written stays hidden and durable until `publish`, so that another attempt can
    publish it. Otherwise a repeated attempt reads again from the last recorded state, and writing twice is harmless.
    """

    finishes_forward: bool
    fit: Fit | None  # None: it holds every value of the types that are written

    def check(self) -> None:
        """Whether it can be used at all."""

    def column_name(self, name: str) -> str:
        """A source column's name as this destination writes it."""

    def address(self, namespace: str, name: str) -> tuple[str, ...]:
        """Where a stream of this name lands; two streams of one sync must not share it."""

    def writer(self, stream: SourceStream, target: Target, schema: pa.Schema) -> Writer: ...

    def checkpoint(self, state: State) -> bool:
        """Make all that was written so far durable for good; False if that comes with `publish` only."""

    def cut(self, targets: Collection[Target]) -> list[Written] | None:
        """Make what was written of these streams so far durable, so that it can be kept.

        Gives what each of them has written; None if nothing can be kept.
        """

    def keep(self, targets: Collection[Target]) -> None:
        """What was cut outlives a failed attempt of this job. Called in the transaction that notes the states."""

    def publish(self, attempt: int, state: State | None) -> None:
        """Make what attempt `attempt` wrote visible. Idempotent: parts of it may have happened.

        state: the shared state that will be recorded, if the source has one.
        """

    def confirm(self) -> None:
        """Called in the transaction that records the job's success: note there that all is visible."""

    def void(self, targets: Collection[Target]) -> None:
        """Readers who look at the destination alone no longer see generations below the targets' minima. Idempotent."""

    def undo(self, *, all_of_it: bool) -> None:
        """Take back whatever attempts of this job wrote and did not finish or keep; or all of it. Idempotent."""


OpenReader = Callable[[], AbstractContextManager[Reader]]
