"""Clients for an `airbyte` connection, the type that the official provider registers.

Fields: host (the whole base URL, ending in /api/public/v1), login (client id), password (client secret), schema
(path of the token endpoint). Extra: timeout (seconds for one reply, default 60), proxies (a URL), ui_url (where
people reach the web app).
"""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import urlsplit

from airflow.sdk import BaseHook, Connection

from lakehouse_providers.airbyte import errors
from lakehouse_providers.airbyte.client import AirbyteClient, Endpoint
from lakehouse_providers.transport import RetryPolicy


def _timeout(value: object) -> float:
    try:
        seconds = float(str(value)) if value not in (None, "") else 60.0
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise errors.AirbyteConfigurationError(f"Extra timeout must be a positive number of seconds, found {value!r}")
    return seconds


def _proxy(value: object, scheme: str) -> str | None:
    if isinstance(value, dict):
        return str(value[scheme]) if value.get(scheme) else None
    return str(value) if value else None


def endpoint(connection: Connection, retry: RetryPolicy | None = None) -> Endpoint:
    """Raises AirbyteConfigurationError naming the field that is wrong."""
    host = (connection.host or "").strip()
    parts = urlsplit(host)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise errors.AirbyteConfigurationError(
            f"Server URL (host) {host!r} must be the whole base URL, such as https://airbyte.example.com/api/public/v1"
        )
    if bool(connection.login) != bool(connection.password):
        missing = "Client Secret (password)" if connection.login else "Client ID (login)"
        raise errors.AirbyteConfigurationError(f"{missing} is empty; set both, or neither for a server without login")
    extra = connection.extra_dejson
    return Endpoint(
        host,
        client_id=connection.login or "",
        client_secret=connection.password or "",
        token_path=connection.schema or "",
        timeout=_timeout(extra.get("timeout")),
        retry=retry,
        ui_url=str(extra.get("ui_url") or ""),
        proxy=_proxy(extra.get("proxies"), parts.scheme),
    )


class AirbyteSyncHook(BaseHook):
    """Plain JSON over httpx, with time limits, retries and a connection test that logs in."""

    conn_name_attr: ClassVar[str] = "airbyte_conn_id"
    default_conn_name: ClassVar[str] = "airbyte_default"
    conn_type: ClassVar[str] = "airbyte"
    hook_name: ClassVar[str] = "Airbyte"

    def __init__(self, airbyte_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.airbyte_conn_id = airbyte_conn_id

    def endpoint(self) -> Endpoint:
        return endpoint(self.get_connection(self.airbyte_conn_id))

    async def aendpoint(self) -> Endpoint:
        """For triggers: looks the connection up without blocking the event loop."""
        return endpoint(await self.aget_connection(self.airbyte_conn_id))

    def client(self) -> AirbyteClient:
        """A client for several calls; use it as a context manager."""
        return AirbyteClient(self.endpoint())

    def get_conn(self) -> AirbyteClient:
        return self.client()

    def finished_jobs(self, connection_id: str, after: int = 0) -> list[dict[str, Any]]:
        """Ended sync jobs of a connection with an id above `after`, oldest first, as Airbyte's JSON."""
        with self.client() as client:
            return [dict(job.raw) for job in reversed(client.jobs(connection_id, after)) if job.final]

    def test_connection(self) -> tuple[bool, str]:
        """Logs in and lists workspaces (the health endpoint needs no login); the message names the field to correct."""
        connection = self.get_connection(self.airbyte_conn_id)
        try:
            place = endpoint(connection, RetryPolicy(attempts=1))
            with AirbyteClient(place) as client:
                workspaces = client.workspaces()
        except errors.AirbyteError as error:
            return False, _advice(error, connection)
        return True, f"Logged in at {place.base_url}; {len(workspaces)} workspaces are visible"


def _advice(error: errors.AirbyteError, connection: Connection) -> str:
    if isinstance(error, errors.AirbyteAuthenticationError):
        if not connection.login:
            return f"The server wants a login: set Client ID (login) and Client Secret (password). {error}"
        return f"Client ID (login) or Client Secret (password) is wrong. {error}"
    if isinstance(error, errors.AirbyteUnreachableError):
        return f"Nothing answers there: check Server URL (host), and that Airbyte runs. {error}"
    if isinstance(error, errors.AirbytePermissionError):
        return f"Client ID (login) is known but may not list workspaces. {error}"
    if isinstance(error, (errors.AirbyteNotFoundError, errors.AirbyteRequestError)):
        return f"Server URL (host) does not lead to Airbyte's public API; it ends in /api/public/v1. {error}"
    return str(error)
