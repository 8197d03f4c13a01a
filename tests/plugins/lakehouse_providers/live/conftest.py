"""Our own servers as processes of their own, over the session's PostgreSQL and object store."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest

from tests.sql_server import iceberg_config

if TYPE_CHECKING:
    from embedded.object_store import ObjectStore
    from embedded.postgres import PostgresServer

PROJECT = Path(__file__).resolve().parents[4]
CLOUD_PROJECT = "3f6a7c1e-0000-4000-8000-000000000001"
PYTHON = PROJECT / ".venvs" / "embedded" / "bin" / "python"


def until(probe: Callable[[], Any], what: str, timeout: float = 240) -> Any:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        found = probe()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen in {timeout:g} s")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """One of `python -m embedded.<module>`; state stays in its database, so that it can be killed and started again."""

    module: str
    ready: str
    folder: Path
    environment: dict[str, str]
    port: int = field(default_factory=free_port)
    flight_port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as output:
            self.process = subprocess.Popen(
                [PYTHON, "-m", self.module],
                cwd=PROJECT,
                env={"PATH": os.environ["PATH"], **self.environment},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        until(self._answers, f"start of {self.module} ({self.folder}/server.log)")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "server.log").read_text()
        try:
            return httpx.get(f"{self.url}{self.ready}", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def _database(postgres: PostgresServer, owner: str) -> str:
    name = f"{owner}_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres.superuser_dsn(), autocommit=True) as connection:
        connection.execute(f'create database "{name}" owner {owner}'.encode())
    return postgres.dsn(owner).rsplit("/", 1)[0] + f"/{name}"


@pytest.fixture(scope="session")
def sql_server(
    platform_postgres: PostgresServer, object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder, port, flight_port = tmp_path_factory.mktemp("sql"), free_port(), free_port()
    settings = {
        "PORT": str(port),
        "FLIGHT_PORT": str(flight_port),
        "CLOUD_PROJECT": CLOUD_PROJECT,
        "DATABASE_URL": _database(platform_postgres, "sqlserver"),
        "ADMIN_USER": "admin",
        "ADMIN_PASSWORD": "dremio123",
        "DIST": "s3://lakehouse-dist",
        "DIST_ENDPOINT": object_store.endpoint,
        "DIST_ACCESS_KEY": object_store.access_key,
        "DIST_SECRET_KEY": object_store.secret_key,
        "SECRET_KEY": "dGhlLWtleS1vZi10ZXN0cy1pcy0zMi1ieXRlcy1sbmc=",
        "SCRATCH": str(folder / "scratch"),
        "MEMORY_LIMIT": "500MB",
        "FAULTS": '{"backoff_unit": 0.05}',
    }
    environment = {f"LAKEHOUSE_SQL_{name}": value for name, value in settings.items()}
    server = Server("embedded.sql", "/apiv2/server_status", folder, environment, port, flight_port)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def replication_server(platform_postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, port = tmp_path_factory.mktemp("replication"), free_port()
    settings = {
        "PORT": str(port),
        "DATABASE_URL": _database(platform_postgres, "replication"),
        "CLIENT_ID": "airflow",
        "CLIENT_SECRET": "airflow-secret",
        "RETRY_SECONDS": "0.2",
        "FAULTS": "{}",
    }
    environment = {f"LAKEHOUSE_REPLICATION_{name}": value for name, value in settings.items()}
    server = Server("embedded.replication", "/api/public/v1/health", folder, environment, port)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def dremio_connection(sql_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The Airflow connection `dremio` leads to our SQL server."""
    fields: dict[str, Any] = {"conn_type": "dremio", "host": "127.0.0.1", "port": sql_server.port, "login": "admin"}
    fields |= {"password": "dremio123", "extra": {"use_ssl": False, "flight_port": sql_server.flight_port}}
    monkeypatch.setenv("AIRFLOW_CONN_DREMIO", json.dumps(fields))
    return sql_server


@pytest.fixture
def airbyte_connection(replication_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The Airflow connection `airbyte` leads to our replication server."""
    fields: dict[str, Any] = {
        "conn_type": "airbyte",
        "host": f"{replication_server.url}/api/public/v1",
        "login": "airflow",
    }
    fields |= {"password": "airflow-secret", "extra": {"timeout": 60}}
    monkeypatch.setenv("AIRFLOW_CONN_AIRBYTE", json.dumps(fields))
    return replication_server


@pytest.fixture
def lake_source(object_store: ObjectStore) -> dict[str, Any]:
    """The source `lake` as a client declares it: Iceberg tables of the object store's REST catalog."""
    config = iceberg_config(object_store)
    return {"name": "lake", "type": "RESTCATALOG", "config": config}
