"""One snapshot of a source, shared by a catalogue connection (psycopg) and a bulk connection (DuckDB's scanner).

All streams of a job are read in it, so they fit each other: an order and its items are both there or both not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from importlib import util
from pathlib import Path
from types import TracebackType
from typing import Any, LiteralString

import duckdb
import psycopg
import pyarrow as pa
from psycopg import sql
from psycopg.conninfo import make_conninfo

from embedded.replication.connectors import PostgresSource
from embedded.replication.postgres.connection import Connection, connect, parameters, translate

# DuckDB's own share of the worker's memory; its scanner and a streamed result need far less.
_MEMORY_LIMIT = "128MB"

# Sessions of other roles show their xact_start only to members of pg_read_all_stats; else they are null, uncounted.
_HORIZON: LiteralString = (
    "select least(now, oldest)::text as horizon, greatest(now - oldest, interval '0')::text as age,"
    " oldest < now as overtaken"
    " from (select clock_timestamp() as now, min(xact_start) filter (where pid <> pg_backend_pid()"
    " and datname = current_database() and backend_type = 'client backend'"
    " and application_name not like 'lakehouse-replication%') as oldest from pg_stat_activity offset 0) as sessions"
)
_HIDDEN: LiteralString = (
    "select count(*) as sessions from pg_stat_activity where datname = current_database()"
    " and query = '<insufficient privilege>'"  # all else about them is null, backend_type too
)


def extension_file(package: str = "duckdb_extension_postgres_scanner") -> Path:
    """The signed extension of DuckDB's own wheel, loaded by path: nothing is fetched from the network."""
    spec = util.find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    found = [file for folder in folders for file in Path(folder).rglob("*.duckdb_extension")]
    if not found:
        raise RuntimeError(f"package {package} is not installed; run `make setup`")
    return found[0]


def quoted(text: str) -> str:
    """A SQL string literal for DuckDB (standard strings: only the quote needs care)."""
    return "'" + text.replace("'", "''") + "'"


class Snapshot:
    """A context manager; opening it raises SyncError when the source cannot be used."""

    def __init__(self, source: PostgresSource, application: str, folder: Path, name: str | None = None) -> None:
        """`name`: an exported snapshot to adopt instead of taking one; who exported it must still be there."""
        self._adopted = name
        self._source = source
        self._application = application
        self._folder = folder
        self._stack: list[Any] = []
        self.name = ""
        self.lsn = ""
        # No transaction that commits after the snapshot began before this time (text of a timestamptz).
        self.horizon = ""
        self.age = ""  # how long before the snapshot that was (text of an interval)
        self.was_overtaken = False  # by transactions that were open then and may commit later

    def __enter__(self) -> Snapshot:
        self.catalogue: Connection = connect(self._source, self._application, self._folder)
        self._stack.append(self.catalogue)
        try:
            oldest = self._first(_HORIZON)  # before the snapshot, or a commit could slip between
            self.horizon, self.age = oldest["horizon"], oldest["age"]
            self.was_overtaken = bool(oldest["overtaken"])
            self.catalogue.execute("begin isolation level repeatable read read only")
            if self._adopted is None:
                self.name = self._first("select pg_export_snapshot() as name")["name"]
            else:
                self.catalogue.execute(sql.SQL("set transaction snapshot {}").format(sql.Literal(self._adopted)))
                self.name = self._adopted
            self.lsn = self._position()
            self._duck = self._attach()
        except BaseException as error:
            self.__exit__(None, None, None)
            raise translate(error, self._source) if isinstance(error, psycopg.Error | duckdb.Error) else error from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._stack:
            connection = self._stack.pop()
            if isinstance(connection, duckdb.DuckDBPyConnection):
                # Closing would roll back in a destructor, and end the process if the source has gone away.
                with suppress(duckdb.Error):
                    connection.execute("rollback")
            connection.close()

    def _position(self) -> str:
        """The log position just after the snapshot was taken, for people who read the job's details."""
        query: LiteralString = (
            "select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end::text lsn"
        )
        return str(self._first(query)["lsn"])

    def _attach(self) -> duckdb.DuckDBPyConnection:
        # By environment: DuckDB repeats its connection string in error messages.
        os.environ["PGPASSWORD"] = self._source.password
        duck = duckdb.connect(
            config={
                "threads": 1,  # one COPY stream is one pipeline; the second core is the source's
                "memory_limit": _MEMORY_LIMIT,
                "temp_directory": str(self._folder / "duckdb"),
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                # The wheel's hash was checked when it was installed, as that of DuckDB itself. A check of the signature
                # at each load takes half of a short sync's CPU.
                "allow_unsigned_extensions": True,
            }
        )
        self._stack.append(duck)
        duck.execute(f"load {quoted(str(extension_file()))}")
        duck.execute("set timezone = 'UTC'")
        target = make_conninfo(**parameters(self._source, self._application, self._folder))
        duck.execute(f"attach {quoted(target)} as source (type postgres, read_only)")
        duck.execute("begin")
        adopt = f"set transaction snapshot {quoted(self.name)}"
        duck.execute(f"call postgres_execute('source', {quoted(adopt)})")
        return duck

    def _first(self, query: LiteralString | sql.Composed, values: Any = None) -> dict[str, Any]:
        row = self.catalogue.execute(query, values).fetchone()
        assert row is not None
        return row

    def ask(self, query: sql.Composed, values: Any = None) -> dict[str, Any]:
        """One row of a query in the snapshot; raises SyncError."""
        try:
            return self._first(query, values)
        except psycopg.Error as error:
            raise translate(error, self._source) from None

    def hidden_sessions(self) -> int:
        """How many sessions there are whose transactions this role may not see: the horizon does not know them."""
        return int(self._first(_HIDDEN)["sessions"])

    def text_of(self, query: sql.Composable) -> str:
        """A composed query as text with all literals in it, as the scanner needs it."""
        return query.as_string(self.catalogue)

    def read(self, query: str, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Stream a query's result in Arrow batches of at most `rows` rows.

        `columns` are DuckDB expressions over the query's output columns. Raises SyncError.
        """
        scan = f"select {', '.join(columns)} from postgres_query('source', {quoted(query)})"
        try:
            yield from self._duck.execute(scan).to_arrow_reader(rows)
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise translate(error, self._source) from None
