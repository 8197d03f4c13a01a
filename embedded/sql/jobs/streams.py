"""Jobs whose rows go to their reader while they are computed: nothing is kept, memory does not grow with the result.

A slot is held only while the database works for a reader, never while a reader is slow. What a reader leaves behind
(it never came, it went away, it stopped reading) is let go of, and its job ends CANCELED.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyarrow as pa

from embedded.sql.engine_port import Rows
from embedded.sql.errors import Cancelled, ResourceError, SqlError
from embedded.sql.jobs.model import Job
from embedded.sql.jobs.service import Jobs, note, working_on

log = logging.getLogger(__name__)

LOOK_EVERY = 0.25  # seconds
Gone = Callable[[], bool]


class Stream:
    """One running statement and its rows. `next` from one thread at a time, `close` from any."""

    def __init__(self, job: Job, owner: Streams) -> None:
        self.job = job
        self.claimed = False  # a reader has come
        self.rows: Rows | None = None
        self.gone: Gone | None = None  # asks whether the caller that waits for the first row has left
        self.moved = time.monotonic()
        self._owner = owner
        self._count = 0
        self.busy = False  # a thread works for it, or waits for a slot
        self._guard = threading.Lock()

    @property
    def schema(self) -> pa.Schema:
        assert self.rows is not None
        return self.rows.schema

    @property
    def idle(self) -> float:
        """Seconds for which nobody has wanted anything."""
        return 0.0 if self.busy else time.monotonic() - self.moved

    def next(self) -> pa.RecordBatch | None:
        """The next batch, None after the last one. Raises SqlError; the job has ended then."""
        assert self.rows is not None
        self.busy = True
        try:
            with self._owner.slot(self), working_on(self.job):
                batch = self.rows.next()
        except Exception as error:
            self.end(error)
            raise
        finally:
            self.moved, self.busy = time.monotonic(), False
        if batch is None:
            self.end(None)
        else:
            self._count += batch.num_rows
        return batch

    def close(self, reason: str = "The client closed the stream") -> None:
        """Let go of it; a job that has not ended is cancelled."""
        if not self.job.final:
            self._owner.jobs.request_cancel(self.job, reason)
        self.end(Cancelled(reason))

    def end(self, error: Exception | None) -> None:
        """Free what it holds, then end the job; only the first end counts."""
        if self.rows is not None:
            self.rows.close()
        with self._guard:
            self._owner.forget(self)
            if self.job.final:
                return
            if error is None:
                self._owner.jobs.complete(self.job, self._count)
            else:
                self._owner.jobs.fail(self.job, error)


class Streams:
    """`open_rows` plans and starts a job's statement. Durations are seconds."""

    def __init__(
        self,
        jobs: Jobs,
        open_rows: Callable[[Job], Rows],
        *,
        slots: int,
        limit: int,
        unclaimed: float,
        idle: float,
    ) -> None:
        self.jobs = jobs
        self._open_rows = open_rows
        self._limit = limit
        self._unclaimed = unclaimed
        self._idle = idle
        self._slots = threading.Semaphore(slots)
        self._open: dict[str, Stream] = {}
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="streams", daemon=True)

    def start(self) -> None:
        self._watcher.start()

    def stop(self) -> None:
        self._stop.set()
        if self._watcher.is_alive():
            self._watcher.join(timeout=5)
        for stream in self._all():
            stream.close("The server is shutting down")

    def open(self, job: Job, gone: Gone = lambda: False) -> Stream:
        """Run a job up to its first row. Raises SqlError: it is the job's error, or the server is too busy (503).

        `gone` tells whether the caller has left; it is asked only until this returns.
        """
        stream = Stream(job, self)
        with self._guard:
            if len(self._open) >= self._limit:
                raise ResourceError("Too many queries are waiting or being read: try again later")
            self._open[job.id] = stream
        try:
            self.jobs.accept(job)
        except SqlError:
            self.forget(stream)
            raise
        stream.gone, stream.busy = gone, True
        try:
            with self.slot(stream), working_on(job):
                if not self.jobs.begin(job):
                    raise Cancelled("Query cancelled by user")
                stream.rows = self._open_rows(job)
            note(job, stream.rows.scanned, stream.rows.reflections)
        except Exception as error:
            self._leave(stream)
            stream.end(error)
            raise
        self._leave(stream)
        return stream

    def _leave(self, stream: Stream) -> None:
        with self._guard:  # the watcher asks `gone` under this lock: afterwards the caller's context may end
            stream.gone = None
        stream.moved, stream.busy = time.monotonic(), False

    def claim(self, job_id: str, user: str) -> Stream | None:
        """The stream that waits for this user's reader; None when there is none, or its reader has come."""
        with self._guard:
            stream = self._open.get(job_id)
            if stream is None or stream.claimed or stream.rows is None or stream.job.user != user:
                return None
            stream.claimed, stream.moved = True, time.monotonic()
            return stream

    def cancel(self, job_id: str, user: str) -> bool:
        """Ask this user's stream to stop; False when there is none."""
        with self._guard:
            stream = self._open.get(job_id)
        if stream is None or stream.job.user != user:
            return False
        self.jobs.request_cancel(stream.job, f"Query cancelled by user '{user}'")
        return True

    def forget(self, stream: Stream) -> None:
        with self._guard:
            self._open.pop(stream.job.id, None)

    @contextmanager
    def slot(self, stream: Stream) -> Iterator[None]:
        """One of the places at the database; waiting for it ends when the job is cancelled."""
        while not self._slots.acquire(timeout=LOOK_EVERY):
            if stream.job.cancelled():
                raise Cancelled("Query cancelled by user")
        try:
            yield
        finally:
            self._slots.release()

    def _all(self) -> list[Stream]:
        with self._guard:
            return list(self._open.values())

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_EVERY):
            for stream in self._all():
                try:
                    self._look_at(stream)
                except SqlError as error:
                    log.warning("Stream of job %s: %s", stream.job.id, error)

    def _look_at(self, stream: Stream) -> None:
        with self._guard:
            left = stream.gone is not None and stream.gone()
        if left:
            self.jobs.request_cancel(stream.job, "The client went away")
        if stream.busy or stream.rows is None:
            return  # that thread ends it when the job is cancelled
        if stream.job.cancelled():
            stream.end(Cancelled("Query cancelled by user"))
        elif not stream.claimed and stream.idle > self._unclaimed:
            stream.close(f"Nobody fetched the result for {self._unclaimed:g} seconds")
        elif stream.idle > self._idle:
            stream.close(f"The client read nothing for {self._idle:g} seconds")
