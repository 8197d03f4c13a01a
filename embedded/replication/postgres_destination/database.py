"""The destination's database: a session, the tables that are there, and making them fit what is to be written."""

from __future__ import annotations

import re
from collections.abc import Iterable

import psycopg
from psycopg import sql
from psycopg.rows import DictRow, dict_row

from embedded.replication.connectors import PostgresDestination
from embedded.replication.failures import SyncError
from embedded.replication.postgres.connection import parameters, translate
from embedded.replication.postgres_destination.encoding import HEADER, TRAILER
from embedded.replication.postgres_destination.layout import META_COLUMNS, TableLayout

_APPLIED_COLUMNS = {"connection_id", "connection", "epoch", "snapshot_lsn", "applied_lsn", "job_id", "moved_at"}
_SPELLINGS = {
    "character varying": "varchar",
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
    "time without time zone": "time",
    "time with time zone": "timetz",
}


class Database:
    """One session; a transaction is open from the first statement to `commit`. Raises SyncError."""

    def __init__(self, destination: PostgresDestination, application: str) -> None:
        self._destination = destination
        try:
            self.connection = psycopg.Connection[DictRow].connect(
                **parameters(destination, application), password=destination.password, row_factory=dict_row
            )
        except psycopg.Error as error:
            raise translate(error, destination) from None

    def execute(self, query: sql.Composed | str, values: Iterable[object] | None = None) -> list[DictRow]:
        """Rows of a query; none for a statement without."""
        statement = query.encode() if isinstance(query, str) else query
        try:
            cursor = self.connection.execute(statement, list(values) if values is not None else None)
            return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            raise translate(error, self._destination) from None

    def copy(self, table: sql.Identifier, columns: sql.Composed, rows: list[bytes]) -> None:
        """Encoded rows (see encoding.py) into a table."""
        statement = sql.SQL("copy {} ({}) from stdin (format binary)").format(table, columns)
        try:
            with self.connection.cursor() as cursor, cursor.copy(statement) as copy:
                copy.write(HEADER)
                for part in rows:
                    copy.write(part)
                copy.write(TRAILER)
        except psycopg.Error as error:
            raise translate(error, self._destination) from None

    def commit(self) -> None:
        try:
            self.connection.commit()
        except psycopg.Error as error:
            raise translate(error, self._destination) from None

    def close(self) -> None:
        self.connection.close()

    def require_applied_table(self, name: str) -> None:
        """The table of applied LSNs belongs to whoever reads it: it must be there already."""
        schema, table = name.split(".")
        rows = self.execute(
            "select column_name as name from information_schema.columns where table_schema = %s and table_name = %s",
            [schema, table],
        )
        missing = _APPLIED_COLUMNS - {row["name"] for row in rows}
        if missing:
            what = f"lacks the columns {', '.join(sorted(missing))}" if rows else "is not there, or may not be used"
            message = (
                f"applied_lsn_table: {name} {what} in database {self._destination.database} for user"
                f" {self._destination.username}. Apply the ledger's migrations, grant SELECT, INSERT,"
                " UPDATE, DELETE."
            )
            raise SyncError("destination", "config_error", message)

    def columns_of(self, layout: TableLayout) -> dict[str, str] | None:
        """Columns of the table with their types, None when there is no such table."""
        rows = self.execute(
            "select a.attname as name, format_type(a.atttypid, a.atttypmod) as type from pg_class c"
            " join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid"
            " where n.nspname = %s and c.relname = %s and c.relkind in ('r', 'p') and a.attnum > 0"
            " and not a.attisdropped",
            [layout.schema, layout.name],
        )
        return {row["name"]: _spelling(row["type"]) for row in rows} or None

    def prepare(self, layout: TableLayout, *, deduplicated: bool, log: bool) -> None:
        """Make the table, or add the columns that it lacks; a column of another type is a config_error."""
        there = self.columns_of(layout)
        if there is None:
            self.ensure_schema(layout.schema)
            self.execute(layout.create())
            for statement in layout.index_statements(deduplicated=deduplicated, log=log):
                self.execute(statement)
            return
        for name, type_ in layout.columns:
            if name not in there:
                self._add(layout, name, type_)
            elif there[name] != type_:
                self._retype(layout, name, there[name], type_)
        if log and not self._has_unique_index(layout):  # it was not a log before
            self.execute(layout.index_statements(deduplicated=False, log=True)[-1])

    def _has_unique_index(self, layout: TableLayout) -> bool:
        return bool(
            self.execute(
                "select 1 as one from pg_index i join pg_class c on c.oid = i.indrelid"
                " join pg_namespace n on n.oid = c.relnamespace"
                " where n.nspname = %s and c.relname = %s and i.indisunique and i.indisvalid",
                [layout.schema, layout.name],
            )
        )

    def ensure_schema(self, schema: str) -> None:
        """Make the schema if it is missing; only then is the right to do so needed."""
        if not self.execute("select 1 as one from pg_namespace where nspname = %s", [schema]):
            self.execute(sql.SQL("create schema {}").format(sql.Identifier(schema)))

    def _add(self, layout: TableLayout, name: str, type_: str) -> None:
        if name in dict(META_COLUMNS):
            message = f"Table {layout.schema}.{layout.name} is not one of Airbyte's: it has no column {name}."
            raise SyncError("destination", "config_error", message)
        add = sql.SQL("alter table {} add column {} {}")
        self.execute(add.format(layout.identifier, sql.Identifier(name), sql.SQL(type_)))

    def _retype(self, layout: TableLayout, name: str, old: str, new: str) -> None:
        if not _widens(old, new):
            message = (
                f"Column {name} of {layout.schema}.{layout.name} is {old}, and would now be {new}."
                " Rename or drop the table (or the column), then rebuild the connection."
            )
            raise SyncError("destination", "config_error", message)
        change = sql.SQL("alter table {} alter column {} type {}")
        self.execute(change.format(layout.identifier, sql.Identifier(name), sql.SQL(new)))


def _spelling(type_: str) -> str:
    return _SPELLINGS.get(type_, type_)


def _widens(old: str, new: str) -> bool:
    before, now = (re.fullmatch(r"numeric\((\d+),(\d+)\)", text) for text in (old, new))
    return bool(before and now and before[2] == now[2] and int(now[1]) > int(before[1]))
