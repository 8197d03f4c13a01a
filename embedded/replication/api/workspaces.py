"""Workspaces: names to group sources, destinations and connections by."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from psycopg.rows import DictRow
from pydantic import BaseModel, Field
from starlette.responses import Response

from embedded.replication.api.calls import NO_CONTENT, Call
from embedded.replication.problems import not_found
from embedded.replication.store import actors
from embedded.replication.store.database import Connection


class WorkspaceBody(BaseModel):
    name: str = Field(min_length=1)


def as_json(row: DictRow) -> dict[str, Any]:
    return {"workspaceId": str(row["id"]), "name": row["name"], "dataResidency": "auto", "notifications": {}}


def list_(call: Call) -> dict[str, Any]:
    page = call.page()
    with call.services.pool.connection() as db:
        ids, deleted = call.uuids("workspaceIds"), call.flag("includeDeleted")
        rows = actors.list_workspaces(db, ids, deleted, page.limit, page.offset)
    return call.listing(page, [as_json(row) for row in rows])


def get(call: Call) -> dict[str, Any]:
    workspace_id = call.path_id("workspaceId")
    with call.services.pool.connection() as db:
        return as_json(existing(db, workspace_id))


def create(call: Call) -> dict[str, Any]:
    body = call.parse(WorkspaceBody)
    with call.services.pool.connection() as db:
        return as_json(actors.create_workspace(db, body.name))


def patch(call: Call) -> dict[str, Any]:
    workspace_id, body = call.path_id("workspaceId"), call.parse(WorkspaceBody)
    with call.services.pool.connection() as db:
        row = actors.rename_workspace(db, workspace_id, body.name)
    if row is None:
        raise not_found("workspace", str(workspace_id))
    return as_json(row)


def delete(call: Call) -> Response:
    workspace_id = call.path_id("workspaceId")
    with call.services.pool.connection() as db:
        if not actors.delete_workspace(db, workspace_id):
            raise not_found("workspace", str(workspace_id))
    return NO_CONTENT


def existing(db: Connection, workspace_id: UUID) -> DictRow:
    row = actors.get_workspace(db, workspace_id)
    if row is None:
        raise not_found("workspace", str(workspace_id))
    return row
