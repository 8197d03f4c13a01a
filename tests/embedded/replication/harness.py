"""A real replication server in its own process, a real source database and a real bucket."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import sql

PROJECT = Path(__file__).resolve().parents[3]
CLIENT_ID, CLIENT_SECRET = "tests-client", "tests-client-secret"
NO_FAULTS: dict[str, Any] = {}
ENDED = ("succeeded", "failed", "cancelled")

T = TypeVar("T")


def until(probe: Callable[[], T | None], what: str, seconds: float = 180) -> T:
    """The first truthy answer of a probe; fails with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = probe()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds:.0f} s for {what}")


def embedded_python() -> str:
    """The interpreter that has the server's packages: this one, or the embedded venv's (tests of Airflow's venv)."""
    other = PROJECT / ".venvs" / "embedded" / "bin" / "python"
    return str(other) if other.exists() else sys.executable


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """The server. `restart` keeps port and database, so what it was doing goes on."""

    database_url: str = field(repr=False)
    log: Path = field(repr=False)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    client: httpx.Client = field(default_factory=httpx.Client, repr=False)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/public/v1"

    @property
    def extension(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/lakehouse/v1"

    def start(self, faults: dict[str, Any] | None = NO_FAULTS, **settings: str) -> Server:
        """Start it with fault injection on (None: off); `settings` are its environment, without prefix."""
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("LAKEHOUSE_")},
            "LAKEHOUSE_REPLICATION_PORT": str(self.port),
            "LAKEHOUSE_REPLICATION_DATABASE_URL": self.database_url,
            "LAKEHOUSE_REPLICATION_CLIENT_ID": CLIENT_ID,
            "LAKEHOUSE_REPLICATION_CLIENT_SECRET": CLIENT_SECRET,
            "LAKEHOUSE_REPLICATION_RETRY_SECONDS": "0.2",
            "LAKEHOUSE_REPLICATION_FAULTS": "" if faults is None else json.dumps(faults),
            **{f"LAKEHOUSE_REPLICATION_{key.upper()}": value for key, value in settings.items()},
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [embedded_python(), "-m", "embedded.replication"],
                cwd=PROJECT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        until(self._is_ready, f"the server, see {self.log}")
        self.client.close()
        self.client = httpx.Client(headers={"authorization": f"Bearer {self.token()}"}, timeout=60)
        return self

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            return httpx.get(f"{self.base}/health").status_code == 200
        except httpx.TransportError:
            return False

    def token(self) -> str:
        form = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        return str(httpx.post(f"{self.base}/applications/token", data=form).json()["access_token"])

    def stop(self) -> None:
        self.client.close()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=30)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=10)

    def call(self, method: str, path: str, expect: int = 200, **request: Any) -> Any:
        """One call; `path` is relative to the public API, or whole when it begins with http."""
        url = path if path.startswith("http") else f"{self.base}{path}"
        reply = self.client.request(method, url, **request)
        assert reply.status_code == expect, f"{method} {path}: {reply.status_code} {reply.text}"
        return reply.json() if reply.content else None

    def faults(self, **rules: Any) -> None:
        self.call("PUT", f"{self.extension}/faults", json=rules)

    def workspace(self) -> str:
        return str(self.call("GET", "/workspaces")["data"][0]["workspaceId"])

    def submit(self, connection: str) -> int:
        return int(self.call("POST", "/jobs", json={"connectionId": connection, "jobType": "sync"})["jobId"])

    def job(self, job_id: int) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"{self.extension}/jobs/{job_id}")
        return found

    def wait(self, job_id: int, status: tuple[str, ...] = ENDED, seconds: float = 240) -> dict[str, Any]:
        def probe() -> dict[str, Any] | None:
            job = self.job(job_id)
            return job if job["status"] in status else None

        return until(probe, f"job {job_id} to be {' or '.join(status)}", seconds)

    def sync(self, connection: str, expect: str = "succeeded") -> dict[str, Any]:
        """Run a sync to its end; gives the job's details."""
        job = self.wait(self.submit(connection))
        assert job["status"] == expect, job
        return job

    def files(self, job_id: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call("GET", f"{self.extension}/jobs/{job_id}/files")["data"]
        return found

    def log_lines(self, job_id: int) -> list[str]:
        return [line["message"] for line in self.call("GET", f"{self.extension}/jobs/{job_id}/log")["data"]]

    def state(self, connection: str) -> dict[str, dict[str, Any]]:
        rows = self.call("GET", f"{self.extension}/connections/{connection}/state")["data"]
        return {row["name"]: row for row in rows}


@dataclass
class Source:
    """A database of its own on the source server, with one schema `shop`."""

    host: str
    port: int
    database: str
    password: str = field(repr=False)
    db: psycopg.Connection[Any] = field(repr=False)

    def run(self, statement: str, *values: Any) -> Any:
        return self.db.execute(statement.encode(), values or None)

    def configuration(self, **changes: Any) -> dict[str, Any]:
        return {
            "sourceType": "postgres",
            "host": self.host,
            "port": self.port,
            "database": self.database,
            "username": "reader",
            "password": self.password,
            "schemas": ["shop"],
            "ssl_mode": {"mode": "disable"},
            **changes,
        }

    def reset(self) -> None:
        self.run("drop schema if exists shop cascade")
        self.run("create schema shop")
        self.run("grant usage on schema shop to reader")
        self.run("alter default privileges in schema shop grant select on tables to reader")


@contextmanager
def new_source(superuser_dsn: Callable[..., str], host: str, port: int) -> Iterator[Source]:
    """A new database; the role `reader` may read it and nothing more."""
    name, password = f"t{secrets.token_hex(6)}", secrets.token_hex(8)
    with psycopg.connect(superuser_dsn("postgres"), autocommit=True) as admin:
        if admin.execute("select from pg_roles where rolname = 'reader'").fetchone() is None:
            admin.execute("create role reader login")
        admin.execute(sql.SQL("alter role reader password {}").format(sql.Literal(password)))
        admin.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        with psycopg.connect(superuser_dsn(name), autocommit=True) as db:
            source = Source(host, port, name, password, db)
            source.reset()
            yield source
        admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@contextmanager
def new_database(superuser_dsn: Callable[..., str]) -> Iterator[str]:
    """A new, empty state database; gives its URL."""
    name = f"t{secrets.token_hex(6)}"
    with psycopg.connect(superuser_dsn("postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        yield superuser_dsn(name)
        admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@dataclass
class Lake:
    """A prefix of its own in the bucket."""

    store: Any = field(repr=False)
    bucket: str = "lakehouse"
    path: str = field(default_factory=lambda: f"test-{secrets.token_hex(4)}")

    def __post_init__(self) -> None:
        self.s3 = self.store.client("s3")

    def configuration(self, **changes: Any) -> dict[str, Any]:
        return {
            "destinationType": "s3",
            "s3_bucket_name": self.bucket,
            "s3_bucket_path": self.path,
            "s3_bucket_region": "us-east-1",
            "s3_endpoint": self.store.endpoint_url,
            "access_key_id": self.store.access_key,
            "secret_access_key": self.store.secret_key,
            "format": {"format_type": "Parquet", "compression_codec": "ZSTD"},
            **changes,
        }

    def objects(self, prefix: str = "") -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=f"{self.path}/{prefix}")
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def uploads(self) -> list[str]:
        reply = self.s3.list_multipart_uploads(Bucket=self.bucket, Prefix=f"{self.path}/")
        return [item["Key"] for item in reply.get("Uploads", [])]

    def file(self, key: str) -> pq.ParquetFile:
        body = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return pq.ParquetFile(pa.BufferReader(body))

    def read(self, prefix: str = "") -> pa.Table:
        """Every row of every file under a prefix."""
        return pa.concat_tables([self.file(key).read() for key in self.objects(prefix)])

    def rows(self, prefix: str, jobs: list[int] | None = None) -> list[dict[str, Any]]:
        """Rows as a bronze view shows them: those of the given (succeeded) jobs."""
        rows = self.read(prefix).to_pylist() if self.objects(prefix) else []
        return [row for row in rows if jobs is None or row["_airbyte_meta"]["sync_id"] in jobs]


@dataclass
class Bench:
    """Everything together."""

    server: Server
    source: Source
    lake: Lake

    def connect(self, *streams: dict[str, Any], destination: dict[str, Any] | None = None, **options: Any) -> str:
        """A connection with these streams; gives its id."""
        workspace = self.server.workspace()
        source = {"name": "shop", "workspaceId": workspace, "configuration": self.source.configuration()}
        target = self.lake.configuration(**(destination or {}))
        lake = {"name": "lake", "workspaceId": workspace, "configuration": target}
        body = {
            "name": "test",
            "sourceId": self.server.call("POST", "/sources", json=source)["sourceId"],
            "destinationId": self.server.call("POST", "/destinations", json=lake)["destinationId"],
            "namespaceDefinition": "source",
            "configurations": {"streams": list(streams)},
            **options,
        }
        return str(self.server.call("POST", "/connections", json=body)["connectionId"])


def overwrite(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "syncMode": "full_refresh_overwrite", **more}


def append(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "syncMode": "full_refresh_append", **more}


def incremental(name: str, cursor: str = "updated_at", **more: Any) -> dict[str, Any]:
    return {"name": name, "syncMode": "incremental_append", "cursorField": [cursor], **more}
