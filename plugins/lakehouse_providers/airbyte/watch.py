"""Watching a sync from an event loop until it ends. No Airflow."""

from __future__ import annotations

import logging
from typing import Any

from lakehouse_providers.airbyte import errors
from lakehouse_providers.airbyte.client import AsyncAirbyteClient, Endpoint
from lakehouse_providers.airbyte.models import SyncJob
from lakehouse_providers.polling import Pace, poll

log = logging.getLogger(__name__)
Event = dict[str, Any]


def transient(error: Exception) -> bool:
    return isinstance(error, errors.AirbyteError) and error.transient


async def watch_sync(endpoint: Endpoint, job_id: int, pace: Pace) -> Event:
    """Ends with status succeeded, failed, cancelled or timeout. Queued, pending and incomplete jobs go on."""
    async with AsyncAirbyteClient(endpoint) as client:

        async def check() -> SyncJob | None:
            job = await client.job(job_id)
            return job if job.final else None

        job = await poll(check, pace, transient=transient, log=log)
    if job is None:
        return {"status": "timeout", "job_id": job_id, "message": f"Airbyte job {job_id} is not finished in time"}
    return {"status": job.status, "job_id": job_id, "message": f"Airbyte job {job_id} {job.status}"}
