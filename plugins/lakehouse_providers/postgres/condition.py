"""One question to a database whose answer is yes or not yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from airflow.sdk import Connection
from psycopg.conninfo import make_conninfo


def dsn(conn: Connection, application: str, dbname: str | None = None) -> str:
    """The libpq connection string of a `postgres` connection; `dbname`: another database of the same server."""
    return make_conninfo(
        host=conn.host or "",
        port=conn.port or 5432,
        dbname=dbname or conn.schema or "",
        user=conn.login or "",
        password=conn.password or "",
        connect_timeout=10,
        application_name=application,
    )


async def holds(conn: Connection, sql: str, parameters: Sequence[Any]) -> bool:
    """Whether the first column of the first row is true. Raises psycopg.Error."""
    address = dsn(conn, "lakehouse-wait")
    async with await psycopg.AsyncConnection.connect(address, autocommit=True) as session:
        row = await (await session.execute(sql.encode(), list(parameters))).fetchone()
    return bool(row and row[0])
