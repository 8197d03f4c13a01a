"""Watching Dremio from an event loop until a job or a set of reflections is through. No Airflow."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from lakehouse_providers.dremio import errors, refresh, sql
from lakehouse_providers.dremio.client import AsyncDremioClient
from lakehouse_providers.dremio.conditions import Condition
from lakehouse_providers.dremio.endpoint import Endpoint
from lakehouse_providers.dremio.models import CANCELED, COMPLETED, Job, Materialization
from lakehouse_providers.polling import Pace, poll

log = logging.getLogger(__name__)
Event = dict[str, Any]


def transient(error: Exception) -> bool:
    return isinstance(error, errors.DremioError) and error.transient


async def watch_job(endpoint: Endpoint, job_id: str, pace: Pace) -> Event:
    """Ends with status success, failed, cancelled or timeout."""
    async with AsyncDremioClient(endpoint) as client:

        async def check() -> Job | None:
            job = await client.job(job_id)
            return job if job.final else None

        job = await poll(check, pace, transient=transient, log=log)
    base = {"job_id": job_id, "url": endpoint.job_url(job_id)}
    if job is None:
        return {**base, "status": "timeout", "message": f"Dremio job {job_id} is not finished in time"}
    status = "success" if job.state == COMPLETED else "cancelled" if job.state in CANCELED else "failed"
    return {**base, "status": status, "state": job.state, "message": job.error}


async def watch_jobs(endpoint: Endpoint, job_ids: Sequence[str], pace: Pace) -> Event:
    """Ends with status done, or timeout; `jobs`: those that ended, by id; `open`: those that still run."""
    ended: dict[str, Event] = {}
    left = list(job_ids)
    async with AsyncDremioClient(endpoint) as client:

        async def look() -> bool | None:
            for job_id in list(left):
                job = await client.job(job_id)
                if job.final:
                    ended[job_id] = {"state": job.state, "message": job.error, "seconds": job.seconds}
                    left.remove(job_id)
            return None if left else True

        done = await poll(look, pace, transient=transient, log=log)
    return {"status": "done" if done else "timeout", "jobs": ended, "open": left}


class RefreshWatch:
    """Judges a baseline's reflections again and again, each until it is fresh; the first failure ends the watch."""

    def __init__(
        self, client: AsyncDremioClient, baseline: refresh.Baseline, *, wait_for_retries: bool, pending_limit: float
    ) -> None:
        self._client, self._baseline = client, baseline
        self._wait_for_retries, self._pending_limit = wait_for_retries, pending_limit
        self._open = {t.id: t for t in baseline.targets}
        self._pending_since: dict[str, float] = {}
        self._facts: dict[str, Event] = {}
        self.jobs: dict[str, str] = {}  # the refresh job of each reflection not yet fresh
        self.last = "nothing seen yet"

    async def check(self) -> Event | None:
        """The final event, or None while anything is open."""
        made = await self._materializations(list(self._open))
        now = await self._client.reflections(list(self._open))
        for target in list(self._open.values()):
            verdict = refresh.judge(
                target, self._baseline.at, now[target.id], made, wait_for_retries=self._wait_for_retries
            )
            if verdict.job_id:
                self.jobs[target.id] = verdict.job_id
            reflection = now[target.id]
            if verdict.state == "fresh" and verdict.fresh is not None and reflection is not None:
                self._facts[target.id] = refresh.facts(target, reflection, verdict.fresh, self._url(verdict.job_id))
                self.jobs.pop(target.id, None)
                del self._open[target.id]
            elif verdict.state == "failed":
                return self._failure(target, verdict)
            elif stuck := self._stuck(target, reflection.refresh if reflection else ""):
                return self._failure(target, refresh.Verdict("failed", stuck, verdict.job_id))
            else:
                self.last = f"{target.label}: {verdict.reason}"
        if self._open:
            return None
        await self._count_rows()
        return {"status": "success", "reflections": [self._facts[t.id] for t in self._baseline.targets]}

    async def _materializations(self, ids: Sequence[str]) -> list[Materialization]:
        return [
            Materialization.parse(row)
            for row in await self._client.query(sql.materializations(ids, self._client.endpoint.system))
        ]

    def _url(self, job_id: str) -> str:
        return self._client.endpoint.job_url(job_id) if job_id else ""

    async def _count_rows(self) -> None:
        """The refresh job's own rowCount counts files written, not rows."""
        try:
            counts = await self._client.query(sql.record_counts(self._facts, self._client.endpoint.system))
        except errors.DremioError as error:  # decoration: the refresh is proven without it
            log.warning("Dremio does not say how many rows the reflections hold: %s", error)
            return
        for row in counts:
            count = row["record_count"]  # -1: unknown
            self._facts[row["reflection_id"]]["rows"] = count if count is not None and count >= 0 else None

    def _stuck(self, target: refresh.Target, state: str) -> str:
        if state != "PENDING":
            self._pending_since.pop(target.id, None)
            return ""
        waited = time.monotonic() - self._pending_since.setdefault(target.id, time.monotonic())
        if waited < self._pending_limit:
            return ""
        return f"it waits for other reflections for more than {self._pending_limit:g} s (REFRESH_PENDING)"

    def _failure(self, target: refresh.Target, verdict: refresh.Verdict) -> Event:
        url = self._url(verdict.job_id)
        job = f" [job {verdict.job_id}, {url}]" if verdict.job_id else ""
        message = f"Reflection {target.label}: {verdict.reason}{job}"
        return {"status": "failed", "message": message, "job_id": verdict.job_id, "url": url}


async def watch_refresh(
    endpoint: Endpoint,
    baseline: refresh.Baseline,
    pace: Pace,
    *,
    wait_for_retries: bool = False,
    pending_limit: float = 2700.0,
) -> Event:
    """Ends with status success (and facts of every reflection), failed or timeout."""
    async with AsyncDremioClient(endpoint) as client:
        watch = RefreshWatch(client, baseline, wait_for_retries=wait_for_retries, pending_limit=pending_limit)
        event = await poll(watch.check, pace, transient=transient, log=log)
    if event is not None:
        return event
    jobs = ", ".join(endpoint.job_url(job) for job in watch.jobs.values())
    message = f"Reflections are not refreshed in time; last seen: {watch.last}" + (f" [{jobs}]" if jobs else "")
    return {"status": "timeout", "message": message, "jobs": sorted(watch.jobs.values())}


async def watch_condition(endpoint: Endpoint, condition: Condition, pace: Pace) -> Event:
    """Ends with status success, failed (it can never hold) or timeout; the message says what was missing."""
    last = "nothing seen yet"
    async with AsyncDremioClient(endpoint) as client:

        async def look() -> Event | None:
            nonlocal last
            try:
                last = await client.run(condition.missing())
            except errors.DremioReflectionError as error:
                return {"status": "failed", "message": str(error)}
            return None if last else {"status": "success"}

        event = await poll(look, pace, transient=transient, log=log)
    return event or {"status": "timeout", "message": last}


async def cancel_refresh(endpoint: Endpoint, baseline: refresh.Baseline) -> list[str]:
    """Cancels the refresh jobs that began after the baseline and still run. Returns their ids."""
    known = {m for t in baseline.targets for m in t.known}
    async with AsyncDremioClient(endpoint) as client:
        rows = await client.query(sql.materializations((t.id for t in baseline.targets), endpoint.system))
        made = [Materialization.parse(row) for row in rows]
        jobs = [m.job_id for m in made if m.state == "RUNNING" and m.job_id and m.id not in known]
        return [job for job in jobs if await client.cancel_job(job)]
