"""Starting a sync once, whatever gets lost on the way. No Airflow.

Airbyte has no idempotency key. What it has is job ids that only grow: the newest id before the first request, kept
in durable memory, tells a job of ours from older ones, even if the reply or the whole process is lost.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from lakehouse_providers.airbyte import errors
from lakehouse_providers.airbyte.client import AirbyteClient
from lakehouse_providers.airbyte.models import SUCCEEDED, SyncJob

log = logging.getLogger(__name__)

OnRunning = Literal["adopt", "wait", "fail"]
_UNCERTAIN = (errors.AirbyteUnreachableError, errors.AirbyteUnavailableError)


class Remembers(Protocol):
    def read(self) -> dict[str, Any]: ...

    def write(self, value: Mapping[str, Any]) -> None: ...


class ConnectionBusyError(errors.AirbyteError):
    """Somebody else's sync of this connection runs; carries its job."""

    def __init__(self, job: SyncJob) -> None:
        self.job = job
        super().__init__(f"Airbyte job {job.id} of this connection is {job.status}; a connection runs one at a time")


@dataclass(frozen=True)
class Started:
    """`adopted`: the job was not created by this call."""

    job: SyncJob
    adopted: bool


@dataclass(frozen=True)
class Submission:
    """`looks`: seconds to wait before each look for a job whose creation got no reply."""

    client: AirbyteClient
    memory: Remembers
    on_running: OnRunning = "adopt"
    looks: Sequence[float] = (0.0, 2.0, 5.0, 10.0)
    attempts: int = 4

    def start(self, connection_id: str) -> Started:
        """Gives a job that runs or has succeeded. Raises ConnectionBusyError by `on_running`, else AirbyteError."""
        own = self._left_over(connection_id)
        if own is not None:
            log.info("Adopting job %s (%s) of an earlier try", own.id, own.status)
            return Started(own, adopted=True)
        jobs = self.client.newest_jobs(connection_id)
        running = _running(jobs)
        if running is not None:
            return self._busy(connection_id, running)
        floor = max((job.id for job in jobs), default=0)
        self.memory.write({"connection_id": connection_id, "floor": floor})
        started = self._create(connection_id, floor)
        self._remember(connection_id, started.job)
        return started

    def unconfirmed(self) -> SyncJob | None:
        """The running job of a request whose reply never came; for a kill at that moment."""
        record = self.memory.read()
        if "floor" not in record:
            return None
        return _running(self.client.jobs(record["connection_id"], after=int(record["floor"])))

    def _left_over(self, connection_id: str) -> SyncJob | None:
        record = self.memory.read()
        if record.get("connection_id") != connection_id:
            return None
        if "job_id" in record:
            try:
                job: SyncJob | None = self.client.job(int(record["job_id"]))
            except errors.AirbyteNotFoundError:
                job = None
        else:
            job = _newest(self.client.jobs(connection_id, after=int(record["floor"])))
        return job if job is not None and _worth_keeping(job) else None

    def _busy(self, connection_id: str, running: SyncJob) -> Started:
        if self.on_running != "adopt":
            raise ConnectionBusyError(running)
        log.info("A sync of this connection already runs; adopting job %s", running.id)
        self._remember(connection_id, running)
        return Started(running, adopted=True)

    def _create(self, connection_id: str, floor: int) -> Started:
        for attempt in range(1, self.attempts + 1):
            try:
                return Started(self.client.create_job(connection_id), adopted=False)
            except errors.AirbyteConflictError as error:
                problem: errors.AirbyteError = error
                running = _running(self.client.newest_jobs(connection_id))
                if running is not None:
                    # Above the floor it may be the job of our own request whose reply was lost.
                    return Started(running, True) if running.id > floor else self._busy(connection_id, running)
                if error.title == "state-conflict":
                    raise
            except _UNCERTAIN as error:
                problem = error
            found = self._look(connection_id, floor)
            if found is not None:
                log.info("The reply to the creation was lost; found job %s", found.id)
                return Started(found, adopted=True)
            log.warning("No sync was started (attempt %s of %s): %s", attempt, self.attempts, problem)
        raise problem

    def _look(self, connection_id: str, floor: int) -> SyncJob | None:
        for pause in self.looks:
            time.sleep(pause)
            job = _newest(self.client.jobs(connection_id, after=floor))
            if job is not None:
                return job if _worth_keeping(job) else None
        return None

    def _remember(self, connection_id: str, job: SyncJob) -> None:
        self.memory.write({"connection_id": connection_id, "job_id": job.id})


def _worth_keeping(job: SyncJob) -> bool:
    return not job.final or job.status == SUCCEEDED


def _newest(jobs: Sequence[SyncJob]) -> SyncJob | None:
    return jobs[0] if jobs else None


def _running(jobs: Sequence[SyncJob]) -> SyncJob | None:
    return next((job for job in jobs if not job.final), None)
