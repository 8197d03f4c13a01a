"""The real Airflow, run from its own venv: api-server, scheduler, dag-processor, triggerer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import httpx

from embedded.credentials import Secrets
from embedded.home import PROJECT, Home
from embedded.metadata_database import MetadataDatabase
from embedded.ports import HOST
from embedded.probes import HTTP
from embedded.programs import Program

USER = "admin"
API = "airflow-api"
COMPONENTS = {
    API: ("api-server",),
    # Logs are read from the disk by the api-server beside them: no log servers, no ports for them.
    "airflow-scheduler": ("scheduler", "--skip-serve-logs"),
    "airflow-dag-processor": ("dag-processor",),
    "airflow-triggerer": ("triggerer", "--skip-serve-logs"),
}
# The name of each component in /monitor/health.
HEALTH = {
    "airflow-scheduler": "scheduler",
    "airflow-dag-processor": "dag_processor",
    "airflow-triggerer": "triggerer",
}
# These fork a process for each task or file; what they have imported, the forks share.
FORKING = ("airflow-scheduler", "airflow-dag-processor")
COMPONENT = Path(__file__).with_name("airflow_component.py")
SETUP = Path(__file__).with_name("airflow_setup.py")
SETUP_SECONDS = 900


class AirflowError(Exception):
    """Airflow cannot be set up; the message says what to change."""


@dataclass(frozen=True)
class Airflow:
    """`extra`: LAKEHOUSE_* variables of the caller, for tasks. `database_url`: postgresql://... of its own role."""

    home: Home
    port: int
    database_url: str = field(repr=False)
    secrets: Secrets = field(repr=False)
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def venv(self) -> Path:
        """Raises AirflowError when there is no Airflow in it."""
        given = os.environ.get("LAKEHOUSE_AIRFLOW_VENV", "")
        venv = Path(given).expanduser().absolute() if given else PROJECT / ".venvs" / "airflow"
        if not (venv / "bin" / "airflow").exists():
            raise AirflowError(f"no Airflow in {venv}: run `make setup`, or set LAKEHOUSE_AIRFLOW_VENV to its venv")
        return venv

    def environment(self) -> dict[str, str]:
        """Everything that its processes, and so every task, see. The same for all of them."""
        dbt = os.environ.get("LAKEHOUSE_DBT_EXECUTABLE") or str(PROJECT / ".venvs" / "dbt" / "bin" / "dbt")
        settings = {f"AIRFLOW__{section}__{name}".upper(): value for (section, name), value in self._settings().items()}
        return {
            **self.extra,
            **settings,
            "AIRFLOW_HOME": str(self.home.airflow),
            "HOME": str(self.home.airflow),  # no dotfiles of the user's reach a task
            # `pip install -e .` does the same; this holds where it was not done.
            "PYTHONPATH": f"{PROJECT}{os.pathsep}{PROJECT / 'plugins'}",
            "LAKEHOUSE_HOME": str(self.home.root),
            "LAKEHOUSE_DBT_EXECUTABLE": dbt,
            "DO_NOT_TRACK": "1",
            "SPT_NOENV": "1",  # process titles leave the environment alone: by it a stack finds its processes
        }

    def _settings(self) -> dict[tuple[str, str], str]:
        secret = self.secrets
        return {
            ("database", "sql_alchemy_conn"): self.database_url.replace("postgresql://", "postgresql+psycopg2://", 1),
            ("core", "executor"): "LocalExecutor",
            ("core", "auth_manager"): "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
            ("core", "dags_folder"): str(PROJECT / "dags"),
            ("core", "plugins_folder"): str(PROJECT / "plugins"),
            ("core", "load_examples"): "False",
            ("core", "fernet_key"): secret.airflow_fernet_key,
            ("core", "execution_api_server_url"): f"{self.url}/execution/",
            # Each worker is a process of 160 MB that first imports Airflow; the default is 32.
            ("core", "parallelism"): "4",
            ("core", "test_connection"): "Enabled",
            ("api", "host"): HOST,
            ("api", "port"): str(self.port),
            ("api", "base_url"): self.url,
            ("api", "workers"): "1",
            ("api", "secret_key"): secret.airflow_api_secret_key,
            ("api", "expose_config"): "False",
            ("api_auth", "jwt_secret"): secret.airflow_jwt_secret,
            # 0.4 s between tasks, not 1.2.
            ("scheduler", "scheduler_idle_sleep_time"): "0.2",
            ("scheduler", "orphaned_tasks_check_interval"): "60",
            # At the defaults 43 s without an api-server kill every running task.
            ("workers", "max_failed_heartbeats"): "60",
            ("execution_api", "jwt_expiration_time"): "3600",
            ("dag_processor", "refresh_interval"): "30",
            # A file that changed is read at once all the same; unchanged ones cost half a core at the default of 30 s.
            ("dag_processor", "min_file_process_interval"): "120",
            # On a busy machine a DAG file may take longer than the defaults of 30 and 50 s.
            ("core", "dagbag_import_timeout"): "120",
            ("dag_processor", "dag_file_processor_timeout"): "180",
            ("cosmos", "enable_telemetry"): "False",
            # What dbt has parsed, and profiles with our ports in them: two platforms must not share them in /tmp.
            ("cosmos", "cache_dir"): str(self.home.airflow / "cosmos"),
        }

    def program(self, component: str) -> Program:
        bin_ = self.venv / "bin"
        preloaded = (str(bin_ / "python"), "-P", str(COMPONENT))
        command = preloaded if component in FORKING else (str(bin_ / "airflow"),)
        return Program(
            name=component,
            argv=(*command, *COMPONENTS[component]),
            cwd=PROJECT,
            environment=self.environment(),
            stop_seconds=20,
        )

    def migrate(self) -> None:
        """Brings the metadata database to this Airflow's version and makes the administrator, when either is missing.

        Raises AirflowError with the end of the output when it fails.
        """
        MetadataDatabase(
            server="Airflow",
            url=self.database_url,
            version=self._version(),
            revisions=(
                "select version_num from alembic_version",
                "select version_num from alembic_version_fab",
                f"select username from ab_user where username = '{USER}'",
            ),
            python=self.venv / "bin" / "python",
            script=SETUP,
            account={"username": USER, "password": self.secrets.airflow_admin_password},
            environment=self.environment(),
            folder=PROJECT,
            log=self.home.log("airflow-database"),
            stamp=self.home.airflow / "migrated.json",
            seconds=SETUP_SECONDS,
            failure=AirflowError,
        ).migrate()

    def _version(self) -> str:
        """Of the installed Airflow, without the seconds that asking it would cost."""
        found = sorted(self.venv.glob("lib/python*/site-packages/apache_airflow*-*.dist-info"))
        return " ".join(path.name for path in found if not path.name.startswith("apache_airflow_providers_"))

    def is_ready(self, component: str, since: float) -> bool:
        """`since`: when its process was started (seconds since 1970); an older heartbeat is another process's."""
        try:
            health = HTTP.get(f"{self.url}/api/v2/monitor/health")
        except httpx.TransportError:
            return False
        if health.status_code != httpx.codes.OK:
            return False
        if component == API:
            return bool(health.json()["metadatabase"]["status"] == "healthy")
        part = health.json()[HEALTH[component]]
        beat = part[f"latest_{HEALTH[component]}_heartbeat"]
        return bool(part["status"] == "healthy" and beat and datetime.fromisoformat(beat).timestamp() >= since)
