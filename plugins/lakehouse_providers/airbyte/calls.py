"""Airbyte's public API as data: requests, replies, login. No I/O, so both clients share it.

Sources and destinations travel as plain JSON: the SDK's closed unions lose fields of types they do not know and send
others under a wrong sourceType.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, Literal
from urllib.parse import quote, urljoin

import httpx

from lakehouse_providers.airbyte import errors
from lakehouse_providers.transport import Call, LoginReply

PAGE = 100
TOKEN_PATH = "v1/applications/token"  # joined to the base URL as the official provider does it
PUBLIC = "/api/public/v1"
EXTENSION = "/api/lakehouse/v1"

Kind = Literal["source", "destination", "connection", "workspace"]
KINDS: tuple[Kind, ...] = ("source", "destination", "connection", "workspace")


def create_job(connection_id: str) -> Call:
    # Not idempotent: a second request starts a second sync, or gets a 409 for the first one.
    return Call("POST", "/jobs", json={"connectionId": connection_id, "jobType": "sync"}, idempotent=False)


def job(job_id: int) -> Call:
    return Call("GET", f"/jobs/{job_id:d}")


def cancel_job(job_id: int) -> Call:
    return Call("DELETE", f"/jobs/{job_id:d}")  # cancelling twice does no harm


def jobs(connection_id: str, offset: int) -> Call:
    params = {"connectionId": connection_id, "orderBy": "createdAt|DESC", "limit": PAGE, "offset": offset}
    return Call("GET", "/jobs", params=params)


def listing(kind: Kind, offset: int, workspace: str | None = None) -> Call:
    params: dict[str, Any] = {"includeDeleted": "false", "limit": PAGE, "offset": offset}
    if workspace:
        params["workspaceIds"] = workspace
    return Call("GET", collection(kind), params=params)


def collection(kind: Kind) -> str:
    if kind not in KINDS:
        raise errors.AirbyteConfigurationError(f"{kind!r} is none of {', '.join(KINDS)}")
    return f"/{kind}s"


def member(kind: Kind, identity: str) -> str:
    return f"{collection(kind)}/{quote(identity, safe='')}"


def extension_url(base_url: str, path: str) -> str | None:
    """Of our replication server's own endpoints; None where the base URL is not of that form."""
    root, found, _ = base_url.partition(PUBLIC)
    return f"{root}{EXTENSION}{path}" if found else None


def parsed(response: httpx.Response) -> Any:
    """The JSON body of a good reply, None for an empty one. Raises AirbyteResponseError otherwise."""
    try:
        body = response.json() if response.content else None
    except ValueError:
        body = None
    where = f"{response.request.method} {response.request.url.path}"
    if response.is_success:
        if response.content and body is None:
            raise errors.AirbyteRequestError(response.status_code, "", "the reply is not JSON; is that Airbyte?", where)
        return body
    if not isinstance(body, dict):
        raise errors.error_for(response.status_code, "", response.text[:300], where)
    data = body.get("data")
    message = data.get("message") if isinstance(data, dict) else None
    text = str(message or body.get("detail") or body.get("message") or "")
    raise errors.error_for(response.status_code, str(body.get("title") or ""), text, where)


def unreachable(error: httpx.TransportError, base_url: str) -> errors.AirbyteUnreachableError:
    return errors.AirbyteUnreachableError(f"Airbyte at {base_url} gave no reply: {str(error) or type(error).__name__}")


class ClientCredentials(httpx.Auth):
    """Fetches a token when needed, a minute before it ends, and again when it is refused: tokens live 15 minutes."""

    requires_response_body = True

    def __init__(self, base_url: str, client_id: str, client_secret: str, token_path: str = TOKEN_PATH) -> None:
        self._url = urljoin(base_url, token_path or TOKEN_PATH)
        self._form = {
            "grant_type": "client_credentials",
            "client_id": client_id,
            "client_secret": client_secret,
        }
        self._token: str | None = None
        self._renew_at = 0.0

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        token = self._token if time.monotonic() < self._renew_at else None
        if token is None:
            token = yield from self._login()
        response = yield self._signed(request, token)
        if response.status_code == 401:
            if self._token == token:  # otherwise a neighbour has already renewed it
                yield from self._login()
            yield self._signed(request, self._token or "")

    def _login(self) -> Generator[httpx.Request, httpx.Response, str]:
        reply = yield httpx.Request("POST", self._url, data=self._form)
        body = reply.json() if reply.is_success and "json" in reply.headers.get("content-type", "") else {}
        token = body.get("access_token") if isinstance(body, dict) else None
        if not isinstance(token, str) or not token:
            raise LoginReply(reply)
        self._token = token
        lifetime = float(body.get("expires_in") or 900)
        self._renew_at = time.monotonic() + max(lifetime - 60, lifetime / 2)
        return token

    @staticmethod
    def _signed(request: httpx.Request, token: str) -> httpx.Request:
        request.headers["Authorization"] = f"Bearer {token}"
        return request
