"""Who is told when a run fails or is late: one webhook, named by the Airflow connection `alerts`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from airflow.sdk import Connection
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from lakehouse_providers.webhook import client
from lakehouse_providers.webhook.notifier import WebhookNotifier

CONNECTION = "alerts"

on_failure = WebhookNotifier(conn_id=CONNECTION, kind="run_failed")


def late(after: dt.timedelta) -> DeadlineAlert:
    """An alert when a run is not finished `after` it was queued."""
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=after,
        callback=AsyncCallback(WebhookNotifier, kwargs={"conn_id": CONNECTION, "kind": "deadline_missed"}),
    )


def tell(message: Mapping[str, Any]) -> None:
    """Posts one message to the webhook. Raises WebhookError: whoever tells decides what a failure means."""
    found = Connection.get(CONNECTION)
    client.post(
        client.address(
            found.host or "",
            scheme=found.schema or "",
            port=found.port,
            login=found.login or "",
            password=found.password or "",
            extra=found.extra_dejson,
        ),
        message,
    )
