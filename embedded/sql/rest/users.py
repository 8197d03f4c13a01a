"""/user: users and their personal access tokens."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from starlette.responses import JSONResponse, PlainTextResponse, Response

from embedded.sql.access import Access, Role
from embedded.sql.catalog.service import CatalogService
from embedded.sql.errors import NotFound, PermissionDenied, ValidationError
from embedded.sql.identity import Identity, User
from embedded.sql.rest import bodies
from embedded.sql.rest.app import Endpoint
from embedded.sql.rest.calls import Call, empty


class UserHandlers:
    def __init__(self, identity: Identity, access: Access, catalog: CatalogService) -> None:
        self._identity = identity
        self._access = access
        self._catalog = catalog

    def endpoints(self) -> list[Endpoint]:
        base = "/api/v3/user"
        return [
            Endpoint("GET", base, self.users),
            Endpoint("POST", base, self.create),
            Endpoint("GET", f"{base}/{{id}}", self.get),
            Endpoint("PUT", f"{base}/{{id}}", self.replace),
            Endpoint("DELETE", f"{base}/{{id}}", self.delete),
            Endpoint("GET", f"{base}/by-name/{{name}}", self.by_name),
            Endpoint("GET", f"{base}/{{id}}/token", self.tokens),
            Endpoint("POST", f"{base}/{{id}}/token", self.create_token),
            Endpoint("DELETE", f"{base}/{{id}}/token", self.delete_tokens),
            Endpoint("DELETE", f"{base}/{{id}}/token/{{token}}", self.delete_token),
        ]

    def users(self, call: Call) -> Response:
        self._access.need_admin()
        return JSONResponse({"data": [self._shown(user) for user in self._identity.users()]})

    def create(self, call: Call) -> Response:
        """A new user, with a home; in the Community edition every user is an administrator."""
        self._access.need("CREATE USER", ())
        body = call.body(bodies.User)
        roles = self._roles(body)
        if body.identityType == "SERVICE_USER":
            self._access.need_enterprise("A service user")
            user = self._identity.create_service_user(body.name)
        else:
            if not body.password:
                raise ValidationError("Invalid value found at: password")
            user = self._identity.create_user(
                body.name,
                body.password,
                admin=not self._access.enforced,
                first=body.firstName,
                last=body.lastName,
                email=body.email,
            )
        for role in roles:
            self._access.add_member(role, "USER", user.name)
        self._catalog.create_home(user.name)
        return JSONResponse(self._shown(user))

    def _roles(self, body: bodies.User) -> list[Role]:
        """The roles of the body without PUBLIC, which nobody needs to be given. Only administrators hand them out."""
        found = [self._access.role(item.id) if item.id else self._access.role_named(item.name) for item in body.roles]
        chosen = [role for role in found if role.name != "PUBLIC"]
        if chosen:
            self._access.need_admin()
        return chosen

    def get(self, call: Call) -> Response:
        return JSONResponse(self._shown(self._identity.user(call.parameters["id"])))

    def by_name(self, call: Call) -> Response:
        user = self._identity.user_named(call.parameters["name"])
        if user is None:
            raise NotFound(f"Could not find user with name [{call.parameters['name']}]")
        return JSONResponse(self._shown(user))

    def replace(self, call: Call) -> Response:
        body = call.body(bodies.User)
        user = self._identity.user(call.parameters["id"])
        if call.caller.id != user.id:
            self._access.need_admin()
        if body.name.lower() != user.name.lower():
            raise ValidationError("A user cannot be renamed")
        changed = self._identity.update_user(
            user, body.tag, first=body.firstName, last=body.lastName, email=body.email, password=body.password
        )
        return JSONResponse(self._shown(changed))

    def delete(self, call: Call) -> Response:
        self._access.need_admin()
        user = self._identity.user(call.parameters["id"])
        if call.query.get("tag") not in (None, "", user.tag):
            raise ValidationError(f"User [{user.name}] has been modified: read it again")
        self._identity.delete_user(user)
        self._access.forget_user(user)
        return empty()

    def _shown(self, user: User) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "@type": "EnterpriseUser" if self._access.enforced else "User",
            "id": user.id,
            "name": user.name,
            "firstName": user.first_name,
            "lastName": user.last_name,
            "email": user.email,
            "tag": user.tag,
            "source": "local",
            "active": True,
        }
        if self._access.enforced:
            roles = self._access.roles_of(user)
            shown["roles"] = [{"id": r.id, "name": r.name, "type": role_type(r)} for r in roles]
            shown["identityType"] = user.identity_type
        if user.oauth_client_id:
            shown["oauthClientId"] = user.oauth_client_id
        return shown

    # Personal access tokens -------------------------------------------------------------------------------------

    def tokens(self, call: Call) -> Response:
        return JSONResponse({"data": self._identity.personal_tokens(call.caller, call.parameters["id"])})

    def create_token(self, call: Call) -> Response:
        body = call.body(bodies.NewToken)
        lifetime = timedelta(milliseconds=body.millisecondsToExpire)
        token = self._identity.create_personal_token(call.caller, call.parameters["id"], body.label, lifetime)
        return PlainTextResponse(token)

    def delete_tokens(self, call: Call) -> Response:
        self._identity.delete_personal_tokens(call.caller, call.parameters["id"], None)
        return empty()

    def delete_token(self, call: Call) -> Response:
        self._identity.delete_personal_tokens(call.caller, call.parameters["id"], call.parameters["token"])
        return empty()


def role_type(role: Role) -> str:
    return "SYSTEM" if role.system else "INTERNAL"


def own_or_admin(call: Call, user: User, access: Access) -> None:
    """Raises PermissionDenied for somebody else who is no administrator."""
    if call.caller.id == user.id:
        return
    try:
        access.need_admin()
    except PermissionDenied:
        raise PermissionDenied(f"You do not have permission to see the credentials of [{user.name}]") from None
