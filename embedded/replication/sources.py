"""What a source offers, and whether it answers: asked of PostgreSQL itself, or of its connector."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import DictRow

from embedded.replication import configuration
from embedded.replication.catalog import Catalog
from embedded.replication.connectors import PostgresSource, parse
from embedded.replication.failures import SyncError
from embedded.replication.postgres.cdc import slot as slots
from embedded.replication.postgres.connection import connect, translate
from embedded.replication.postgres.discovery import discover as discover_tables
from embedded.replication.protocol import APPLICATION
from embedded.replication.protocol_connectors import calls, catalog
from embedded.replication.protocol_connectors.registry import Definition
from embedded.replication.store import actors
from embedded.replication.store.database import Connection

OpenDatabase = Callable[[], AbstractContextManager[Connection]]


def definition(row: DictRow) -> Definition | None:
    """The connector of PyPI that a source is for; None for this server's own. Raises SyncError for one that is gone."""
    choice = configuration.of(row)
    if choice is None:
        message = f"This server has no connector {row['type']} any more: its lock file is gone."
        raise SyncError("source", "config_error", message)
    return choice if isinstance(choice, Definition) else None


def keep_configuration(row: DictRow, database: OpenDatabase, changed: dict[str, Any]) -> None:
    """Note what a connector changed in its configuration, in the database and in `row`, which later calls go by."""
    with database() as db:
        actors.set_configuration(db, row["id"], changed)
    row["configuration"] = changed


def check(row: DictRow, database: OpenDatabase, folder: Path) -> None:
    """Raise SyncError unless the source can be used now; for change data capture also its slot and publication.

    `folder` is for a connector's files.
    """
    connector = definition(row)
    if connector is not None:
        calls.check(connector, row["configuration"], folder, partial(keep_configuration, row, database))
        return
    source = parse(PostgresSource, row["configuration"])
    with connect(source, f"{APPLICATION} check") as db:
        db.execute("select 1")
        if source.cdc is not None:
            slots.require(db, source.cdc, source)
            slots.check_publication(db, source.cdc, [])


def offered(row: DictRow, database: OpenDatabase, folder: Path, *, within: float) -> Catalog:
    """What a source has; raises SyncError.

    PostgreSQL is asked each time. A connector takes seconds to answer, so what it said at most `within` seconds ago,
    for the same configuration and version, is taken for the answer.
    """
    connector = definition(row)
    if connector is not None:
        keep = partial(keep_configuration, row, database)
        return connector_streams(connector, row, database, folder, keep, within=within)
    source = parse(PostgresSource, row["configuration"])
    try:
        with connect(source, f"{APPLICATION} discover") as db:
            return discover_tables(db, source.schemas)
    except psycopg.Error as error:
        raise translate(error, source) from None


def connector_streams(
    connector: Definition, row: DictRow, database: OpenDatabase, folder: Path, keep: calls.Keep, *, within: float
) -> catalog.Streams:
    """The streams of a connector's source, see `offered`. `keep`: `keep_configuration` of the row, or more."""
    fingerprint = _fingerprint(connector, row["configuration"])
    with database() as db:
        known = actors.get_catalog(db, row["id"], fingerprint, within)
    if known is not None:
        return catalog.streams(known)
    found = calls.discover(connector, row["configuration"], folder, keep)
    streams = catalog.streams(found)  # before it is kept: what cannot be understood is asked for again
    with database() as db:
        actors.save_catalog(db, row["id"], _fingerprint(connector, row["configuration"]), found)
    return streams


def _fingerprint(connector: Definition, values: dict[str, Any]) -> str:
    text = json.dumps([connector.name, connector.version, values], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
