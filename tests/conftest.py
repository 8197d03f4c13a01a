"""What every test process shares, in either venv: a home of Airflow's own, and no way out of this machine."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # imported inside the fixtures: a test that uses none of them does not pay for it
    from embedded.home import Home
    from embedded.object_store import ObjectStore
    from embedded.postgres import PostgresServer
    from tests.sql_server import Dremio

PROJECT = Path(__file__).resolve().parent.parent

# Before anything imports Airflow: it reads these once, and would otherwise write into the user's home folder.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="lakehouse-tests-"))
os.environ.setdefault("AIRFLOW__CORE__DAGS_FOLDER", str(PROJECT / "dags"))
os.environ.setdefault("AIRFLOW__CORE__PLUGINS_FOLDER", str(PROJECT / "plugins"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
os.environ.setdefault("AIRFLOW__COSMOS__ENABLE_TELEMETRY", "False")
os.environ.setdefault("DO_NOT_TRACK", "1")


class OutsideError(Exception):
    """A test tried to reach another machine."""


def _is_here(address: Any) -> bool:
    if not isinstance(address, tuple):  # a Unix socket
        return True
    host = str(address[0])
    return host.startswith("127.") or host in {"::1", "localhost"}


@pytest.fixture(scope="session", autouse=True)
def _only_this_machine() -> Iterator[None]:
    """Every connection but those to 127.0.0.1 fails, unless a test against a real product was asked for."""
    if any(name.startswith("LAKEHOUSE_REAL_") for name in os.environ):
        yield
        return
    patch = pytest.MonkeyPatch()
    for name in ("connect", "connect_ex"):
        original = getattr(socket.socket, name)

        def guarded(self: socket.socket, address: Any, original: Any = original) -> Any:
            if not _is_here(address):
                raise OutsideError(f"tests reach 127.0.0.1 only, not {address}")
            return original(self, address)

        patch.setattr(socket.socket, name, guarded)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def services_home() -> Iterator[Home]:
    """A data folder for the session's servers, where the account that runs PostgreSQL for root may enter."""
    from embedded.home import Home

    root = Path(tempfile.mkdtemp(prefix="lakehouse-services-"))
    root.chmod(0o711)
    home = Home(root / "home")
    home.create()
    yield home
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def platform_postgres(services_home: Home) -> Iterator[PostgresServer]:
    """A running server with the databases lakehouse, replication, sqlserver, airflow: `.dsn(database)`."""
    from embedded.postgres import PLATFORM, platform_server

    yield from _serve_postgres(services_home, PLATFORM, platform_server)


@pytest.fixture(scope="session")
def source_postgres(services_home: Home) -> Iterator[PostgresServer]:
    """A running server (wal_level=logical) with the database retail: `.dsn("retail")`, `.dsn("retail", "airbyte")`."""
    from embedded.postgres import SOURCE, source_server

    yield from _serve_postgres(services_home, SOURCE, source_server)


def _serve_postgres(home: Home, name: str, make: Any) -> Iterator[PostgresServer]:
    from embedded.credentials import Secrets
    from embedded.ports import assign
    from embedded.programs import Child

    server = make(home, Secrets.load_or_create(home.secrets), assign([name]).ports[name])
    child = Child.start(server.program(), home.log(name))
    try:
        child.wait_ready(server.is_ready)
        server.provision()
        yield server
    finally:
        child.stop()


@pytest.fixture(scope="session")
def object_store(services_home: Home) -> Iterator[ObjectStore]:
    """A running S3 and Iceberg catalog with all buckets: `.endpoint`, `.access_key`, `.secret_key`, `.iceberg_uri`."""
    from embedded.object_store import PORT_NAMES
    from embedded.object_store import object_store as make

    yield from _serve_objects(services_home, PORT_NAMES, make)


@pytest.fixture(scope="session")
def offsite_store(services_home: Home) -> Iterator[ObjectStore]:
    """A second store, with keys of its own, as another site's."""
    from embedded.object_store import OFFSITE_PORTS
    from embedded.object_store import offsite_store as make

    yield from _serve_objects(services_home, OFFSITE_PORTS.values(), make)


def _serve_objects(home: Home, names: Iterable[str], make: Any) -> Iterator[ObjectStore]:
    from embedded.credentials import Secrets
    from embedded.object_store import PORT_OFFSETS
    from embedded.ports import assign
    from embedded.programs import Child

    own = {name: offset for name, offset in PORT_OFFSETS.items() if name in set(names)}
    store = make(home, Secrets.load_or_create(home.secrets), assign(names, offsets=own).ports)
    child = Child.start(store.program(), home.log(store.name))
    try:
        child.wait_ready(store.is_ready)
        store.provision()
        yield store
    finally:
        child.stop()
        store.remove_sockets()


@pytest.fixture(scope="session")
def dremio(services_home: Home, platform_postgres: PostgresServer, object_store: ObjectStore) -> Iterator[Dremio]:
    """A running SQL server with the space `lakehouse` and the sources `bronze`, `lake` and `ledger`."""
    from tests.sql_server import serve

    yield from serve(services_home, platform_postgres, object_store)
