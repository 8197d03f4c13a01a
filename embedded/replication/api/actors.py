"""Sources and destinations: the same calls, twice."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from psycopg.rows import DictRow
from pydantic import BaseModel, Field
from starlette.responses import Response

from embedded.replication import configuration as configurations
from embedded.replication.api import workspaces
from embedded.replication.api.calls import NO_CONTENT, Call
from embedded.replication.api.connections import remove
from embedded.replication.connectors import ConfigurationError
from embedded.replication.problems import Problem, bad_request, not_found, unprocessable
from embedded.replication.store import actors, connections
from embedded.replication.store.database import Connection


class CreateBody(BaseModel):
    name: str = Field(min_length=1)
    workspaceId: UUID
    definitionId: str | None = None
    configuration: dict[str, Any]
    secretId: str | None = None


class PutBody(BaseModel):
    name: str = Field(min_length=1)
    configuration: dict[str, Any]


class PatchBody(BaseModel):
    name: str | None = Field(default=None, min_length=1)
    configuration: dict[str, Any] | None = None
    workspaceId: UUID | None = None
    secretId: str | None = None


class Actors:
    """The calls of one kind: `source` or `destination`."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def as_json(self, row: DictRow) -> dict[str, Any]:
        """A reply. The configuration is complete and typed: the SDK takes an incomplete one for another connector."""
        return {
            f"{self._kind}Id": str(row["id"]),
            "name": row["name"],
            f"{self._kind}Type": row["type"],
            "definitionId": str(row["definition_id"]),
            "workspaceId": str(row["workspace_id"]),
            "createdAt": int(row["created_at"].timestamp()),
            "configuration": configurations.shown(row),
        }

    def list_(self, call: Call) -> dict[str, Any]:
        page = call.page()
        with call.services.pool.connection() as db:
            ids, deleted = call.uuids("workspaceIds"), call.flag("includeDeleted")
            rows = actors.list_actors(db, self._kind, ids, deleted, page.limit, page.offset)
        return call.listing(page, [self.as_json(row) for row in rows])

    def get(self, call: Call) -> dict[str, Any]:
        with call.services.pool.connection() as db:
            return self.as_json(self._existing(db, call))

    def create(self, call: Call) -> dict[str, Any]:
        body = call.parse(CreateBody)
        if body.secretId:
            raise unprocessable("secretId (OAuth) is not available in this server: put secrets into configuration.")
        try:
            choice = configurations.find(self._kind, body.configuration, body.definitionId)
        except ConfigurationError as error:
            raise unprocessable(str(error)) from None
        configuration = self._checked(choice, body.configuration)
        identity, type_ = configurations.identity(choice), configurations.type_of(choice)
        with call.services.pool.connection() as db:
            workspaces.existing(db, body.workspaceId)
            row = actors.create_actor(db, self._kind, body.workspaceId, identity, type_, body.name, configuration)
        return self.as_json(row)

    def put(self, call: Call) -> dict[str, Any]:
        """Replace name and configuration; a masked secret means the one that is stored."""
        body = call.parse(PutBody)
        with call.services.pool.connection() as db:
            row = self._existing(db, call)
            return self._update(db, row, body.name, configurations.unmask(body.configuration, row["configuration"]))

    def patch(self, call: Call) -> dict[str, Any]:
        """Merge the given keys into name and configuration."""
        body = call.parse(PatchBody)
        with call.services.pool.connection() as db:
            row = self._existing(db, call)
            given = configurations.unmask(body.configuration or {}, row["configuration"])
            return self._update(db, row, body.name or row["name"], _merged(row["configuration"], given))

    def delete(self, call: Call) -> Response:
        """Delete it, and the connections that use it, as Airbyte does. No data is touched."""
        with call.services.pool.connection() as db, db.transaction():
            row = self._existing(db, call)
            for connection in connections.connections_of(db, row["id"]):
                remove(call.services, db, connection["id"])
            actors.delete_actor(db, self._kind, row["id"])
        return NO_CONTENT

    def _existing(self, db: Connection, call: Call) -> DictRow:
        actor_id = call.path_id(f"{self._kind}Id")
        row = actors.get_actor(db, self._kind, actor_id)
        if row is None:
            raise not_found(self._kind, str(actor_id))
        return row

    def _update(self, db: Connection, row: DictRow, name: str, configuration: dict[str, Any]) -> dict[str, Any]:
        type_field = f"{self._kind}Type"
        named = configuration.get(type_field, row["type"])
        if named != row["type"]:
            raise bad_request(f"{type_field} cannot change from {row['type']} to {named}: create another one.")
        choice = configurations.of(row)
        if choice is None:
            raise unprocessable(f"This server has no connector {row['type']} any more.")
        return self.as_json(actors.update_actor(db, row["id"], name, self._checked(choice, configuration)))

    def _checked(self, choice: configurations.Choice, configuration: dict[str, Any]) -> dict[str, Any]:
        """The given keys with their types put right ("5432" is a port); raises a 422 problem."""
        try:
            return configurations.validated(self._kind, choice, configuration)
        except ConfigurationError as error:
            raise _invalid(str(error)) from None


def _invalid(message: str) -> Problem:
    return unprocessable(f"The provided configuration does not fulfill the specification. Errors: {message}")


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    merged = dict(old)
    for key, value in new.items():
        known = merged.get(key)
        merged[key] = _merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged
