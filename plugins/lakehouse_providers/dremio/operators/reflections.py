"""Reflections hold this run's data before the next task begins."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseOperator, BaseOperatorLink, Context

from lakehouse_providers.deferral import Memory, deadline, push, run_apart
from lakehouse_providers.dremio import errors, reflections
from lakehouse_providers.dremio import sql as statements
from lakehouse_providers.dremio.client import DremioClient
from lakehouse_providers.dremio.hook import DremioHook
from lakehouse_providers.dremio.operators.link import JOB_URL, DremioJobLink
from lakehouse_providers.dremio.refresh import Baseline
from lakehouse_providers.dremio.triggers import DremioReflectionTrigger
from lakehouse_providers.dremio.watch import Event, cancel_refresh, watch_refresh
from lakehouse_providers.polling import Pace


class DremioRefreshReflectionsOperator(BaseOperator):
    """Refreshes reflections and waits until each of them holds data fetched after this task began.

    One request goes to each base table, which also works on Community. A retry re-attaches to the refresh that the
    try before asked for. A failed, cancelled, given-up, invalid, disabled or deleted reflection fails the task with
    Dremio's reason and the refresh job's address.

    :param datasets: datasets whose reflections are meant: paths as lists of parts, or dotted text. Templated.
    :param reflections: names or ids, to narrow them down. Templated.
    :param tag: only datasets that carry this tag in Dremio.
    :param base_tables: paths of the tables to refresh, where Dremio cannot tell them (a new reflection on a view).
    :param timeout: seconds until the task fails, if its execution_timeout is not shorter. The refresh itself goes on.
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
        end = deadline(self, self.timeout)
        if self.deferrable:
            trigger = DremioReflectionTrigger(
                baseline.dump(),
                self.conn_id,
                end,
                self.poll_interval,
                wait_for_retries=self.wait_for_retries,
                pending_limit=self.pending_limit,
                cancel_on_kill=self.cancel_on_kill,
            )
            self.defer(trigger=trigger, method_name="execute_complete")
        watch = watch_refresh(
            DremioHook(self.conn_id).endpoint(),
            baseline,
            Pace(self.poll_interval, 30.0, end),
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
