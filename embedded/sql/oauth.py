"""OAuth of the Enterprise edition: /oauth/token with four grant types, and the client secrets of service users."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from embedded.sql import clock
from embedded.sql.database import Database
from embedded.sql.errors import NotFound, ValidationError
from embedded.sql.identity import Identity, LoginFailed, TokenRefused, User

ACCESS_LIFETIME = timedelta(seconds=3600)
REFRESH_LIFETIME = timedelta(days=30)
MAX_SECRET_LIFETIME = timedelta(days=180)
SCOPE = "dremio.all"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
PAT = "urn:ietf:params:oauth:token-type:dremio:personal-access-token"


class OAuthError(Exception):
    """RFC 6749 5.2: `error` is one of its codes; `status` 400 or 401."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error, self.description, self.status = error, description, status


@dataclass(frozen=True)
class ClientSecret:
    id: str
    name: str
    client_id: str
    created_at: str
    expires_at: str
    secret: str | None = None  # only in the answer that creates it


class OAuth:
    def __init__(self, database: Database, identity: Identity) -> None:
        self._database = database
        self._identity = identity

    def token(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Answer one token request. Raises OAuthError."""
        grants = {
            "client_credentials": self._by_client,
            "password": self._by_password,
            EXCHANGE: self._by_exchange,
            "refresh_token": self._by_refresh_token,
        }
        kind = form.get("grant_type", "")
        if kind not in grants:
            raise OAuthError("unsupported_grant_type", f"grant_type must be one of {', '.join(grants)}")
        scopes = form.get("scope", SCOPE).split()
        if not set(scopes) <= {SCOPE, "offline_access"}:
            raise OAuthError("invalid_scope", f"scope must be {SCOPE}, with or without offline_access")
        user = grants[kind](form)
        token, _ = self._identity.issue(user, ACCESS_LIFETIME)
        answer: dict[str, Any] = {
            "access_token": token,
            "expires_in": int(ACCESS_LIFETIME.total_seconds()) - 1,
            "token_type": "Bearer",
            "issued_token_type": ACCESS_TOKEN,
            "scope": " ".join(scopes),
        }
        if "offline_access" in scopes or kind == "refresh_token":
            answer["refresh_token"] = self._new_refresh_token(user)
        return answer

    def _by_password(self, form: Mapping[str, str]) -> User:
        try:
            return self._identity.login(_needed(form, "username"), _needed(form, "password"))[2]
        except LoginFailed as error:
            raise OAuthError("invalid_grant", error.message, 401) from None

    def _by_client(self, form: Mapping[str, str]) -> User:
        client, digest = _needed(form, "client_id"), _digest(_needed(form, "client_secret"))
        try:
            row = self._database.row(
                "select u.id from client_secrets s join users u on u.id = s.user_id"
                " where u.oauth_client_id = %s and s.secret_hash = %s and s.expires_at > now()",
                (uuid.UUID(client), digest),
            )
        except ValueError:
            row = None
        if row is None:
            raise OAuthError("invalid_client", "Unknown client, wrong or expired secret", 401)
        return self._identity.user(str(row["id"]))

    def _by_exchange(self, form: Mapping[str, str]) -> User:
        kind = form.get("subject_token_type", PAT)
        if kind != PAT:
            raise OAuthError("invalid_request", f"subject_token_type must be {PAT}: no external provider is configured")
        try:
            return self._identity.user_of_personal_token(_needed(form, "subject_token"))
        except TokenRefused:
            raise OAuthError("invalid_grant", "The subject token is unknown or has expired", 401) from None

    def _by_refresh_token(self, form: Mapping[str, str]) -> User:
        """A refresh token works once: the answer brings the next one."""
        row = self._database.row(
            "delete from refresh_tokens where token_hash = %s and expires_at > now() returning user_id",
            (_digest(_needed(form, "refresh_token")),),
        )
        if row is None:
            raise OAuthError("invalid_grant", "The refresh token is unknown, used or has expired", 401)
        return self._identity.user(str(row["user_id"]))

    def _new_refresh_token(self, user: User) -> str:
        token = secrets.token_urlsafe(32)
        self._database.execute("delete from refresh_tokens where expires_at < now()")
        self._database.execute(
            "insert into refresh_tokens (token_hash, user_id, expires_at) values (%s, %s, %s)",
            (_digest(token), user.id, clock.now() + REFRESH_LIFETIME),
        )
        return token

    # Client secrets ---------------------------------------------------------------------------------------------

    def create_secret(self, user: User, name: str, lifetime: timedelta) -> ClientSecret:
        if user.oauth_client_id is None:
            raise ValidationError(f"User [{user.name}] is no service user and has no client secrets")
        if not timedelta(0) < lifetime <= MAX_SECRET_LIFETIME:
            raise ValidationError(f"A client secret lives more than 0 and at most {MAX_SECRET_LIFETIME.days} days")
        secret = secrets.token_urlsafe(32)
        row = self._database.row(
            "insert into client_secrets (id, user_id, name, secret_hash, expires_at) values (%s, %s, %s, %s, %s)"
            " returning *",
            (uuid.uuid4(), user.id, name, _digest(secret), clock.now() + lifetime),
        )
        assert row is not None
        return _secret(row, user.oauth_client_id, secret)

    def secrets(self, user: User) -> list[ClientSecret]:
        rows = self._database.rows("select * from client_secrets where user_id = %s order by created_at", (user.id,))
        return [_secret(row, user.oauth_client_id or "") for row in rows]

    def delete_secret(self, user: User, secret_id: str) -> None:
        try:
            gone = self._database.execute(
                "delete from client_secrets where user_id = %s and id = %s", (user.id, uuid.UUID(secret_id))
            )
        except ValueError:
            gone = 0
        if not gone:
            raise NotFound(f"Could not find credential with id [{secret_id}]")


def _secret(row: Mapping[str, Any], client_id: str, secret: str | None = None) -> ClientSecret:
    return ClientSecret(
        id=str(row["id"]),
        name=row["name"],
        client_id=client_id,
        created_at=clock.iso(row["created_at"]),
        expires_at=clock.iso(row["expires_at"]),
        secret=secret,
    )


def _needed(form: Mapping[str, str], name: str) -> str:
    value = form.get(name, "")
    if not value:
        raise OAuthError("invalid_request", f"{name} is missing")
    return value


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
