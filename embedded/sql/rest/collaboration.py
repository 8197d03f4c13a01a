"""Wiki and tags of an entity, each with a version."""

from __future__ import annotations

from typing import Any, Literal

import psycopg
from psycopg.types.json import Jsonb
from starlette.responses import JSONResponse, Response

from embedded.sql.access import Access
from embedded.sql.catalog.entities import Entity
from embedded.sql.catalog.service import CatalogService
from embedded.sql.database import Database
from embedded.sql.errors import ConcurrentModification, NotFound, ValidationError
from embedded.sql.rest import bodies
from embedded.sql.rest.app import Endpoint
from embedded.sql.rest.calls import Call

Kind = Literal["wiki", "tags"]


class CollaborationHandlers:
    def __init__(self, service: CatalogService, database: Database, access: Access) -> None:
        self._access = access
        self._service = service
        self._database = database

    def endpoints(self) -> list[Endpoint]:
        base = "/api/v3/catalog/{id}/collaboration"
        return [
            Endpoint("GET", f"{base}/wiki", lambda call: self._read(call, "wiki")),
            Endpoint("POST", f"{base}/wiki", self.write_wiki),
            Endpoint("GET", f"{base}/tag", lambda call: self._read(call, "tags")),
            Endpoint("POST", f"{base}/tag", self.write_tags),
        ]

    def _entity(self, call: Call, *, change: bool = False) -> Entity:
        item = self._service.by_id(call.parameters["id"])
        if not isinstance(item, Entity):
            raise NotFound(f"Could not find entity with id [{call.parameters['id']}]")
        if change:
            self._access.need("ALTER", item.path)
        self._access.need_visible(item.path)
        return item

    def _read(self, call: Call, kind: Kind) -> Response:
        row = self._database.row(
            "select version, body from collaboration where entity_id = %s and kind = %s", (self._entity(call).id, kind)
        )
        if row is None:
            return JSONResponse({"text": ""} if kind == "wiki" else {"tags": []})
        return JSONResponse(_shown(kind, row["body"], row["version"]))

    def write_wiki(self, call: Call) -> Response:
        body = call.body(bodies.Wiki)
        return self._write(call, "wiki", {"text": body.text}, body.version)

    def write_tags(self, call: Call) -> Response:
        body = call.body(bodies.Tags)
        for tag in body.tags:
            if not tag or len(tag) > 128:
                raise ValidationError("Invalid value found at: tags (1 to 128 characters each)")
        lowered = [tag.lower() for tag in body.tags]
        if len(set(lowered)) != len(lowered):
            raise ValidationError("Invalid value found at: tags (each tag once)")
        return self._write(call, "tags", {"tags": body.tags}, body.version)

    def _write(self, call: Call, kind: Kind, body: dict[str, Any], version: str | int | None) -> Response:
        """A version must be that of the row; none means that there is no row yet. 409 otherwise."""
        entity = self._entity(call, change=True)
        expected = -1 if version is None else _number(version)
        try:
            with self._database.transaction() as connection:
                row = connection.execute(
                    "insert into collaboration (entity_id, kind, version, body) values (%s, %s, 0, %s)"
                    " on conflict (entity_id, kind) do update set version = collaboration.version + 1,"
                    " body = excluded.body where collaboration.version = %s returning version",
                    (entity.id, kind, Jsonb(body), expected),
                ).fetchone()
        except psycopg.errors.ForeignKeyViolation:
            raise NotFound(f"Could not find entity with id [{entity.id}]") from None
        if row is None:
            raise ConcurrentModification(f"The {kind} has been modified since version [{version}]: read it again")
        return JSONResponse(_shown(kind, body, row["version"]))


def _number(version: str | int) -> int:
    try:
        return int(version)
    except ValueError:
        raise ValidationError("Invalid value found at: version") from None


def _shown(kind: Kind, body: dict[str, Any], version: int) -> dict[str, Any]:
    # Dremio counts the versions of a wiki and has opaque ones for tags.
    return {**body, "version": version if kind == "wiki" else str(version)}
