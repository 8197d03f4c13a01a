"""From the fields of an Airflow connection to an endpoint; every complaint names the field. No Airflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import SplitResult, urlsplit

import httpx

from lakehouse_providers.dremio import auth, errors
from lakehouse_providers.dremio.endpoint import CLOUD_HOST, Endpoint, FlightPlace
from lakehouse_providers.transport import RetryPolicy

REST_PORT = 9047
FLIGHT_PORT = 32010
WAYS = ("password", "pat", "client_credentials", "token_exchange")


class Fields(Protocol):
    """What is read of an Airflow connection."""

    host: str | None
    port: int | None
    login: str | None
    password: str | None

    @property
    def extra_dejson(self) -> dict[str, Any]: ...


def endpoint(fields: Fields, retry: RetryPolicy | None = None) -> Endpoint:
    """Raises DremioConfigurationError naming the field that is wrong."""
    extra = fields.extra_dejson
    project = text(extra, "project_id")
    base = base_url(fields)
    certificates = verify(extra.get("verify_ssl"))
    return Endpoint(
        base,
        user=fields.login or "",
        password=fields.password or "",
        credential=_credential(fields, base, project),
        verify=certificates,
        timeout=_seconds(extra, "timeout", 60.0),
        retry=retry,
        ui_url=text(extra, "ui_url"),
        project=project,
        engine=text(extra, "engine"),
        flight=_flight(fields, urlsplit(base), project, certificates),
    )


def text(extra: Mapping[str, Any], name: str) -> str:
    value = extra.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise errors.DremioConfigurationError(f"Extra {name} must be text, found {value!r}")
    return value.strip()


def flag(value: object, default: bool, name: str) -> bool:
    if value is None or value == "":
        return default
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise errors.DremioConfigurationError(f"Extra {name} must be true or false, found {value!r}")


def verify(value: object) -> bool | str:
    """What httpx takes as `verify`."""
    if isinstance(value, str) and value.strip().lower() not in ("", "true", "false"):
        return value.strip()
    return flag(value, True, "verify_ssl")


def _seconds(extra: Mapping[str, Any], name: str, default: float) -> float:
    value = extra.get(name)
    try:
        seconds = float(str(value)) if value not in (None, "") else default
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise errors.DremioConfigurationError(f"Extra {name} must be a positive number of seconds, found {value!r}")
    return seconds


def base_url(fields: Fields) -> str:
    """The address of REST: of Cloud where a project is given and no host, of Software otherwise."""
    extra = fields.extra_dejson
    cloud = bool(text(extra, "project_id"))
    host = (fields.host or "").strip() or (f"https://{CLOUD_HOST}" if cloud else "")
    if not host:
        raise errors.DremioConfigurationError("Host is empty; name the machine that Dremio's REST listens on")
    parts = _split(host)
    if parts.scheme not in ("", "http", "https") or not parts.hostname:
        raise errors.DremioConfigurationError(f"Host {host!r} is neither a host name nor an http(s) URL")
    secure = parts.scheme == "https" if parts.scheme else flag(extra.get("use_ssl"), True, "use_ssl")
    port = fields.port or parts.port or (443 if cloud and secure else REST_PORT)
    shown = "" if (port == 443 and secure) else f":{port}"
    return f"{'https' if secure else 'http'}://{_bracketed(parts.hostname)}{shown}{parts.path.rstrip('/')}"


def _split(host: str) -> SplitResult:
    try:
        parts = urlsplit(host if "://" in host else f"//{host}")
        _ = parts.port
    except ValueError as error:
        raise errors.DremioConfigurationError(f"Host {host!r} is no address: {error}") from None
    return parts


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def way(fields: Fields) -> str:
    """How the connection signs in: what Extra `auth` says, else what its other fields allow."""
    extra = fields.extra_dejson
    chosen = text(extra, "auth")
    if chosen and chosen not in WAYS:
        raise errors.DremioConfigurationError(f"Extra auth must be one of {', '.join(WAYS)}, found {chosen!r}")
    if chosen:
        return chosen
    return "pat" if text(extra, "pat") else "password"


def _credential(fields: Fields, base: str, project: str) -> httpx.Auth:
    extra, chosen = fields.extra_dejson, way(fields)
    if chosen == "pat":
        return auth.TokenAuth(_need(text(extra, "pat"), "pat in Extra is empty; give a personal access token"))
    if chosen == "token_exchange":
        return _exchange(extra, _token_url(extra, base, project))
    login = _need(fields.login, "Login is empty; set Login and Password, or pat in Extra")
    password = _need(fields.password, "Password is empty; set Login and Password, or pat in Extra")
    if chosen == "client_credentials":
        return auth.client_credentials(_token_url(extra, base, project), login, password)
    if project:
        raise errors.DremioConfigurationError("Dremio Cloud takes no password over REST; set pat in Extra")
    return auth.PasswordAuth(base, login, password)


def _exchange(extra: Mapping[str, Any], url: str) -> httpx.Auth:
    file, token, pat = (text(extra, name) for name in ("subject_token_file", "subject_token", "pat"))
    if file:
        return auth.token_exchange(url, auth.from_file(file), auth.JWT_TYPE)
    if token:
        return auth.token_exchange(url, lambda: token, auth.JWT_TYPE)
    wanted = "Extra auth is token_exchange; give pat, subject_token or subject_token_file in Extra"
    pat = _need(pat, wanted)
    return auth.token_exchange(url, lambda: pat, auth.PAT_TYPE)


def _need(value: str | None, complaint: str) -> str:
    if not value:
        raise errors.DremioConfigurationError(complaint)
    return value


def _token_url(extra: Mapping[str, Any], base: str, project: str) -> str:
    given = text(extra, "oauth_url")
    if given:
        return given
    return f"{base.replace('://api.', '://login.', 1) if project else base}/oauth/token"


def _flight(fields: Fields, rest: SplitResult, project: str, certificates: bool | str) -> FlightPlace | None:
    extra = fields.extra_dejson
    if str(extra.get("flight_port")) == "0":
        return None
    encrypted = flag(extra.get("use_encryption"), rest.scheme == "https", "use_encryption")
    unchecked = flag(
        extra.get("disable_certificate_verification"), certificates is False, "disable_certificate_verification"
    )
    host = rest.hostname or ""
    if project and host.startswith("api."):
        host = "data." + host.removeprefix("api.")
    return FlightPlace(
        host=text(extra, "flight_host") or host,
        port=_port(extra.get("flight_port"), 443 if project else FLIGHT_PORT),
        encrypted=encrypted,
        verify=False if unchecked else certificates,
        headers=_headers(extra, project),
    )


def _headers(extra: Mapping[str, Any], project: str) -> dict[str, str]:
    named = {
        "project_id": project,
        "routing_engine": text(extra, "engine"),
        "routing_tag": text(extra, "routing_tag"),
        "routing_queue": text(extra, "routing_queue"),
    }
    return {name: value for name, value in named.items() if value}


def _port(value: object, default: int) -> int:
    try:
        port = int(str(value)) if value not in (None, "") else default
    except ValueError:
        port = 0
    if not 0 < port < 65536:
        raise errors.DremioConfigurationError(f"Extra flight_port must be a port number, found {value!r}")
    return port
