"""One SQL statement as a task."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator, BaseOperatorLink, Context

from lakehouse_providers.deferral import Memory, deadline, push
from lakehouse_providers.dremio import errors, lineage, results
from lakehouse_providers.dremio import sql as statements
from lakehouse_providers.dremio.client import DremioClient
from lakehouse_providers.dremio.hook import DremioHook
from lakehouse_providers.dremio.models import CANCELED, Job
from lakehouse_providers.dremio.operators.link import JOB_URL, DremioJobLink
from lakehouse_providers.dremio.results import Result
from lakehouse_providers.dremio.triggers import DremioJobTrigger
from lakehouse_providers.dremio.watch import Event, watch_job
from lakehouse_providers.polling import Pace

if TYPE_CHECKING:
    import pyarrow as pa
    from airflow.providers.openlineage.extractors.base import OperatorLineage


class DremioSqlOperator(BaseOperator):
    """Runs one SQL statement in Dremio and waits for it.

    A retry adopts the job of the try before while it runs or after it completed; a lost reply to the submission is
    answered by looking for the job, not by a second submission. Killing the task cancels the job, and so does
    `timeout` or the task's execution_timeout, also while the task is deferred.

    :param sql: one statement. Templated.
    :param context: the path that unqualified names are looked up in.
    :param timeout: seconds until the job is cancelled and the task fails; None: the task's execution_timeout alone.
    :param max_rows: how many result rows are read (0 for none).
    :param max_bytes: how large the JSON of the rows in XCom may become; rows beyond it are left out.
    :param handler: called with the Arrow table of these rows; what it returns becomes `result`.
    :param idempotent: running the statement twice does no harm.
    :return: {"job_id", "state", "rows", "duration_seconds", "url", "accelerated", "reflections", "schema",
        "first_rows", "truncated", "bytes", "result"}; `rows`: how many there are. `reflections`: ids of those
        that answered. `schema`: [{"name", "type"}]. `first_rows`: decimals as
        text. `bytes`: Arrow's size of the rows read.
    """

    template_fields: Sequence[str] = ("sql", "context", "conn_id")
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"sql": "sql"}
    operator_extra_links: tuple[BaseOperatorLink, ...] = (DremioJobLink(),)
    ui_color = "#c9e9f0"

    def __init__(
        self,
        *,
        sql: str,
        context: Sequence[str] | None = None,
        conn_id: str = DremioHook.default_conn_name,
        timeout: float | None = None,
        max_rows: int = 10,
        max_bytes: int = 48_000,
        handler: Callable[[pa.Table], Any] | None = None,
        idempotent: bool = False,
        deferrable: bool = True,
        poll_interval: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sql = sql
        self.context = context
        self.conn_id = conn_id
        self.timeout = timeout
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self.handler = handler
        self.idempotent = idempotent
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self._job_id: str | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        hook = DremioHook(self.conn_id)
        memory = Memory(context, "dremio_job")
        with hook.client() as client:
            self._job_id = self._adopt(client, memory) or self._submit(client, memory, context)
            url = client.endpoint.job_url(self._job_id)
        push(context, JOB_URL, url)
        self.log.info("Dremio job %s: %s", self._job_id, url)
        end = deadline(self, self.timeout)
        if self.deferrable:
            trigger = DremioJobTrigger(self._job_id, self.conn_id, end, self.poll_interval)
            self.defer(trigger=trigger, method_name="execute_complete")
        pace = Pace(self.poll_interval, 15.0, end)
        return self.execute_complete(context, asyncio.run(watch_job(hook.endpoint(), self._job_id, pace)))

    def _adopt(self, client: DremioClient, memory: Memory) -> str | None:
        """The job of an earlier try, if it runs or has completed; after a clear only if it still runs."""
        left = memory.read_any()
        job_id = left.get("job_id") or (self._find(client, left["marker"]) if left.get("marker") else None)
        if not job_id:
            return None
        try:
            job: Job = client.job(job_id)
        except errors.DremioNotFoundError:
            return None
        if job.final and (job.state != "COMPLETED" or not memory.read()):
            return None
        self.log.info("Adopting job %s (%s) of an earlier try", job.id, job.state)
        return job.id

    def _submit(self, client: DremioClient, memory: Memory, context: Context) -> str:
        marker = f"/* airflow {self._digest(context)} */"
        memory.write({"marker": marker})
        try:
            job_id = client.submit(f"{marker} {self.sql}", self.context, idempotent=self.idempotent)
        except (errors.DremioUnreachableError, errors.DremioUnavailableError) as error:
            found = self._find(client, marker)
            if found is None:
                raise error
            self.log.info("The reply to the submission was lost; found its job")
            job_id = found
        memory.write({"marker": marker, "job_id": job_id})
        return job_id

    def _find(self, client: DremioClient, marker: str) -> str | None:
        try:
            rows = client.query(statements.job_by_marker(marker, client.endpoint.system), idempotent=True, timeout=60)
        except errors.DremioError as error:
            self.log.warning("Cannot look for an earlier submission: %s", error)
            return None
        return str(rows[0]["job_id"]) if rows else None

    def _digest(self, context: Context) -> str:
        """Names this try's submission in the job's text; different for every try."""
        instance = context.get("ti")
        who = (
            f"{instance.dag_id}/{instance.run_id}/{instance.task_id}/{instance.map_index}/{instance.try_number}"
            if instance is not None
            else self.task_id
        )
        return hashlib.sha256(f"{who}/{time.time_ns()}".encode()).hexdigest()[:24]

    def execute_complete(self, context: Context, event: Event) -> dict[str, Any]:
        job_id = self._job_id = str(event.get("job_id") or "")
        memory = Memory(context, "dremio_job")
        if event["status"] == "timeout":
            self.on_kill()
        if event["status"] == "error":
            raise errors.DremioError(event["message"])  # the job may still run: the next try adopts it
        if event["status"] != "success":
            memory.forget()
            raise _job_error(event)
        with DremioHook(self.conn_id).client() as client:
            job = client.job(job_id)
            found = client.result(job_id, self.max_rows)
        facts = self._facts(job, found)
        memory.forget()  # only now: a try that fails here must not run the statement again
        return {**facts, "url": event["url"]}

    def _facts(self, job: Job, found: Result) -> dict[str, Any]:
        table = results.to_arrow(found)
        shown = results.excerpt(found, self.max_bytes)
        return {
            "job_id": job.id,
            "state": job.state,
            "rows": job.row_count,
            "duration_seconds": job.seconds,
            "accelerated": bool(job.chosen),
            "reflections": list(job.chosen),
            "schema": results.describe(found.schema),
            "first_rows": shown.rows,
            "truncated": shown.truncated,
            "bytes": table.nbytes,
            "result": self.handler(table) if self.handler else None,
        }

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any] | None:
        """Inputs, outputs and their schemas of the job that this task ran."""
        if self._job_id is None:
            return None
        with DremioHook(self.conn_id).client() as client:
            return lineage.facets(client, self._job_id, self.sql, self.context or ())

    def on_kill(self) -> None:
        if self._job_id:
            with DremioHook(self.conn_id).client() as client:
                client.cancel_job(self._job_id)
            self.log.info("Cancelled Dremio job %s", self._job_id)


def _job_error(event: Event) -> errors.DremioJobError:
    if event["status"] == "timeout":
        return errors.DremioJobTimeoutError(event["job_id"], "TIMEOUT", event["message"], event["url"])
    kind = errors.DremioJobCanceledError if event.get("state") in CANCELED else errors.DremioJobFailedError
    return kind(event["job_id"], event.get("state", "FAILED"), event["message"], event["url"])
