"""Settings of the replication server, all from the environment."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

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
    max_attempts: attempts in a row that fail without progress before the job fails (Airbyte: 5); twice as many in all,
        and four times as many that made progress.
    job_seconds: an attempt that runs longer is stopped (Airbyte: 3 days).
    heartbeat_seconds: a source that says nothing for longer is given up, and the attempt retried (Airbyte: 3 hours).
    checkpoint_seconds: how often what was read so far is put aside for the job's next attempt, where the source allows.
    discover_seconds: how long a connector's catalog is good for (Airbyte: a day).
    pending_seconds: a job that could not begin for so long is cancelled (Airbyte: 8 hours).
    disable_after: failed jobs in a row after which a connection is made inactive (Airbyte: 30); 0 never does that.
    scratch: folder for files that live as long as a process; private to this user.
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
    heartbeat_seconds: float = 3 * 3600.0
    checkpoint_seconds: float = 300.0
    discover_seconds: float = 86400.0
    pending_seconds: float = 8 * 3600.0
    disable_after: int = 30
    scratch: Path = field(default_factory=lambda: default_scratch())
    object_mb: float = 200.0
    faults: str | None = None


def default_scratch() -> Path:
    return Path(tempfile.gettempdir()) / f"lakehouse-replication-{os.geteuid()}"


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
        heartbeat_seconds=number("HEARTBEAT_SECONDS", 3 * 3600.0),
        checkpoint_seconds=number("CHECKPOINT_SECONDS", 300.0),
        discover_seconds=number("DISCOVER_SECONDS", 86400.0),
        pending_seconds=number("PENDING_SECONDS", 8 * 3600.0),
        disable_after=int(number("DISABLE_AFTER", 30)),
        scratch=Path(environ.get(PREFIX + "SCRATCH") or default_scratch()),
        object_mb=number("OBJECT_MB", 200.0),
        faults=environ.get(PREFIX + "FAULTS") or None,
    )
