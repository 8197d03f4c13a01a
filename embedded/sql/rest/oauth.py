"""/oauth/token, and the client secrets of service users (Enterprise)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl

from starlette.responses import JSONResponse, Response

from embedded.sql.access import Access
from embedded.sql.errors import ValidationError
from embedded.sql.identity import Identity, User
from embedded.sql.oauth import ClientSecret, OAuth, OAuthError
from embedded.sql.rest import bodies
from embedded.sql.rest.app import Endpoint
from embedded.sql.rest.calls import Call, empty
from embedded.sql.rest.users import own_or_admin


class OAuthHandlers:
    def __init__(self, oauth: OAuth, identity: Identity, access: Access) -> None:
        self._oauth = oauth
        self._identity = identity
        self._access = access

    def endpoints(self) -> list[Endpoint]:
        base = "/api/v3/user/{id}/oauth/credentials"
        return [
            Endpoint("POST", "/oauth/token", self.token, public=True, partial="no JWT of external providers"),
            Endpoint("GET", base, self.secrets),
            Endpoint("POST", base, self.create_secret, partial="no external JWT"),
            Endpoint("DELETE", f"{base}/{{credential}}", self.delete_secret),
        ]

    def token(self, call: Call) -> Response:
        """Form-encoded, as RFC 6749 asks; errors have its shape and Dremio's."""
        kind = call.headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            if kind != "application/x-www-form-urlencoded":
                raise OAuthError("invalid_request", "The request must be application/x-www-form-urlencoded")
            form = dict(parse_qsl(call.content.decode("utf-8", "replace"), keep_blank_values=True))
            return JSONResponse(self._oauth.token(form), headers={"Cache-Control": "no-store"})
        except OAuthError as error:
            shown = {"error": error.error, "error_description": error.description}
            return JSONResponse({**shown, "errorMessage": error.description, "moreInfo": ""}, error.status)

    def _user(self, call: Call) -> User:
        user = self._identity.user(call.parameters["id"])
        own_or_admin(call, user, self._access)
        return user

    def secrets(self, call: Call) -> Response:
        return JSONResponse({"data": [_shown(secret) for secret in self._oauth.secrets(self._user(call))]})

    def create_secret(self, call: Call) -> Response:
        body = call.body(bodies.Credential)
        if body.credentialType != "CLIENT_SECRET":
            raise ValidationError("Invalid value found at: credentialType (only CLIENT_SECRET is supported)")
        lifetime = timedelta(days=body.clientSecretConfig.expiresInDays)
        return JSONResponse(_shown(self._oauth.create_secret(self._user(call), body.name, lifetime)))

    def delete_secret(self, call: Call) -> Response:
        self._oauth.delete_secret(self._user(call), call.parameters["credential"])
        return empty()


def _shown(secret: ClientSecret) -> dict[str, Any]:
    config = {"clientId": secret.client_id, "createdAt": secret.created_at, "expiresAt": secret.expires_at}
    if secret.secret is not None:
        config["clientSecret"] = secret.secret
    return {"id": secret.id, "name": secret.name, "clientSecretConfig": config, "credentialType": "CLIENT_SECRET"}
