"""A stand for change data capture: source, server, the destination's database, and its log read back as tables."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from tests.embedded.replication.harness import Server, Source

Row = dict[str, Any]
LEDGER = """
create schema lakehouse;
create table lakehouse.applied_lsn (
    connection_id uuid primary key, connection text not null unique, epoch bigint not null,
    snapshot_lsn bigint not null, applied_lsn bigint not null, job_id bigint not null,
    moved_at timestamptz not null default clock_timestamp())
"""


@dataclass
class Speed:
    """The destination's database."""

    url: str = field(repr=False)
    db: psycopg.Connection[Row] = field(repr=False)

    def configuration(self, **changes: Any) -> dict[str, Any]:
        parts = urlsplit(self.url)
        return {
            "destinationType": "postgres",
            "host": parts.hostname,
            "port": parts.port,
            "database": parts.path[1:],
            "schema": "speed",
            "username": unquote(parts.username or ""),
            "password": unquote(parts.password or ""),
            "ssl_mode": {"mode": "disable"},
            "applied_lsn_table": "lakehouse.applied_lsn",
            **changes,
        }

    def rows(self, query: str, *values: Any) -> list[Row]:
        cursor = self.db.execute(query.encode(), values or None)
        return cursor.fetchall() if cursor.description else []

    def applied(self) -> Row | None:
        return next(iter(self.rows("select * from lakehouse.applied_lsn")), None)

    def log(self, table: str) -> list[Row]:
        """The log of the current epoch up to the applied LSN, in its order."""
        query = sql.SQL(
            "select s.*, s._airbyte_meta->'changes'->0->>'reason' as marker from speed.{} s, lakehouse.applied_lsn a"
            " where s._airbyte_generation_id = a.epoch and s._ab_cdc_commit_lsn <= a.applied_lsn"
            " order by s._ab_cdc_commit_lsn, s._ab_cdc_lsn, s._ab_cdc_deleted_at nulls last"
        ).format(sql.Identifier(table))
        return self.db.execute(query).fetchall()

    def table(self, name: str, key: str = "id") -> list[Row]:
        """What the log says the source's table is at the applied LSN."""
        found: dict[Any, Row] = {}
        for row in self.log(name):
            if row[key] is None:
                found.clear()
            elif row["_ab_cdc_deleted_at"] is not None:
                found.pop(row[key], None)
            else:
                found[row[key]] = own(row)
        return [found[value] for value in sorted(found)]


def own(row: Row) -> Row:
    return {name: value for name, value in row.items() if not name.startswith("_a") and name != "marker"}


@dataclass
class Capture:
    """A source with slot and publication, the server, the destination."""

    server: Server
    source: Source
    speed: Speed
    slot: str = field(default_factory=lambda: f"slot_{secrets.token_hex(4)}")
    publication: str = "speed"
    connection: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    standard: bool = False  # read tables by query instead

    def source_configuration(self, **changes: Any) -> dict[str, Any]:
        if self.standard:
            return self.source.configuration()
        method = {"method": "CDC", "replication_slot": self.slot, "publication": self.publication}
        method |= {**self.options, **changes}
        return self.source.configuration(username="capturer", replication_method=method)

    def publish(self, *tables: str, slot: bool = True) -> None:
        names = ", ".join(f"shop.{table}" for table in tables)
        self.source.run(f"create publication {self.publication} for table {names}")
        if slot:
            self.source.run(f"select pg_create_logical_replication_slot('{self.slot}', 'pgoutput')")

    def connect(self, *streams: Row, destination: Row | None = None, **options: Any) -> str:
        workspace = self.server.workspace()
        source = {"name": "shop", "workspaceId": workspace, "configuration": self.source_configuration()}
        target = destination or self.speed.configuration()
        speed = {"name": "speed", "workspaceId": workspace, "configuration": target}
        body = {
            "name": "shop_speed",
            "sourceId": self.server.call("POST", "/sources", json=source)["sourceId"],
            "destinationId": self.server.call("POST", "/destinations", json=speed)["destinationId"],
            "configurations": {"streams": list(streams)},
            "nonBreakingSchemaUpdatesBehavior": "propagate_columns",
            **options,
        }
        self.connection = str(self.server.call("POST", "/connections", json=body)["connectionId"])
        return self.connection

    def sync(self, expect: str = "succeeded") -> Row:
        return self.server.sync(self.connection, expect)

    def refuse(self) -> str:
        """A sync that must fail for good; gives the reason."""
        job = self.sync("failed")
        assert job["failureReason"]["type"] == "config_error", job
        return str(job["failureReason"]["message"])

    def rebuild(self) -> None:
        self.server.call("POST", f"{self.server.extension}/connections/{self.connection}/rebuild")

    def void(self, kind: str, **body: Any) -> str:
        """A refresh, or a clear; gives the job's status in the end."""
        url = f"{self.server.extension}/connections/{self.connection}/{kind}"
        return str(self.server.wait(self.server.call("POST", url, json=body)["jobId"])["status"])

    def state(self) -> Row:
        found: Row = self.server.call("GET", f"{self.server.extension}/connections/{self.connection}/slot")
        return found

    def truth(self, table: str, key: str = "id") -> list[Row]:
        cursor = self.source.db.cursor(row_factory=dict_row)
        return cursor.execute(f"select * from shop.{table} order by {key}".encode()).fetchall()

    def assert_exact(self, *tables: str) -> None:
        """The log, read up to the applied LSN, is the source's tables (nothing may be written meanwhile)."""
        for table in tables:
            assert self.speed.table(table) == self.truth(table), table

    def drop_slot(self) -> None:
        self.source.run(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots"
            f" where slot_name = '{self.slot}' and not active"
        )


def stream(name: str, mode: str = "incremental_append", **more: Any) -> Row:
    return {"name": name, "syncMode": mode, **more}


@contextmanager
def capturing(server: Server, source: Source, database_url: str) -> Iterator[Capture]:
    """The role `capturer` reads the schema and may replicate."""
    with psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as db:
        db.execute(LEDGER.encode())
        capture = Capture(server, source, Speed(database_url, db))
        role = source.run("select from pg_roles where rolname = 'capturer'").fetchone()
        if role is None:
            source.run("create role capturer login replication")
        source.db.execute(sql.SQL("alter role capturer password {}").format(sql.Literal(source.password)))
        source.run("grant reader to capturer")
        source.run("drop publication if exists speed")
        yield capture
        source.run(f"drop publication if exists {capture.publication}")
        source.run(
            "select pg_terminate_backend(active_pid) from pg_replication_slots"
            f" where slot_name = '{capture.slot}' and active"
        )
        capture.drop_slot()
