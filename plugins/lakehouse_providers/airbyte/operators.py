"""One sync as a task that survives lost replies, restarts and outages, and never starts the same sync twice."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.providers.airbyte.operators.airbyte import AirbyteTriggerSyncOperator
from airflow.sdk import BaseOperatorLink, Context

from lakehouse_providers.airbyte import errors, lineage
from lakehouse_providers.airbyte.client import AirbyteClient, Body
from lakehouse_providers.airbyte.hook import AirbyteSyncHook
from lakehouse_providers.airbyte.models import CANCELLED, SUCCEEDED, SyncJob
from lakehouse_providers.airbyte.submission import ConnectionBusyError, OnRunning, Submission
from lakehouse_providers.airbyte.triggers import AirbyteJobTrigger
from lakehouse_providers.airbyte.watch import Event, watch_sync
from lakehouse_providers.deferral import Memory, XComLink, push
from lakehouse_providers.polling import Pace

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors.base import OperatorLineage

JOB_URL = "airbyte_job_url"
# Between the first looks at a sync that may be over soon.
SHORT_SECONDS = 0.2


class AirbyteJobLink(XComLink):
    """Opens the job on its connection's timeline in Airbyte."""

    name = "Airbyte job"
    key = JOB_URL


class AirbyteSyncOperator(AirbyteTriggerSyncOperator):
    """Syncs an Airbyte connection; takes all arguments of the official operator, and these.

    :param connection_id: the connection's UUID. Templated. Or give
    :param connection_name: its name, which must be unique in Airbyte. Templated.
    :param on_running: what to do when somebody else's sync of the connection runs: adopt it (default; the facts then
        say `adopted`), wait for its end and then start an own one, or fail.
    :param poll_interval: seconds between looks while deferred, jittered (wait_seconds counts only when not deferred).
    :param defer_after: seconds in which a short sync may end before the task defers, which costs Airflow a few itself.
    :param cancel_on_timeout: cancel the job after `timeout` seconds; otherwise the next try adopts it.
    :return: {"job_id", "connection_id", "connection", "status", "rows", "bytes", "duration_seconds", "started_at",
        "ended_at", "adopted", "url", "streams"}; with `asynchronous` just the job id
    """

    template_fields: Sequence[str] = ("connection_id", "connection_name", "airbyte_conn_id")
    operator_extra_links: tuple[BaseOperatorLink, ...] = (AirbyteJobLink(),)

    def __init__(
        self,
        *,
        connection_id: str | None = None,
        connection_name: str | None = None,
        on_running: OnRunning = "adopt",
        poll_interval: float = 10.0,
        defer_after: float = 0.0,
        cancel_on_timeout: bool = True,
        deferrable: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(connection_id=connection_id or "", deferrable=deferrable, **kwargs)
        if on_running not in ("adopt", "wait", "fail"):
            raise ValueError(f"on_running must be adopt, wait or fail, not {on_running!r}")
        if bool(connection_id) == bool(connection_name):
            raise ValueError("give either connection_id or connection_name")
        self.connection_name = connection_name
        self.on_running = on_running
        self.poll_interval = poll_interval
        self.defer_after = defer_after
        self.cancel_on_timeout = cancel_on_timeout
        self.job_id: int | None = None
        self._submission: Submission | None = None
        self._finished: Body | None = None

    def execute(self, context: Context) -> Any:
        hook = AirbyteSyncHook(self.airbyte_conn_id)
        memory = Memory(context, "airbyte_job", keep=dt.timedelta(days=2))
        with hook.client() as client:
            connection = self._connection(client)
            self._submission = Submission(client, memory, self.on_running)
            try:
                started = self._submission.start(connection["connectionId"])
            except ConnectionBusyError as busy:
                if self.on_running != "wait":
                    raise
                return self._wait_for_other(context, busy.job)
            self.job_id = started.job.id
            url = _url(client, started.job, connection, _report(client, self.job_id))
        push(context, JOB_URL, url)
        self.log.info("Airbyte job %s is %s: %s", self.job_id, started.job.status, url)
        if self.asynchronous:
            return self.job_id
        event = self._event(self.job_id, adopted=started.adopted, method="execute_complete")
        return self.execute_complete(context, event)

    def _connection(self, client: AirbyteClient) -> Body:
        if self.connection_name:
            body = client.get("connection", client.connection_id(self.connection_name))
        else:
            body = client.get("connection", self.connection_id)
        status = body.get("status", "active")
        if status != "active":
            raise errors.AirbyteConfigurationError(
                f"Airbyte connection {body.get('name', self.connection_id)!r} is {status}; activate it there first. "
                f"{body.get('statusReason') or ''}".strip()
            )
        return body

    def _event(self, job_id: int, *, adopted: bool, method: str) -> Event:
        """Defers, or waits here and gives the same event the trigger would give."""
        deadline = time.time() + self._patience()
        if self.deferrable:
            event = self._short(job_id)
            if event is None:
                self.defer(
                    trigger=AirbyteJobTrigger(job_id, self.airbyte_conn_id, deadline, self.poll_interval, adopted),
                    method_name=method,
                )
        else:
            event = self._watch(job_id, Pace(self.wait_seconds, self.wait_seconds, deadline))
        return {**event, "adopted": adopted}

    def _short(self, job_id: int) -> Event | None:
        """The end of a sync that is over within `defer_after`, else None."""
        if self.defer_after <= 0:
            return None
        event = self._watch(job_id, Pace(SHORT_SECONDS, self.poll_interval, time.time() + self.defer_after))
        return None if event["status"] == "timeout" else event

    def _watch(self, job_id: int, pace: Pace) -> Event:
        return asyncio.run(watch_sync(AirbyteSyncHook(self.airbyte_conn_id).endpoint(), job_id, pace))

    def _patience(self) -> float:
        """Seconds. Airflow itself does not apply execution_timeout to a deferred task."""
        limits = [self.timeout]
        if self.execution_timeout is not None and self.deferrable:
            limits.append(self.execution_timeout.total_seconds())
        return min(limits)

    def _wait_for_other(self, context: Context, job: SyncJob) -> Any:
        self.log.info("Waiting for the end of job %s, which somebody else started", job.id)
        return self.execute_after_other(context, self._event(job.id, adopted=True, method="execute_after_other"))

    def execute_after_other(self, context: Context, event: Event) -> Any:
        """Resumes when the sync that was in the way has ended."""
        if event["status"] in ("timeout", "error"):
            raise errors.AirbyteError(f"{event['message']}; it blocks this connection and was not started by this task")
        return self.execute(context)

    def execute_complete(self, context: Context, event: Any = None) -> Any:
        """Resumes with the job's end. Raises AirbyteJobError with Airbyte's reason where there is one."""
        job_id, status = int(event["job_id"]), event["status"]
        self.job_id = job_id
        memory = Memory(context, "airbyte_job")
        if status == "error":
            raise errors.AirbyteError(event["message"])  # the job may still run: the next try adopts it
        if status == "timeout":
            raise self._timed_out(job_id, memory)
        if status == CANCELLED and event.get("adopted"):
            # The try before may have cancelled it while we adopted it; a run needs a sync of its own then.
            self.log.info("The adopted job %s was cancelled; starting another", job_id)
            memory.forget()
            return self.execute(context)
        with AirbyteSyncHook(self.airbyte_conn_id).client() as client:
            job = client.job(job_id)
            report = _report(client, job_id)
            connection = _quietly(client, job.connection_id)
        memory.forget()  # only now: a try that fails before this must not start another sync
        url = _url(client, job, connection, report)
        if status != SUCCEEDED:
            kind = errors.AirbyteJobCancelledError if status == CANCELLED else errors.AirbyteJobFailedError
            raise kind(job_id, status, reason(report), url)
        facts = {
            "job_id": job.id,
            "connection_id": job.connection_id,
            "connection": connection.get("name"),
            "status": job.status,
            "rows": job.rows,
            "bytes": job.bytes,
            "duration_seconds": job.seconds,
            "started_at": job.started_at,
            "ended_at": job.updated_at,
            "adopted": bool(event.get("adopted")),
            "url": url,
            "streams": report.get("streams"),
        }
        self._finished = facts
        self.log.info("Airbyte job %(job_id)s: %(rows)s rows, %(bytes)s bytes in %(duration_seconds)s s", facts)
        return facts

    def _timed_out(self, job_id: int, memory: Memory) -> errors.AirbyteJobTimeoutError:
        limit = f"not finished after {self._patience():g} s"
        cancel = self.cancel_on_timeout or self._patience() < self.timeout  # execution_timeout always cancels
        if not cancel:
            return errors.AirbyteJobTimeoutError(job_id, "runs on", f"{limit}; the next try adopts it")
        with AirbyteSyncHook(self.airbyte_conn_id).client() as client:
            client.cancel_job(job_id)
        memory.forget()
        return errors.AirbyteJobTimeoutError(job_id, "was cancelled", limit)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any] | None:
        """The streams that were read and written, with rows and bytes on a server that counts them by stream."""
        if self._finished is None:
            return None
        with AirbyteSyncHook(self.airbyte_conn_id).client() as client:
            connection = client.get("connection", self._finished["connection_id"])
            return lineage.facets(client, connection, self._finished["job_id"], self._finished["streams"] or [])

    def on_kill(self) -> None:
        """Cancels first and asks nothing before: an outage must not keep a job alive."""
        job_id = self.job_id
        with AirbyteSyncHook(self.airbyte_conn_id).client() as client:
            if job_id is None and self._submission is not None:
                unconfirmed = Submission(client, self._submission.memory).unconfirmed()
                job_id = unconfirmed.id if unconfirmed else None
            if job_id is not None:
                client.cancel_job(job_id)
                self.log.info("Cancelled Airbyte job %s", job_id)


def _url(client: AirbyteClient, job: SyncJob, connection: Body, report: Body) -> str:
    """Where a person sees the job: our own server names its page, Airbyte has the connection's timeline."""
    if report.get("url"):
        return str(report["url"])
    return client.endpoint.job_url(job.id, job.connection_id, str(connection.get("workspaceId") or ""))


def _quietly(client: AirbyteClient, connection_id: str) -> Body:
    """Decoration of a message; must not hide the message itself."""
    with suppress(errors.AirbyteError):
        return client.get("connection", connection_id)
    return {}


def _report(client: AirbyteClient, job_id: int) -> Body:
    with suppress(errors.AirbyteError):
        return client.job_report(job_id) or {}
    return {}


def reason(report: Body) -> str:
    """Why a job failed, from our replication server's report; "" on a server that does not say."""
    found = report.get("failureReason") or report.get("reason")
    if isinstance(found, dict):
        parts = (found.get("origin"), found.get("type"), found.get("message"))
        return ": ".join(str(part) for part in parts if part)
    return str(found or "")
