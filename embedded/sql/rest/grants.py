"""/catalog/{id}/grants (Enterprise): who may do what with one object."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from embedded.sql.access import AVAILABLE, Access
from embedded.sql.catalog.engine_catalog import object_type
from embedded.sql.catalog.service import CatalogService, Item
from embedded.sql.errors import ValidationError
from embedded.sql.identity import Identity
from embedded.sql.rest import bodies
from embedded.sql.rest.app import Endpoint
from embedded.sql.rest.calls import Call, empty


class GrantHandlers:
    def __init__(self, catalog: CatalogService, access: Access, identity: Identity) -> None:
        self._catalog = catalog
        self._access = access
        self._identity = identity

    def endpoints(self) -> list[Endpoint]:
        base = "/api/v3/catalog/{id}/grants"
        return [Endpoint("GET", base, self.get), Endpoint("PUT", base, self.replace)]

    def _item(self, call: Call) -> Item:
        item = self._catalog.by_id(call.parameters["id"])
        self._access.need("MANAGE GRANTS", item.path)
        return item

    def get(self, call: Call) -> Response:
        return JSONResponse(self._shown(self._item(call)))

    def replace(self, call: Call) -> Response:
        """PUT: these grants and no others."""
        item, body = self._item(call), call.body(bodies.Grants)
        kind = object_type(item)
        wanted: dict[tuple[str, str], set[str]] = {}
        for entry in body.grants:
            privileges = {privilege.replace("_", " ") for privilege in entry.privileges}
            unknown = privileges - set(AVAILABLE[kind])
            if unknown:
                raise ValidationError(f"Privilege [{sorted(unknown)[0]}] cannot be granted on a {kind}.")
            wanted[entry.granteeType, self._name(entry)] = privileges
        known: dict[tuple[str, str], set[str]] = {}
        for grant in self._access.grants_on(item.path):
            known.setdefault((grant.kind, self._name_of(grant.kind, grant.grantee)), set()).add(grant.privilege)
        for (grantee_kind, name), privileges in known.items():
            gone = privileges - wanted.get((grantee_kind, name), set())
            if gone:
                self._access.revoke(grantee_kind, name, gone, kind, item.path)
        for (grantee_kind, name), privileges in wanted.items():
            self._access.grant(grantee_kind, name, privileges, kind, item.path)
        return empty()

    def _name(self, entry: bodies.GrantEntry) -> str:
        if entry.name:
            return entry.name
        if not entry.id:
            raise ValidationError("Invalid value found at: grants.id")
        return self._name_of(entry.granteeType, entry.id)

    def _name_of(self, kind: str, grantee_id: str) -> str:
        return self._access.role(grantee_id).name if kind == "ROLE" else self._identity.user(grantee_id).name

    def _shown(self, item: Item) -> dict[str, Any]:
        grouped: dict[tuple[str, str], list[str]] = {}
        for grant in self._access.grants_on(item.path):
            grouped.setdefault((grant.kind, grant.grantee), []).append(grant.privilege.replace(" ", "_"))
        return {
            "id": item.id,
            "availablePrivileges": sorted(
                p.replace(" ", "_") for p in AVAILABLE[object_type(item)] if p != "OWNERSHIP"
            ),
            "grants": [self._entry(kind, grantee, found) for (kind, grantee), found in grouped.items()],
        }

    def _entry(self, kind: str, grantee: str, privileges: list[str]) -> dict[str, Any]:
        shown = {"privileges": sorted(privileges), "granteeType": kind, "id": grantee}
        if kind == "ROLE":
            return {**shown, "name": self._access.role(grantee).name}
        user = self._identity.user(grantee)
        return {
            **shown,
            "name": user.name,
            "firstName": user.first_name,
            "lastName": user.last_name,
            "email": user.email,
        }
