"""Waits in the triggerer until a query says so. All waiting is awaited; outages are waited out until the deadline."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import psycopg
from airflow.sdk import BaseHook
from airflow.triggers.base import BaseTrigger, TriggerEvent

from lakehouse_providers.polling import Pace, poll
from lakehouse_providers.postgres.condition import holds

log = logging.getLogger(__name__)


class PostgresConditionTrigger(BaseTrigger):
    """One event with status reached, timeout, or error when the wait itself broke.

    :param sql: one query; its first column says whether the wait is over. `parameters` are bound to it.
    :param deadline: epoch seconds.
    :param interval: seconds between looks, jittered.
    """

    def __init__(
        self, conn_id: str, sql: str, parameters: Sequence[Any], deadline: float, interval: float = 1.0
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.conn_id = conn_id
        self.sql = sql
        self.parameters = list(parameters)
        self.deadline = deadline
        self.interval = interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.PostgresConditionTrigger", {
            "conn_id": self.conn_id,
            "sql": self.sql,
            "parameters": self.parameters,
            "deadline": self.deadline,
            "interval": self.interval,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        pace = Pace(self.interval, self.interval, self.deadline)

        async def look() -> bool | None:
            conn = await BaseHook.aget_connection(self.conn_id)
            return await holds(conn, self.sql, self.parameters) or None  # None: look again

        try:
            found = await poll(
                look,
                pace,
                transient=lambda error: isinstance(error, psycopg.OperationalError),
                log=log,
            )
            event = {"status": "reached" if found else "timeout"}
        except Exception as error:
            self.log.exception("The wait ended early")
            event = {"status": "error", "message": f"{type(error).__name__}: {error}"}
        yield TriggerEvent(event)
