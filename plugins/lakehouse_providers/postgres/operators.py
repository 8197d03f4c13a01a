"""Waits for a condition in a database as a task."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any

import psycopg
from airflow.sdk import BaseHook, BaseOperator, Context

from lakehouse_providers.postgres.condition import holds
from lakehouse_providers.postgres.triggers import PostgresConditionTrigger


class PostgresConditionError(Exception):
    """The wait broke; whether the condition holds is unknown."""


async def _first(trigger: PostgresConditionTrigger) -> Any:
    """The only event that the trigger gives."""
    async for event in trigger.run():
        return event.payload
    return None


class PostgresConditionOperator(BaseOperator):
    """Waits until a query's first column is true. Running out of patience is an answer, not a failure.

    :param conn_id: a `postgres` connection. Templated.
    :param sql: one query, with %s for each parameter.
    :param parameters: its values, or a template that renders to a list of them.
    :param timeout: seconds.
    :return: {"reached": bool, "seconds": float}
    """

    template_fields: Sequence[str] = ("conn_id", "parameters")

    def __init__(
        self,
        *,
        conn_id: str,
        sql: str,
        parameters: Any = (),
        timeout: float = 600.0,
        poll_interval: float = 1.0,
        deferrable: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.sql = sql
        self.parameters = parameters
        self.timeout = timeout
        self.poll_interval = poll_interval
        self.deferrable = deferrable

    def execute(self, context: Context) -> dict[str, Any]:
        started = time.time()
        trigger = PostgresConditionTrigger(
            self.conn_id, self.sql, list(self.parameters), started + self.timeout, self.poll_interval
        )
        if self.deferrable:
            if self._holds_already():
                return self.execute_complete(context, {"status": "reached"}, started)
            self.defer(trigger=trigger, method_name="execute_complete", kwargs={"started": started})
        return self.execute_complete(context, asyncio.run(_first(trigger)), started)

    def _holds_already(self) -> bool:
        """Spares the seconds that a deferral costs. What goes wrong here goes wrong in the trigger, which tells it."""
        conn = BaseHook.get_connection(self.conn_id)
        with contextlib.suppress(psycopg.Error):
            return asyncio.run(holds(conn, self.sql, self.parameters))
        return False

    def execute_complete(self, context: Context, event: Any = None, started: float = 0.0) -> dict[str, Any]:
        """Resumes with the trigger's event."""
        if event["status"] == "error":
            raise PostgresConditionError(event["message"])
        reached = event["status"] == "reached"
        seconds = round(time.time() - started, 1)
        self.log.info("%s after %s s", "reached" if reached else f"not reached in {self.timeout:g} s", seconds)
        return {"reached": reached, "seconds": seconds}
