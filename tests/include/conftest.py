"""A ledger with its schema in a real PostgreSQL, made anew for each test, and our SQL server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from include import ledger
from include.paths import PLATFORM
from tests.plugins.lakehouse_providers.live.conftest import dremio_connection, lake_source, sql_server

__all__ = ["conn", "dremio_connection", "lake_source", "sql_server"]

MIGRATIONS = PLATFORM / "postgres" / "ledger"


@pytest.fixture
def conn(platform_postgres: Any) -> Iterator[ledger.Connection]:
    with psycopg.connect(platform_postgres.dsn("lakehouse", "lakehouse"), row_factory=psycopg.rows.dict_row) as conn:
        conn.execute("drop schema if exists lakehouse cascade")
        ledger.migrate(conn, MIGRATIONS)
        yield conn
        conn.rollback()
