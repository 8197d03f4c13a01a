"""Waits for Dremio in the triggerer. All waiting is awaited; outages are waited out until the deadline."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from lakehouse_providers.deferral import stopped_by_a_person
from lakehouse_providers.dremio import conditions
from lakehouse_providers.dremio.client import AsyncDremioClient
from lakehouse_providers.dremio.hook import DremioHook
from lakehouse_providers.dremio.refresh import Baseline
from lakehouse_providers.dremio.watch import (
    Event,
    cancel_refresh,
    watch_condition,
    watch_job,
    watch_jobs,
    watch_refresh,
)
from lakehouse_providers.polling import Pace


class _DremioTrigger(BaseTrigger):
    """One event, whatever happens: a wait that dies still tells the task why."""

    def __init__(self, conn_id: str, deadline: float | None, interval: float, longest: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.conn_id = conn_id
        self.deadline = deadline
        self.interval = interval
        self.longest = longest

    def _common(self) -> dict[str, Any]:
        return {
            "conn_id": self.conn_id,
            "deadline": self.deadline,
            "interval": self.interval,
            "longest": self.longest,
        }

    def _pace(self) -> Pace:
        return Pace(self.interval, self.longest, self.deadline)

    async def _wait(self) -> Event:
        raise NotImplementedError

    async def run(self) -> AsyncIterator[TriggerEvent]:
        try:
            event = await self._wait()
        except Exception as error:
            self.log.exception("The wait ended early")
            event = {"status": "error", "message": f"{type(error).__name__}: {error}"}
        yield TriggerEvent(event)


class DremioJobTrigger(_DremioTrigger):
    """Waits for a job. `deadline`: epoch seconds. `interval`, `longest`: seconds between looks, at first and later."""

    def __init__(
        self,
        job_id: str,
        conn_id: str = DremioHook.default_conn_name,
        deadline: float | None = None,
        interval: float = 1.0,
        longest: float = 15.0,
    ) -> None:
        super().__init__(conn_id, deadline, interval, longest)
        self.job_id = job_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.DremioJobTrigger", {"job_id": self.job_id, **self._common()}

    async def _wait(self) -> Event:
        return await watch_job(await DremioHook(self.conn_id).aendpoint(), self.job_id, self._pace())

    async def on_kill(self) -> None:
        if await stopped_by_a_person(self):
            async with AsyncDremioClient(await DremioHook(self.conn_id).aendpoint()) as client:
                await client.cancel_job(self.job_id)
            self.log.info("Cancelled Dremio job %s, since its task was stopped", self.job_id)


class DremioJobsTrigger(_DremioTrigger):
    """Waits until all of several jobs have ended, well or badly."""

    def __init__(
        self,
        job_ids: list[str],
        conn_id: str = DremioHook.default_conn_name,
        deadline: float | None = None,
        interval: float = 1.0,
        longest: float = 15.0,
    ) -> None:
        super().__init__(conn_id, deadline, interval, longest)
        self.job_ids = job_ids

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.DremioJobsTrigger", {"job_ids": self.job_ids, **self._common()}

    async def _wait(self) -> Event:
        return await watch_jobs(await DremioHook(self.conn_id).aendpoint(), self.job_ids, self._pace())

    async def on_kill(self) -> None:
        if await stopped_by_a_person(self):
            async with AsyncDremioClient(await DremioHook(self.conn_id).aendpoint()) as client:
                for job_id in self.job_ids:
                    await client.cancel_job(job_id)
            self.log.info("Cancelled %s Dremio jobs, since their task was stopped", len(self.job_ids))


class DremioReflectionTrigger(_DremioTrigger):
    """Waits until every reflection of a baseline holds data fetched after it."""

    def __init__(
        self,
        baseline: dict[str, Any],
        conn_id: str = DremioHook.default_conn_name,
        deadline: float | None = None,
        interval: float = 2.0,
        longest: float = 30.0,
        wait_for_retries: bool = False,
        pending_limit: float = 2700.0,
        cancel_on_kill: bool = False,
    ) -> None:
        super().__init__(conn_id, deadline, interval, longest)
        self.baseline = baseline
        self.wait_for_retries = wait_for_retries
        self.pending_limit = pending_limit
        self.cancel_on_kill = cancel_on_kill

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.DremioReflectionTrigger", {
            "baseline": self.baseline,
            **self._common(),
            "wait_for_retries": self.wait_for_retries,
            "pending_limit": self.pending_limit,
            "cancel_on_kill": self.cancel_on_kill,
        }

    async def _wait(self) -> Event:
        return await watch_refresh(
            await DremioHook(self.conn_id).aendpoint(),
            Baseline.load(self.baseline),
            self._pace(),
            wait_for_retries=self.wait_for_retries,
            pending_limit=self.pending_limit,
        )

    async def on_kill(self) -> None:
        if self.cancel_on_kill and await stopped_by_a_person(self):
            endpoint = await DremioHook(self.conn_id).aendpoint()
            jobs = await cancel_refresh(endpoint, Baseline.load(self.baseline))
            self.log.info("Cancelled the refresh jobs %s, since their task was stopped", ", ".join(jobs) or "(none)")


class DremioConditionTrigger(_DremioTrigger):
    """Waits until a sensor's condition holds; `condition` as `conditions.load` takes it."""

    def __init__(
        self,
        condition: dict[str, Any],
        conn_id: str = DremioHook.default_conn_name,
        deadline: float | None = None,
        interval: float = 15.0,
        longest: float = 15.0,
    ) -> None:
        super().__init__(conn_id, deadline, interval, longest)
        self.condition = condition

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.DremioConditionTrigger", {"condition": self.condition, **self._common()}

    async def _wait(self) -> Event:
        endpoint = await DremioHook(self.conn_id).aendpoint()
        return await watch_condition(endpoint, conditions.load(self.condition), self._pace())
