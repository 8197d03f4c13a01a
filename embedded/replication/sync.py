"""One attempt of a sync, from the source's snapshot to objects that are uploaded but not visible yet."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from psycopg import sql
from psycopg.rows import DictRow

from embedded.replication import changes
from embedded.replication.connectors import PostgresSource, S3Destination
from embedded.replication.failures import SyncError
from embedded.replication.postgres import discovery, stream
from embedded.replication.postgres.snapshot import Snapshot
from embedded.replication.protocol import session_name
from embedded.replication.s3 import client
from embedded.replication.s3.layout import Layout, LayoutError, column_name, layout, safe_segment
from embedded.replication.s3.parquet import ParquetStream
from embedded.replication.s3.records import META_FIELDS, Field, Records, arrow_type
from embedded.replication.s3.uploads import PartSink, Uploads
from embedded.replication.store import connections, jobs, objects
from embedded.replication.store.database import Connection

# Up to this many rows (planner's estimate) a stream's rows are also counted by the source.
_COUNT_ROWS = 3_000_000
_PROGRESS_SECONDS = 2.0

Log = Callable[[str, str], None]


@dataclass(frozen=True)
class Job:
    """What one attempt works on."""

    id: int
    attempt: int
    connection: DictRow
    source: PostgresSource
    destination: S3Destination
    started: datetime
    object_bytes: int


@dataclass(frozen=True)
class Target:
    """A stream's place in the destination."""

    namespace: str
    name: str
    generation: int
    minimum_generation: int


class Extractor:
    """Copies all streams of a job into uploads that wait to be completed."""

    def __init__(self, db: Connection, job: Job, folder: Path, log: Log, reach: Callable[[str], None]) -> None:
        """`reach` is told when the extractor comes to a point where a fault may be injected."""
        self._db = db
        self._job = job
        self._folder = folder
        self._log = log
        self._reach = reach
        self._s3 = client.client(job.destination)
        self.uploads = Uploads(self._s3, job.destination)
        try:
            self._layout = layout(
                job.destination.s3_bucket_path, job.destination.s3_path_format, job.destination.file_name_pattern
            )
        except LayoutError as error:
            raise SyncError("destination", "config_error", str(error)) from None

    def run(self) -> dict[str, Any]:
        """Read and upload everything; gives the attempt's outcome. Raises SyncError."""
        client.check(self._s3, self._job.destination)
        with Snapshot(self._job.source, session_name(self._job.id), self._folder) as snapshot:
            self._log("info", f"source snapshot {snapshot.name} at LSN {snapshot.lsn}, horizon {snapshot.horizon}")
            self._reach("after_snapshot")
            streams, notes, stored = self._resolve(snapshot)
            for note in notes:
                self._log("warn", f"schema change: {note}")
            targets = self._targets(streams)
            done = [self._copy(snapshot, item, target) for item, target in zip(streams, targets, strict=True)]
            return {
                "snapshot": {"name": snapshot.name, "lsn": snapshot.lsn, "horizon": snapshot.horizon},
                "streams": done,
                "configured": stored,
            }

    def _resolve(self, snapshot: Snapshot) -> tuple[list[changes.Stream], list[str], list[dict[str, Any]] | None]:
        configured = connections.get_streams(self._db, self._job.connection["id"])
        behaviour = self._job.connection["schema_updates"]
        schemas = sorted({row["namespace"] for row in configured})
        names = [row["name"] for row in configured]
        if behaviour in ("propagate_fully", "disable_connection"):
            schemas, names = sorted({*schemas, *self._job.source.schemas}), []
        catalog = discovery.discover(snapshot.catalogue, schemas, names or None)
        return changes.resolve(configured, catalog, behaviour)

    def _targets(self, streams: list[changes.Stream]) -> list[Target]:
        """Where each stream goes. Generations are taken by the first attempt and kept by the others."""
        known = {(row["namespace"], row["name"]): row for row in jobs.job_streams(self._db, self._job.id)}
        states = connections.get_states(self._db, self._job.connection["id"])
        targets = []
        with self._db.transaction():
            jobs.hold_attempt(self._db, self._job.id, self._job.attempt)
            for item in streams:
                key = (item.table.namespace, item.table.name)
                mode = item.config["syncMode"]
                if key not in known:
                    generation = states[key]["generation_id"] if key in states else 0
                    if mode.startswith("full_refresh"):
                        generation = connections.bump_generation(self._db, self._job.connection["id"], *key)
                    minimum = generation if mode == "full_refresh_overwrite" else 0
                    jobs.add_job_stream(self._db, self._job.id, *key, mode, generation, minimum)
                    known[key] = {"generation_id": generation, "minimum_generation_id": minimum}
                row = known[key]
                namespace, name = self._destination_name(*key)
                targets.append(Target(namespace, name, row["generation_id"], row["minimum_generation_id"]))
        self._check_folders(streams, targets)
        return targets

    def _destination_name(self, namespace: str, name: str) -> tuple[str, str]:
        connection = self._job.connection
        match connection["namespace_definition"]:
            case "source":
                placed = namespace
            case "custom_format":
                placed = (connection["namespace_format"] or "").replace("${SOURCE_NAMESPACE}", namespace)
            case _:
                placed = ""  # destination-s3 has no namespace of its own: the segment collapses
        return placed, f"{connection['prefix']}{name}"

    def _check_folders(self, streams: list[changes.Stream], targets: list[Target]) -> None:
        seen: dict[tuple[str, str], str] = {}
        for item, target in zip(streams, targets, strict=True):
            place = (safe_segment(target.namespace), safe_segment(target.name))
            name = f"{item.table.namespace}.{item.table.name}"
            if place in seen:
                message = (
                    f"Streams {seen[place]} and {name} would be written to one folder, {'/'.join(filter(None, place))}."
                    " Use namespaceDefinition source, or leave one of them out."
                )
                raise SyncError("destination", "config_error", message)
            seen[place] = name

    def _copy(self, snapshot: Snapshot, item: changes.Stream, target: Target) -> dict[str, Any]:
        """One stream; gives its part of the outcome."""
        begun = time.monotonic()
        table = item.table
        key = (table.namespace, table.name)
        cursor_field = item.config["cursorField"][0] if item.config["syncMode"] == "incremental_append" else None
        state = connections.get_states(self._db, self._job.connection["id"]).get(key)
        query = stream.build(
            table, item.columns, cursor_field, state["cursor"] if state and cursor_field else None, self._as_double()
        )
        text = snapshot.text_of(query.remote())
        fields = _fields(query, stream.distinct_columns(snapshot, table))
        records = Records(fields, query.guarded, self._job.id, target.generation)
        parts = _Parts(self._db, self.uploads, self._job, self._layout, key, target)
        distinct = {field.name for field in fields if field.distinct}
        writer = ParquetStream(parts, records.schema, self._job.destination.format, self._job.object_bytes, distinct)
        since = query.since.value if query.since else None
        self._log("info", f"stream {'.'.join(key)}: {item.config['syncMode']}, from {since or 'the start'}")
        reported = time.monotonic()
        read = 0
        for batch in snapshot.read(text, query.locals(), stream.batch_rows(snapshot, text)):
            if not batch.num_rows:
                continue
            writer.write(records.shape(batch))
            read += batch.num_rows
            if time.monotonic() - reported > _PROGRESS_SECONDS:
                reported = time.monotonic()
                jobs.set_stream_stats(self._db, self._job.id, *key, {"recordsRead": read})
        first = not objects.has_objects(self._db, self._job.connection["destination_id"], target.namespace, target.name)
        writer.close(even_if_empty=first)  # a folder with a schema can be mounted before the first row comes
        stats = {
            "recordsRead": read,
            "records": writer.records,
            "bytes": writer.bytes,
            "files": writer.objects,
            "nulled": records.changed,
            "seconds": round(time.monotonic() - begun, 3),
            **self._cursor_stats(snapshot, query),
            "sourceRowCount": self._source_count(snapshot, query, read),
        }
        jobs.set_stream_stats(self._db, self._job.id, *key, stats)
        self._log("info", f"stream {'.'.join(key)}: {read} records, {writer.bytes} bytes, {writer.objects} files")
        return {"namespace": key[0], "name": key[1], "fields": item.fields, "stats": stats}

    def _as_double(self) -> bool:
        own = self._job.connection["decimal_as_double"]
        return self._job.destination.format.decimalAsDouble if own is None else bool(own)

    def _cursor_stats(self, snapshot: Snapshot, query: stream.StreamQuery) -> dict[str, Any]:
        found = stream.cursor_range(snapshot, query)
        if found is None:
            return {"cursorMin": None, "cursorMax": None, "cursor": None}
        low, cursor = found
        hidden = snapshot.hidden_sessions()
        if hidden:
            self._log(
                "warn",
                f"{hidden} sessions of the source hide when their transactions began; rows they stamped but commit"
                f" later may be missed. Grant pg_read_all_stats to {self._job.source.username}.",
            )
        return {"cursorMin": low, "cursorMax": cursor.value, "cursor": cursor.as_json()}

    def _source_count(self, snapshot: Snapshot, query: stream.StreamQuery, read: int) -> int | None:
        """All rows of the table in the snapshot, counted by the source where cheap; checked when all were read."""
        if query.table.estimated_rows > _COUNT_ROWS:
            return None if query.since else read
        row = snapshot.ask(sql.SQL("select count(*) as rows from {}").format(query.relation))
        count = int(row["rows"])
        if query.since is None and count != read:
            name = f"{query.table.namespace}.{query.table.name}"
            message = f"Read {read} rows of {name}, but its snapshot has {count}."
            raise SyncError("replication", "system_error", message)
        return count


class _Parts:
    """Opens the objects of one stream, each written to the manifest first."""

    def __init__(
        self, db: Connection, uploads: Uploads, job: Job, place: Layout, key: tuple[str, str], target: Target
    ) -> None:
        self._db = db
        self._uploads = uploads
        self._job = job
        self._layout = place
        self._stream = key
        self._target = target
        destination = job.connection["destination_id"]
        self._next = objects.next_part(db, destination, target.namespace, target.name, target.minimum_generation)

    def open(self) -> _Part:
        number, self._next = self._next, self._next + 1
        for ordinal in range(1000):
            key = self._key(number, ordinal)
            if self._uploads.exists(key):
                continue  # an object of somebody else: Airbyte adds an ordinal, so do we
            try:
                return self._plan(key, number)
            except objects.KeyTaken:
                continue
            except objects.KeyIsFolder as error:
                raise SyncError("destination", "config_error", f"s3_path_format: {error}") from None
        raise SyncError(
            "destination", "config_error", f"No free key for part {number}: file_name_pattern is too narrow"
        )

    def _key(self, number: int, ordinal: int) -> str:
        target = self._target
        try:
            return self._layout.key(target.namespace, target.name, self._job.started, self._job.id, number, ordinal)
        except LayoutError as error:
            raise SyncError("destination", "config_error", str(error)) from None

    def _plan(self, key: str, number: int) -> _Part:
        values = {
            "job_id": self._job.id,
            "attempt": self._job.attempt,
            "destination_id": self._job.connection["destination_id"],
            "namespace": self._target.namespace,
            "name": self._target.name,
            "bucket": self._job.destination.s3_bucket_name,
            "key": key,
            "part_number": number,
            "generation_id": self._target.generation,
        }
        with self._db.transaction():
            jobs.hold_attempt(self._db, self._job.id, self._job.attempt)
            object_id = objects.plan(self._db, values)
        upload_id = self._uploads.start(key, self._target.generation, self._job.id)
        objects.set_upload(self._db, object_id, upload_id)
        return _Part(self._db, object_id, self._uploads.sink(key, upload_id))


class _Part:
    def __init__(self, db: Connection, object_id: int, sink: PartSink) -> None:
        self._db = db
        self._id = object_id
        self.sink = sink

    def finish(self, records: int) -> None:
        parts = self.sink.finish()
        objects.set_uploaded(self._db, self._id, parts, records, self.sink.size)


def _fields(query: stream.StreamQuery, distinct: set[str]) -> list[Field]:
    """The columns to write. Two that would get one name (also by case: readers fold it) cannot both be written."""
    fields: list[Field] = []
    seen: dict[str, str] = {field.name: field.name for field in META_FIELDS}
    for column, item in zip(query.columns, query.plans, strict=True):
        name = column_name(column.name)
        other = seen.setdefault(name.lower(), column.name)
        if other is not column.name:
            table = f"{query.table.namespace}.{query.table.name}"
            message = (
                f"Columns {other} and {column.name} of {table} would both be written as {name}: select one of them."
            )
            raise SyncError("source", "config_error", message)
        type_ = arrow_type(item.written)
        fields.append(Field(column.name, name, type_, item.low, item.high, column.name in distinct))
    return fields
