"""Takes statements, runs a bounded number at once, cancels, limits their time, remembers the ends."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

from embedded.sql import clock
from embedded.sql.datasets import Outcome, Path, Relationship
from embedded.sql.errors import NotFound, ResourceError, SqlError
from embedded.sql.jobs import model
from embedded.sql.jobs.model import Job
from embedded.sql.jobs.results import Results
from embedded.sql.jobs.store import JobStore

log = logging.getLogger(__name__)

_REMEMBERED = 2000  # ended jobs that need no look into PostgreSQL
_CURRENT = threading.local()


def current() -> Job | None:
    """The job that this thread is working on."""
    return getattr(_CURRENT, "job", None)


@contextlib.contextmanager
def working_on(job: Job) -> Iterator[None]:
    """Tell `current`, in this thread, that it does this job's work."""
    before = current()
    _CURRENT.job = job
    try:
        yield
    finally:
        _CURRENT.job = before


class Jobs:
    """`interrupt(job_id)` is the engine's: it stops the statement that runs for that job."""

    def __init__(
        self,
        store: JobStore,
        results: Results,
        interrupt: Callable[[str], object],
        *,
        workers: int,
        queue_limit: int,
        time_limit: float,
    ) -> None:
        self._store = store
        self._results = results
        self._interrupt = interrupt
        self._time_limit = time_limit
        self._queues: dict[str, queue.Queue[Job | None]] = {
            "REST": queue.Queue(queue_limit),
            "REFLECTION": queue.Queue(),
        }
        self._live: dict[str, Job] = {}
        self._ended: OrderedDict[str, Job] = OrderedDict()
        self._guard = threading.Lock()
        self._stop = threading.Event()
        # Refreshes have a worker of their own: a long one must not keep readers waiting.
        names = ["REST"] * workers + ["REFLECTION"]
        self._threads = [
            threading.Thread(target=self._work, args=(name,), name=f"{name.lower()}-{number}", daemon=True)
            for number, name in enumerate(names)
        ]
        self._threads.append(threading.Thread(target=self._keep_time, name="time-limits", daemon=True))

    def start(self) -> None:
        lost = self._store.fail_lost()
        if lost:
            log.warning("%d jobs were running when the server stopped; they are FAILED now", len(lost))
        for thread in self._threads:
            thread.start()

    def stop(self, patience: float = 5.0) -> None:
        """Cancel what runs, let the workers end."""
        self._stop.set()
        for job in list(self._live.values()):
            self.request_cancel(job, "The server is shutting down")
        for name, line in self._queues.items():
            for thread in self._threads:
                if thread.name.startswith(name.lower()):
                    with contextlib.suppress(queue.Full):
                        line.put_nowait(None)
        deadline = time.monotonic() + patience
        for thread in self._threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))

    # Taking -----------------------------------------------------------------------------------------------------

    def submit(self, job: Job, *, line: str = "REST") -> Job:
        """Accept a job: durable in PostgreSQL when this returns. Raises ResourceError (503) when too many wait."""
        if self._queues[line].full():
            raise ResourceError("Too many queries are waiting: try again later")
        self.accept(job)
        self._queues[line].put(job)
        return job

    def accept(self, job: Job) -> None:
        """Take a job that its caller begins, and ends by `complete` or `fail`: durable when this returns."""
        if self._stop.is_set():
            raise ResourceError("The server is shutting down")
        job.state = model.PENDING
        self._store.insert(job)
        with self._guard:
            self._live[job.id] = job

    def get(self, job_id: str) -> Job:
        """Raises NotFound in Dremio's words."""
        job = self._live.get(job_id) or self._ended.get(job_id) or self._store.get(job_id)
        if job is None:
            raise NotFound(f"Could not find a job with id [{job_id}]")
        return job

    def recent(self) -> list[Job]:
        """The last thousand, as they stand now."""
        return [self._live.get(job.id, job) for job in self._store.recent()]

    def oldest_start(self) -> datetime | None:
        """When the longest running job began; None when nothing runs."""
        return min((job.started_at for job in list(self._live.values()) if job.started_at is not None), default=None)

    def cancel(self, job_id: str, user: str) -> None:
        """Ask a job to stop; nothing happens to one that has ended."""
        job = self.get(job_id)
        self.request_cancel(job, f"Query cancelled by user '{user}'")

    def request_cancel(self, job: Job, reason: str) -> None:
        """What `cancel` does, for a reason of the server's own."""
        with job.guard:
            if job.final or job.state == model.CANCELLATION_REQUESTED:
                return
            waiting = job.started_at is None
            job.state = model.CANCELLATION_REQUESTED
            job.cancellation_reason = reason
        if waiting:
            self._end(job, model.CANCELED)
        else:
            self._interrupt(job.id)

    # Working ----------------------------------------------------------------------------------------------------

    def _work(self, line: str) -> None:
        while not self._stop.is_set():
            job = self._queues[line].get()
            if job is not None:
                self._carry_out(job)

    def begin(self, job: Job) -> bool:
        """Start the clock of an accepted job; False when it was cancelled while it waited."""
        with job.guard:
            if job.state != model.PENDING:
                return False
            job.started_at = clock.now()
            job.deadline = time.monotonic() + self._time_limit
            job.state = model.METADATA_RETRIEVAL
            return True

    def _carry_out(self, job: Job) -> None:
        if not self.begin(job):
            return
        try:
            assert job.run is not None
            with working_on(job):
                outcome = job.run(job)
                self._keep_outcome(job, outcome)
        except Exception as error:  # whatever a statement does, the worker lives on and the job ends
            self.fail(job, error)
        else:
            self._end(job, model.COMPLETED)

    def _keep_outcome(self, job: Job, outcome: Outcome) -> None:
        self._results.put(job.id, outcome.table)
        job.row_count = outcome.table.num_rows
        if job.query_type == "REST":
            job.query_type = outcome.query_type
        note(job, outcome.scanned, outcome.reflections)

    def complete(self, job: Job, rows: int) -> None:
        """The end of a job whose rows its reader has got."""
        job.row_count = rows
        self._end(job, model.COMPLETED)

    def fail(self, job: Job, error: Exception) -> None:
        """The end of a job that was cancelled, ran out of time or failed; which, the job tells."""
        if job.timed_out:
            job.error = f"RESOURCE ERROR: Query exceeded the time limit of {self._time_limit:g} seconds and was stopped"
            self._end(job, model.FAILED)
        elif job.state == model.CANCELLATION_REQUESTED:
            self._end(job, model.CANCELED)
        else:
            job.error = _message(job, error)
            self._end(job, model.FAILED)

    def _end(self, job: Job, state: str) -> None:
        """Durable first, visible second."""
        with job.guard:
            if job.final:
                return
            if state != model.CANCELED:
                job.cancellation_reason = ""
            job.ended_at = clock.now()
            if not self._persist(job, state):
                return
            job.state = state
        if job.on_end is not None:
            self._tell(job)
        with self._guard:
            self._live.pop(job.id, None)
            self._ended[job.id] = job
            while len(self._ended) > _REMEMBERED:
                self._ended.popitem(last=False)
        job.run = job.on_end = None
        job.done.set()

    def _tell(self, job: Job) -> None:
        assert job.on_end is not None
        try:
            job.on_end(job)
        except Exception:
            log.exception("What follows the end of job %s failed", job.id)

    def _persist(self, job: Job, state: str) -> bool:
        """Hold the end back until PostgreSQL has it; False: the server stops, and leaves it to the next start."""
        delay = 0.1
        while True:
            try:
                self._store.finish(job, state)
                return True
            except SqlError as error:
                log.warning("The end of job %s cannot be written yet: %s", job.id, error)
                if self._stop.wait(delay):
                    return False
                delay = min(delay * 2, 5.0)

    def _keep_time(self) -> None:
        while not self._stop.wait(0.5):
            for job in list(self._live.values()):
                if job.check_deadline():
                    log.warning("Job %s has run for %g s: stopping it", job.id, self._time_limit)
                if job.cancelled():
                    # Again and again: an interrupt that comes just before a statement starts is lost.
                    self._interrupt(job.id)

    # Keeping house ----------------------------------------------------------------------------------------------

    def clean(self, job_age: float, result_age: float, result_bytes: int) -> None:
        """Forget results and jobs older than so many seconds, and the oldest results beyond so many bytes."""
        self._results.expire(result_age, result_bytes)
        self._store.expire(clock.now() - timedelta(seconds=job_age), self._results.forget)
        limit = clock.now() - timedelta(seconds=job_age)
        with self._guard:
            for job_id in [job.id for job in self._ended.values() if job.ended_at and job.ended_at < limit]:
                del self._ended[job_id]


def note(job: Job, scanned: Sequence[Path], reflections: Sequence[Relationship]) -> None:
    """What a statement read, for those who look at its job."""
    job.details["scanned"] = [list(path) for path in scanned]
    job.details["reflections"] = [
        {"reflectionId": reflection, "datasetPath": list(path), "relationship": relationship}
        for reflection, path, relationship in reflections
    ]


def _message(job: Job, error: Exception) -> str:
    if isinstance(error, SqlError):
        return error.message
    if isinstance(error, OSError) and error.errno == 28:
        return f"RESOURCE ERROR: The disk of the scratch folder is full ({error})"
    log.error("Job %s failed unexpectedly", job.id, exc_info=error)
    return f"SYSTEM ERROR: {type(error).__name__}: {error}"
