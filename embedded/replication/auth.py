"""Bearer tokens: signed, expiring, checked without any stored state, so they outlive a restart of the server."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time

from embedded.replication.problems import unauthorized
from embedded.replication.settings import Settings


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


_HEADER = _b64(b'{"alg":"HS256","typ":"JWT"}')


class Tokens:
    """Issues and checks JSON Web Tokens (HS256). The key derives from the client secret: a new one ends them all."""

    def __init__(self, settings: Settings) -> None:
        self._client_id = settings.client_id
        self._client_secret = settings.client_secret
        self._key = hmac.digest(settings.client_secret.encode(), b"lakehouse replication tokens", hashlib.sha256)
        self.lifetime = settings.token_seconds

    def issue(self, client_id: str, client_secret: str) -> str:
        """Exchange the client's credentials for a token; raises a 401 problem."""
        known = hmac.compare_digest(client_id.encode(), self._client_id.encode())
        right = hmac.compare_digest(client_secret.encode(), self._client_secret.encode())
        if not (known and right):
            raise unauthorized("Unknown client_id or wrong client_secret.")
        now = int(time.time())
        claims = {"sub": client_id, "iat": now, "exp": now + self.lifetime}
        signed = f"{_HEADER}.{_b64(json.dumps(claims).encode())}"
        return f"{signed}.{self._sign(signed)}"

    def check(self, authorization: str | None) -> None:
        """Check the value of an Authorization header; raises a 401 problem that says what is wrong with it."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise unauthorized("Send 'Authorization: Bearer <token>'; tokens come from POST /applications/token.")
        expires = self._expiry(token.strip())
        if expires is None:
            raise unauthorized("The token is not one of this server's.")
        if expires <= time.time():
            raise unauthorized("The token has expired; ask for a new one.")

    def _expiry(self, token: str) -> float | None:
        signed, _, signature = token.rpartition(".")
        if not signed or not hmac.compare_digest(signature.encode(), self._sign(signed).encode()):
            return None
        try:
            header, claims = signed.split(".")
            return float(json.loads(_unb64(claims))["exp"]) if header == _HEADER else None
        except (ValueError, KeyError, TypeError, binascii.Error):
            return None

    def _sign(self, text: str) -> str:
        return _b64(hmac.digest(self._key, text.encode(), hashlib.sha256))


def credentials(content_type: str, fields: dict[str, str]) -> tuple[str, str]:
    """Client id and secret out of a token request's fields (form or JSON, Airbyte accepts both); raises 400 or 401."""
    client_id, client_secret = fields.get("client_id"), fields.get("client_secret")
    if not client_id or not client_secret:
        raise unauthorized(f"client_id and client_secret are needed in the {content_type or 'form or JSON'} body.")
    return client_id, client_secret
