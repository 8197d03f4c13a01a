"""Tasks on Dremio: run SQL, refresh the metadata of datasets, refresh reflections and wait for their data."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from airflow.sdk import BaseOperator, BaseOperatorLink, Context

from lakehouse_providers.deferral import Memory, XComLink, push, run_apart
from lakehouse_providers.dremio import errors, reflections
from lakehouse_providers.dremio import sql as statements
from lakehouse_providers.dremio.client import DremioClient
from lakehouse_providers.dremio.hook import DremioHook
from lakehouse_providers.dremio.models import CANCELED, Job
from lakehouse_providers.dremio.refresh import Baseline
from lakehouse_providers.dremio.triggers import DremioJobTrigger, DremioReflectionTrigger
from lakehouse_providers.dremio.watch import Event, cancel_refresh, watch_job, watch_refresh
from lakehouse_providers.polling import Pace

JOB_URL = "dremio_job_url"


class DremioJobLink(XComLink):
    """Opens the job's page in Dremio."""

    name = "Dremio job"
    key = JOB_URL


class DremioSqlOperator(BaseOperator):
    """Runs one SQL statement in Dremio and waits for it.

    A retry adopts the job of the try before while it runs or after it completed; a lost reply to the submission is
    answered by looking for the job, not by a second submission. Killing the task cancels the job.

    :param sql: one statement. Templated.
    :param context: the path that unqualified names are looked up in.
    :param timeout: seconds until the job is cancelled and the task fails; None for no limit.
    :param max_rows: how many result rows go into XCom (0 for none).
    :param idempotent: running the statement twice does no harm.
    :return: {"job_id", "state", "rows", "duration_seconds", "url", "result"}
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
        max_rows: int = 0,
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
        deadline = None if self.timeout is None else time.time() + self.timeout
        if self.deferrable:
            trigger = DremioJobTrigger(self._job_id, self.conn_id, deadline, self.poll_interval)
            self.defer(trigger=trigger, method_name="execute_complete")
        pace = Pace(self.poll_interval, 15.0, deadline)
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
            rows = client.query(statements.job_by_marker(marker), idempotent=True, timeout=60)
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
            result = client.rows(job_id, self.max_rows) if self.max_rows else []
        memory.forget()  # only now: a try that fails here must not run the statement again
        return {
            "job_id": job_id,
            "state": job.state,
            "rows": job.row_count,
            "duration_seconds": job.seconds,
            "url": event["url"],
            "result": result,
        }

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


class DremioRefreshMetadataOperator(BaseOperator):
    """Lets Dremio see new files and snapshots of exactly the given datasets; new files are invisible until then.

    :param datasets: paths, each a list of parts or dotted text with quotes where needed. Templated. None: nothing done.
    :param promote: the format, for example {"type": "Parquet"}, to make a table of a folder that is none yet.
    :param auto_promotion, update, missing: the options of REFRESH METADATA; None leaves the server's default.
    :param timeout: seconds for all of them together; running jobs are then cancelled.
    :return: [{"dataset", "job_id", "duration_seconds", "url", "promoted"}]
    """

    template_fields: Sequence[str] = ("datasets", "conn_id")
    ui_color = "#c9e9f0"

    def __init__(
        self,
        *,
        datasets: Sequence[str | Sequence[str]],
        conn_id: str = DremioHook.default_conn_name,
        promote: dict[str, Any] | None = None,
        auto_promotion: bool | None = None,
        update: Literal["force", "lazy"] | None = None,
        missing: Literal["delete", "maintain"] | None = None,
        timeout: float = 3600.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.datasets = datasets
        self.conn_id = conn_id
        self.promote = promote
        self.auto_promotion = auto_promotion
        self.update = update
        self.missing = missing
        self.timeout = timeout
        self._running: set[str] = set()

    def execute(self, context: Context) -> list[dict[str, Any]]:
        paths = [statements.path_of(dataset) for dataset in self.datasets]
        if not paths:
            self.log.info("No dataset has changed; nothing to refresh")
            return []
        end = time.monotonic() + self.timeout
        done: list[dict[str, Any]] = []
        complaints: list[str] = []
        with DremioHook(self.conn_id).client() as client:
            for path in paths:
                try:
                    done.append(self._refresh(client, path, end))
                except (errors.DremioJobFailedError, errors.DremioResponseError) as error:
                    complaints.append(f"{statements.dotted(path)}: {error}")
        if complaints:
            raise errors.DremioError("Metadata was not refreshed. " + " | ".join(complaints))
        return done

    def _refresh(self, client: DremioClient, path: tuple[str, ...], end: float) -> dict[str, Any]:
        promoted = False
        if self.promote is not None and client.by_path(path).get("entityType") != "dataset":
            client.promote(path, self.promote)
            promoted = True
        text = statements.refresh_metadata(
            path, auto_promotion=self.auto_promotion, update=self.update, missing=self.missing
        )
        job_id = client.submit(text, idempotent=True)
        self._running.add(job_id)
        try:
            job = client.wait(job_id, timeout=max(end - time.monotonic(), 0.0))
        except errors.DremioJobTimeoutError:
            client.cancel_job(job_id)
            raise
        self._running.discard(job_id)
        self.log.info("Refreshed metadata of %s in %s s", statements.dotted(path), job.seconds)
        return {
            "dataset": statements.dotted(path),
            "job_id": job_id,
            "duration_seconds": job.seconds,
            "url": client.endpoint.job_url(job_id),
            "promoted": promoted,
        }

    def on_kill(self) -> None:
        if self._running:
            with DremioHook(self.conn_id).client() as client:
                for job_id in self._running:
                    client.cancel_job(job_id)


class DremioRefreshReflectionsOperator(BaseOperator):
    """Refreshes reflections and waits until each of them holds data fetched after this task began.

    One request goes to each base table, which also works on Community. A retry re-attaches to the refresh that the
    try before asked for. A failed, cancelled, given-up, invalid, disabled or deleted reflection fails the task with
    Dremio's reason and the refresh job's address.

    :param datasets: datasets whose reflections are meant: paths as lists of parts, or dotted text. Templated.
    :param reflections: names or ids, to narrow them down. Templated.
    :param tag: only datasets that carry this tag in Dremio.
    :param base_tables: paths of the tables to refresh, where Dremio cannot tell them (a new reflection on a view).
    :param timeout: seconds until the task fails. The refresh itself goes on.
    :param wait_for_downstream: wait also for the other reflections that the same base tables feed.
    :param wait_for_retries: on a failed refresh wait for Dremio's own next attempt instead of failing.
    :param skip_unusable: leave disabled, invalid and given-up reflections out instead of failing.
    :param revive: switch given-up reflections off and on first; this drops what they hold.
    :param pending_limit: seconds a reflection may wait for the reflections it is built from.
    :param check_queries: afterwards each of them must be answered from one of the refreshed reflections. Templated.
    :param cancel_on_kill: cancel the refresh jobs when the task is killed. Queries of others may wait for them.
    :return: {"reflections": [facts], "base_tables", "asked_at", "checked"}; facts: id, reflection, dataset, type,
        method (FULL, INCREMENTAL, NO_OP, UNKNOWN), duration_seconds, rows, bytes, data_fetched_at, job_id, job_url
    """

    template_fields: Sequence[str] = ("datasets", "reflections", "tag", "base_tables", "check_queries", "conn_id")
    operator_extra_links: tuple[BaseOperatorLink, ...] = (DremioJobLink(),)
    ui_color = "#c9e9f0"

    def __init__(
        self,
        *,
        datasets: Sequence[str | Sequence[str]],
        reflections: Sequence[str] = (),
        tag: str | None = None,
        base_tables: Sequence[str | Sequence[str]] = (),
        conn_id: str = DremioHook.default_conn_name,
        timeout: float = 7200.0,
        wait_for_downstream: bool = False,
        wait_for_retries: bool = False,
        skip_unusable: bool = False,
        revive: bool = False,
        pending_limit: float = 2700.0,
        check_queries: Sequence[str] = (),
        cancel_on_kill: bool = False,
        deferrable: bool = True,
        poll_interval: float = 2.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.datasets = datasets
        self.reflections = reflections
        self.tag = tag
        self.base_tables = base_tables
        self.conn_id = conn_id
        self.timeout = timeout
        self.wait_for_downstream = wait_for_downstream
        self.wait_for_retries = wait_for_retries
        self.skip_unusable = skip_unusable
        self.revive = revive
        self.pending_limit = pending_limit
        self.check_queries = check_queries
        self.cancel_on_kill = cancel_on_kill
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self._baseline: Baseline | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        baseline = self._baseline = self._ask(Memory(context, "dremio_refresh"))
        deadline = time.time() + self.timeout
        if self.deferrable:
            trigger = DremioReflectionTrigger(
                baseline.dump(),
                self.conn_id,
                deadline,
                self.poll_interval,
                wait_for_retries=self.wait_for_retries,
                pending_limit=self.pending_limit,
                cancel_on_kill=self.cancel_on_kill,
            )
            self.defer(trigger=trigger, method_name="execute_complete")
        watch = watch_refresh(
            DremioHook(self.conn_id).endpoint(),
            baseline,
            Pace(self.poll_interval, 30.0, deadline),
            wait_for_retries=self.wait_for_retries,
            pending_limit=self.pending_limit,
        )
        return self.execute_complete(context, asyncio.run(watch))

    def _ask(self, memory: Memory) -> Baseline:
        """Asks for the refresh, once per base table, or re-attaches to what the try before asked for."""
        left = memory.read()
        with DremioHook(self.conn_id).client() as client:
            if left.get("asked"):
                self.log.info("Re-attaching to the refresh asked for at %s", left["baseline"]["at"])
                return Baseline.load(left["baseline"])
            # An older baseline whose requests may be half sent stays valid: asking twice costs a refresh, no truth.
            baseline = Baseline.load(left["baseline"]) if left else self._baseline_of(client)
            memory.write({"baseline": baseline.dump(), "asked": False})
            for table in baseline.tables:
                client.refresh_reflections_of(table)
            memory.write({"baseline": baseline.dump(), "asked": True})
        self.log.info(
            "Asked for the refresh of %s through %s tables; waiting for data fetched at or after %s",
            ", ".join(target.label for target in baseline.targets),
            len(baseline.tables),
            baseline.at.isoformat(),
        )
        return baseline

    def _baseline_of(self, client: DremioClient) -> Baseline:
        selection = reflections.Selection(
            tuple(statements.path_of(dataset) for dataset in self.datasets), tuple(self.reflections), self.tag
        )
        chosen = reflections.usable(
            client, reflections.choose(client, selection), skip=self.skip_unusable, revive=self.revive
        )
        known = reflections.dependencies(client)
        if self.base_tables:
            tables = {client.by_path(statements.path_of(path))["id"] for path in self.base_tables}
        else:
            tables = set().union(*reflections.base_tables(client, chosen, known).values())
        if self.wait_for_downstream:
            have = {one.reflection.id for one in chosen}
            chosen = [*chosen, *reflections.downstream(client, tables, known, have)]
        return reflections.take_baseline(client, chosen, tables)

    def execute_complete(self, context: Context, event: Event) -> dict[str, Any]:
        memory = Memory(context, "dremio_refresh")
        left = memory.read()
        if event.get("url"):
            push(context, JOB_URL, event["url"])
        if event["status"] == "failed":
            memory.forget()  # the next try asks anew; after a timeout it re-attaches
        if event["status"] != "success":
            raise errors.DremioReflectionError(event["message"])
        facts: list[dict[str, Any]] = event["reflections"]
        slowest = max(facts, key=lambda fact: fact["duration_seconds"] or 0.0)
        push(context, JOB_URL, slowest["job_url"])
        for fact in facts:
            self.log.info("Refreshed %(reflection)s on %(dataset)s: %(method)s, %(rows)s rows, %(bytes)s bytes", fact)
        baseline = left.get("baseline") or (self._baseline.dump() if self._baseline else {})
        checked = self._check({fact["id"] for fact in facts})
        memory.forget()
        return {
            "reflections": facts,
            "base_tables": baseline.get("tables", []),
            "asked_at": baseline.get("at"),
            "checked": checked,
        }

    def _check(self, ids: set[str]) -> int:
        with DremioHook(self.conn_id).client() as client:
            for query in self.check_queries:
                job_id = client.submit(query, idempotent=True)
                if not ids & set(client.wait(job_id, timeout=600).chosen):
                    raise errors.DremioReflectionError(
                        f"not answered from a refreshed reflection: {query} [{client.endpoint.job_url(job_id)}]"
                    )
        return len(self.check_queries)

    def on_kill(self) -> None:
        if self.cancel_on_kill and self._baseline is not None:
            run_apart(cancel_refresh(DremioHook(self.conn_id).endpoint(), self._baseline))
