"""Connections, the streams they copy, and the state of each stream."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from embedded.replication.store.database import Connection

Row = DictRow

_COLUMNS = (
    "name", "status", "status_reason", "schedule", "namespace_definition", "namespace_format", "prefix",
    "schema_updates", "decimal_as_double", "tags",
)  # fmt: skip
_JSON = ("schedule", "tags")


def list_connections(
    db: Connection, workspaces: list[UUID], tag_ids: list[str], deleted: bool, limit: int, offset: int
) -> list[Row]:
    return db.execute(
        "select * from connections where (%(deleted)s or deleted_at is null)"
        " and (cardinality(%(workspaces)s::uuid[]) = 0 or workspace_id = any(%(workspaces)s))"
        " and (cardinality(%(tags)s::text[]) = 0 or exists"
        "   (select from jsonb_array_elements(tags) t where t->>'tagId' = any(%(tags)s)))"
        " order by created_at, id limit %(limit)s offset %(offset)s",
        {"workspaces": workspaces, "tags": tag_ids, "deleted": deleted, "limit": limit, "offset": offset},
    ).fetchall()


def get_connection(db: Connection, connection_id: UUID, *, lock: bool = False) -> Row | None:
    query = "select * from connections where id = %s and deleted_at is null" + (" for update" if lock else "")
    return db.execute(query.encode(), [connection_id]).fetchone()


def create_connection(
    db: Connection, workspace_id: UUID, source_id: UUID, destination_id: UUID, values: dict[str, Any]
) -> Row:
    """`values` holds every column of _COLUMNS."""
    columns = ", ".join(("id", "workspace_id", "source_id", "destination_id", *_COLUMNS))
    marks = ", ".join(["%s"] * (len(_COLUMNS) + 4))
    row = db.execute(
        f"insert into connections ({columns}) values ({marks}) returning *".encode(),
        [uuid4(), workspace_id, source_id, destination_id, *_adapt(values)],
    ).fetchone()
    assert row is not None
    return row


def update_connection(db: Connection, connection_id: UUID, values: dict[str, Any]) -> Row:
    """`values` holds every column of _COLUMNS."""
    changes = ", ".join(f"{column} = %s" for column in _COLUMNS)
    query = f"update connections set {changes} where id = %s returning *".encode()
    row = db.execute(query, [*_adapt(values), connection_id]).fetchone()
    assert row is not None
    return row


def _adapt(values: dict[str, Any]) -> list[Any]:
    return [Jsonb(values[column]) if column in _JSON else values[column] for column in _COLUMNS]


def set_status(db: Connection, connection_id: UUID, status: str, reason: str) -> None:
    query = "update connections set status = %s, status_reason = %s where id = %s"
    db.execute(query, [status, reason, connection_id])


def delete_connection(db: Connection, connection_id: UUID) -> bool:
    query = "update connections set deleted_at = now() where id = %s and deleted_at is null"
    return db.execute(query, [connection_id]).rowcount == 1


def connections_of(db: Connection, actor_id: UUID) -> list[Row]:
    query = "select * from connections where %s in (source_id, destination_id) and deleted_at is null"
    return db.execute(query, [actor_id]).fetchall()


def get_streams(db: Connection, connection_id: UUID) -> list[Row]:
    query = "select * from streams where connection_id = %s order by ordinal"
    return db.execute(query, [connection_id]).fetchall()


def settings(row: Row) -> dict[str, Any]:
    """A row of `streams` as JSON that two readings can be compared by."""
    return {key: row[key] for key in ("namespace", "name", "config", "fields")}


def replace_streams(db: Connection, connection_id: UUID, streams: list[dict[str, Any]]) -> None:
    """Set the whole configuration. States are kept: changing what is copied never forgets what was."""
    db.execute("delete from streams where connection_id = %s", [connection_id])
    query = (
        "insert into streams (connection_id, ordinal, namespace, name, config, fields) values (%s, %s, %s, %s, %s, %s)"
    )
    for ordinal, stream in enumerate(streams):
        values = [stream["namespace"], stream["name"], Jsonb(stream["config"]), Jsonb(stream["fields"])]
        db.execute(query, [connection_id, ordinal, *values])


def set_fields(db: Connection, connection_id: UUID, namespace: str, name: str, fields: list[dict[str, Any]]) -> None:
    query = "update streams set fields = %s where connection_id = %s and namespace = %s and name = %s"
    db.execute(query, [Jsonb(fields), connection_id, namespace, name])


def get_states(db: Connection, connection_id: UUID) -> dict[tuple[str, str], Row]:
    rows = db.execute("select * from stream_states where connection_id = %s", [connection_id])
    return {(row["namespace"], row["name"]): row for row in rows}


def save_state(
    db: Connection, connection_id: UUID, job_stream: Row, cursor: dict[str, Any] | None, job_id: int
) -> None:
    """Record what a succeeded job left: generations never decrease; `cursor` None means start over next time."""
    db.execute(
        "insert into stream_states as s"
        " (connection_id, namespace, name, generation_id, minimum_generation_id, cursor, job_id)"
        " values (%(connection)s, %(namespace)s, %(name)s, %(generation)s, %(minimum)s, %(cursor)s, %(job)s)"
        " on conflict (connection_id, namespace, name) do update set"
        " generation_id = greatest(s.generation_id, excluded.generation_id),"
        " minimum_generation_id = greatest(s.minimum_generation_id, excluded.minimum_generation_id),"
        " cursor = excluded.cursor, job_id = excluded.job_id, updated_at = now()",
        {
            "connection": connection_id,
            "namespace": job_stream["namespace"],
            "name": job_stream["name"],
            "generation": job_stream["generation_id"],
            "minimum": job_stream["minimum_generation_id"],
            "cursor": None if cursor is None else Jsonb(cursor),
            "job": job_id,
        },
    )


def bump_generation(db: Connection, connection_id: UUID, namespace: str, name: str) -> int:
    """The stream's next generation, taken for good."""
    row = db.execute(
        "insert into stream_states as s (connection_id, namespace, name, generation_id) values (%s, %s, %s, 1)"
        " on conflict (connection_id, namespace, name) do update set generation_id = s.generation_id + 1"
        " returning generation_id",
        [connection_id, namespace, name],
    ).fetchone()
    assert row is not None
    return int(row["generation_id"])


def get_shared_state(db: Connection, connection_id: UUID) -> dict[str, Any] | None:
    """The state of the connection as a whole (Airbyte's GLOBAL), None before the first."""
    row = db.execute("select state from shared_states where connection_id = %s", [connection_id]).fetchone()
    return None if row is None else dict(row["state"])


def save_shared_state(db: Connection, connection_id: UUID, state: dict[str, Any], job_id: int) -> None:
    db.execute(
        "insert into shared_states (connection_id, state, job_id) values (%s, %s, %s)"
        " on conflict (connection_id) do update set"
        " state = excluded.state, job_id = excluded.job_id, updated_at = now()",
        [connection_id, Jsonb(state), job_id],
    )


def request_rebuild(db: Connection, connection_id: UUID) -> None:
    """Let the next sync of a change data capture begin a new epoch, whatever the source still has."""
    db.execute(
        "insert into shared_states as s (connection_id, state) values (%s, '{\"rebuild\": true}')"
        " on conflict (connection_id) do update set state = s.state || excluded.state, updated_at = now()",
        [connection_id],
    )


def forget_shared_state(db: Connection, connection_id: UUID) -> None:
    db.execute("delete from shared_states where connection_id = %s", [connection_id])
