"""Fixtures: one server for most tests, one of its own for tests that kill it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.embedded.replication.capture import Capture, capturing
from tests.embedded.replication.harness import Bench, Lake, Server, Source, new_database, new_source

HOST = "127.0.0.1"


@pytest.fixture(scope="session")
def shared_server(platform_postgres: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with new_database(platform_postgres.superuser_dsn) as url:
        server = Server(url, tmp_path_factory.mktemp("replication") / "server.log").start()
        yield server
        server.stop()


@pytest.fixture(scope="session")
def source_database(source_postgres: Any) -> Iterator[Source]:
    with new_source(source_postgres.superuser_dsn, HOST, source_postgres.port) as source:
        yield source


@pytest.fixture
def bench(shared_server: Server, source_database: Source, object_store: Any) -> Iterator[Bench]:
    """An empty schema `shop`, an empty prefix, and the shared server without faults."""
    source_database.reset()
    yield Bench(shared_server, source_database, Lake(object_store))
    shared_server.faults()


@pytest.fixture
def own_bench(platform_postgres: Any, source_database: Source, object_store: Any, tmp_path: Path) -> Iterator[Bench]:
    """The same with a server that is not started yet, and that a test may kill."""
    source_database.reset()
    with new_database(platform_postgres.superuser_dsn) as url:
        server = Server(url, tmp_path / "server.log")
        yield Bench(server, source_database, Lake(object_store))
        server.stop()


@pytest.fixture
def capture(shared_server: Server, source_database: Source, platform_postgres: Any) -> Iterator[Capture]:
    """Change data capture from an empty schema `shop` into a database of its own, by the shared server."""
    source_database.reset()
    with (
        new_database(platform_postgres.superuser_dsn) as url,
        capturing(shared_server, source_database, url) as made,
    ):
        yield made
    shared_server.faults()


@pytest.fixture
def own_capture(source_database: Source, platform_postgres: Any, tmp_path: Path) -> Iterator[Capture]:
    """The same with a server that is not started yet, and that a test may kill."""
    source_database.reset()
    with new_database(platform_postgres.superuser_dsn) as state, new_database(platform_postgres.superuser_dsn) as url:
        server = Server(state, tmp_path / "server.log")
        with capturing(server, source_database, url) as made:
            yield made
            server.stop()
