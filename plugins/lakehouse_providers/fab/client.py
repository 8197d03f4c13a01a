"""Roles and users of an Airflow whose auth manager is FAB's, over REST. No Airflow import.

Contract: /auth/token and /auth/fab/v1 of apache-airflow-providers-fab 3.10.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx

from lakehouse_providers import transport
from lakehouse_providers.fab.errors import FabAuthenticationError, FabError, FabNotFoundError, FabResponseError
from lakehouse_providers.transport import Call, RetryPolicy

BASE = "/auth/fab/v1"
PAGE = 100
RETRY = RetryPolicy()

Permission = tuple[str, str]  # action, resource


class FabClient:
    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    @classmethod
    @contextmanager
    def connect(cls, url: str, login: str, password: str, timeout: float = 60.0) -> Iterator[FabClient]:
        """Signs in. Raises FabAuthenticationError, FabResponseError."""
        with httpx.Client(base_url=url.rstrip("/"), timeout=timeout) as http:
            client = cls(http)
            credentials = {"username": login, "password": password}
            token = client._call(Call("POST", "/auth/token", json=credentials))["access_token"]
            http.headers["Authorization"] = f"Bearer {token}"
            yield client

    def _call(self, call: Call) -> Any:
        try:
            reply = transport.send(self._http, call, RETRY)
        except httpx.HTTPError as error:
            raise FabResponseError(f"Airflow gave no answer: {type(error).__name__}") from error
        if reply.is_success:
            return reply.json() if reply.content else None
        kinds: dict[int, type[FabError]] = {
            401: FabAuthenticationError,
            403: FabAuthenticationError,
            404: FabNotFoundError,
        }
        raise kinds.get(reply.status_code, FabResponseError)(_message(call, reply))

    def _all(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            page = self._call(Call("GET", f"{BASE}/{kind}", params={"limit": PAGE, "offset": len(found)}))
            found += page[kind]
            if not page[kind] or len(found) >= page["total_entries"]:
                return found

    def roles(self) -> dict[str, frozenset[Permission]]:
        """The permissions of every role, by name."""
        return {role["name"]: _permissions(role["actions"]) for role in self._all("roles")}

    def create_role(self, name: str, permissions: Sequence[Permission]) -> None:
        self._call(Call("POST", f"{BASE}/roles", json=_role(name, permissions), idempotent=False))

    def update_role(self, name: str, permissions: Sequence[Permission]) -> None:
        """The role then has exactly these. Raises FabNotFoundError."""
        path = f"{BASE}/roles/{quote(name, safe='')}"
        self._call(Call("PATCH", path, json=_role(name, permissions), params={"update_mask": "actions"}))

    def delete_role(self, name: str) -> None:
        self._call(Call("DELETE", f"{BASE}/roles/{quote(name, safe='')}"))

    def users(self) -> dict[str, frozenset[str]]:
        """The roles of every user, by name."""
        return {u["username"]: frozenset(role["name"] for role in u["roles"] or ()) for u in self._all("users")}

    def create_user(self, name: str, password: str, roles: Sequence[str], email: str) -> None:
        body = {"username": name, "password": password, "email": email, "first_name": name, "last_name": "Lakehouse"}
        self._call(Call("POST", f"{BASE}/users", json={**body, "roles": _named(roles)}, idempotent=False))

    def set_roles(self, name: str, roles: Sequence[str]) -> None:
        path = f"{BASE}/users/{quote(name, safe='')}"
        self._call(Call("PATCH", path, json={"roles": _named(roles)}, params={"update_mask": "roles"}))


def _named(roles: Sequence[str]) -> list[dict[str, str]]:
    return [{"name": role} for role in roles]


def _role(name: str, permissions: Sequence[Permission]) -> dict[str, Any]:
    actions = [{"action": {"name": action}, "resource": {"name": resource}} for action, resource in permissions]
    return {"name": name, "actions": actions}


def _permissions(actions: Sequence[Mapping[str, Any]]) -> frozenset[Permission]:
    return frozenset((one["action"]["name"], one["resource"]["name"]) for one in actions)


def _message(call: Call, reply: httpx.Response) -> str:
    """Never the request: its body may hold a password."""
    try:
        detail = reply.json().get("detail", "")
    except (ValueError, AttributeError):
        detail = ""
    shown = detail if isinstance(detail, str) else ""
    return f"{call.method} {call.path}: HTTP {reply.status_code} {shown}".rstrip()
