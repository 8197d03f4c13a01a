"""The Airflow connection type `dremio`.

Fields: host (name, or a whole URL), port (default 9047), login and password. Extra: use_ssl (default true, as in
dbt-dremio), verify_ssl (true, false, or the path of a CA bundle), pat (a personal access token, used instead of
login and password), timeout (seconds for one reply, default 60), ui_url (where people reach Dremio's pages).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar
from urllib.parse import urlsplit

from airflow.sdk import BaseHook, Connection

from lakehouse_providers.dremio import errors
from lakehouse_providers.dremio.client import DremioClient, Endpoint
from lakehouse_providers.dremio.models import Row
from lakehouse_providers.transport import RetryPolicy

DEFAULT_PORT = 9047


def _flag(value: object, default: bool, name: str) -> bool:
    if value is None or value == "":
        return default
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise errors.DremioConfigurationError(f"Extra {name} must be true or false, found {value!r}")


def verify(value: object) -> bool | str:
    if isinstance(value, str) and value.strip().lower() not in ("", "true", "false"):
        return value.strip()
    return _flag(value, True, "verify_ssl")


def _timeout(value: object) -> float:
    try:
        seconds = float(str(value)) if value not in (None, "") else 60.0
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise errors.DremioConfigurationError(f"Extra timeout must be a positive number of seconds, found {value!r}")
    return seconds


def base_url(connection: Connection) -> str:
    """The address of a connection. Raises DremioConfigurationError naming the field that is wrong."""
    host = (connection.host or "").strip()
    if not host:
        raise errors.DremioConfigurationError("Host is empty; name the machine that Dremio's REST listens on")
    parts = urlsplit(host if "://" in host else f"//{host}")
    if parts.scheme not in ("", "http", "https") or not parts.hostname:
        raise errors.DremioConfigurationError(f"Host {host!r} is neither a host name nor an http(s) URL")
    secure = parts.scheme == "https" if parts.scheme else _flag(connection.extra_dejson.get("use_ssl"), True, "use_ssl")
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = connection.port or parts.port or DEFAULT_PORT
    return f"{'https' if secure else 'http'}://{name}:{port}{parts.path.rstrip('/')}"


def endpoint(connection: Connection, retry: RetryPolicy | None = None) -> Endpoint:
    extra = connection.extra_dejson
    token = str(extra.get("pat") or "")
    if not token and not (connection.login and connection.password):
        missing = "Login" if not connection.login else "Password"
        raise errors.DremioConfigurationError(f"{missing} is empty; set Login and Password, or pat in Extra")
    return Endpoint(
        base_url(connection),
        user=connection.login or "",
        password=connection.password or "",
        token=token,
        verify=verify(extra.get("verify_ssl")),
        timeout=_timeout(extra.get("timeout")),
        retry=retry,
        ui_url=str(extra.get("ui_url") or ""),
    )


class DremioHook(BaseHook):
    """Clients for a `dremio` connection, and SQL in one call."""

    conn_name_attr: ClassVar[str] = "dremio_conn_id"
    default_conn_name: ClassVar[str] = "dremio"
    conn_type: ClassVar[str] = "dremio"
    hook_name: ClassVar[str] = "Dremio"

    def __init__(self, dremio_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.dremio_conn_id = dremio_conn_id

    def endpoint(self) -> Endpoint:
        return endpoint(self.get_connection(self.dremio_conn_id))

    async def aendpoint(self) -> Endpoint:
        """For triggers: looks the connection up without blocking the event loop."""
        return endpoint(await self.aget_connection(self.dremio_conn_id))

    def client(self) -> DremioClient:
        """A client for several calls; use it as a context manager."""
        return DremioClient(self.endpoint())

    def get_conn(self) -> DremioClient:
        return self.client()

    def run_sql(
        self,
        sql: str,
        *,
        context: Sequence[str] | None = None,
        timeout: float | None = None,
        limit: int | None = None,
        idempotent: bool = False,
    ) -> list[Row]:
        """Runs one statement and returns its rows; a kill, a task timeout or `timeout` seconds cancel the job.

        Raises DremioJobFailedError, DremioJobCanceledError, DremioJobTimeoutError, or what the client raises.
        """
        with self.client() as client:
            return client.query(sql, context, timeout=timeout, limit=limit, idempotent=idempotent)

    def job_url(self, job_id: str) -> str:
        return self.endpoint().job_url(job_id)

    def test_connection(self) -> tuple[bool, str]:
        """Logs in and reads the catalog; the message names the field to correct."""
        try:
            connection = self.get_connection(self.dremio_conn_id)
            place = endpoint(connection, RetryPolicy(attempts=1))
            with DremioClient(place) as client:
                items = client.catalog()
        except errors.DremioError as error:
            return False, _advice(error, connection)
        return True, f"Logged in at {place.base_url}; {len(items)} sources and spaces are visible"


def _advice(error: errors.DremioError, connection: Connection) -> str:
    if isinstance(error, errors.DremioAuthenticationError):
        if connection.extra_dejson.get("pat"):
            return f"pat in Extra is refused: it is wrong, expired or revoked. {error}"
        return f"Login or Password is wrong. {error}"
    if isinstance(error, errors.DremioUnreachableError):
        text = str(error).lower()
        if "name or service" in text or "getaddrinfo" in text or "nodename" in text or "resolution" in text:
            return f"Host {connection.host!r} cannot be resolved. {error}"
        if "ssl" in text or "certificate" in text:
            return f"use_ssl or verify_ssl in Extra does not fit the server. {error}"
        if "disconnected" in text:
            return f"Port, or use_ssl in Extra, does not fit the server. {error}"
        return f"Nothing answers there: check Host and Port, and that Dremio runs. {error}"
    if isinstance(error, errors.DremioPermissionError):
        return f"Login is known but may not read the catalog. {error}"
    if isinstance(error, (errors.DremioNotFoundError, errors.DremioRequestError)):
        return f"Host and Port lead to a server that is not Dremio's REST. {error}"
    return str(error)
