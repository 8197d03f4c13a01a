"""Real servers, a bucket of its own for every test, and the log shipped by a real pg_receivewal."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from include.backup import programs as programs_
from include.backup.archiver import Archiver
from include.backup.programs import Programs
from include.backup.sealed import Key
from include.backup.settings import Backup, Instance, Login
from include.backup.store import Store


@pytest.fixture(scope="session")
def programs() -> Programs:
    return programs_.find()


@pytest.fixture(scope="session")
def key() -> Key:
    return Key.parse(Key.generate(), "the test")


@pytest.fixture(scope="session")
def bucket(object_store: Any) -> str:
    object_store.client("s3").create_bucket(Bucket="lakehouse-backups-test")
    return "lakehouse-backups-test"


@pytest.fixture
def store(object_store: Any, bucket: str) -> Store:
    return make_store(object_store, bucket, f"{uuid4().hex[:12]}/")


def make_store(object_store: Any, bucket: str, prefix: str, **changes: Any) -> Store:
    fields = {
        "endpoint": object_store.endpoint_url,
        "bucket": bucket,
        "access_key": object_store.access_key,
        "secret_key": object_store.secret_key,
        "prefix": prefix,
        "attempts": 2,
    }
    return Store(**{**fields, **changes})


def login(server: Any) -> Login:
    return Login(f"backup_{server.name}", "127.0.0.1", server.port, "backup", server.layout.roles["backup"].password)


@pytest.fixture(scope="session")
def source(source_postgres: Any) -> Instance:
    return Instance("source", login(source_postgres))


@pytest.fixture(scope="session")
def admin(source_postgres: Any) -> Login:
    """Who may replace databases."""
    return Login("admin_source", "127.0.0.1", source_postgres.port, "postgres", source_postgres.superuser_password)


@pytest.fixture(scope="session")
def owner(source_postgres: Any) -> Iterator[psycopg.Connection[Any]]:
    """The application that owns the source's tables."""
    with psycopg.connect(source_postgres.dsn("retail"), autocommit=True) as connection:
        connection.execute("drop table if exists retail.customers, retail.orders, retail.ledger")
        connection.execute("create table retail.customers (id int primary key, name text, photo bytea)")
        connection.execute(
            "insert into retail.customers select i, 'customer ' || i, sha256(i::text::bytea) "
            "from generate_series(1, 5000) as i"
        )
        connection.execute(
            'create table retail.orders ("order id" bigint primary key, total numeric(12, 2), at timestamptz)'
        )
        yield connection


@contextmanager
def archiving(
    instance: Instance, programs: Programs, store: Store, key: Key, folder: Path | None = None
) -> Iterator[None]:
    """Ships the server's log to this store, and to no other. `folder`: for what is not there yet."""
    staging, stop = folder or Path(tempfile.mkdtemp(prefix="lakehouse-staging-")), threading.Event()
    archiver = Archiver(instance, programs, store, key, staging, partial_seconds=1.0)
    thread = threading.Thread(target=archiver.run, args=[stop], daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
        shutil.rmtree(staging, ignore_errors=True)


@pytest.fixture
def backup(store: Store, key: Key, source: Instance, owner: Any, programs: Programs) -> Iterator[Backup]:
    """The source alone, archived."""
    with archiving(source, programs, store, key):
        yield Backup(store, key, {"source": source}, {"elasticsearch": None}, None, 7)
