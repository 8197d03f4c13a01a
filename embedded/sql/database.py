"""PostgreSQL: the pool, versioned migrations, and the lock that keeps a second server away."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

from embedded.sql.errors import ResourceError

log = logging.getLogger(__name__)

LOCK_ID = 0x64726D_696F  # any constant: one per database is enough
Row = dict[str, Any]


class DatabaseError(RuntimeError):
    """The database cannot be used as it is; the message says what to do."""


class Database:
    """A pool of autocommit connections. Raises ResourceError (503) while PostgreSQL is away."""

    def __init__(self, url: str, *, size: int = 12) -> None:
        self.url = url
        self._pool: ConnectionPool[psycopg.Connection[Row]] = ConnectionPool(
            url,
            min_size=2,
            max_size=size,
            timeout=10,
            open=False,
            # A restart of PostgreSQL leaves dead connections behind; one round trip (0.1 ms) finds them.
            check=ConnectionPool.check_connection,
            kwargs={
                "autocommit": True,
                "row_factory": dict_row,
                "connect_timeout": 10,
                "application_name": "sql-server",
                "options": "-c timezone=UTC -c lock_timeout=30s",
            },
            name="sql-server",
        )

    def open(self) -> None:
        self._pool.open()

    def close(self) -> None:
        self._pool.close(timeout=5)

    @contextlib.contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Row]]:
        try:
            with self._pool.connection() as connection:
                yield connection
        except PoolTimeout as error:
            raise ResourceError("PostgreSQL does not answer: the server's state cannot be read or written") from error
        except psycopg.OperationalError as error:
            raise ResourceError(f"PostgreSQL failed: {str(error).strip()}") from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[Row]]:
        """All or nothing: commits at the end, rolls back on any exception."""
        with self.connection() as connection, connection.transaction():
            yield connection

    def rows(self, query: LiteralString, parameters: Sequence[Any] = ()) -> list[Row]:
        with self.connection() as connection:
            return connection.execute(query, parameters).fetchall()

    def row(self, query: LiteralString, parameters: Sequence[Any] = ()) -> Row | None:
        with self.connection() as connection:
            return connection.execute(query, parameters).fetchone()

    def execute(self, query: LiteralString, parameters: Sequence[Any] = ()) -> int:
        """Run one statement; returns the number of rows it touched."""
        with self.connection() as connection:
            return connection.execute(query, parameters).rowcount

    def ready(self) -> bool:
        """Whether PostgreSQL answers within two seconds."""
        try:
            with self._pool.connection(timeout=2) as connection:
                connection.execute("select 1")
        except (PoolTimeout, psycopg.Error):
            return False
        return True


def migrate(database: Database) -> None:
    """Bring the schema to this program's version. Raises DatabaseError when the schema is newer than the program."""
    scripts = _scripts()
    with database.transaction() as connection:
        connection.execute(
            "create table if not exists schema_version"
            " (version integer primary key, name text not null, applied_at timestamptz not null default now())"
        )
        done = {row["version"] for row in connection.execute("select version from schema_version")}
        unknown = done - set(scripts)
        if unknown:
            raise DatabaseError(
                f"The database has schema version {max(unknown)}, this program knows only {max(scripts)}: "
                "start the newer program, or restore a backup made by this one"
            )
        for version, (name, text) in sorted(scripts.items()):
            if version not in done:
                # The text is a file of this package, not user input.
                connection.execute(text.encode())
                connection.execute("insert into schema_version (version, name) values (%s, %s)", (version, name))
                log.info("Applied migration %s", name)


def _scripts() -> dict[int, tuple[str, str]]:
    folder = resources.files("embedded.sql").joinpath("migrations")
    found = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda e: e.name)
    return {int(entry.name.split("_")[0]): (entry.name, entry.read_text(encoding="utf-8")) for entry in found}


class SingleServerLock:
    """A PostgreSQL advisory lock, held by a connection of its own for the life of the process.

    After a restart of PostgreSQL it is taken again; when another server was quicker, `on_lost` is called.
    """

    def __init__(self, url: str, *, patience: float = 15.0) -> None:
        self._url = url
        self._patience = patience  # a killed predecessor's connection lives on for a moment
        self._connection: psycopg.Connection[Any] | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Take the lock or raise DatabaseError that names the holder."""
        deadline = time.monotonic() + self._patience
        while True:
            holder = self._try()
            if holder is None:
                return
            if time.monotonic() > deadline:
                raise DatabaseError(
                    f"Another SQL server already serves this database ({holder}): stop it first, "
                    "or give this one its own LAKEHOUSE_SQL_DATABASE_URL"
                )
            time.sleep(0.3)

    def _try(self) -> str | None:
        connection = psycopg.connect(
            self._url,
            autocommit=True,
            connect_timeout=5,
            keepalives_idle=5,
            application_name=f"sql-server lock, pid {os.getpid()}",
        )
        row = connection.execute("select pg_try_advisory_lock(%s)", (LOCK_ID,)).fetchone()
        if row and row[0]:
            self._connection = connection
            return None
        with connection:
            other = connection.execute(
                "select a.application_name from pg_locks l join pg_stat_activity a using (pid)"
                " where l.locktype = 'advisory' and l.granted and l.database ="
                " (select oid from pg_database where datname = current_database())"
                " and (l.classid::bigint << 32 | l.objid::bigint) = %s",
                (LOCK_ID,),
            ).fetchone()
        return str(other[0]) if other and other[0] else "unknown process"

    def watch(self, on_lost: Callable[[str], None]) -> None:
        self._thread = threading.Thread(target=self._watch, args=(on_lost,), name="server-lock", daemon=True)
        self._thread.start()

    def _watch(self, on_lost: Callable[[str], None]) -> None:
        while not self._stop.wait(1.0):
            try:
                if self._connection is None:
                    raise psycopg.OperationalError("no connection")
                self._connection.execute("select 1")
            except psycopg.Error:
                self._regain(on_lost)

    def _regain(self, on_lost: Callable[[str], None]) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        try:
            self.acquire()
            log.warning("PostgreSQL was away; the server's lock is held again")
        except DatabaseError as error:
            on_lost(str(error))
        except psycopg.Error:
            log.warning("PostgreSQL is away; trying again")

    def release(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=20)
        if self._connection is not None:
            self._connection.close()
