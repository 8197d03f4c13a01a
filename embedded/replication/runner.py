"""Starts a worker process for each due job, watches it, and tidies up after those that did not end well.

One server at a time runs jobs against a database: it holds an advisory lock. With the lock in hand, every attempt that
claims to run without being a child of ours is an orphan of a server that died.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg_pool import PoolTimeout

from embedded.replication import protocol
from embedded.replication.failures import SyncError
from embedded.replication.faults import Faults
from embedded.replication.nursery import Nursery, Worker
from embedded.replication.protocol_connectors.process import INHERITED
from embedded.replication.protocol_connectors.registry import FOLDER
from embedded.replication.scratch import Scratch
from embedded.replication.settings import Settings
from embedded.replication.store import connections, jobs
from embedded.replication.store.database import RUNNER_LOCK, Connection, Pool, connect

log = logging.getLogger(__name__)

_TICK_SECONDS = 1.0
# Between two tries to settle a job, doubled with each: its destination may be away for long.
_SETTLE_SECONDS, _LONGEST_SETTLE_SECONDS = 30.0, 3600.0
# A worker that knows its source is silent says so itself; the runner waits this much longer.
_LATER_SECONDS = 30.0
_ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Child:
    """A running worker. `attempt` is 0 for one that settles an ended job."""

    process: Worker
    job_id: int
    attempt: int
    deadline: float
    folder: Path
    stopped_because: str | None = None

    def kill(self) -> None:
        """End the whole process group; it may have ended by itself."""
        self.process.kill()


class Runner:
    """A thread that owns all worker processes."""

    def __init__(self, settings: Settings, pool: Pool, faults: Faults, scratch: Scratch) -> None:
        self._settings = settings
        self._scratch = scratch
        self._retries = jobs.Retries(settings.max_attempts, settings.retry_seconds, settings.disable_after)
        self._pool = pool
        self._faults = faults
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._mutex = threading.Lock()
        self._children: list[Child] = []
        self._lock: Connection | None = None
        self._settling: dict[int, tuple[float, float]] = {}  # by job: when to try again, and the wait after that
        self._nursery = Nursery(self._environment, self._wake.set)
        self._thread = threading.Thread(target=self._loop, name="runner", daemon=True)
        self.leading = False

    def start(self) -> None:
        self._nursery.start()
        self._thread.start()

    def stop(self) -> None:
        """End all workers; their jobs go on with the next start."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout=20)

    def wake(self) -> None:
        """Look for due jobs now."""
        self._wake.set()

    def kill(self, job_id: int) -> None:
        """End the worker of a job that was cancelled."""
        with self._mutex:
            for child in self._children:
                if child.job_id == job_id and child.attempt:
                    child.kill()
        self._wake.set()

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                if self._lead():
                    self._tick()
            except (psycopg.Error, PoolTimeout) as error:
                log.warning("the state database does not answer, trying again: %s", error)
            except Exception:
                log.exception("the runner failed, trying again")
            self._wake.wait(_TICK_SECONDS)
            self._wake.clear()
        self._shut_down()

    def _lead(self) -> bool:
        """Hold the advisory lock, taking it if need be."""
        if self._lock is not None:
            try:
                self._lock.execute("select 1")
                return True
            except psycopg.Error:
                log.warning("lost the connection that holds the runner's lock")
                self._lock.close()
                self._lock = None
        lock = connect(self._settings.database_url)
        row = lock.execute("select pg_try_advisory_lock(%s) as held", [RUNNER_LOCK]).fetchone()
        if not row or not row["held"]:
            lock.close()
            self.leading = False
            with self._mutex:
                for child in self._children:
                    child.kill()  # another server runs the jobs now
            return False
        self._lock = lock
        self.leading = True
        self._reap_orphans()
        return True

    def _reap_orphans(self) -> None:
        mine = {(child.job_id, child.attempt) for child in self._children}
        with self._pool.connection() as db:
            for row in jobs.running_attempts(db):
                if (row["job_id"], row["number"]) not in mine:
                    log.warning("job %s: attempt %s was left by a server that died", row["job_id"], row["number"])
                    message = "The replication server stopped while this attempt was running."
                    self._fail(db, row["job_id"], row["number"], message, at_once=True)

    def _fail(self, db: Connection, job_id: int, attempt: int, message: str, *, at_once: bool) -> None:
        status = jobs.fail_attempt(
            db,
            job_id,
            attempt,
            SyncError("replication", "system_error", message),
            self._retries,
            at_once=at_once,
        )
        if status is not None:
            jobs.log(db, job_id, attempt, "error", message)

    def _tick(self) -> None:
        with self._pool.connection() as db:
            self._stop_silent(db)
            self._collect(db)
            self._drop_stale(db)
            self._dispatch(db)
            self._settle(db)

    def _collect(self, db: Connection) -> None:
        """See which workers have ended, and speak for those that could not say why."""
        for child in list(self._children):
            if child.process.poll() is None:
                if child.attempt and time.monotonic() > child.deadline:
                    limit = self._settings.job_seconds
                    child.stopped_because = f"The attempt ran longer than {limit:.0f} s and was stopped."
                    child.kill()
                continue
            if child.attempt and child.process.returncode != protocol.DONE:
                self._fail(db, child.job_id, child.attempt, self._epitaph(child), at_once=False)
            shutil.rmtree(child.folder, ignore_errors=True)
            with self._mutex:
                self._children.remove(child)

    def _stop_silent(self, db: Connection) -> None:
        """End attempts that heard nothing from their source. The worker itself knows first where it can know."""
        limit = self._settings.heartbeat_seconds
        silent = jobs.silent_attempts(db, limit + _LATER_SECONDS)
        for child in self._children:
            if (child.job_id, child.attempt) in silent and child.stopped_because is None:
                child.stopped_because = f"Nothing came from the source for {limit:.0f} s; the attempt was stopped."
                child.kill()

    def _drop_stale(self, db: Connection) -> None:
        limit = self._settings.pending_seconds
        reason = SyncError("replication", "transient_error", f"The job could not begin within {limit:.0f} s.")
        for job_id in jobs.stale_jobs(db, limit):
            jobs.cancel_job(db, job_id, reason.as_json())
            jobs.log(db, job_id, 0, "error", reason.message)

    def _epitaph(self, child: Child) -> str:
        if child.stopped_because is not None:
            return child.stopped_because
        code = child.process.returncode or 0
        if code < 0:
            name = signal.Signals(-code).name
            hint = " (out of memory?)" if name == "SIGKILL" else ""
            return f"The worker process was killed by {name}{hint}."
        return f"The worker process ended with code {code}; see the server's log."

    def _dispatch(self, db: Connection) -> None:
        free = self._settings.max_jobs - sum(1 for child in self._children if child.attempt)
        for job in jobs.due_jobs(db, free) if free > 0 else []:
            connection = connections.get_connection(db, job["connection_id"])
            if connection is None or connection["status"] != "active":
                message = "The connection is not active."
                jobs.cancel_job(db, job["id"], SyncError("replication", "config_error", message).as_json())
                continue
            attempt = jobs.start_attempt(db, job["id"])
            if attempt is not None:
                try:
                    self._spawn(job["id"], attempt)
                except OSError as error:
                    self._fail(db, job["id"], attempt, f"No worker could be started: {error}.", at_once=False)

    def _settle(self, db: Connection) -> None:
        """Undo what ended jobs left in source and destination, again and again until it is done."""
        busy = {child.job_id for child in self._children}
        room = self._settings.max_jobs - sum(1 for child in self._children if not child.attempt)
        first, now = (0.0, _SETTLE_SECONDS), time.monotonic()
        self._settling = {job_id: self._settling.get(job_id, first) for job_id in jobs.unsettled_jobs(db)}
        due = [job_id for job_id, (at, _) in self._settling.items() if job_id not in busy and now >= at]
        for job_id in due[: max(0, room)]:
            _, wait = self._settling[job_id]
            self._settling[job_id] = (now + wait, min(2 * wait, _LONGEST_SETTLE_SECONDS))
            self._spawn(job_id, 0)

    def _spawn(self, job_id: int, attempt: int) -> None:
        arguments = ["sync", str(job_id), str(attempt)] if attempt else ["settle", str(job_id)]
        folder = self._scratch.new(f"job-{job_id}-{attempt or 'settle'}")
        process = self._nursery.spawn(arguments, json.dumps(self._options(folder)))
        child = Child(process, job_id, attempt, time.monotonic() + self._settings.job_seconds, folder)
        with self._mutex:
            self._children.append(child)
        log.info("job %s: attempt %s runs as process %s", job_id, attempt or "settle", process.pid)

    def _options(self, folder: Path) -> dict[str, Any]:
        return {
            "folder": str(folder),
            "retries": asdict(self._retries),
            "heartbeat_seconds": self._settings.heartbeat_seconds,
            "checkpoint_seconds": self._settings.checkpoint_seconds,
            "discover_seconds": self._settings.discover_seconds,
            "object_bytes": int(self._settings.object_mb * 1024 * 1024),
            "server_pid": os.getpid(),
            "faults": self._faults.sync,
        }

    def _environment(self) -> dict[str, str]:
        """Only what a worker needs: no credential but the database's."""
        kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "AWS_CA_BUNDLE", FOLDER, *INHERITED)
        return {
            **{name: os.environ[name] for name in kept if name in os.environ},
            protocol.DATABASE: self._settings.database_url,
            "PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "PYTHONUNBUFFERED": "1",
            # One sync has few threads: glibc's arena per thread would only spread its memory.
            "MALLOC_ARENA_MAX": "2",
            "OMP_NUM_THREADS": "1",
            "ARROW_DEFAULT_MEMORY_POOL": "system",  # 30 MB less than Arrow's own allocators, for the same CPU
            "AWS_EC2_METADATA_DISABLED": os.environ.get("AWS_EC2_METADATA_DISABLED", "false"),
        }

    def _shut_down(self) -> None:
        for child in self._children:
            child.kill()
        for child in self._children:
            child.process.wait(timeout=10)
        self._nursery.stop()
        try:
            with self._pool.connection(timeout=3) as db:
                for child in self._children:
                    if child.attempt:
                        message = "The replication server was stopped while this attempt was running."
                        self._fail(db, child.job_id, child.attempt, message, at_once=True)
        except (psycopg.Error, PoolTimeout) as error:
            log.warning("could not record the stopped attempts, the next start will: %s", error)
        if self._lock is not None:
            self._lock.close()
