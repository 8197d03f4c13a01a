"""Tables of a PostgreSQL source, through DuckDB's scanner. The password never stands in SQL text or in a log."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pyarrow as pa
from psycopg.conninfo import conninfo_to_dict

from embedded.sql.datasets import PostgresTable
from embedded.sql.engine.datatypes import literal, normalise

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
