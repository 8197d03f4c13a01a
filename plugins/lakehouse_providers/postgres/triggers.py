"""Waits in the triggerer until a query says so. All waiting is awaited; outages are waited out until the deadline."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import psycopg
from airflow.sdk import BaseHook, Connection
from airflow.triggers.base import BaseTrigger, TriggerEvent
from psycopg.conninfo import make_conninfo

from lakehouse_providers.polling import Pace, poll

log = logging.getLogger(__name__)


def dsn(conn: Connection) -> str:
    """The address that an Airflow connection of type `postgres` names."""
    return make_conninfo(
        host=conn.host or "",
        port=conn.port or 5432,
        dbname=conn.schema or "",
        user=conn.login or "",
        password=conn.password or "",
        connect_timeout=10,
        application_name="lakehouse-wait",
    )


async def _holds(conn_id: str, sql: str, parameters: Sequence[Any]) -> bool | None:
    """True when the first column of the first row is true; None, so look again, otherwise."""
    conn = await BaseHook.aget_connection(conn_id)
    async with await psycopg.AsyncConnection.connect(dsn(conn), autocommit=True) as session:
        row = await (await session.execute(sql.encode(), list(parameters))).fetchone()
    return True if row and row[0] else None


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
        try:
            found = await poll(
                lambda: _holds(self.conn_id, self.sql, self.parameters),
                pace,
                transient=lambda error: isinstance(error, psycopg.OperationalError),
                log=log,
            )
            event = {"status": "reached" if found else "timeout"}
        except Exception as error:
            self.log.exception("The wait ended early")
            event = {"status": "error", "message": f"{type(error).__name__}: {error}"}
        yield TriggerEvent(event)
