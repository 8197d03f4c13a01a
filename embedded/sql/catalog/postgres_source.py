"""Sources of type POSTGRES: schemas and tables of one database, discovered through information_schema."""

from __future__ import annotations

import threading
import time

import psycopg
import pyarrow as pa
from psycopg.conninfo import make_conninfo

from embedded.sql.catalog import names
from embedded.sql.catalog.entities import Entity
from embedded.sql.catalog.sources import Child
from embedded.sql.datasets import Path, PostgresTable
from embedded.sql.engine.datatypes import TIME, TIMESTAMP
from embedded.sql.errors import NotFound, ResourceError, SqlError

_TRUST = 30.0  # seconds; an unknown name always looks again

_TABLES = """
select table_schema, table_name from information_schema.tables
where table_schema not in ('pg_catalog', 'information_schema') order by 1, 2
"""
_COLUMNS = """
select table_schema, table_name, column_name, data_type, numeric_precision, numeric_scale, is_nullable
from information_schema.columns
where table_schema not in ('pg_catalog', 'information_schema') order by table_schema, table_name, ordinal_position
"""
_TYPES: dict[str, pa.DataType] = {
    "smallint": pa.int32(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "real": pa.float32(),
    "double precision": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "time without time zone": TIME,
    "timestamp without time zone": TIMESTAMP,
    "timestamp with time zone": TIMESTAMP,
    "bytea": pa.binary(),
}


class PostgresSource:
    def __init__(self, entity: Entity) -> None:
        self._entity = entity
        self._guard = threading.Lock()
        self._tables: dict[names.Key, Path] = {}
        self._schemas: dict[Path, pa.Schema] = {}
        self._fresh_until = 0.0

    @property
    def dsn(self) -> str:
        config = self._entity.body["config"]
        return make_conninfo(
            host=config["hostname"],
            port=str(config.get("port", "5432")),
            dbname=config["databaseName"],
            user=config["username"],
            password=self._entity.secrets.get("password", ""),
            connect_timeout="5",
        )

    def probe(self) -> str | None:
        try:
            self._read()
        except SqlError as error:
            return error.message
        return None

    def _read(self) -> None:
        try:
            with psycopg.connect(self.dsn, autocommit=True) as connection:
                tables = connection.execute(_TABLES).fetchall()
                columns = connection.execute(_COLUMNS).fetchall()
        except psycopg.Error as error:
            raise ResourceError(f"The source [{self._entity.name}] is currently unavailable. {error}") from error
        fields: dict[Path, list[pa.Field]] = {}
        for schema, table, column, kind, precision, scale, nullable in columns:
            arrow = _arrow(kind, precision, scale)
            fields.setdefault((schema, table), []).append(pa.field(column, arrow, nullable=nullable == "YES"))
        with self._guard:
            self._tables = {names.key((self._entity.name, *row)): tuple(row) for row in tables}
            self._schemas = {sub: pa.schema(fields.get(sub, [])) for sub in self._tables.values()}
            self._fresh_until = time.monotonic() + _TRUST

    def _current(self) -> dict[names.Key, Path]:
        if time.monotonic() > self._fresh_until:
            self._read()
        return self._tables

    def table(self, path: Path) -> PostgresTable | None:
        if len(path) != 3:
            return None
        found = self._current().get(names.key(path))
        if found is None:
            self._read()  # it may be new
            found = self._tables.get(names.key(path))
        if found is None:
            return None
        return PostgresTable(path=(self._entity.name, *found), dsn=self.dsn, schema=found[0], table=found[1])

    def children(self, sub: Path) -> list[Child] | None:
        tables = self._current().values()
        if not sub:
            return [Child(schema, "folder") for schema in sorted({table[0] for table in tables})]
        found = [table[1] for table in tables if len(sub) == 1 and table[0].lower() == sub[0].lower()]
        return [Child(name, "table") for name in sorted(found)] or None

    def tables(self) -> list[Path]:
        self._read()
        return [(self._entity.name, *table) for table in self._tables.values()]

    def folders(self) -> list[Path]:
        return [(self._entity.name, schema) for schema in sorted({table[0] for table in self._current().values()})]

    def columns(self, path: Path) -> pa.Schema:
        found = self._current().get(names.key(path))
        if found is None:
            raise NotFound(f"Table '{names.dotted(path)}' not found")
        return self._schemas[found]

    def forget(self, path: Path) -> None:
        self._fresh_until = 0.0


def _arrow(kind: str, precision: int | None, scale: int | None) -> pa.DataType:
    if kind == "numeric":
        # Without a declared scale the value may be anything: Dremio shows such columns as DECIMAL(38,6).
        return pa.decimal128(min(precision or 38, 38), scale if precision and scale is not None else 6)
    if kind == "ARRAY":
        return pa.list_(pa.string())
    return _TYPES.get(kind, pa.string())
