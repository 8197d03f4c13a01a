"""New files and snapshots of datasets become visible."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Literal

from airflow.sdk import BaseOperator, BaseOperatorLink, Context

from lakehouse_providers.deferral import Memory, deadline, push
from lakehouse_providers.dremio import errors
from lakehouse_providers.dremio import sql as statements
from lakehouse_providers.dremio.client import DremioClient
from lakehouse_providers.dremio.hook import DremioHook
from lakehouse_providers.dremio.models import COMPLETED
from lakehouse_providers.dremio.operators.link import JOB_URL, DremioJobLink
from lakehouse_providers.dremio.triggers import DremioJobsTrigger
from lakehouse_providers.dremio.watch import Event, watch_jobs
from lakehouse_providers.polling import Pace

Started = dict[str, Any]  # dataset, promoted, and job_id or error


class DremioRefreshMetadataOperator(BaseOperator):
    """Lets Dremio see new files and snapshots of exactly the given datasets; new files are invisible until then.

    All refreshes run at once. A retry waits for those that the try before started. Killing the task cancels them, and
    so does `timeout` or the task's execution_timeout.

    :param datasets: paths, each a list of parts or dotted text with quotes where needed. Templated. None: nothing done.
    :param promote: the format, for example {"type": "Parquet"}, to make a table of a folder that is none yet.
    :param auto_promotion, update, missing: the options of REFRESH METADATA; None leaves the server's default.
    :param timeout: seconds for all of them together.
    :param deferrable: wait in the triggerer; worth it where a refresh takes minutes.
    :return: [{"dataset", "job_id", "duration_seconds", "url", "promoted"}]
    """

    template_fields: Sequence[str] = ("datasets", "conn_id")
    operator_extra_links: tuple[BaseOperatorLink, ...] = (DremioJobLink(),)
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
        deferrable: bool = False,
        poll_interval: float = 0.5,
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
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self._running: list[str] = []

    def execute(self, context: Context) -> list[dict[str, Any]]:
        paths = [statements.path_of(dataset) for dataset in self.datasets]
        if not paths:
            self.log.info("No dataset has changed; nothing to refresh")
            return []
        started = self._start(Memory(context, "dremio_metadata"), paths)
        end = deadline(self, self.timeout)
        if self.deferrable and self._running:
            trigger = DremioJobsTrigger(self._running, self.conn_id, end, self.poll_interval)
            self.defer(trigger=trigger, method_name="execute_complete", kwargs={"started": started})
        watch = watch_jobs(DremioHook(self.conn_id).endpoint(), self._running, Pace(self.poll_interval, 5.0, end))
        return self.execute_complete(context, asyncio.run(watch), started)

    def _start(self, memory: Memory, paths: Sequence[tuple[str, ...]]) -> list[Started]:
        """One job a dataset; those of an earlier try are kept, and noted one by one as they start."""
        started: list[Started] = memory.read().get("started", [])
        self._running = [one["job_id"] for one in started if "job_id" in one]
        with DremioHook(self.conn_id).client() as client:
            for path in paths[len(started) :]:
                try:
                    one = self._submit(client, path)
                except errors.DremioResponseError as error:
                    one = {"dataset": statements.dotted(path), "error": str(error)}
                else:
                    self._running.append(one["job_id"])
                started.append(one)
                memory.write({"started": started})
        return started

    def _submit(self, client: DremioClient, path: tuple[str, ...]) -> Started:
        promoted = False
        if self.promote is not None and client.by_path(path).get("entityType") != "dataset":
            client.promote(path, self.promote)
            promoted = True
        text = statements.refresh_metadata(
            path, auto_promotion=self.auto_promotion, update=self.update, missing=self.missing
        )
        job_id = client.submit(text, idempotent=True)
        return {"dataset": statements.dotted(path), "job_id": job_id, "promoted": promoted}

    def execute_complete(self, context: Context, event: Event, started: list[Started]) -> list[dict[str, Any]]:
        """Resumes when all jobs have ended. Raises DremioError naming each dataset that was not refreshed."""
        if event["status"] == "error":
            raise errors.DremioError(event["message"])  # the jobs may still run: the next try waits for them
        Memory(context, "dremio_metadata").forget()
        self._running = list(event["open"])
        self.on_kill()
        with DremioHook(self.conn_id).client() as client:
            facts = [self._facts(client, one, event) for one in started]
        complaints = [f"{fact['dataset']}: {fact['error']}" for fact in facts if "error" in fact]
        if event["open"]:
            message = f"metadata was not refreshed in time; {len(event['open'])} jobs were cancelled"
            raise errors.DremioJobTimeoutError(event["open"][0], "TIMEOUT", message, facts[-1].get("url", ""))
        if complaints:
            raise errors.DremioError("Metadata was not refreshed. " + " | ".join(complaints))
        slowest = max(facts, key=lambda fact: fact["duration_seconds"] or 0.0)
        push(context, JOB_URL, slowest["url"])
        for fact in facts:
            self.log.info("Refreshed metadata of %s in %s s", fact["dataset"], fact["duration_seconds"])
        return facts

    @staticmethod
    def _facts(client: DremioClient, one: Started, event: Event) -> dict[str, Any]:
        if "job_id" not in one:
            return one
        ended = event["jobs"].get(one["job_id"], {})
        url = client.endpoint.job_url(one["job_id"])
        facts = {**one, "duration_seconds": ended.get("seconds"), "url": url}
        if ended and ended["state"] != COMPLETED:
            job = errors.DremioJobFailedError(one["job_id"], ended["state"], ended["message"], url)
            return {**facts, "error": str(job)}
        return facts

    def on_kill(self) -> None:
        if self._running:
            with DremioHook(self.conn_id).client() as client:
                for job_id in self._running:
                    client.cancel_job(job_id)
