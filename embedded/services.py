"""Every service of the platform: what it needs, how it is started, when it is ready."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from embedded import alerts, connections, superset
from embedded.airflow import API, COMPONENTS, USER, Airflow
from embedded.airflow_client import AirflowClient
from embedded.endpoints import FLIGHT, REPLICATION, SQL, SQL_USER, Endpoints
from embedded.home import PROJECT, Home
from embedded.object_store import BUCKETS, NAME, OFFSITE, OFFSITE_PORTS, PORT_NAMES, ObjectStore
from embedded.ports import HOST, PortsError
from embedded.postgres import PLATFORM, SOURCE, PostgresServer
from embedded.probes import answers
from embedded.programs import Program

AIRFLOW_DATABASE = "airflow-database"
WAL_ARCHIVE = "wal-archive"
# What a user may say for several.
GROUPS = {"postgres": (SOURCE, PLATFORM), "airflow": (AIRFLOW_DATABASE, *COMPONENTS)}


class UnknownServiceError(Exception):
    """A name that is no service; the message lists those that are."""


@dataclass(frozen=True)
class Service:
    """One node of the start order.

    `needs`: services that are ready before. `uses`: others that it is stopped before. `prepare`: gives the program to
    run, None for a step without a process. `is_ready`: called with the process's start time (seconds since 1970).
    `settle`: what is done once it is ready, before others may use it. `timeout`: seconds from start to ready.
    """

    name: str
    needs: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    prepare: Callable[[], Program | None] = lambda: None
    is_ready: Callable[[float], bool] = lambda since: True
    settle: Callable[[], object] = lambda: None
    timeout: float = 180
    has_process: bool = True
    uses: tuple[str, ...] = ()


def catalogue(endpoints: Endpoints) -> dict[str, Service]:
    """All services, by name, in an order in which each comes after what it needs."""
    listed = [
        _postgres(endpoints.source),
        _postgres(endpoints.platform),
        _object_store(endpoints.object_store),
        _object_store(endpoints.offsite_store),
        _alerts(endpoints),
        _wal_archive(endpoints),
        _replication(endpoints),
        _sql(endpoints),
        *_superset(endpoints),
        *_airflow(endpoints),
    ]
    return {service.name: service for service in listed}


PORTS_OF: dict[str, tuple[str, ...]] = {
    SOURCE: (SOURCE,),
    PLATFORM: (PLATFORM,),
    NAME: PORT_NAMES,
    OFFSITE: tuple(OFFSITE_PORTS.values()),
    alerts.NAME: (alerts.NAME,),
    REPLICATION: (REPLICATION,),
    SQL: (SQL, FLIGHT),
    superset.NAME: (superset.NAME,),
    API: (API,),
}
ALL_PORTS = tuple(port for ports in PORTS_OF.values() for port in ports)


# Some clients cannot be told another port than Dremio's own 9047 and 32010.
WANTED_PORTS = {SQL: "LAKEHOUSE_SQL_PORT", FLIGHT: "LAKEHOUSE_SQL_FLIGHT_PORT"}


def wanted_ports() -> dict[str, int]:
    """Ports that the caller chose, by name. Raises PortsError for what is no port."""
    found = {}
    for name, variable in WANTED_PORTS.items():
        if text := os.environ.get(variable):
            if not text.isdigit() or not 0 < int(text) < 65536:
                raise PortsError(f"{variable} must be a port between 1 and 65535, not {text!r}")
            found[name] = int(text)
    return found


def selection(names: Iterable[str] | None, known: Mapping[str, Service]) -> list[Service]:
    """The named services, or all, with everything they need. Raises UnknownServiceError."""
    if names is None:
        return list(known.values())
    wanted: set[str] = set()
    pending = [member for name in names for member in GROUPS.get(name, (name,))]
    while pending:
        name = pending.pop()
        if name not in known:
            choices = ", ".join([*GROUPS, *known])
            raise UnknownServiceError(f"there is no service {name!r}; choose from {choices}")
        if name not in wanted:
            wanted.add(name)
            pending += known[name].needs
    if wanted & set(COMPONENTS):  # its parts are ready only together
        wanted |= {AIRFLOW_DATABASE, *COMPONENTS}
    return [service for name, service in known.items() if name in wanted]


def _postgres(server: PostgresServer) -> Service:
    return Service(
        server.name,
        ports=PORTS_OF[server.name],
        prepare=server.program,
        is_ready=lambda since: server.is_ready(),
        settle=server.provision,
        timeout=600,  # after a crash it first replays what was not yet written
    )


def _object_store(store: ObjectStore) -> Service:
    return Service(
        store.name,
        ports=PORTS_OF[store.name],
        prepare=store.program,
        is_ready=lambda since: store.is_ready(),
        settle=store.provision,
    )


def _alerts(endpoints: Endpoints) -> Service:
    port = endpoints.ports[alerts.NAME]
    environment = {
        "LAKEHOUSE_ALERTS_PORT": str(port),
        "LAKEHOUSE_ALERTS_PASSWORD": endpoints.secrets.alerts_token,
        "LAKEHOUSE_ALERTS_FILE": str(endpoints.home.logs / alerts.FILE),
    }
    return Service(
        alerts.NAME,
        ports=PORTS_OF[alerts.NAME],
        prepare=lambda: _module(alerts.NAME, "embedded.alerts", environment, endpoints.home),
        is_ready=lambda since: answers(f"http://{HOST}:{port}/health"),
    )


def _replication(endpoints: Endpoints) -> Service:
    secret = endpoints.secrets
    environment = {
        "LAKEHOUSE_REPLICATION_SCRATCH": str(endpoints.home.scratch / "replication"),
        **_passed_on("LAKEHOUSE_REPLICATION_"),
        "LAKEHOUSE_REPLICATION_PORT": str(endpoints.ports[REPLICATION]),
        "LAKEHOUSE_REPLICATION_DATABASE_URL": endpoints.platform.dsn("replication"),
        "LAKEHOUSE_REPLICATION_CLIENT_ID": secret.replication_client_id,
        "LAKEHOUSE_REPLICATION_CLIENT_SECRET": secret.replication_client_secret,
    }
    return Service(
        REPLICATION,
        needs=(PLATFORM,),
        uses=(SOURCE, NAME),
        ports=PORTS_OF[REPLICATION],
        prepare=lambda: _module(REPLICATION, "embedded.replication", environment, endpoints.home),
        is_ready=lambda since: answers(f"{endpoints.airbyte_url}/health"),
    )


def _sql(endpoints: Endpoints) -> Service:
    store = endpoints.object_store
    scratch = endpoints.home.scratch / SQL
    environment = {
        **_passed_on("LAKEHOUSE_SQL_"),
        "LAKEHOUSE_SQL_PORT": str(endpoints.ports[SQL]),
        "LAKEHOUSE_SQL_FLIGHT_PORT": str(endpoints.ports[FLIGHT]),
        "LAKEHOUSE_SQL_DATABASE_URL": endpoints.platform.dsn("sqlserver"),
        "LAKEHOUSE_SQL_ADMIN_USER": SQL_USER,
        "LAKEHOUSE_SQL_ADMIN_PASSWORD": endpoints.secrets.sql_admin_password,
        "LAKEHOUSE_SQL_DIST": f"s3://{BUCKETS[1]}",
        "LAKEHOUSE_SQL_DIST_ENDPOINT": store.endpoint,
        "LAKEHOUSE_SQL_DIST_ACCESS_KEY": store.access_key,
        "LAKEHOUSE_SQL_DIST_SECRET_KEY": store.secret_key,
        "LAKEHOUSE_SQL_SCRATCH": str(scratch),
        "LAKEHOUSE_SQL_SECRET_KEY": endpoints.secrets.sql_secret_key,
    }

    def prepare() -> Program:
        scratch.mkdir(mode=0o700, exist_ok=True)
        return _module(SQL, "embedded.sql", environment, endpoints.home)

    return Service(
        SQL,
        needs=(PLATFORM, NAME),
        ports=PORTS_OF[SQL],
        prepare=prepare,
        is_ready=lambda since: answers(f"{endpoints.sql_url}/apiv2/server_status"),
    )


def _wal_archive(endpoints: Endpoints) -> Service:
    """Ships both servers' log to the backup store: the bundle's own program, in Airflow's venv."""
    servers = (endpoints.source, endpoints.platform)

    def prepare() -> Program:
        airflow = _bundle(endpoints, {})
        staging = endpoints.home.scratch / WAL_ARCHIVE
        staging.mkdir(mode=0o700, exist_ok=True)
        return Program(
            name=WAL_ARCHIVE,
            argv=(str(airflow.venv / "bin" / "python"), "-m", "include.backup", "archive", "--staging", str(staging)),
            cwd=PROJECT,
            environment={
                "PYTHONPATH": str(PROJECT),
                "PYTHONUNBUFFERED": "1",
                "HOME": str(endpoints.home.scratch),
                **endpoints.backup_environment(),
            },
            stop_seconds=30,
        )

    return Service(
        WAL_ARCHIVE,
        needs=(SOURCE, PLATFORM, OFFSITE),
        prepare=prepare,
        is_ready=lambda since: all(server.is_archived() for server in servers),
    )


def _superset(endpoints: Endpoints) -> list[Service]:
    """Its database is migrated while the other servers start; nothing waits for it but itself."""
    if not superset.is_installed():
        return []
    server = superset.Superset(
        endpoints.home, endpoints.ports[superset.NAME], endpoints.platform.dsn("superset"), endpoints.secrets
    )
    return [
        Service(superset.SETUP_NAME, needs=(PLATFORM,), settle=server.migrate, has_process=False),
        Service(
            superset.NAME,
            needs=(superset.SETUP_NAME,),
            uses=(SQL,),
            ports=PORTS_OF[superset.NAME],
            prepare=server.program,
            is_ready=lambda since: server.is_ready(),
            timeout=900,  # as Airflow
        ),
    ]


def _airflow(endpoints: Endpoints) -> list[Service]:
    passed_on = {
        name: value
        for name, value in _passed_on("LAKEHOUSE_").items()
        if not name.startswith(("LAKEHOUSE_SQL_", "LAKEHOUSE_REPLICATION_", "LAKEHOUSE_AIRFLOW_", "LAKEHOUSE_ALERTS_"))
    }
    airflow = _bundle(endpoints, passed_on)

    def load_settings() -> None:
        client = AirflowClient(airflow.url, USER, endpoints.secrets.airflow_admin_password)
        items = connections.declared(connections.FILE, endpoints.connections())
        connections.apply(client, items, endpoints.home.airflow / "settings-applied.json")

    def component(name: str) -> Service:
        return Service(
            name,
            needs=(AIRFLOW_DATABASE,),
            ports=PORTS_OF.get(name, ()),
            prepare=lambda: airflow.program(name),
            is_ready=lambda since: airflow.is_ready(name, since),
            settle=load_settings if name == API else lambda: None,
            uses=(SOURCE, NAME, OFFSITE, alerts.NAME, REPLICATION, SQL),  # its tasks do; they must not see them go
            timeout=900,  # seconds on an idle machine, minutes on one that is busy with something else
        )

    return [
        Service(AIRFLOW_DATABASE, needs=(PLATFORM,), settle=airflow.migrate, has_process=False),
        *(component(name) for name in COMPONENTS),
    ]


def _bundle(endpoints: Endpoints, extra: Mapping[str, str]) -> Airflow:
    return Airflow(endpoints.home, endpoints.ports[API], endpoints.platform.dsn("airflow"), endpoints.secrets, extra)


def _module(name: str, module: str, environment: Mapping[str, str], home: Home) -> Program:
    """A server of ours: this very Python, this very code."""
    own = {"PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1", "HOME": str(home.scratch), "DO_NOT_TRACK": "1"}
    return Program(name, (sys.executable, "-m", module), home.scratch, {**own, **environment})


def _passed_on(prefix: str) -> dict[str, str]:
    """Settings that the caller made for the servers themselves, such as a memory limit or a fault to inject."""
    return {name: value for name, value in os.environ.items() if name.startswith(prefix)}
