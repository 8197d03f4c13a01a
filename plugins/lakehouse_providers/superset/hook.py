"""The Airflow connection type `superset`.

Fields: host (the whole base URL), login, password. Extra: provider (db or ldap), timeout (seconds for one reply,
default 60), verify_ssl (true, false or the path of a CA bundle).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

from airflow.sdk import BaseHook, Connection

from lakehouse_providers.superset import errors
from lakehouse_providers.superset.client import Endpoint, SupersetClient
from lakehouse_providers.transport import RetryPolicy


def endpoint(connection: Connection, retry: RetryPolicy | None = None) -> Endpoint:
    """Raises SupersetConfigurationError naming the field that is wrong."""
    host = (connection.host or "").strip()
    parts = urlsplit(host)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise errors.SupersetConfigurationError(
            f"URL (host) {host!r} must be the whole base URL, such as https://superset.example.com"
        )
    for name, value in (("Login", connection.login), ("Password", connection.password)):
        if not value:
            raise errors.SupersetConfigurationError(f"{name} is empty; set Login and Password")
    extra = connection.extra_dejson
    return Endpoint(
        host if not connection.port or parts.port else f"{host.rstrip('/')}:{connection.port}",
        user=connection.login or "",
        password=connection.password or "",
        provider=str(extra.get("provider") or "db"),
        timeout=_timeout(extra),
        verify=_verify(extra.get("verify_ssl")),
        retry=retry or RetryPolicy(),
    )


def _timeout(extra: Mapping[str, Any]) -> float:
    value = extra.get("timeout")
    try:
        seconds = float(str(value)) if value not in (None, "") else 60.0
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise errors.SupersetConfigurationError(f"Extra timeout must be a positive number of seconds, found {value!r}")
    return seconds


def _verify(value: object) -> bool | str:
    if value in (None, ""):
        return True
    if isinstance(value, bool):
        return value
    text = str(value).strip()
    return {"true": True, "false": False}.get(text.lower(), text)


class SupersetHook(BaseHook):
    """Gives clients for one connection."""

    conn_name_attr: ClassVar[str] = "superset_conn_id"
    default_conn_name: ClassVar[str] = "superset"
    conn_type: ClassVar[str] = "superset"
    hook_name: ClassVar[str] = "Superset"

    def __init__(self, superset_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.superset_conn_id = superset_conn_id

    def client(self) -> SupersetClient:
        """A client for several calls; use it as a context manager."""
        return SupersetClient(endpoint(self.get_connection(self.superset_conn_id)))

    def get_conn(self) -> SupersetClient:
        return self.client()

    def test_connection(self) -> tuple[bool, str]:
        """Signs in and counts the dashboards; the message names the field to correct."""
        try:
            place = endpoint(self.get_connection(self.superset_conn_id), RetryPolicy(attempts=1))
            with SupersetClient(place) as client:
                dashboards = list(client.items("dashboard", ["id"]))
        except errors.SupersetAuthenticationError as error:
            return False, f"Login or Password is wrong. {error}"
        except errors.SupersetUnreachableError as error:
            return False, f"Nothing answers there: check URL (host), and that Superset runs. {error}"
        except errors.SupersetNotFoundError as error:
            return False, f"URL (host) does not lead to Superset; give it without /api/v1. {error}"
        except errors.SupersetError as error:
            return False, str(error)
        return True, f"Signed in at {place.base_url}; {len(dashboards)} dashboards are visible"
