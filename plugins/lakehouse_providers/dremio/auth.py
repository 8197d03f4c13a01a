"""How requests prove who sends them: login and password, personal access token, OAuth. No Airflow.

A token that lives for an hour or a day is renewed in the middle of a wait of any length: before it expires where Dremio
says when that is, and in any case when it is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from typing import Any

import httpx

from lakehouse_providers.dremio.errors import DremioConfigurationError
from lakehouse_providers.transport import LoginReply

LOGIN = "/apiv2/login"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
PAT_TYPE = "urn:ietf:params:oauth:token-type:dremio:personal-access-token"
JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt"
SCOPE = "dremio.all"
EARLY = 60.0  # seconds before its end at which a token is no longer used

Flow = Generator[httpx.Request, httpx.Response, None]


class RenewedAuth(httpx.Auth):
    """Gets a token when needed, and again when it is refused or about to end."""

    requires_response_body = True
    prefix: str

    def __init__(self, url: str) -> None:
        self.url = url
        self._token: str | None = None
        self._end = float("inf")

    def request(self) -> httpx.Request:
        """What is sent to get a token."""
        raise NotImplementedError

    def read(self, body: Mapping[str, Any]) -> tuple[object, float]:
        """The token of a good reply, and the seconds that it lives."""
        raise NotImplementedError

    def auth_flow(self, request: httpx.Request) -> Flow:
        token = self._token if time.time() < self._end else None
        if token is None:
            token = self._accept((yield self.request()))
        response = yield self._signed(request, token)
        if response.status_code == 401:
            if self._token == token:  # otherwise a neighbour has already renewed it
                self._accept((yield self.request()))
            yield self._signed(request, self._token or "")

    def token(self, send: Callable[[httpx.Request], httpx.Response]) -> str:
        """A token that is good for a while, for use outside HTTP. Raises LoginReply when it is refused."""
        if self._token is not None and time.time() < self._end:
            return self._token
        return self._accept(send(self.request()))

    def _accept(self, reply: httpx.Response) -> str:
        body = reply.json() if reply.is_success and "json" in reply.headers.get("content-type", "") else {}
        token, lives = self.read(body if isinstance(body, dict) else {})
        if not isinstance(token, str) or not token:
            raise LoginReply(reply)
        self._token, self._end = token, time.time() + max(lives - EARLY, lives / 2)
        return token

    def _signed(self, request: httpx.Request, token: str) -> httpx.Request:
        request.headers["Authorization"] = self.prefix + token
        return request


class PasswordAuth(RenewedAuth):
    """Dremio Software's login; its tokens live for 30 hours."""

    prefix = "_dremio"

    def __init__(self, base_url: str, user: str, password: str) -> None:
        super().__init__(base_url + LOGIN)
        self._user, self._password = user, password

    def request(self) -> httpx.Request:
        return httpx.Request("POST", self.url, json={"userName": self._user, "password": self._password})

    def read(self, body: Mapping[str, Any]) -> tuple[object, float]:
        expires = body.get("expires")  # epoch milliseconds
        lives = expires / 1000 - time.time() if isinstance(expires, int | float) else float("inf")
        # A server whose clock lags behind ours must not make us log in for every request.
        return body.get("token"), lives if lives > EARLY else float("inf")


class OAuth(RenewedAuth):
    """An OAuth access token by POST of a form; `form` is asked anew each time, since a subject token may rotate."""

    prefix = "Bearer "

    def __init__(self, url: str, form: Callable[[], Mapping[str, str]]) -> None:
        super().__init__(url)
        self._form = form

    def request(self) -> httpx.Request:
        return httpx.Request("POST", self.url, data=dict(self._form()))

    def read(self, body: Mapping[str, Any]) -> tuple[object, float]:
        lives = body.get("expires_in")
        return body.get("access_token"), float(lives) if isinstance(lives, int | float) else float("inf")


class TokenAuth(httpx.Auth):
    """A personal access token, or any other bearer token that somebody else renews."""

    def __init__(self, token: str) -> None:
        self.bearer = token

    def auth_flow(self, request: httpx.Request) -> Flow:
        request.headers["Authorization"] = f"Bearer {self.bearer}"
        yield request


def client_credentials(url: str, client_id: str, client_secret: str) -> OAuth:
    """A service user of Dremio Enterprise."""
    form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret, "scope": SCOPE}
    return OAuth(url, lambda: form)


def token_exchange(url: str, subject: Callable[[], str], kind: str) -> OAuth:
    """A token for a personal access token, or for the JWT of another identity provider."""
    return OAuth(
        url,
        lambda: {"grant_type": EXCHANGE, "subject_token": subject(), "subject_token_type": kind, "scope": SCOPE},
    )


def from_file(path: str) -> Callable[[], str]:
    """The content of a file, read each time: Kubernetes replaces a projected token every hour."""

    def read() -> str:
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read().strip()
        except OSError as error:
            raise DremioConfigurationError(f"subject_token_file in Extra cannot be read: {error}") from None
        if not text:
            raise DremioConfigurationError(f"subject_token_file in Extra is empty: {path}")
        return text

    return read
