"""Tables of a PostgreSQL source, through DuckDB's scanner. The password never stands in SQL text or in a log."""

from __future__ import annotations

import datetime
import hashlib
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
import pyarrow as pa
from psycopg.conninfo import conninfo_to_dict

from embedded.sql.datasets import PostgresQuery, PostgresTable
from embedded.sql.engine.datatypes import TIME, TIMESTAMP, literal, normalise
from embedded.sql.errors import DataReadError, ResourceError

if TYPE_CHECKING:
    from embedded.sql.engine.database import Database, Job
    from embedded.sql.engine.relations import Relation


def scan_postgres(database: Database, job: Job, table: PostgresTable) -> Relation:
    """A read-only scan of one table or view, whose columns are read from PostgreSQL now."""
    from embedded.sql.engine.relations import Relation, select_list

    dsn = database.postgres_dsn(table.dsn)
    source = f"postgres_scan_pushdown({literal(dsn)}, {literal(table.schema)}, {literal(table.table)})"
    found = job.arrow(f"SELECT * FROM {source} LIMIT 0").schema
    schema = pa.schema([pa.field(f.name, normalise(f.type)) for f in found])
    return Relation(f"SELECT {select_list(schema, truncate=True)} FROM {source}", schema)


_OIDS: dict[int, pa.DataType] = {
    16: pa.bool_(), 17: pa.binary(), 20: pa.int64(), 21: pa.int32(), 23: pa.int32(), 26: pa.int64(),
    700: pa.float32(), 701: pa.float64(), 1082: pa.date32(), 1083: TIME, 1114: TIMESTAMP, 1184: TIMESTAMP,
}  # fmt: skip
_NUMERIC = 1700
_BATCH = 10_000


def query_postgres(query: PostgresQuery) -> pa.Table:
    """The rows of external_query. One statement in a read-only transaction: text after a semicolon is refused."""
    try:
        with psycopg.connect(query.dsn, connect_timeout=10) as connection:
            connection.read_only = True
            # Prepared: PostgreSQL's extended protocol takes exactly one statement.
            cursor = connection.execute(query.sql, prepare=True)
            if cursor.description is None:
                raise DataReadError(f"external_query on [{query.path[0]}] must be a query that gives rows.")
            columns = list(cursor.description)
            types = [_type_of(c.type_code, c.precision, c.scale) for c in columns]
            schema = pa.schema([pa.field(c.name, t) for c, t in zip(columns, types, strict=True)])
            batches = []
            while rows := cursor.fetchmany(_BATCH):
                values = zip(*rows, strict=True)
                arrays = [pa.array([_value(v, t) for v in c], t) for c, t in zip(values, types, strict=True)]
                batches.append(pa.record_batch(arrays, schema=schema))
            return pa.Table.from_batches(batches, schema)
    except psycopg.OperationalError as error:
        raise ResourceError(f"The source [{query.path[0]}] is currently unavailable. {error}") from None
    except (psycopg.Error, pa.ArrowInvalid) as error:
        raise DataReadError(f"external_query on [{query.path[0]}] failed: {error}") from None


def _type_of(oid: int, precision: int | None, scale: int | None) -> pa.DataType:
    if oid == _NUMERIC:
        return pa.decimal128(precision, scale or 0) if precision and precision <= 38 else pa.float64()
    return _OIDS.get(oid, pa.string())


def _value(value: Any, data_type: pa.DataType) -> Any:
    if value is None:
        return None
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return value.astimezone(datetime.UTC).replace(tzinfo=None)
    if isinstance(value, Decimal) and pa.types.is_floating(data_type):
        return float(value)
    return str(value) if pa.types.is_string(data_type) else value


def passfile_entry(dsn: str) -> tuple[str, str, str]:
    """(connection string without password, pgpass line, name) for a DSN in URL or key=value form."""
    parts = {k: str(v) for k, v in conninfo_to_dict(dsn).items() if v is not None}
    password = parts.pop("password", "")
    host, port = parts.get("host", "127.0.0.1"), parts.get("port", "5432")
    line = ":".join(_escape(x) for x in (host, port, parts.get("dbname", "*"), parts.get("user", "*"), password))
    plain = " ".join(f"{key}={_conninfo(value)}" for key, value in parts.items())
    return plain, line, hashlib.sha256(plain.encode()).hexdigest()[:16]


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(":", "\\:")


def _conninfo(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
