"""The S3 destination of one job: objects that are uploaded while it reads and completed when all is there."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa

from embedded.replication.failures import SyncError
from embedded.replication.pipeline import Job, Log, Reach, SourceStream, State, Target, Written
from embedded.replication.records import Fit
from embedded.replication.s3 import client
from embedded.replication.s3.layout import Layout, LayoutError, column_name, layout, safe_segment
from embedded.replication.s3.parquet import ParquetStream
from embedded.replication.s3.uploads import PartSink, UploadLost, Uploads
from embedded.replication.store import jobs, objects
from embedded.replication.store.database import Connection


class S3Lake:
    """Implements pipeline.Destination."""

    finishes_forward = True
    fit: Fit | None = None

    def __init__(self, db: Connection, job: Job, log: Log, reach: Reach) -> None:
        self._db = db
        self._job = job
        self._log = log
        self._reach = reach
        self._s3 = client.client(job.destination)
        self._uploads = Uploads(self._s3, job.destination)
        self._writers: dict[tuple[str, str], ParquetWriter] = {}

    def check(self) -> None:
        self._layout()
        client.check(self._s3, self._job.destination)

    def _layout(self) -> Layout:
        destination = self._job.destination
        try:
            return layout(destination.s3_bucket_path, destination.s3_path_format, destination.file_name_pattern)
        except LayoutError as error:
            raise SyncError("destination", "config_error", str(error)) from None

    def column_name(self, name: str) -> str:
        return column_name(name)

    def address(self, namespace: str, name: str) -> tuple[str, ...]:
        return safe_segment(namespace), safe_segment(name)

    def writer(self, stream: SourceStream, target: Target, schema: pa.Schema) -> ParquetWriter:
        parts = _Parts(self._db, self._uploads, self._job, self._layout(), target)
        distinct = {field.name for field in stream.fields if field.distinct}
        destination = self._job.destination
        first = not objects.has_objects(self._db, self._job.connection["destination_id"], target.namespace, target.name)
        made = ParquetWriter(
            ParquetStream(parts, schema, destination.format, self._job.object_bytes, distinct), even_if_empty=first
        )
        self._writers[target.namespace, target.name] = made
        return made

    def cut(self, targets: Collection[Target]) -> list[Written]:
        return [self._writers[target.namespace, target.name].cut() for target in targets]

    def keep(self, targets: Collection[Target]) -> None:
        objects.keep(self._db, self._job.id, [(target.namespace, target.name) for target in targets])

    def checkpoint(self, state: State) -> bool:
        return False

    def publish(self, attempt: int, state: State | None) -> None:
        """Complete the uploads of attempt `attempt` and those that were kept before it, or see that they are so."""
        uploaded = objects.of_job(self._db, self._job.id, ["uploaded"])
        mine = [row for row in uploaded if row["attempt"] == attempt or row["kept"]]
        try:
            for row in mine:
                self._uploads.complete(row["key"], row["upload_id"], row["parts"], row["bytes"], self._job.id)
                self._reach("half_visible")
        except UploadLost:
            jobs.drop_outcome(self._db, self._job.id)
            raise
        self._log("info", f"{len(mine)} files are visible")

    def confirm(self) -> None:
        ids = [row["id"] for row in objects.of_job(self._db, self._job.id, ["uploaded"])]
        objects.set_status(self._db, ids, "visible")

    def void(self, targets: Collection[Target]) -> None:
        """Readers of the files go by the stream's minimum generation."""

    def undo(self, *, all_of_it: bool) -> None:
        for row in objects.of_job(self._db, self._job.id, ["planned", "uploaded", "visible"]):
            if row["kept"] and not all_of_it:
                continue
            self._uploads.undo(row["key"], row["upload_id"])
            objects.set_status(self._db, [row["id"]], "removed")


class ParquetWriter:
    """Implements pipeline.Writer."""

    def __init__(self, stream: ParquetStream, *, even_if_empty: bool) -> None:
        """even_if_empty: a folder with a schema can be mounted before the first row comes."""
        self._stream = stream
        self._even_if_empty = even_if_empty

    def write(self, batch: pa.RecordBatch) -> None:
        self._stream.write(batch)

    def supersede(self, snapshot: int) -> None:
        """Readers go by the snapshot's marker."""

    def cut(self) -> Written:
        """End the current object; what comes next begins another."""
        self._stream.cut()
        return self._written()

    def _written(self) -> Written:
        return Written(self._stream.records, self._stream.bytes, self._stream.objects)

    def close(self) -> Written:
        self._stream.close(even_if_empty=self._even_if_empty)
        return self._written()


class _Parts:
    """Opens the objects of one stream, each written to the manifest first."""

    def __init__(self, db: Connection, uploads: Uploads, job: Job, place: Layout, target: Target) -> None:
        self._db = db
        self._uploads = uploads
        self._job = job
        self._layout = place
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
