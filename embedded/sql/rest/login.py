"""Login, the first user, readiness."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from embedded.sql import clock
from embedded.sql.catalog.service import CatalogService
from embedded.sql.database import Database
from embedded.sql.errors import ValidationError
from embedded.sql.identity import Identity, User
from embedded.sql.rest import bodies
from embedded.sql.rest.app import Endpoint
from embedded.sql.rest.calls import Call, empty

VERSION = "26.0.0-lakehouse"


class LoginHandlers:
    def __init__(self, identity: Identity, database: Database, catalog: CatalogService) -> None:
        self._identity = identity
        self._database = database
        self._catalog = catalog

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint("POST", "/apiv2/login", self.login, public=True),
            Endpoint("GET", "/apiv2/login", lambda call: JSONResponse(True)),
            Endpoint("DELETE", "/apiv2/login", self.logout),
            Endpoint("GET", "/apiv2/server_status", self.server_status, public=True),
            Endpoint("PUT", "/apiv2/bootstrap/firstuser", self.first_user, public=True),
        ]

    def login(self, call: Call) -> Response:
        body = call.body(bodies.Login)
        token, expires, user = self._identity.login(body.userName, body.password)
        created = clock.epoch_ms(user.created_at)
        return JSONResponse(
            {
                "token": token,
                "userName": user.name,
                "firstName": user.first_name,
                "lastName": user.last_name,
                "expires": clock.epoch_ms(expires),
                "email": user.email,
                "userId": user.id,
                "admin": user.admin,
                "clusterId": self._identity.cluster_id,
                "clusterCreatedAt": created,
                "version": VERSION,
                "permissions": {
                    "canUploadProfiles": False,
                    "canDownloadProfiles": False,
                    "canEmailForSupport": False,
                    "canChatForSupport": False,
                    "canViewAllJobs": True,
                    "canCreateUser": user.admin,
                    "canCreateSource": user.admin,
                },
                "userCreatedAt": created,
            }
        )

    def logout(self, call: Call) -> Response:
        self._identity.logout(call.headers.get("authorization", ""))
        return empty()

    def server_status(self, call: Call) -> Response:
        ready = self._database.ready()
        return JSONResponse("OK" if ready else "TEMP_UNAVAILABLE", 200 if ready else 503)

    def first_user(self, call: Call) -> Response:
        body = call.body(bodies.FirstUser)
        if self._identity.has_users:
            raise ValidationError("First user can only be created when no user is already registered")
        user = self._identity.create_user(
            body.userName, body.password, admin=True, first=body.firstName, last=body.lastName, email=body.email
        )
        self._catalog.create_home(user.name)
        return JSONResponse(_shown(user))


def _shown(user: User) -> dict[str, object]:
    return {
        "id": user.id,
        "name": user.name,
        "firstName": user.first_name,
        "lastName": user.last_name,
        "email": user.email,
        "tag": user.id,
        "active": True,
    }
