"""The process that does one attempt of one job: `python -m embedded.replication.worker sync JOB ATTEMPT`.

A process of its own, so that a cancelled job ends with a kill, memory goes back when it ends, and a crash of DuckDB
or Arrow takes nothing else down. What it needs comes by environment, never by arguments; its stdin is a pipe that
the server holds open: when it closes, the server is gone, and so are we.

The order of things makes a kill harmless at every point:
1. objects are written to the manifest, then uploaded in parts, invisible;
2. the outcome (cursors, counts) is recorded: from here the attempt is finished forward;
3. the uploads are completed: the files appear together;
4. states, statistics and the job's success are recorded in one transaction.
Whoever comes after a kill before 2 undoes the uploads and reads again; after 2 it completes 3 and 4.
`worker settle JOB` undoes what an ended job (failed, cancelled) left behind.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import DictRow

from embedded.replication import configuration, faults, sources
from embedded.replication.catalog import offer
from embedded.replication.connectors import AVAILABLE, PostgresSource, S3Destination, parse
from embedded.replication.failures import SyncError, scrub
from embedded.replication.pipeline import Destination, Job, Log, Reach, Reader, Refresh, Target
from embedded.replication.postgres.cdc.reader import ChangeReader
from embedded.replication.postgres.connection import connect as connect_source
from embedded.replication.postgres.tables import TableReader
from embedded.replication.postgres_destination.destination import PostgresTables
from embedded.replication.protocol import APPLICATION, DATABASE, DONE, FAILED, OPTIONS, OVERTAKEN, session_name
from embedded.replication.protocol_connectors.reader import ConnectorReader
from embedded.replication.protocol_connectors.states import CONNECTOR_STATE
from embedded.replication.s3.destination import S3Lake
from embedded.replication.store import actors, connections, jobs
from embedded.replication.store.database import Connection, connect
from embedded.replication.sync import Sync, place

_BEAT_SECONDS = 2.0
_SESSION_SECONDS = 10.0


def main(arguments: list[str]) -> int:
    threading.Thread(target=_die_with_server, name="server-watch", daemon=True).start()
    options = json.loads(os.environ[OPTIONS])
    job_id = int(arguments[1])
    with connect(os.environ[DATABASE]) as db:
        if arguments[0] == "settle":
            return _settle(db, job_id, Path(options["folder"]))
        return Attempt(db, job_id, int(arguments[2]), Path(options["folder"]), options).run()


def _die_with_server() -> None:
    while os.read(0, 1024):
        pass
    os.killpg(0, signal.SIGKILL)


class Attempt:
    """One attempt of a sync."""

    def __init__(self, db: Connection, job_id: int, number: int, folder: Path, options: dict[str, Any]) -> None:
        self._db = db
        self._job_id = job_id
        self._number = number
        self._folder = folder
        self._options = options
        self._secrets: list[str] = []
        self._heard_at = time.monotonic()

    def run(self) -> int:
        try:
            self._work()
        except jobs.NoLongerRunning as error:
            self._log("warn", str(error))
            return OVERTAKEN
        except SyncError as error:
            self._fail(error)
            return FAILED
        except Exception as error:  # whatever it is must end as a reason that a person can read
            self._log("error", traceback.format_exc())
            self._fail(SyncError("replication", "system_error", f"{type(error).__name__}: {error}"))
            return FAILED
        return DONE

    def _work(self) -> None:
        row = jobs.get_job(self._db, self._job_id)
        assert row is not None
        self._connection = _connection(self._db, row)
        ends = _ends(self._db, self._connection)
        self._source_row = ends[0]
        self._secrets = [secret for end in ends for secret in configuration.secrets(end)]
        self._job = Job(
            self._job_id,
            self._number,
            self._connection,
            *_parsed(*ends),
            datetime.now(UTC),
            self._options["object_bytes"],
            self._options["checkpoint_seconds"],
            _refresh(row),
        )
        target = open_destination(self._db, self._job, self._log, self._reach)
        if row["type"] == "reset":
            self._reset(row, target)
            return
        prepared = jobs.prepared_attempt(self._db, self._job_id)
        if prepared is not None:
            self._log("info", f"attempt {prepared['number']} had written everything: finishing it")
            self._commit(target, prepared["outcome"], prepared["number"])
            return
        if self._number > 1 and isinstance(self._job.source, PostgresSource):
            _end_sessions(self._job.source, self._job_id, self._folder)  # before there is one of this attempt
        target.undo(all_of_it=False)
        target.check()
        with self._open_reader() as reader:
            outcome = self._copy(reader, target)
            self._commit(target, outcome, self._number)
            if outcome["state"] is not None:
                reader.acknowledge(outcome["state"])

    def _copy(self, reader: Reader, target: Destination) -> dict[str, Any]:
        outcome = Sync(self._db, self._job, reader, target, self._log, self._reach).run()
        self._reach("after_read")
        if target.finishes_forward:
            with self._db.transaction():
                jobs.hold_attempt(self._db, self._job_id, self._number)
                jobs.set_outcome(self._db, self._job_id, self._number, outcome)
            self._reach("after_upload")
        return outcome

    def _commit(self, target: Destination, outcome: dict[str, Any], number: int) -> None:
        target.publish(number, outcome.get("state"))
        self._reach("before_state")
        self._finish(outcome, target)

    def _open_reader(self) -> AbstractContextManager[Reader]:
        """The reader for the source's type and replication method."""
        definition = sources.definition(self._source_row)
        if definition is None:
            reader = TableReader if self._job.source.cdc is None else ChangeReader
            return reader(self._job, self._folder, self._log, self._reach)
        within = self._options["discover_seconds"]
        row, keep = self._source_row, self._keep_configuration
        streams = sources.connector_streams(definition, row, self._database, self._folder, keep, within=within)
        return ConnectorReader(
            definition,
            row["configuration"],
            streams,
            offer(None, self._job.destination.TYPE),
            self._folder,
            self._log,
            silence=self._options["heartbeat_seconds"],
            on_output=self._hear,
            reach=self._reach,
            save_configuration=keep,
        )

    def _keep_configuration(self, changed: dict[str, Any]) -> None:
        sources.keep_configuration(self._source_row, self._database, changed)
        self._secrets += configuration.secrets(self._source_row)

    def _database(self) -> AbstractContextManager[Connection]:
        return nullcontext(self._db)

    def _hear(self) -> None:
        if time.monotonic() - self._heard_at > _BEAT_SECONDS:
            self._heard_at = time.monotonic()
            jobs.beat(self._db, self._job_id, self._number)

    def _finish(self, outcome: dict[str, Any], target: Destination) -> None:
        """State, statistics and success, all or nothing, and only if the job still is ours."""
        connection_id = self._connection["id"]
        with self._db.transaction():
            jobs.hold_attempt(self._db, self._job_id, self._number)
            taken = {(row["namespace"], row["name"]): row for row in jobs.job_streams(self._db, self._job_id)}
            self._remember(outcome)
            for item in outcome["streams"]:
                key = (item["namespace"], item["name"])
                cursor = item["stats"]["cursor"]
                connections.save_state(self._db, connection_id, taken[key], cursor, self._job_id)
                jobs.set_stream_stats(self._db, self._job_id, *key, item["stats"])
            if outcome.get("state") is not None:
                connections.save_shared_state(self._db, connection_id, outcome["state"], self._job_id)
            target.confirm()
            records = sum(item["stats"]["records"] for item in outcome["streams"])
            size = sum(item["stats"]["bytes"] for item in outcome["streams"])
            jobs.end_attempt(self._db, self._job_id, self._number, "succeeded", None)
            jobs.end_job(self._db, self._job_id, "succeeded", records, size)
            jobs.log(self._db, self._job_id, self._number, "info", f"succeeded: {records} records, {size} bytes")

    def _remember(self, outcome: dict[str, Any]) -> None:
        """What the sync saw of the schema, except where somebody has configured the streams anew meanwhile."""
        connection_id = self._connection["id"]
        connections.get_connection(self._db, connection_id, lock=True)
        before = outcome.get("before", [])
        now = [connections.settings(row) for row in connections.get_streams(self._db, connection_id)]
        if outcome["configured"] is not None and now == before:
            connections.replace_streams(self._db, connection_id, outcome["configured"])
            return
        same = {(row["namespace"], row["name"]) for row in now if row in before}
        for item in outcome["streams"]:
            if (item["namespace"], item["name"]) in same:
                connections.set_fields(self._db, connection_id, item["namespace"], item["name"], item["fields"])

    def _reset(self, job: DictRow, target: Destination) -> None:
        """Forget the cursors and raise the generations: readers see nothing until the next sync. Deletes no file.

        Cursors first: a table that is emptied, and goes on from its cursor, has lost its rows. The other way round they
        are void already, and gone with the next sync at the latest.
        """
        void = jobs.job_streams(self._db, self._job_id) or self._forget(job)
        target.void(
            [
                Target(*place(self._connection, item["namespace"], item["name"]), item["generation_id"],
                       item["minimum_generation_id"])
                for item in void
            ]
        )  # fmt: skip
        with self._db.transaction():
            jobs.hold_attempt(self._db, self._job_id, self._number)
            jobs.end_attempt(self._db, self._job_id, self._number, "succeeded", None)
            jobs.end_job(self._db, self._job_id, "succeeded")

    def _forget(self, job: DictRow) -> list[DictRow]:
        """The streams of the job, each in a new generation and without a cursor."""
        connection_id = self._connection["id"]
        wanted = job["options"].get("streams")
        keys = None if wanted is None else {(item["namespace"], item["name"]) for item in wanted}
        with self._db.transaction():
            jobs.hold_attempt(self._db, self._job_id, self._number)
            self._reset_shared(connection_id)
            for row in connections.get_streams(self._db, connection_id):
                key = (row["namespace"], row["name"])
                if keys is not None and key not in keys:
                    continue
                generation = connections.bump_generation(self._db, connection_id, *key)
                jobs.add_job_stream(self._db, self._job_id, *key, "reset", generation, generation)
                taken = {**row, "generation_id": generation, "minimum_generation_id": generation}
                connections.save_state(self._db, connection_id, taken, None, self._job_id)
            return jobs.job_streams(self._db, self._job_id)

    def _reset_shared(self, connection_id: UUID) -> None:
        """A change data capture begins a new epoch, since epochs only grow; a connector's state is forgotten."""
        state = connections.get_shared_state(self._db, connection_id)
        if state is not None and CONNECTOR_STATE in state:
            connections.forget_shared_state(self._db, connection_id)
        elif state is not None:
            connections.request_rebuild(self._db, connection_id)

    def _fail(self, error: SyncError) -> None:
        message = scrub(error.message, self._secrets)
        self._log("error", f"{error.origin} {error.kind}: {message}")
        failure = SyncError(error.origin, error.kind, message, error.disables_connection)
        jobs.fail_attempt(self._db, self._job_id, self._number, failure, jobs.Retries(**self._options["retries"]))

    def _log(self, level: str, message: str) -> None:
        jobs.log(self._db, self._job_id, self._number, level, scrub(message, self._secrets))

    def _reach(self, point: str) -> None:
        faults.reach(point, self._options["faults"], self._job_id, self._number, self._options["server_pid"])


def open_destination(db: Connection, job: Job, log: Log, reach: Reach) -> Destination:
    """The destination by its type."""
    kind = S3Lake if isinstance(job.destination, S3Destination) else PostgresTables
    return kind(db, job, log, reach)


def _settle(db: Connection, job_id: int, folder: Path) -> int:
    row = jobs.get_job(db, job_id)
    if row is None or row["status"] not in ("failed", "cancelled"):
        return OVERTAKEN
    connection = _connection(db, row)
    source, destination = _parsed(*_ends(db, connection))
    if isinstance(source, PostgresSource):
        _end_sessions(source, job_id, folder)
    job = Job(job_id, 0, connection, source, destination, datetime.now(UTC), 0)
    open_destination(db, job, lambda level, message: None, lambda point: None).undo(all_of_it=True)
    jobs.set_settled(db, job_id)
    return DONE


def _end_sessions(source: PostgresSource, job_id: int, folder: Path) -> None:
    """A killed worker's query goes on at the source until it next sends a row: stop it now, if we can.

    Returns when it is gone, and its temporary slot with it, or after _SESSION_SECONDS.
    """
    query = sql.SQL(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where application_name = {} and usename = current_user and datname = current_database()"
    ).format(sql.Literal(session_name(job_id)))
    deadline = time.monotonic() + _SESSION_SECONDS
    try:
        with connect_source(source, f"{APPLICATION} settle", folder) as db:
            while db.execute(query).fetchall() and time.monotonic() < deadline:
                time.sleep(0.05)
    except (SyncError, psycopg.Error):
        pass  # the source is away: then it has no query of ours either


def _connection(db: Connection, job: DictRow) -> DictRow:
    """The job's connection, deleted or not."""
    row = db.execute("select * from connections where id = %s", [job["connection_id"]]).fetchone()
    assert row is not None
    return row


def _ends(db: Connection, connection: DictRow) -> tuple[DictRow, DictRow]:
    """Source and destination as they are now; deleted ones still serve to undo things."""
    found = actors.get_actors(db, [connection["source_id"], connection["destination_id"]])
    return found[connection["source_id"]], found[connection["destination_id"]]


def _parsed(source: DictRow, destination: DictRow) -> tuple[Any, Any]:
    """Their configurations; a connector's is its own business and stays as it is."""
    model = AVAILABLE["source"].get(source["type"])
    mine = source["configuration"] if model is None else parse(model, source["configuration"])
    return mine, parse(AVAILABLE["destination"][destination["type"]], destination["configuration"])


def _refresh(job: DictRow) -> Refresh | None:
    if job["type"] != "refresh":
        return None
    streams = job["options"].get("streams")
    keys = None if streams is None else frozenset((item["namespace"], item["name"]) for item in streams)
    return Refresh(job["options"]["mode"] == "truncate", keys)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
