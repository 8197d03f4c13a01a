"""Connecting to a source, and what its errors mean for the person who has to mend them."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row

from embedded.replication.connectors import PostgresDestination, PostgresSource
from embedded.replication.failures import Origin, SyncError

Connection = psycopg.Connection[DictRow]
Endpoint = PostgresSource | PostgresDestination

# Text that PostgreSQL prints for us must not depend on the server's or the role's settings.
_SESSION = (
    "-c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=postgres -c bytea_output=hex -c extra_float_digits=1"
    " -c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c lock_timeout=30s"
)


def parameters(source: Endpoint, application: str, folder: Path | None = None) -> dict[str, Any]:
    """The libpq connection parameters. Certificates, if any, are written to `folder` (0600)."""
    values: dict[str, Any] = {
        "host": source.host,
        "port": source.port,
        "dbname": source.database,
        "user": source.username,
        "sslmode": source.ssl_mode.mode,
        "application_name": application,
        "connect_timeout": 10,
        "options": _SESSION,
        "client_encoding": "UTF8",
        # A source that vanishes without a word is noticed within a minute and a half.
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 6,
        "tcp_user_timeout": 90_000,
    }
    files = {
        "sslrootcert": source.ssl_mode.ca_certificate,
        "sslcert": source.ssl_mode.client_certificate,
        "sslkey": source.ssl_mode.client_key,
    }
    for name, text in files.items():
        if text:
            values[name] = _private_file(text, folder)
    if source.ssl_mode.client_key_password:
        values["sslpassword"] = source.ssl_mode.client_key_password
    return values


def _private_file(text: str, folder: Path | None) -> str:
    handle, path = tempfile.mkstemp(dir=folder, suffix=".pem")  # mkstemp gives 0600
    with os.fdopen(handle, "w") as file:
        file.write(text)
    return path


def connect(source: PostgresSource, application: str, folder: Path | None = None) -> Connection:
    """One autocommit connection; raises SyncError."""
    values = parameters(source, application, folder)
    try:
        return psycopg.Connection[DictRow].connect(
            **values, password=source.password, autocommit=True, row_factory=dict_row
        )
    except psycopg.Error as error:
        raise translate(error, source) from None


def translate(error: BaseException, source: Endpoint) -> SyncError:
    """What an error of libpq, psycopg or DuckDB's scanner means: whose fault, whether to retry, what to mend."""
    text = " ".join(str(error).split())
    origin: Origin = "destination" if isinstance(source, PostgresDestination) else "source"
    where = f"PostgreSQL {origin} {source.host}:{source.port}/{source.database}"
    for pattern, advice in _CONFIG:
        if re.search(pattern, text, re.IGNORECASE):
            return SyncError(origin, "config_error", f"{where}: {advice.format(s=source)} ({text})")
    if re.search(_TRANSIENT, text, re.IGNORECASE) or isinstance(error, psycopg.OperationalError):
        advice = "cannot be reached or went away; check that it runs and that host and port are right"
        return SyncError(origin, "transient_error", f"{where} {advice} ({text})")
    return SyncError(origin, "system_error", f"{where}: {text}")


# libpq gives connection errors no SQLSTATE, DuckDB gives only text: words are all there is.
_CONFIG = [
    ("password authentication failed|no password supplied", "wrong user name or password for {s.username}"),
    ("database .* does not exist", "there is no database {s.database}"),
    ("no pg_hba.conf entry", "its pg_hba.conf refuses this host or user"),
    ("is not permitted to log in", "role {s.username} may not log in"),
    (
        "permission denied to (start|use) .*(replication|wal sender)|must be superuser or replication role"
        "|permission denied to use replication slots",
        "ALTER ROLE {s.username} REPLICATION, so that it may read the log",
    ),
    ("permission denied", "grant USAGE on the schema and SELECT on the table to {s.username}"),
    ("all replication slots are in use", "raise max_replication_slots: a snapshot needs one more slot for its time"),
    ("number of requested standby connections exceeds", "raise max_wal_senders"),
    ("cannot drop .* because other objects depend on it", "views depend on the table: set drop_cascade, or drop them"),
    ("cannot alter type of a column used by", "a view or rule uses the column: drop it, sync, and make it again"),
    ("could not translate host name|name or service not known", "host {s.host} is not known"),
    ("server does not support ssl", "it has no SSL: set ssl_mode to disable or prefer"),
    ("certificate verify failed", "its certificate does not fit ca_certificate"),
    ("(relation|column|schema) .* does not exist", "table or column is missing"),
]
_TRANSIENT = (
    "connection refused|timeout expired|server closed the connection|terminating connection|connection reset"
    "|the database system is|could not connect|no connection to the server|too many clients|unable to connect"
    "|remaining connection slots|ssl syscall error|broken pipe|could not receive data|canceling statement"
    "|lost synchronization|unexpected eof|connection timed out"
)
