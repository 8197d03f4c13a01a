"""Connections to the state database, and its schema."""

from __future__ import annotations

from importlib import resources
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool

Connection = psycopg.Connection[DictRow]
Pool = ConnectionPool[Connection]

# Any constant will do; it is this server's name in pg_locks.
RUNNER_LOCK = 0x4C48_5245_504C
_MIGRATION_LOCK = RUNNER_LOCK + 1

_OPTIONS: dict[str, Any] = {
    "row_factory": dict_row,
    "connect_timeout": 10,
    "application_name": "lakehouse-replication",
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}


def connect(url: str, *, autocommit: bool = True) -> Connection:
    """One connection of its own (worker, locks); rows are dictionaries."""
    return psycopg.Connection[DictRow].connect(url, autocommit=autocommit, **_OPTIONS)


def open_pool(url: str, size: int = 8) -> Pool:
    """The server's pool. It checks a connection before lending it: PostgreSQL may have restarted in between."""
    return ConnectionPool(
        url,
        connection_class=psycopg.Connection[DictRow],
        kwargs={**_OPTIONS, "autocommit": True},
        min_size=1,
        max_size=size,
        timeout=10,
        check=ConnectionPool.check_connection,
        open=True,
    )


def migrate(url: str) -> list[str]:
    """Apply the scripts of migrations/ that the database has not seen, in order; returns their names."""
    folder = resources.files("embedded.replication") / "migrations"
    scripts = {item.name: item.read_text("utf-8") for item in folder.iterdir() if item.name.endswith(".sql")}
    with connect(url, autocommit=False) as db:
        db.execute("select pg_advisory_xact_lock(%s)", [_MIGRATION_LOCK])
        db.execute(
            "create table if not exists schema_migrations (name text primary key, applied_at timestamptz default now())"
        )
        done = {row["name"] for row in db.execute("select name from schema_migrations")}
        todo = sorted(set(scripts) - done)
        for name in todo:
            db.execute(scripts[name].encode())
            db.execute("insert into schema_migrations (name) values (%s)", [name])
    return todo
