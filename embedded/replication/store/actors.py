"""Workspaces, sources and destinations."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from psycopg.rows import DictRow
from psycopg.types.json import Json, Jsonb

from embedded.replication.store.database import Connection

Row = DictRow


def list_workspaces(db: Connection, ids: list[UUID], deleted: bool, limit: int, offset: int) -> list[Row]:
    return db.execute(
        "select * from workspaces where (%(deleted)s or deleted_at is null)"
        " and (cardinality(%(ids)s::uuid[]) = 0 or id = any(%(ids)s))"
        " order by created_at, id limit %(limit)s offset %(offset)s",
        {"ids": ids, "deleted": deleted, "limit": limit, "offset": offset},
    ).fetchall()


def get_workspace(db: Connection, workspace_id: UUID) -> Row | None:
    return db.execute("select * from workspaces where id = %s and deleted_at is null", [workspace_id]).fetchone()


def create_workspace(db: Connection, name: str) -> Row:
    query = "insert into workspaces (id, name) values (%s, %s) returning *"
    return _one(db.execute(query, [uuid4(), name]).fetchone())


def rename_workspace(db: Connection, workspace_id: UUID, name: str) -> Row | None:
    query = "update workspaces set name = %s where id = %s and deleted_at is null returning *"
    return db.execute(query, [name, workspace_id]).fetchone()


def delete_workspace(db: Connection, workspace_id: UUID) -> bool:
    query = "update workspaces set deleted_at = now() where id = %s and deleted_at is null"
    return db.execute(query, [workspace_id]).rowcount == 1


def list_actors(db: Connection, kind: str, workspaces: list[UUID], deleted: bool, limit: int, offset: int) -> list[Row]:
    return db.execute(
        "select * from actors where kind = %(kind)s and (%(deleted)s or deleted_at is null)"
        " and (cardinality(%(workspaces)s::uuid[]) = 0 or workspace_id = any(%(workspaces)s))"
        " order by created_at, id limit %(limit)s offset %(offset)s",
        {"kind": kind, "workspaces": workspaces, "deleted": deleted, "limit": limit, "offset": offset},
    ).fetchall()


def get_actor(db: Connection, kind: str, actor_id: UUID) -> Row | None:
    query = "select * from actors where id = %s and kind = %s and deleted_at is null"
    return db.execute(query, [actor_id, kind]).fetchone()


def create_actor(
    db: Connection,
    kind: str,
    workspace_id: UUID,
    definition_id: UUID,
    type_: str,
    name: str,
    configuration: dict[str, Any],
) -> Row:
    query = (
        "insert into actors (id, kind, workspace_id, definition_id, type, name, configuration)"
        " values (%s, %s, %s, %s, %s, %s, %s) returning *"
    )
    values = [uuid4(), kind, workspace_id, definition_id, type_, name, Jsonb(configuration)]
    return _one(db.execute(query, values).fetchone())


def update_actor(db: Connection, actor_id: UUID, name: str, configuration: dict[str, Any]) -> Row:
    query = "update actors set name = %s, configuration = %s where id = %s returning *"
    return _one(db.execute(query, [name, Jsonb(configuration), actor_id]).fetchone())


def delete_actor(db: Connection, kind: str, actor_id: UUID) -> bool:
    query = "update actors set deleted_at = now() where id = %s and kind = %s and deleted_at is null"
    return db.execute(query, [actor_id, kind]).rowcount == 1


def get_catalog(db: Connection, source_id: UUID, fingerprint: str, within: float) -> dict[str, Any] | None:
    """What a connector discovered at most `within` seconds ago, for this fingerprint."""
    row = db.execute(
        "select catalog from catalogs where source_id = %s and fingerprint = %s"
        " and discovered_at >= now() - make_interval(secs => %s)",
        [source_id, fingerprint, within],
    ).fetchone()
    return None if row is None else dict(row["catalog"])


def save_catalog(db: Connection, source_id: UUID, fingerprint: str, catalog: dict[str, Any]) -> None:
    db.execute(
        "insert into catalogs (source_id, fingerprint, catalog) values (%s, %s, %s) on conflict (source_id)"
        " do update set fingerprint = excluded.fingerprint, catalog = excluded.catalog, discovered_at = now()",
        [source_id, fingerprint, Json(catalog)],
    )


def get_actors(db: Connection, ids: list[UUID]) -> dict[UUID, Row]:
    """Sources and destinations by id, deleted ones too."""
    rows = db.execute("select * from actors where id = any(%s)", [ids])
    return {row["id"]: row for row in rows}


def set_configuration(db: Connection, actor_id: UUID, configuration: dict[str, Any]) -> None:
    db.execute("update actors set configuration = %s where id = %s", [Jsonb(configuration), actor_id])


def _one(row: Row | None) -> Row:
    assert row is not None  # `returning` always gives the row it wrote
    return row
