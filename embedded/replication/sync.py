"""One attempt of a sync: what a reader yields is shaped into records and written to the destination."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

from embedded.replication.failures import SyncError
from embedded.replication.pipeline import (
    Checkpoint,
    Destination,
    Event,
    Job,
    Log,
    Reach,
    Reader,
    Rows,
    Selection,
    SourceStream,
    State,
    StreamEnd,
    Target,
    Writer,
)
from embedded.replication.records import META_FIELDS, Field, Records
from embedded.replication.store import connections, jobs
from embedded.replication.store.database import Connection

_PROGRESS_SECONDS = 2.0


@dataclass
class _Lane:
    """One stream on its way."""

    stream: SourceStream
    records: Records
    writer: Writer
    begun: float = field(default_factory=time.monotonic)
    reported: float = field(default_factory=time.monotonic)
    read: int = 0
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

    def run(self) -> dict[str, Any]:
        """Read and write everything; gives the attempt's outcome. Raises SyncError."""
        configured = connections.get_streams(self._db, self._job.connection["id"])
        self._shared = connections.get_shared_state(self._db, self._job.connection["id"])
        selection = self._reader.select(configured, self._job.connection["schema_updates"], self._shared)
        for note in selection.notes:
            self._log("warn", f"schema change: {note}")
        lanes = self._lanes(selection)
        rows = connections.get_states(self._db, self._job.connection["id"])
        states = {key: row["cursor"] for key, row in rows.items()}
        for event in self._reader.read(selection, states, self._shared):
            self._take(lanes, event)
        return {
            "snapshot": self._reader.position(),
            "streams": [lane.outcome for lane in lanes],
            "configured": selection.stored,
            "state": self._shared,
        }

    def _take(self, lanes: list[_Lane], event: Event) -> None:
        match event:
            case Rows(stream, batch, what):
                if batch.num_rows:
                    self._write(lanes[stream], batch, what)
            case StreamEnd(stream, state, stats):
                self._end(lanes[stream], state, stats)
            case Checkpoint(state, last):
                self._shared = state
                if not last:
                    self._checkpoint(state)

    def _write(self, lane: _Lane, batch: Any, event: str | None) -> None:
        lane.writer.write(lane.records.shape(batch, event))
        lane.read += batch.num_rows
        if time.monotonic() - lane.reported > _PROGRESS_SECONDS:
            lane.reported = time.monotonic()
            jobs.set_stream_stats(self._db, self._job.id, *lane.stream.key, {"recordsRead": lane.read})

    def _end(self, lane: _Lane, state: State | None, stats: dict[str, Any]) -> None:
        written = lane.writer.close()
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
        self._reader.acknowledge(state)

    def _lanes(self, selection: Selection) -> list[_Lane]:
        targets = self._targets(selection.streams)
        lanes = []
        for stream, target in zip(selection.streams, targets, strict=True):
            fields = self._fields(stream)
            records = Records(fields, stream.guarded, self._job.id, target.generation)
            named = replace(stream, fields=tuple(fields))
            writer = self._destination.writer(named, target, records.schema)
            lanes.append(_Lane(named, records, writer))
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
                    if mode.startswith("full_refresh"):
                        generation = connections.bump_generation(self._db, self._job.connection["id"], *key)
                    elif stream.generation is not None:
                        generation = stream.generation
                    minimum = generation if mode == "full_refresh_overwrite" else 0
                    jobs.add_job_stream(self._db, self._job.id, *key, mode, generation, minimum)
                    known[key] = {"generation_id": generation, "minimum_generation_id": minimum}
                row = known[key]
                namespace, name = self._destination_name(*key)
                targets.append(Target(namespace, name, row["generation_id"], row["minimum_generation_id"]))
        self._check_addresses(streams, targets)
        return targets

    def _destination_name(self, namespace: str, name: str) -> tuple[str, str]:
        connection = self._job.connection
        match connection["namespace_definition"]:
            case "source":
                placed = namespace
            case "custom_format":
                placed = (connection["namespace_format"] or "").replace("${SOURCE_NAMESPACE}", namespace)
            case _:
                placed = ""  # the destination's default; destination-s3 has none: the segment collapses
        return placed, f"{connection['prefix']}{name}"

    def _check_addresses(self, streams: list[SourceStream], targets: list[Target]) -> None:
        seen: dict[tuple[str, ...], str] = {}
        for stream, target in zip(streams, targets, strict=True):
            place = self._destination.address(target.namespace, target.name)
            if place in seen:
                message = (
                    f"Streams {seen[place]} and {stream.label} would be written to one place,"
                    f" {'/'.join(filter(None, place))}."
                    " Use namespaceDefinition source, or leave one of them out."
                )
                raise SyncError("destination", "config_error", message)
            seen[place] = stream.label
