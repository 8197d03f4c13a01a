"""The platform's generated secrets: made once, kept in `secrets.json` (0600), never printed."""

from __future__ import annotations

import base64
import json
import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from embedded.durable import write_json


class SecretsError(Exception):
    """`secrets.json` cannot be read; the message says what to do."""


def _password() -> str:
    # Letters and digits alone: no tool's command line, URL or configuration file takes them for something else.
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(32))


def _key_id() -> str:
    return "LH" + secrets.token_hex(9).upper()


def _hex(size: int) -> Callable[[], str]:
    return lambda: secrets.token_hex(size)


def _fernet() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def _made_by(make: Callable[[], str]) -> Any:
    # repr=False: a secret must not reach a log by way of a traceback or a debug print.
    return field(repr=False, metadata={"make": make})


@dataclass(frozen=True)
class Secrets:
    """One field a secret. A field added later gets its value at the next start; the others stay as they are."""

    source_superuser: str = _made_by(_password)
    platform_superuser: str = _made_by(_password)
    retail: str = _made_by(_password)
    airbyte: str = _made_by(_password)
    lakehouse: str = _made_by(_password)
    replication: str = _made_by(_password)
    sqlserver: str = _made_by(_password)
    airflow: str = _made_by(_password)
    superset: str = _made_by(_password)
    backup: str = _made_by(_password)
    postgres_administrator: str = _made_by(_password)

    s3_access_key: str = _made_by(_key_id)
    s3_secret_key: str = _made_by(_hex(20))
    # Encrypts the keys of the encrypted objects: without it the buckets cannot be read.
    s3_key_encryption_key: str = _made_by(_hex(32))
    s3_volume_write_key: str = _made_by(_hex(32))
    s3_volume_read_key: str = _made_by(_hex(32))
    s3_filer_write_key: str = _made_by(_hex(32))
    s3_filer_read_key: str = _made_by(_hex(32))

    # The off-site store has keys of its own: whoever has those of the lake cannot touch its copies.
    offsite_access_key: str = _made_by(_key_id)
    offsite_secret_key: str = _made_by(_hex(20))
    offsite_key_encryption_key: str = _made_by(_hex(32))
    offsite_volume_write_key: str = _made_by(_hex(32))
    offsite_volume_read_key: str = _made_by(_hex(32))
    offsite_filer_write_key: str = _made_by(_hex(32))
    offsite_filer_read_key: str = _made_by(_hex(32))

    replication_client_id: str = _made_by(_hex(16))
    replication_client_secret: str = _made_by(_password)
    sql_admin_password: str = _made_by(_password)
    # Encrypts what the SQL server's sources log in with: without it every source must be given its secrets again.
    sql_secret_key: str = _made_by(_fernet)
    # Seals the backups: keep a copy elsewhere, without it no backup can be read.
    backup_key: str = _made_by(_fernet)
    alerts_token: str = _made_by(_hex(16))

    # Logins of include/platform/policy.yaml, one a role, the same in every service.
    login_administrator: str = _made_by(_password)
    login_engineer: str = _made_by(_password)
    login_analyst: str = _made_by(_password)
    login_viewer: str = _made_by(_password)

    airflow_admin_password: str = _made_by(_password)
    airflow_jwt_secret: str = _made_by(_hex(64))
    airflow_api_secret_key: str = _made_by(_hex(32))
    airflow_fernet_key: str = _made_by(_fernet)

    superset_admin_password: str = _made_by(_password)
    # Signs sessions and encrypts the passwords of the databases that Superset reads.
    superset_secret_key: str = _made_by(_hex(32))

    @classmethod
    def load_or_create(cls, path: Path) -> Secrets:
        """Reads the file, makes what is missing, writes it before anything uses it.

        Raises SecretsError for a file that is no JSON object of strings.
        """
        known = _read(path) if path.exists() else {}
        values = {item.name: known.get(item.name) or item.metadata["make"]() for item in fields(cls)}
        made = cls(**values)
        if values != known:
            write_json(path, known | values)
        path.chmod(0o600)
        return made

    def values(self) -> frozenset[str]:
        """All that must stay secret, to search logs for it: without the identifiers, which name an account."""
        named = {"s3_access_key", "offsite_access_key", "replication_client_id"}
        return frozenset(getattr(self, item.name) for item in fields(self) if item.name not in named)


def _read(path: Path) -> dict[str, str]:
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SecretsError(f"cannot read {path}: {error}; restore it, or start anew with `reset`") from error
    if not isinstance(loaded, dict) or not all(isinstance(value, str) for value in loaded.values()):
        raise SecretsError(f"{path} is not an object of strings; restore it, or start anew with `reset`")
    return loaded
