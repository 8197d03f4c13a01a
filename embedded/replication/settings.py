"""Settings of the replication server, all from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

PREFIX = "LAKEHOUSE_REPLICATION_"


class SettingsError(Exception):
    """A setting is missing or malformed; the message names the variable."""


@dataclass(frozen=True)
class Settings:
    """What the server is told at start.

    database_url: PostgreSQL database that holds all state (role owns it).
    client_id, client_secret: the one pair that the token endpoint accepts; the secret also signs tokens.
    max_jobs: syncs that run at the same time; others wait as `pending`.
    token_seconds: lifetime of a token (Airbyte: 900).
    retry_seconds: first wait after a failed attempt, tripled for each further one (Airbyte: 10, 30, 90, 270).
    max_attempts: attempts of one job when each fails without progress (Airbyte: 5 in a row).
    job_seconds: a job that runs longer is stopped (Airbyte: 3 days).
    object_mb: size at which an object is closed and the next begun (Airbyte: 200).
    faults: JSON of faults to inject, see faults.py; None switches the machinery off.
    """

    database_url: str = field(repr=False)
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    host: str = "127.0.0.1"
    port: int = 0
    max_jobs: int = 2
    token_seconds: int = 900
    retry_seconds: float = 10.0
    max_attempts: int = 5
    job_seconds: float = 3 * 86400.0
    object_mb: float = 200.0
    faults: str | None = None


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the environment; raises SettingsError naming the variable at fault."""

    def required(name: str) -> str:
        value = environ.get(PREFIX + name, "")
        if not value:
            raise SettingsError(f"{PREFIX}{name} is not set")
        return value

    def number(name: str, default: float) -> float:
        text = environ.get(PREFIX + name, "")
        try:
            value = float(text) if text else default
        except ValueError:
            raise SettingsError(f"{PREFIX}{name}={text!r} is not a number") from None
        if value < 0:
            raise SettingsError(f"{PREFIX}{name}={text!r} must not be negative")
        return value

    secret = required("CLIENT_SECRET")
    if len(secret) < 8:
        raise SettingsError(f"{PREFIX}CLIENT_SECRET must have at least 8 characters: it signs the tokens")
    return Settings(
        database_url=required("DATABASE_URL"),
        client_id=required("CLIENT_ID"),
        client_secret=secret,
        host=environ.get(PREFIX + "HOST", "127.0.0.1"),
        port=int(number("PORT", 8001)),
        max_jobs=max(1, int(number("MAX_JOBS", 2))),
        token_seconds=int(number("TOKEN_SECONDS", 900)),
        retry_seconds=number("RETRY_SECONDS", 10.0),
        max_attempts=max(1, int(number("MAX_ATTEMPTS", 5))),
        job_seconds=number("JOB_SECONDS", 3 * 86400.0),
        object_mb=number("OBJECT_MB", 200.0),
        faults=environ.get(PREFIX + "FAULTS") or None,
    )
