"""Change data capture: how a connection's slot stands, and starting over when it is lost. Under /api/lakehouse/v1."""

from __future__ import annotations

from typing import Any

from embedded.replication.api import connections as connection_calls
from embedded.replication.api.calls import Call
from embedded.replication.configuration import secrets
from embedded.replication.connectors import PostgresSource, parse
from embedded.replication.failures import SyncError, scrub
from embedded.replication.postgres.cdc import slot as slots
from embedded.replication.postgres.connection import connect
from embedded.replication.problems import already_running, bad_request, unavailable, unprocessable
from embedded.replication.protocol import APPLICATION
from embedded.replication.store import actors, connections, jobs
from embedded.replication.store.database import Connection


def _source(db: Connection, row: Any) -> tuple[PostgresSource, Any]:
    actor = actors.get_actor(db, "source", row["source_id"])
    source = parse(PostgresSource, actor["configuration"]) if actor and actor["type"] == PostgresSource.TYPE else None
    if source is None or source.cdc is None:
        raise bad_request("The connection's source does not stream changes (replication_method CDC).")
    return source, actor


def slot(call: Call) -> dict[str, Any]:
    """The slot as the source has it now, and the position that the connection has reached."""
    with call.services.pool.connection() as db:
        row = connection_calls.existing(db, call.path_id("connectionId"))
        source, actor = _source(db, row)
        state = connections.get_shared_state(db, row["id"]) or {}
    assert source.cdc is not None
    try:
        with connect(source, f"{APPLICATION} slot") as source_db:
            found = slots.require(source_db, source.cdc, source)
    except SyncError as error:
        message = scrub(str(error), secrets(actor))
        raise unprocessable(message) if error.kind == "config_error" else unavailable(message) from None
    reached = {name: state.get(name) for name in ("epoch", "lsn", "snapshot_lsn")}
    return {"slot": source.cdc.replication_slot, **found.as_json(), "state": reached}


def rebuild(call: Call) -> dict[str, Any]:
    """Give the position up: the next sync makes the slot anew if it is lost, and begins an epoch with a snapshot."""
    with call.services.pool.connection() as db, db.transaction():
        row = connection_calls.existing(db, call.path_id("connectionId"))
        _source(db, row)
        if jobs.open_job_of(db, row["id"]) is not None:
            raise already_running(str(row["id"]))
        connections.request_rebuild(db, row["id"])
    return {"connectionId": str(row["id"]), "rebuild": True}
