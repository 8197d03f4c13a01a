"""Where a stack's services are and what opens them: for Airflow's connections, for tests, for tools of a user."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from embedded import airflow, alerts, superset
from embedded.credentials import Secrets
from embedded.home import Home
from embedded.object_store import PORT_NAMES, REGION, ObjectStore, object_store, offsite_store
from embedded.ports import HOST
from embedded.postgres import (
    ADMINISTRATOR,
    BACKUP,
    PLATFORM,
    SOURCE,
    SUPERUSER,
    PostgresServer,
    platform_server,
    source_server,
)

REPLICATION = "replication"
SQL = "sql"
FLIGHT = "sql-flight"  # the SQL server's second port
SQL_USER = "admin"


@dataclass(frozen=True)
class Endpoints:
    """Everything is derived from the data folder, the ports and the secrets; nothing is asked of a running server."""

    home: Home
    ports: Mapping[str, int]
    secrets: Secrets = field(repr=False)

    @property
    def source(self) -> PostgresServer:
        return source_server(self.home, self.secrets, self.ports[SOURCE])

    @property
    def platform(self) -> PostgresServer:
        return platform_server(self.home, self.secrets, self.ports[PLATFORM])

    @property
    def object_store(self) -> ObjectStore:
        return object_store(self.home, self.secrets, {name: self.ports[name] for name in PORT_NAMES})

    @property
    def offsite_store(self) -> ObjectStore:
        return offsite_store(self.home, self.secrets, self.ports)

    @property
    def replication_url(self) -> str:
        return f"http://{HOST}:{self.ports[REPLICATION]}"

    @property
    def airbyte_url(self) -> str:
        """The public API's base, as the Airflow connection takes it."""
        return f"{self.replication_url}/api/public/v1"

    @property
    def sql_url(self) -> str:
        return f"http://{HOST}:{self.ports[SQL]}"

    @property
    def flight_url(self) -> str:
        """Arrow Flight SQL, as ADBC and JDBC take it; over TLS when the server was given a certificate."""
        return f"grpc{'+tls' if self.flight_tls else ''}://{HOST}:{self.ports[FLIGHT]}"

    @property
    def flight_tls(self) -> bool:
        return bool(os.environ.get("LAKEHOUSE_SQL_FLIGHT_CERTIFICATE"))

    @property
    def airflow_url(self) -> str:
        return f"http://{HOST}:{self.ports[airflow.API]}"

    @property
    def alerts_url(self) -> str:
        return f"http://{HOST}:{self.ports[alerts.NAME]}{alerts.PATH}"

    @property
    def superset_url(self) -> str:
        """Empty where Superset is not installed."""
        return f"http://{HOST}:{self.ports[superset.NAME]}" if superset.is_installed() else ""

    def connections(self) -> dict[str, dict[str, Any]]:
        """What this stack puts in place of the values of `airflow_settings.yaml`, by connection id."""
        secret, store, offsite = self.secrets, self.object_store, self.offsite_store
        s3 = {"login": store.access_key, "password": store.secret_key}
        administrator = {"host": HOST, "login": ADMINISTRATOR, "password": secret.postgres_administrator}
        return {
            "airbyte": {
                "host": self.airbyte_url,
                "login": secret.replication_client_id,
                "password": secret.replication_client_secret,
            },
            "dremio": {
                "host": HOST,
                "port": self.ports[SQL],
                "login": SQL_USER,
                "password": secret.sql_admin_password,
                "extra": {
                    "use_ssl": False,
                    "flight_port": self.ports[FLIGHT],
                    "use_encryption": self.flight_tls,
                    # A certificate for this machine's loopback address is one that its owner signed.
                    "disable_certificate_verification": self.flight_tls,
                },
            },
            "retail_source": {"host": HOST, "port": self.ports[SOURCE], "login": "airbyte", "password": secret.airbyte},
            "retail_owner": {"host": HOST, "port": self.ports[SOURCE], "login": "retail", "password": secret.retail},
            "lakehouse": {
                "host": HOST,
                "port": self.ports[PLATFORM],
                "login": "lakehouse",
                "password": secret.lakehouse,
            },
            "lakehouse_admin": {"port": self.ports[PLATFORM], **administrator},
            "retail_admin": {"port": self.ports[SOURCE], **administrator},
            "airflow": {
                "host": self.airflow_url,
                "login": airflow.USER,
                "password": secret.airflow_admin_password,
            },
            "logins": {"extra": self.logins()},
            "lake_s3": {**s3, "host": store.endpoint_url, "extra": {"endpoint_url": store.endpoint_url}},
            "lake_catalog": {**s3, "host": store.iceberg_uri, "extra": {"warehouse": store.warehouse}},
            "offsite_s3": {
                "host": offsite.endpoint_url,
                "login": offsite.access_key,
                "password": offsite.secret_key,
                "extra": {"endpoint_url": offsite.endpoint_url},
            },
            # Without a host the lanes say that there are no dashboards to refresh.
            "superset": {
                "host": self.superset_url,
                "login": superset.USER,
                "password": secret.superset_admin_password,
            },
            "airflow_metadata": {
                "host": HOST,
                "port": self.ports[PLATFORM],
                "login": "airflow",
                "password": secret.airflow,
            },
            **self.backup_connections(),
            "alerts": {"host": self.alerts_url, "login": alerts.USER, "password": secret.alerts_token},
        }

    def backup_connections(self) -> dict[str, dict[str, Any]]:
        """Those that `python -m include.backup` reads, inside Airflow and outside of it."""
        secret, store = self.secrets, self.offsite_store
        places: dict[str, dict[str, Any]] = {
            "backup_s3": {
                "host": store.endpoint_url,
                "login": store.access_key,
                "password": store.secret_key,
                "extra": {"endpoint_url": store.endpoint_url},
            },
            "backup_key": {"password": secret.backup_key},
        }
        passwords = {"source": secret.source_superuser, "platform": secret.platform_superuser}
        for name, server in (("source", self.source), ("platform", self.platform)):
            place = {"host": HOST, "port": server.port}
            places[f"backup_{name}"] = {**place, "login": BACKUP, "password": secret.backup}
            places[f"admin_{name}"] = {**place, "login": SUPERUSER, "password": passwords[name]}
        return places

    def backup_environment(self) -> dict[str, str]:
        """The same, and the ledger, as Airflow reads connections from a shell. Contains credentials."""
        places = {name: self.connections()[name] for name in (*self.backup_connections(), "lakehouse", "dremio")}
        places["lakehouse"] = {"schema": "lakehouse", **places["lakehouse"]}
        connections = {f"AIRFLOW_CONN_{name.upper()}": json.dumps(place) for name, place in places.items()}
        return {**connections, "LAKEHOUSE_BACKUP_FERNET_KEY": self.secrets.airflow_fernet_key}

    def logins(self) -> dict[str, str]:
        """Passwords of the policy's members, by name: include/platform/policy.yaml."""
        names = ("administrator", "engineer", "analyst", "viewer")
        return {name: getattr(self.secrets, f"login_{name}") for name in names}

    def environment(self) -> dict[str, str]:
        """For a shell: `eval "$(python -m embedded env)"`. Contains credentials."""
        secret, store, offsite = self.secrets, self.object_store, self.offsite_store
        return {
            "LAKEHOUSE_HOME": str(self.home.root),
            "LAKEHOUSE_AIRFLOW_URL": self.airflow_url,
            "LAKEHOUSE_AIRFLOW_USER": airflow.USER,
            "LAKEHOUSE_AIRFLOW_PASSWORD": secret.airflow_admin_password,
            "LAKEHOUSE_SOURCE_DATABASE_URL": self.source.dsn("retail"),
            "LAKEHOUSE_SOURCE_READER_URL": self.source.dsn("retail", "airbyte"),
            "LAKEHOUSE_LEDGER_DATABASE_URL": self.platform.dsn("lakehouse"),
            "LAKEHOUSE_AIRBYTE_URL": self.airbyte_url,
            "LAKEHOUSE_AIRBYTE_CLIENT_ID": secret.replication_client_id,
            "LAKEHOUSE_AIRBYTE_CLIENT_SECRET": secret.replication_client_secret,
            "LAKEHOUSE_DREMIO_URL": self.sql_url,
            "LAKEHOUSE_DREMIO_HOST": HOST,
            "LAKEHOUSE_DREMIO_PORT": str(self.ports[SQL]),
            "LAKEHOUSE_DREMIO_FLIGHT_URL": self.flight_url,
            "LAKEHOUSE_DREMIO_FLIGHT_PORT": str(self.ports[FLIGHT]),
            "LAKEHOUSE_DREMIO_USER": SQL_USER,
            "LAKEHOUSE_DREMIO_PASSWORD": secret.sql_admin_password,
            "LAKEHOUSE_S3_ENDPOINT_URL": store.endpoint_url,
            "LAKEHOUSE_S3_ACCESS_KEY": store.access_key,
            "LAKEHOUSE_S3_SECRET_KEY": store.secret_key,
            "LAKEHOUSE_S3_REGION": REGION,
            "LAKEHOUSE_OFFSITE_ENDPOINT_URL": offsite.endpoint_url,
            "LAKEHOUSE_OFFSITE_ACCESS_KEY": offsite.access_key,
            "LAKEHOUSE_OFFSITE_SECRET_KEY": offsite.secret_key,
            "LAKEHOUSE_AIRFLOW_DATABASE_URL": self.platform.dsn("airflow"),
            "LAKEHOUSE_ICEBERG_URI": store.iceberg_uri,
            "LAKEHOUSE_SUPERSET_URL": self.superset_url,
            "LAKEHOUSE_SUPERSET_USER": superset.USER,
            "LAKEHOUSE_SUPERSET_PASSWORD": secret.superset_admin_password,
            "LAKEHOUSE_ALERTS_URL": self.alerts_url,
            "LAKEHOUSE_ALERTS_USER": alerts.USER,
            "LAKEHOUSE_ALERTS_PASSWORD": secret.alerts_token,
            "LAKEHOUSE_ALERTS_FILE": str(self.home.logs / alerts.FILE),
            **self.backup_environment(),
        }
