"""/role (Enterprise): roles and their members."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from embedded.sql.access import Access, Role
from embedded.sql.errors import ValidationError
from embedded.sql.identity import Identity
from embedded.sql.rest import bodies
from embedded.sql.rest.app import Endpoint
from embedded.sql.rest.calls import Call, empty
from embedded.sql.rest.users import role_type


class RoleHandlers:
    def __init__(self, access: Access, identity: Identity) -> None:
        self._access = access
        self._identity = identity

    def endpoints(self) -> list[Endpoint]:
        base = "/api/v3/role"
        return [
            Endpoint("GET", base, self.roles),
            Endpoint("POST", base, self.create),
            Endpoint("GET", f"{base}/by-name/{{name}}", self.by_name),
            Endpoint("GET", f"{base}/{{id}}", self.get),
            Endpoint("PUT", f"{base}/{{id}}", self.replace),
            Endpoint("DELETE", f"{base}/{{id}}", self.delete),
            Endpoint("GET", f"{base}/{{id}}/member", self.members),
            Endpoint("PATCH", f"{base}/{{id}}/member", self.change_members),
        ]

    def roles(self, call: Call) -> Response:
        return JSONResponse({"data": [self._shown(role) for role in self._access.roles()]})

    def create(self, call: Call) -> Response:
        self._access.need("CREATE ROLE", ())
        body = call.body(bodies.Role)
        parents = [self._access.role(item.id) if item.id else self._access.role_named(item.name) for item in body.roles]
        if parents:
            self._access.need_admin()
        role = self._access.create_role(body.name, body.description or "")
        for parent in parents:
            self._access.add_member(parent, "ROLE", role.name)
        return JSONResponse(self._shown(role))

    def get(self, call: Call) -> Response:
        return JSONResponse(self._shown(self._access.role(call.parameters["id"])))

    def by_name(self, call: Call) -> Response:
        return JSONResponse(self._shown(self._access.role_named(call.parameters["name"])))

    def replace(self, call: Call) -> Response:
        self._access.need_admin()
        body = call.body(bodies.Role)
        role = self._access.role(call.parameters["id"])
        if body.name.lower() != role.name.lower():
            raise ValidationError("A role cannot be renamed")
        return JSONResponse(self._shown(self._access.describe_role(role, body.description or "")))

    def delete(self, call: Call) -> Response:
        self._access.need_admin()
        self._access.drop_role(self._access.role(call.parameters["id"]))
        return empty()

    def members(self, call: Call) -> Response:
        found = self._access.members(self._access.role(call.parameters["id"]))
        return JSONResponse({"data": [{"type": kind, "id": id_, "name": name} for kind, id_, name in found]})

    def change_members(self, call: Call) -> Response:
        """A list of {op: add|remove, type: USER|ROLE, id or name}."""
        self._access.need_admin()
        role = self._access.role(call.parameters["id"])
        for change in call.body(bodies.MemberChanges).root:
            name = change.name or self._name_of(change)
            apply = self._access.add_member if change.op == "add" else self._access.remove_member
            apply(role, change.type, name)
        return self.members(call)

    def _name_of(self, change: bodies.MemberChange) -> str:
        if not change.id:
            raise ValidationError("Invalid value found at: id")
        if change.type == "ROLE":
            return self._access.role(change.id).name
        return self._identity.user(change.id).name

    def _shown(self, role: Role) -> dict[str, Any]:
        parents = [r for r in self._access.roles() if ("ROLE", role.id, role.name) in self._access.members(r)]
        return {
            "id": role.id,
            "name": role.name,
            "type": role_type(role),
            "roles": [{"id": r.id, "name": r.name, "type": role_type(r)} for r in parents],
            "memberCount": len(self._access.members(role)),
            "description": role.description,
        }
