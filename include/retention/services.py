"""What retention works on: from `LAKEHOUSE_*` variables for the command line, from Airflow's connections in a DAG."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psycopg

from include.ledger import Connection
from include.objects import read_quickly

Sql = Callable[[str], Sequence[Mapping[str, Any]]]
Connect = Callable[[], Connection]


class ServicesError(Exception):
    """A service is not configured; the message names the variable."""


class BackupStore(Protocol):
    """include.backup.store.Store, as far as it is needed here."""

    @property
    def client(self) -> Any: ...
    @property
    def bucket(self) -> str: ...
    @property
    def prefix(self) -> str: ...


@dataclass(frozen=True)
class Services:
    """A service that is not there is None; rules that need it are skipped and say so.

    s3: boto3 client of the lake. offsite: of the off-site store. sql: runs one statement in Dremio. airflow: opens
    Airflow's metadata database. clean_airflow: runs `airflow db clean` up to a time. airflow_logs: the folder of its
    task logs. elasticsearch: an httpx client whose base URL is the cluster. backups: where backup sets lie.
    """

    ledger: Connect
    bucket: str = "lakehouse"
    s3: Any = None
    offsite: Any = None
    sql: Sql | None = None
    airflow: Connect | None = None
    clean_airflow: Callable[[str], None] | None = None
    airflow_logs: Path | None = None
    elasticsearch: Any = None
    backups: BackupStore | None = None

    def missing(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if getattr(self, name) is None]


def connector(dsn: str) -> Connect:
    """Opens sessions whose rows are dictionaries."""
    return lambda: psycopg.connect(dsn, row_factory=psycopg.rows.dict_row, connect_timeout=10)


def s3_client(endpoint: str, access_key: str, secret_key: str, region: str = "us-east-1") -> Any:
    """A client that gives up within minutes."""
    import boto3
    from botocore.config import Config

    return read_quickly(
        boto3.client(
            "s3",
            endpoint_url=endpoint or None,
            aws_access_key_id=access_key or None,
            aws_secret_access_key=secret_key or None,
            region_name=region,
            config=Config(
                retries={"total_max_attempts": 6, "mode": "standard"},
                connect_timeout=10,
                read_timeout=60,
                max_pool_connections=16,
                # Bodies carry checksums of our own where they matter: one more hash for the signature proves nothing.
                s3={"addressing_style": "path", "payload_signing_enabled": False},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
    )


def _dremio(environment: Mapping[str, str]) -> Sql | None:
    url = environment.get("LAKEHOUSE_DREMIO_URL", "")
    if not url:
        return None
    from lakehouse_providers.dremio.client import DremioClient
    from lakehouse_providers.dremio.endpoint import Endpoint

    client = DremioClient(
        Endpoint(
            url, user=environment.get("LAKEHOUSE_DREMIO_USER", ""), password=environment["LAKEHOUSE_DREMIO_PASSWORD"]
        )
    )
    return lambda statement: client.query(statement, timeout=3600)


def backup_store() -> BackupStore | None:
    """Where include/backup.yaml says that backups lie; None where its connection does not exist."""
    import yaml

    from include.backup import settings

    declared = yaml.safe_load(settings.FILE.read_text(encoding="utf-8"))["store"]
    return settings.store(declared) if settings.connection(declared["connection"]) else None


def from_environment(environment: Mapping[str, str] = os.environ) -> Services:
    """What `python -m embedded env` prints, or the same names for a cluster. Raises ServicesError."""
    dsn = environment.get("LAKEHOUSE_LEDGER_DATABASE_URL", "")
    if not dsn:
        raise ServicesError(
            "LAKEHOUSE_LEDGER_DATABASE_URL is not set: give the ledger's postgresql:// URL, or on the embedded "
            'platform run `eval "$(make -s env)"` first'
        )

    def store(name: str) -> Any:
        endpoint = environment.get(f"LAKEHOUSE_{name}_ENDPOINT_URL", "")
        if not endpoint:
            return None
        return s3_client(
            endpoint, environment[f"LAKEHOUSE_{name}_ACCESS_KEY"], environment[f"LAKEHOUSE_{name}_SECRET_KEY"]
        )

    airflow = environment.get("LAKEHOUSE_AIRFLOW_DATABASE_URL", "")
    return Services(
        ledger=connector(dsn),
        s3=store("S3"),
        offsite=store("OFFSITE"),
        sql=_dremio(environment),
        airflow=connector(airflow) if airflow else None,
        backups=backup_store(),
    )
