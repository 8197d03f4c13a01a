"""One attempt of a sync: what a reader yields is shaped into records and written to the destination."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from psycopg.rows import DictRow

from embedded.replication.failures import SyncError
from embedded.replication.pipeline import (
    Checkpoint,
    Destination,
    Event,
    Job,
    Key,
    Log,
    Progress,
    Reach,
    Reader,
    Rows,
    Selection,
    SourceStream,
    State,
    StreamEnd,
    Target,
    Writer,
    Written,
)
from embedded.replication.records import META_FIELDS, Field, Records
from embedded.replication.store import connections, jobs
from embedded.replication.store.database import Connection

_PROGRESS_SECONDS = 2.0


@dataclass
class _Lane:
    """One stream on its way."""

    stream: SourceStream
    target: Target
    records: Records
    writer: Writer
    begun: float = field(default_factory=time.monotonic)
    reported: float = field(default_factory=time.monotonic)
    read: int = 0
    state: State | None = None
    covered: bool = True  # no row was written since `state`, or since that of the whole connection
    before: Written = field(default_factory=Written)  # by earlier attempts of this job, and kept
    outcome: dict[str, Any] | None = None


class Sync:
    """Copies all streams of a job into a destination; nothing of it is visible yet when it ends."""

    def __init__(
        self, db: Connection, job: Job, reader: Reader, destination: Destination, log: Log, reach: Reach
    ) -> None:
        """`reach` is told when the sync comes to a point where a fault may be injected."""
        self._db = db
        self._job = job
        self._reader = reader
        self._destination = destination
        self._log = log
        self._reach = reach
        self._shared: State | None = None
        self._covers_all = False  # the state of the whole connection has moved in this attempt
        self._kept: dict[Key, dict[str, Any]] = {}  # what the job has noted of each stream, see _keep
        self._kept_shared: State | None = None
        self._kept_at = self._heard_at = time.monotonic()

    def run(self) -> dict[str, Any]:
        """Read and write everything; gives the attempt's outcome. Raises SyncError."""
        configured = connections.get_streams(self._db, self._job.connection["id"])
        self._shared = connections.get_shared_state(self._db, self._job.connection["id"])
        selection = self._reader.select(configured, self._job.connection["schema_updates"], self._shared)
        for note in selection.notes:
            self._log("warn", f"schema change: {note}")
        lanes = self._lanes(selection)
        states = self._states(lanes)
        self._kept_at = self._heard_at = time.monotonic()
        for event in self._reader.read(selection, states, self._shared):
            self.hear()
            self._take(lanes, event)
        return {
            "snapshot": self._reader.position(),
            "streams": [lane.outcome for lane in lanes],
            "before": [connections.settings(row) for row in configured],
            "configured": selection.stored,
            "state": self._shared,
        }

    def _states(self, lanes: list[_Lane]) -> dict[Key, State | None]:
        """Where to go on: after what earlier attempts of this job have kept, or else after the last succeeded job."""
        known = connections.get_states(self._db, self._job.connection["id"])
        shared = connections.get_shared_state(self._db, self._job.connection["id"])
        progress = jobs.get_progress(self._db, self._job.id) or {"streams": []}
        kept = self._kept = {(item["namespace"], item["name"]): item for item in progress["streams"]}
        self._kept_shared = progress.get("shared")
        refresh = self._job.refresh
        begin = {lane.stream.key for lane in lanes if self._begins(lane)}
        states: dict[Key, State | None] = {}
        for lane in lanes:
            key = lane.stream.key
            states[key] = None if key in begin or key not in known else known[key]["cursor"]
            if key in kept:
                states[key] = lane.state = kept[key]["state"]
                lane.before = Written(*(kept[key][part] for part in ("records", "bytes", "files")))
                self._log("info", f"stream {lane.stream.label}: goes on after {lane.before.records} records")
        everything = refresh is not None and refresh.streams is None
        self._shared = self._kept_shared or (None if everything else self._reader.restarted(shared, begin))
        return states

    def _begins(self, lane: _Lane) -> bool:
        """Whether the job reads the stream from the start."""
        refresh = self._job.refresh
        full = lane.stream.config["syncMode"].startswith("full_refresh")
        return full or (refresh is not None and refresh.covers(lane.stream.key))

    def hear(self) -> None:
        """The source said something."""
        if time.monotonic() - self._heard_at > _PROGRESS_SECONDS:
            self._heard_at = time.monotonic()
            jobs.beat(self._db, self._job.id, self._job.attempt)

    def _take(self, lanes: list[_Lane], event: Event) -> None:
        match event:
            case Rows():
                if event.batch.num_rows:
                    self._write(lanes[event.stream], event)
            case Progress(states, shared):
                self._progress(lanes, states, shared)
            case StreamEnd(stream, state, stats, snapshot):
                if snapshot is not None:
                    lanes[stream].writer.supersede(snapshot)
                self._end(lanes[stream], state, stats)
            case Checkpoint(state, last):
                self._shared = state
                if not last:
                    self._checkpoint(state)

    def _progress(self, lanes: list[_Lane], states: Mapping[int, State], shared: State | None) -> None:
        for index, state in states.items():
            lanes[index].state, lanes[index].covered = state, True
        if shared is not None:
            self._shared = shared
            self._covers_all = True
            for lane in lanes:
                lane.covered = True
        if time.monotonic() - self._kept_at >= self._job.checkpoint_seconds:
            self._keep([lane for lane in lanes if lane.covered and (lane.state is not None or self._covers_all)])
            self._kept_at = time.monotonic()

    def _keep(self, lanes: list[_Lane]) -> None:
        """Durable data first, then, in one transaction, that it is kept and the states that cover it.

        lanes: those without a row beyond their state. Of the others stays noted what was kept of them before.
        """
        targets = [lane.target for lane in lanes]
        written = self._destination.cut(targets)
        if written is None:
            return
        with self._db.transaction():
            jobs.hold_attempt(self._db, self._job.id, self._job.attempt)
            self._destination.keep(targets)
            for lane, part in zip(lanes, written, strict=True):
                so_far = lane.before + part
                place = {"namespace": lane.stream.namespace, "name": lane.stream.name, "state": lane.state}
                self._kept[lane.stream.key] = {**place, **asdict(so_far)}
            if self._covers_all:
                self._kept_shared = self._shared
            progress = {"streams": list(self._kept.values()), "shared": self._kept_shared}
            jobs.set_progress(self._db, self._job.id, self._job.attempt, progress)
        self._reach("after_progress")

    def _write(self, lane: _Lane, rows: Rows) -> None:
        lane.writer.write(lane.records.shape(rows.batch, rows.event, rows.extracted, rows.changes))
        lane.covered = False
        lane.read += rows.batch.num_rows
        if time.monotonic() - lane.reported > _PROGRESS_SECONDS:
            lane.reported = time.monotonic()
            jobs.set_stream_stats(self._db, self._job.id, *lane.stream.key, {"recordsRead": lane.read})

    def _end(self, lane: _Lane, state: State | None, stats: dict[str, Any]) -> None:
        written = lane.before + lane.writer.close()
        all_stats = {
            "recordsRead": lane.read,
            "records": written.records,
            "bytes": written.bytes,
            "files": written.files,
            "nulled": lane.records.changed,
            "seconds": round(time.monotonic() - lane.begun, 3),
            **stats,
            "cursor": state,
        }
        stream = lane.stream
        jobs.set_stream_stats(self._db, self._job.id, *stream.key, all_stats)
        self._log("info", f"stream {stream.label}: {lane.read} records, {written.bytes} bytes, {written.files} files")
        lane.outcome = {
            "namespace": stream.namespace,
            "name": stream.name,
            "fields": stream.remembered,
            "stats": all_stats,
        }

    def _checkpoint(self, state: State) -> None:
        """Durable data first, then the state, then the source may forget."""
        if not self._destination.checkpoint(state):
            return
        self._reach("before_progress")
        with self._db.transaction():
            jobs.hold_attempt(self._db, self._job.id, self._job.attempt)
            connections.save_shared_state(self._db, self._job.connection["id"], state, self._job.id)
            jobs.set_progressed(self._db, self._job.id, self._job.attempt)
        self._reader.acknowledge(state)

    def _lanes(self, selection: Selection) -> list[_Lane]:
        targets = self._targets(selection.streams)
        lanes = []
        for stream, target in zip(selection.streams, targets, strict=True):
            fields = self._fields(stream)
            records = Records(fields, stream.guarded, self._job.id, target.generation, self._destination.fit)
            named = replace(stream, fields=tuple(fields))
            writer = self._destination.writer(named, target, records.schema)
            lanes.append(_Lane(named, target, records, writer))
        return lanes

    def _fields(self, stream: SourceStream) -> list[Field]:
        """The columns to write. Two that would get one name (also by case: readers fold it) cannot both be written."""
        fields: list[Field] = []
        seen: dict[str, str] = {item.name: item.name for item in META_FIELDS}
        for item in stream.fields:
            name = self._destination.column_name(item.source)
            other = seen.setdefault(name.lower(), item.source)
            if other is not item.source:
                message = (
                    f"Columns {other} and {item.source} of {stream.label} would both be written as {name}:"
                    " select one of them."
                )
                raise SyncError("source", "config_error", message)
            fields.append(replace(item, name=name))
        return fields

    def _targets(self, streams: list[SourceStream]) -> list[Target]:
        """Where each stream goes. Generations are taken by the first attempt and kept by the others."""
        known = {(row["namespace"], row["name"]): row for row in jobs.job_streams(self._db, self._job.id)}
        states = connections.get_states(self._db, self._job.connection["id"])
        targets = []
        with self._db.transaction():
            jobs.hold_attempt(self._db, self._job.id, self._job.attempt)
            for stream in streams:
                key, mode = stream.key, stream.config["syncMode"]
                if key not in known:
                    generation = states[key]["generation_id"] if key in states else 0
                    refresh = self._job.refresh
                    again = refresh is not None and refresh.covers(key)
                    if again or mode.startswith("full_refresh"):
                        generation = connections.bump_generation(self._db, self._job.connection["id"], *key)
                    elif stream.generation is not None:
                        generation = stream.generation
                    overwrites = mode == "full_refresh_overwrite" or (
                        again and refresh is not None and refresh.truncate
                    )
                    minimum = generation if overwrites else _void_below(states.get(key))
                    jobs.add_job_stream(self._db, self._job.id, *key, mode, generation, minimum)
                    known[key] = {"generation_id": generation, "minimum_generation_id": minimum}
                row = known[key]
                placed = place(self._job.connection, *key)
                targets.append(Target(*placed, row["generation_id"], row["minimum_generation_id"]))
        self._check_addresses(streams, targets)
        return targets

    def _check_addresses(self, streams: list[SourceStream], targets: list[Target]) -> None:
        seen: dict[tuple[str, ...], str] = {}
        for stream, target in zip(streams, targets, strict=True):
            address = self._destination.address(target.namespace, target.name)
            if address in seen:
                message = (
                    f"Streams {seen[address]} and {stream.label} would be written to one place,"
                    f" {'/'.join(filter(None, address))}."
                    " Use namespaceDefinition source, or leave one of them out."
                )
                raise SyncError("destination", "config_error", message)
            seen[address] = stream.label


def place(connection: DictRow, namespace: str, name: str) -> tuple[str, str]:
    """Namespace and name of a stream in the destination."""
    match connection["namespace_definition"]:
        case "source":
            placed = namespace
        case "custom_format":
            placed = (connection["namespace_format"] or "").replace("${SOURCE_NAMESPACE}", namespace)
        case _:
            placed = ""  # the destination's default; destination-s3 has none: the segment collapses
    return placed, f"{connection['prefix']}{name}"


def _void_below(state: DictRow | None) -> int:
    """The generations below are void for a stream that begins anew; one that goes on has none of them left."""
    return 0 if state is None or state["cursor"] is not None else int(state["minimum_generation_id"])
