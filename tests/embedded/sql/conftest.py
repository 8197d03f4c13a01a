"""A SQL server per module, over the session's PostgreSQL and object store."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.embedded.sql.process import Client, SqlProcess, new_database, rest_source, s3_source

if TYPE_CHECKING:
    from embedded.object_store import ObjectStore
    from embedded.postgres import PostgresServer


@pytest.fixture(scope="module")
def make_server(
    platform_postgres: PostgresServer, object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., SqlProcess]]:
    """Makes servers with a database of their own (or a given one); all are killed at the end."""
    made: list[SqlProcess] = []

    def make(database_url: str | None = None, **environment: str) -> SqlProcess:
        url = database_url or new_database(platform_postgres)
        folder = tmp_path_factory.mktemp("sql")
        server = SqlProcess(url, object_store, folder, {f"LAKEHOUSE_SQL_{k}": v for k, v in environment.items()})
        made.append(server)
        return server

    yield make
    for server in made:
        server.close()


@pytest.fixture(scope="module")
def server(make_server: Callable[..., SqlProcess]) -> SqlProcess:
    return make_server(FAULTS='{"backoff_unit": 0.2}').start()


@pytest.fixture(scope="module")
def client(server: SqlProcess) -> Client:
    return server.client()


@pytest.fixture(scope="module")
def prefix() -> str:
    """A name of this module's own, for folders in the shared buckets."""
    return f"t{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def lake(client: Client, object_store: ObjectStore, prefix: str) -> str:
    """The source `lake`, and the namespace in it that this module may fill: returns `lake.<namespace>`."""
    client.create(rest_source(object_store, "lake"))
    return f"lake.{prefix}"


@pytest.fixture(scope="module")
def bronze(client: Client, object_store: ObjectStore, prefix: str) -> str:
    """The source `bronze` over a prefix of this module's own; returns that prefix in the bucket lakehouse."""
    client.create(s3_source(object_store, "bronze", f"/lakehouse/{prefix}"))
    return prefix
