"""What `include/backup.yaml` declares, with the connections it names, inside Airflow and outside of it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml
from psycopg.conninfo import make_conninfo

from include.backup.errors import ConfigurationError
from include.backup.sealed import Key
from include.backup.store import Store
from include.paths import INCLUDE, PROJECT

FILE = INCLUDE / "backup.yaml"


@dataclass(frozen=True)
class Login:
    """The fields of an Airflow connection that are used here."""

    conn_id: str
    host: str = ""
    port: int | None = None
    login: str = ""
    password: str = field(default="", repr=False)
    schema: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Instance:
    """One PostgreSQL server that is backed up; the role's own rights suffice for all databases."""

    name: str
    login: Login

    def dsn(self, database: str = "postgres") -> str:
        """Contains the password: not for logs, nor for a command line."""
        return make_conninfo(self.address(database), password=self.login.password)

    def address(self, database: str = "postgres") -> str:
        """Without the password, as programs take it on their command line; with `environment` beside it."""
        return make_conninfo(
            host=self.login.host,
            port=self.login.port or 5432,
            user=self.login.login,
            dbname=database,
            connect_timeout=10,
            application_name="lakehouse_backup",
        )

    def environment(self) -> dict[str, str]:
        return {"PGPASSWORD": self.login.password, "PATH": "/usr/bin:/bin", "LC_ALL": "C"}


@dataclass(frozen=True)
class Canary:
    instance: str
    database: str
    connection: str


@dataclass(frozen=True)
class Backup:
    """Everything a backup needs, resolved. `optional`: connections by part, None where they do not exist.

    `admins`: superusers of the servers, for restoring databases beside live ones.
    """

    store: Store
    key: Key
    instances: Mapping[str, Instance]
    optional: Mapping[str, Login | None]
    canary: Canary | None
    full_every_days: int
    fernet_key: str = field(default="", repr=False)
    admins: Mapping[str, Login | None] = field(default_factory=dict)

    def instance(self, name: str) -> Instance:
        """Raises ConfigurationError for a name that is not declared."""
        try:
            return self.instances[name]
        except KeyError:
            known = ", ".join(self.instances)
            raise ConfigurationError(f"{FILE.name} declares no PostgreSQL server {name!r}; it has {known}") from None


def connection(conn_id: str) -> Login | None:
    """From AIRFLOW_CONN_<ID>, else from Airflow when this runs inside it; None when there is no such connection."""
    text = os.environ.get(f"AIRFLOW_CONN_{conn_id.upper()}")
    if text:
        return _from_json(conn_id, text) if text.lstrip().startswith("{") else _from_uri(conn_id, text)
    if "airflow.sdk" not in sys.modules:  # outside of Airflow, which is not loaded for this alone
        return None
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        found = Connection.get(conn_id)
    except (AirflowNotFoundException, ImportError, RuntimeError):
        return None
    return Login(
        conn_id,
        found.host or "",
        found.port,
        found.login or "",
        found.password or "",
        found.schema or "",
        found.extra_dejson,
    )


def _from_json(conn_id: str, text: str) -> Login:
    try:
        item = json.loads(text)
        extra = item.get("extra") or {}
        return Login(
            conn_id,
            str(item.get("host") or ""),
            int(item["port"]) if item.get("port") else None,
            str(item.get("login") or ""),
            str(item.get("password") or ""),
            str(item.get("schema") or ""),
            json.loads(extra) if isinstance(extra, str) else extra,
        )
    except (ValueError, TypeError, AttributeError):
        raise ConfigurationError(f"AIRFLOW_CONN_{conn_id.upper()} is neither a connection's JSON nor its URI") from None


def _from_uri(conn_id: str, text: str) -> Login:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ConfigurationError(f"AIRFLOW_CONN_{conn_id.upper()} is neither a connection's JSON nor its URI") from None
    host, login, password = (unquote(value or "") for value in (parts.hostname, parts.username, parts.password))
    return Login(conn_id, host, port, login, password, parts.path.strip("/"), dict(parse_qsl(parts.query)))


def required(conn_id: str) -> Login:
    """Raises ConfigurationError when there is no such connection."""
    found = connection(conn_id)
    if found is None:
        raise ConfigurationError(
            f"there is no connection {conn_id!r}, which {FILE.name} names: add it to Airflow, or set "
            f"AIRFLOW_CONN_{conn_id.upper()}"
        )
    return found


def load() -> Backup:
    """From include/backup.yaml, or the file that LAKEHOUSE_BACKUP_FILE names.

    Raises ConfigurationError, naming file and field, for what is missing or wrong.
    """
    file = Path(os.environ.get("LAKEHOUSE_BACKUP_FILE") or FILE)
    try:
        item = yaml.safe_load(file.read_text(encoding="utf-8"))
        canary = item.get("canary")
        return Backup(
            store=store(item["store"]),
            key=_key(item["key"]),
            instances={
                str(name): Instance(str(name), required(one["connection"])) for name, one in item["postgres"].items()
            },
            optional={
                part: connection(item[part]["connection"]) for part in ("dremio", "elasticsearch") if part in item
            },
            canary=Canary(**canary) if canary else None,
            full_every_days=int(item.get("full_every_days", 7)),
            admins={str(name): connection(one["admin"]) for name, one in item["postgres"].items() if "admin" in one},
            fernet_key=os.environ.get("LAKEHOUSE_BACKUP_FERNET_KEY") or os.environ.get("AIRFLOW__CORE__FERNET_KEY", ""),
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{file}: {type(error).__name__}: {error}") from error


def store(item: Mapping[str, Any]) -> Store:
    """The store that `connection` and `bucket` name."""
    login = required(item["connection"])
    return Store(
        endpoint=str(login.extra.get("endpoint_url") or ""),
        bucket=str(login.extra.get("bucket") or item["bucket"]),
        access_key=login.login,
        secret_key=login.password,
        region=str(login.extra.get("region_name") or "us-east-1"),
        prefix=str(item.get("prefix") or ""),
    )


def _key(item: Mapping[str, Any]) -> Key:
    if "file" in item:
        path = Path(item["file"]).expanduser()
        return Key.read(path if path.is_absolute() else PROJECT / path)
    return Key.parse(required(item["connection"]).password, f"the password of connection {item['connection']!r}")
