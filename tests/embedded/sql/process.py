"""The SQL server as a process of its own, over the session's PostgreSQL and object store, and a plain client of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import httpx
import psycopg

from tests.sql_server import iceberg_config

if TYPE_CHECKING:
    from embedded.object_store import ObjectStore
    from embedded.postgres import PostgresServer

PROJECT = Path(__file__).resolve().parents[3]
USER, PASSWORD = "admin", "dremio123"
SECRET_KEY = "dGhlLWtleS1vZi10ZXN0cy1pcy0zMi1ieXRlcy1sbmc="
FINAL = ("COMPLETED", "FAILED", "CANCELED")
T = TypeVar("T")


def until(probe: Callable[[], T | None], what: str, timeout: float = 240) -> T:
    """The first result of `probe` that is true; fails the test when none comes."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        found = probe()
        if found:
            return found
        time.sleep(0.03)
    raise AssertionError(f"{what} did not happen in {timeout:g} s")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def new_database(postgres: PostgresServer) -> str:
    """A fresh database, owned by the server's role; returns its URL."""
    name = f"sql_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres.superuser_dsn(), autocommit=True) as connection:
        connection.execute(f'create database "{name}" owner sqlserver')
    return postgres.dsn("sqlserver").rsplit("/", 1)[0] + f"/{name}"


@dataclass
class SqlProcess:
    """`start` returns when the server is ready; `kill` is SIGKILL; state stays in `database_url` and the store."""

    database_url: str
    store: ObjectStore
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    flight_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    clients: list[Client] = field(default_factory=list)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def launch(self) -> subprocess.Popen[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(PROJECT),
            "LAKEHOUSE_SQL_PORT": str(self.port),
            "LAKEHOUSE_SQL_FLIGHT_PORT": str(self.flight_port),
            "LAKEHOUSE_SQL_DATABASE_URL": self.database_url,
            "LAKEHOUSE_SQL_ADMIN_USER": USER,
            "LAKEHOUSE_SQL_ADMIN_PASSWORD": PASSWORD,
            "LAKEHOUSE_SQL_DIST": "s3://lakehouse-dist",
            "LAKEHOUSE_SQL_DIST_ENDPOINT": self.store.endpoint,
            "LAKEHOUSE_SQL_DIST_ACCESS_KEY": self.store.access_key,
            "LAKEHOUSE_SQL_DIST_SECRET_KEY": self.store.secret_key,
            "LAKEHOUSE_SQL_SCRATCH": str(self.folder / "scratch"),
            "LAKEHOUSE_SQL_SECRET_KEY": SECRET_KEY,
            "LAKEHOUSE_SQL_MEMORY_LIMIT": "500MB",
            **self.environment,
        }
        with self.log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "embedded.sql"],
                cwd=PROJECT,
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def start(self) -> SqlProcess:
        self.process = self.launch()
        until(self._ready, f"readiness of the server ({self.log})", 240)
        return self

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.base}/apiv2/server_status", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def kill(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def client(self, user: str = USER, password: str = PASSWORD) -> Client:
        self.clients.append(Client(self.base, user, password))
        return self.clients[-1]

    def close(self) -> None:
        for client in self.clients:
            client.http.close()
        if self.process is not None and self.process.poll() is None:
            self.kill()


class JobError(Exception):
    """A job that did not complete; carries what the server says of it."""

    def __init__(self, job: dict[str, Any]) -> None:
        super().__init__(job.get("errorMessage") or job.get("cancellationReason"))
        self.job = job


class Client:
    """Logged in; raises JobError for failed statements."""

    def __init__(self, base: str, user: str = USER, password: str = PASSWORD) -> None:
        self.http = httpx.Client(base_url=base, timeout=240)
        answer = self.http.post("/apiv2/login", json={"userName": user, "password": password})
        answer.raise_for_status()
        self.login = answer.json()
        self.http.headers["Authorization"] = f"_dremio{self.login['token']}"

    def submit(self, sql: str, context: list[str] | None = None) -> str:
        answer = self.http.post("/api/v3/sql", json={"sql": sql, "context": context})
        assert answer.status_code == 200, answer.text
        job_id: str = answer.json()["id"]
        return job_id

    def job(self, job_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/api/v3/job/{job_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def wait(self, job_id: str, timeout: float = 240) -> dict[str, Any]:
        return until(
            lambda: job if (job := self.job(job_id))["jobState"] in FINAL else None, f"end of job {job_id}", timeout
        )

    def run(self, sql: str, context: list[str] | None = None) -> dict[str, Any]:
        job = self.wait(self.submit(sql, context))
        if job["jobState"] != "COMPLETED":
            raise JobError(job)
        return job

    def rows(self, sql: str, context: list[str] | None = None) -> list[dict[str, Any]]:
        """All rows, by pages of 500."""
        job_id = self.submit(sql, context)
        job = self.wait(job_id)
        if job["jobState"] != "COMPLETED":
            raise JobError(job)
        rows: list[dict[str, Any]] = []
        while len(rows) < job["rowCount"] or not rows:
            answer = self.http.get(f"/api/v3/job/{job_id}/results", params={"offset": len(rows), "limit": 500})
            assert answer.status_code == 200, answer.text
            page = json.loads(answer.text)["rows"]
            if not page:
                break
            rows.extend(page)
        return rows

    def value(self, sql: str) -> Any:
        return next(iter(self.rows(sql)[0].values()))

    def entity(self, *path: str) -> dict[str, Any]:
        answer = self.http.get("/api/v3/catalog/by-path/" + "/".join(quote(part, safe="") for part in path))
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.http.post("/api/v3/catalog", json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def space(self, name: str, *folders: str) -> None:
        self.create({"entityType": "space", "name": name})
        for folder in folders:
            self.create({"entityType": "folder", "path": [name, folder]})

    def promote(self, *path: str) -> dict[str, Any]:
        body = {"entityType": "dataset", "type": "PHYSICAL_DATASET", "path": list(path), "format": {"type": "Parquet"}}
        place = quote("dremio:/" + "/".join(path), safe="")
        answer = self.http.post(f"/api/v3/catalog/{place}", json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def reflection(self, reflection_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/api/v3/reflection/{reflection_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


def s3_source(store: ObjectStore, name: str, root: str) -> dict[str, Any]:
    return {
        "entityType": "source",
        "type": "S3",
        "name": name,
        "config": {
            "credentialType": "ACCESS_KEY",
            "accessKey": store.access_key,
            "accessSecret": store.secret_key,
            "secure": False,
            "rootPath": root,
            "compatibilityMode": True,
            "propertyList": [
                {"name": "fs.s3a.path.style.access", "value": "true"},
                {"name": "fs.s3a.endpoint", "value": store.endpoint},
            ],
        },
    }


def rest_source(store: ObjectStore, name: str) -> dict[str, Any]:
    return {
        "entityType": "source",
        "type": "RESTCATALOG",
        "name": name,
        "config": iceberg_config(store),
    }


def postgres_source(postgres: PostgresServer, name: str, database: str) -> dict[str, Any]:
    parts = psycopg.conninfo.conninfo_to_dict(postgres.dsn(database))
    return {
        "entityType": "source",
        "type": "POSTGRES",
        "name": name,
        "config": {
            "hostname": parts["host"],
            "port": int(str(parts["port"])),
            "databaseName": parts["dbname"],
            "username": parts["user"],
            "password": parts["password"],
            "authenticationType": "MASTER",
        },
    }
