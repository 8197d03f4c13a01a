"""Waits for a sync in the triggerer. All waiting is awaited; outages are waited out until the deadline."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from lakehouse_providers.airbyte.client import AsyncAirbyteClient
from lakehouse_providers.airbyte.hook import AirbyteSyncHook
from lakehouse_providers.airbyte.watch import watch_sync
from lakehouse_providers.deferral import stopped_by_a_person
from lakehouse_providers.polling import Pace


class AirbyteJobTrigger(BaseTrigger):
    """One event with status succeeded, failed, cancelled, timeout, or error when the wait itself broke.

    :param deadline: epoch seconds; None waits for ever.
    :param interval: seconds between looks, jittered.
    :param adopted: comes back in the event.
    """

    def __init__(
        self,
        job_id: int,
        conn_id: str = AirbyteSyncHook.default_conn_name,
        deadline: float | None = None,
        interval: float = 10.0,
        adopted: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_id = job_id
        self.conn_id = conn_id
        self.deadline = deadline
        self.interval = interval
        self.adopted = adopted

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.AirbyteJobTrigger", {
            "job_id": self.job_id,
            "conn_id": self.conn_id,
            "deadline": self.deadline,
            "interval": self.interval,
            "adopted": self.adopted,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        try:
            endpoint = await AirbyteSyncHook(self.conn_id).aendpoint()
            event = await watch_sync(endpoint, self.job_id, Pace(self.interval, self.interval, self.deadline))
        except Exception as error:
            self.log.exception("The wait for Airbyte job %s ended early", self.job_id)
            event = {"status": "error", "job_id": self.job_id, "message": f"{type(error).__name__}: {error}"}
        yield TriggerEvent({**event, "adopted": self.adopted})

    async def on_kill(self) -> None:
        if await stopped_by_a_person(self):
            async with AsyncAirbyteClient(await AirbyteSyncHook(self.conn_id).aendpoint()) as client:
                await client.cancel_job(self.job_id)
            self.log.info("Cancelled Airbyte job %s, since its task was stopped", self.job_id)
