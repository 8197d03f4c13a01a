"""What the server needs to know, read once from the environment. Secrets never appear in a repr."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from embedded.sql.datasets import S3Access

Edition = Literal["community", "enterprise"]

_NEEDED = (
    "DATABASE_URL",
    "ADMIN_USER",
    "ADMIN_PASSWORD",
    "DIST",
    "DIST_ENDPOINT",
    "DIST_ACCESS_KEY",
    "DIST_SECRET_KEY",
    "SCRATCH",
    "SECRET_KEY",
)


class SettingsError(ValueError):
    """A variable is missing or wrong; the message names it."""


@dataclass(frozen=True)
class Settings:
    """One server. Durations are seconds, sizes are bytes unless the name says otherwise."""

    port: int
    database_url: str = field(repr=False)
    admin_user: str
    admin_password: str = field(repr=False)
    dist_bucket: str
    dist_prefix: str
    dist_access: S3Access
    scratch: Path
    secret_keys: tuple[str, ...] = field(repr=False)  # the first encrypts the sources' secrets, all decrypt them
    memory_limit: str = "1500MB"
    edition: Edition = "enterprise"
    faults: Mapping[str, Any] | None = None  # None: the fault endpoint does not exist
    host: str = "127.0.0.1"
    cloud_project: str | None = None  # also answer Cloud's paths, /v0/projects/{this}/...
    workers: int = 4
    queue_limit: int = 2000
    query_timeout: float = 3600.0
    job_retention: float = 7 * 86400.0
    result_retention: float = 86400.0
    result_bytes: int = 4_000_000_000
    threads: int | None = None
    flight_port: int | None = 32010  # None: no Flight
    flight_certificate: Path | None = None  # PEM files; both or none
    flight_key: Path | None = field(default=None, repr=False)
    unclaimed_timeout: float = 60.0  # how long the rows of a query wait for DoGet
    reader_timeout: float = 900.0  # how long a client may read nothing

    @property
    def dist_root(self) -> str:
        """`s3://bucket[/prefix]`, without a closing slash."""
        return f"s3://{self.dist_bucket}/{self.dist_prefix}".rstrip("/")


def from_environment(environment: Mapping[str, str] | None = None) -> Settings:
    """Read `LAKEHOUSE_SQL_*`. Raises SettingsError that lists every missing variable at once."""
    env = os.environ if environment is None else environment
    missing = [f"LAKEHOUSE_SQL_{name}" for name in _NEEDED if not env.get(f"LAKEHOUSE_SQL_{name}")]
    if missing:
        raise SettingsError(f"Set these environment variables: {', '.join(missing)}")

    def get(name: str, default: str = "") -> str:
        return env.get(f"LAKEHOUSE_SQL_{name}") or default

    bucket, prefix = _dist(get("DIST"))
    edition = get("EDITION", "enterprise")
    if edition not in ("community", "enterprise"):
        raise SettingsError(f"LAKEHOUSE_SQL_EDITION must be community or enterprise, not {edition!r}")
    flight_port = get("FLIGHT_PORT", "32010")
    certificate, key = _files(get("FLIGHT_CERTIFICATE"), get("FLIGHT_KEY"))
    return Settings(
        port=_number("PORT", get("PORT", "9047"), int),
        host=get("HOST", "127.0.0.1"),
        database_url=get("DATABASE_URL"),
        admin_user=get("ADMIN_USER"),
        admin_password=get("ADMIN_PASSWORD"),
        dist_bucket=bucket,
        dist_prefix=prefix,
        dist_access=_access(get("DIST_ENDPOINT"), get("DIST_ACCESS_KEY"), get("DIST_SECRET_KEY")),
        scratch=Path(get("SCRATCH")),
        secret_keys=tuple(key.strip() for key in get("SECRET_KEY").split(",") if key.strip()),
        cloud_project=_project(get("CLOUD_PROJECT")),
        memory_limit=get("MEMORY_LIMIT", "1500MB"),
        edition="community" if edition == "community" else "enterprise",
        faults=_faults(get("FAULTS")),
        workers=_number("WORKERS", get("WORKERS", "4"), int),
        query_timeout=_number("QUERY_TIMEOUT", get("QUERY_TIMEOUT", "3600"), float),
        job_retention=_number("JOB_RETENTION", get("JOB_RETENTION", str(7 * 86400)), float),
        result_retention=_number("RESULT_RETENTION", get("RESULT_RETENTION", "86400"), float),
        result_bytes=_number("RESULT_BYTES", get("RESULT_BYTES", "4000000000"), int),
        threads=_number("THREADS", get("THREADS"), int) if get("THREADS") else None,
        flight_port=None if flight_port == "off" else _number("FLIGHT_PORT", flight_port, int),
        flight_certificate=certificate,
        flight_key=key,
        unclaimed_timeout=_number("UNCLAIMED_TIMEOUT", get("UNCLAIMED_TIMEOUT", "60"), float),
        reader_timeout=_number("READER_TIMEOUT", get("READER_TIMEOUT", "900"), float),
    )


def _files(certificate: str, key: str) -> tuple[Path | None, Path | None]:
    """The TLS files; raises SettingsError unless both or none are given and can be read."""
    if not certificate and not key:
        return None, None
    for name, text in (("FLIGHT_CERTIFICATE", certificate), ("FLIGHT_KEY", key)):
        if not text or not Path(text).is_file():
            raise SettingsError(f"LAKEHOUSE_SQL_{name} must name a PEM file that exists, not {text!r}")
    return Path(certificate), Path(key)


def _dist(uri: str) -> tuple[str, str]:
    parts = urlsplit(uri)
    if parts.scheme != "s3" or not parts.netloc:
        raise SettingsError(f"LAKEHOUSE_SQL_DIST must look like s3://bucket[/prefix], not {uri!r}")
    return parts.netloc, parts.path.strip("/")


def _project(text: str) -> str | None:
    if not text:
        return None
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise SettingsError(f"LAKEHOUSE_SQL_CLOUD_PROJECT must be a UUID, not {text!r}") from None


def _access(endpoint: str, access_key: str, secret_key: str) -> S3Access:
    secure = endpoint.startswith("https://")
    host = endpoint.removeprefix("https://").removeprefix("http://").rstrip("/")
    return S3Access(endpoint=host, access_key=access_key, secret_key=secret_key, secure=secure)


def _number(name: str, text: str, kind: type[Any]) -> Any:
    try:
        value = kind(text)
    except ValueError:
        raise SettingsError(f"LAKEHOUSE_SQL_{name} must be a number, not {text!r}") from None
    if value <= 0:
        raise SettingsError(f"LAKEHOUSE_SQL_{name} must be above 0, not {text!r}")
    return value


def _faults(text: str) -> Mapping[str, Any] | None:
    if not text:
        return None
    try:
        faults = json.loads(text)
    except ValueError as error:
        raise SettingsError(f"LAKEHOUSE_SQL_FAULTS is not JSON: {error}") from None
    if not isinstance(faults, dict):
        raise SettingsError("LAKEHOUSE_SQL_FAULTS must be a JSON object")
    return faults
