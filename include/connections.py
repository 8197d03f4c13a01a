"""Airflow connections as the building blocks need them: PostgreSQL sessions and values for declared state."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import psycopg
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from lakehouse_providers.postgres import condition

# What the DAGs and declared state call the services' connections.
LEDGER, AIRBYTE, DREMIO, SUPERSET = "lakehouse", "airbyte", "dremio", "superset"
STORE, OFFSITE = "lake_s3", "offsite_s3"

_REFERENCE = re.compile(r"\{\{ *conn\.([a-z0-9_]+)\.([a-z_.]+) *\}\}")
_FIELDS = ("host", "port", "login", "password", "schema")


def absent(conn_id: str) -> str:
    """Why there is no such service here; "" where there is."""
    try:
        conn = Connection.get(conn_id)
    except AirflowNotFoundException:
        return f"there is no Airflow connection {conn_id}"
    return "" if (conn.host or "").strip() else f"the Airflow connection {conn_id} has no host"


def dsn(conn_id: str, dbname: str | None = None) -> str:
    """The libpq connection string of a `postgres` connection; `dbname`: another database of the same server."""
    return condition.dsn(Connection.get(conn_id), "lakehouse", dbname)


def connect(conn_id: str, dbname: str | None = None) -> psycopg.Connection[dict[str, Any]]:
    """A session whose rows are dictionaries; commits at the end of its `with` block."""
    return psycopg.connect(dsn(conn_id, dbname), row_factory=psycopg.rows.dict_row)


def _field(conn_id: str, path: str) -> Any:
    conn = Connection.get(conn_id)
    if path in _FIELDS:
        return getattr(conn, path)
    if path.startswith("extra."):
        return conn.extra_dejson.get(path.removeprefix("extra."))
    if path == "netloc":  # host:port of an endpoint that is kept as a URL
        return str(conn.host).split("://")[-1]
    raise ValueError(f"connection {conn_id!r} has no field {path!r}; use one of {', '.join(_FIELDS)}, extra.<key>")


def _resolve_text(text: str) -> Any:
    whole = _REFERENCE.fullmatch(text)
    if whole:
        return _field(*whole.groups())  # keeps the type: a port stays a number
    return _REFERENCE.sub(lambda match: str(_field(*match.groups())), text)


def resolve(value: Any) -> Any:
    """Replaces `{{ conn.<id>.<field> }}` in declared state; so secrets stay in Airflow connections.

    Raises ValueError for an unknown field or one that the connection leaves empty.
    """
    if isinstance(value, Mapping):
        return {key: resolve(item) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve(item) for item in value]
    if isinstance(value, str) and _REFERENCE.search(value):
        resolved = _resolve_text(value)
        if resolved in (None, ""):
            raise ValueError(f"{value} is empty; set it in the Airflow connection")
        return resolved
    return value


def resolve_url(text: str) -> str:
    """As `resolve` for a URL: what a connection gives is quoted. Raises ValueError for a field left empty."""

    def quoted(match: re.Match[str]) -> str:
        return quote(str(resolve(match[0])), safe="")

    return _REFERENCE.sub(quoted, text)


def references(value: Any) -> set[str]:
    """The connection ids that declared state refers to."""
    return {match[0] for match in _REFERENCE.findall(json.dumps(value))}
