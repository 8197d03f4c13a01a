"""Puts the parts together, and takes them apart again in order."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from embedded.sql import clock, system_rows
from embedded.sql.access import Access
from embedded.sql.catalog.accounts import Accounts
from embedded.sql.catalog.engine_catalog import EngineCatalog
from embedded.sql.catalog.information_schema import InformationSchema
from embedded.sql.catalog.policy import MetadataUpkeep
from embedded.sql.catalog.service import CatalogService
from embedded.sql.catalog.system_tables import SystemTables
from embedded.sql.catalog.vault import Vault
from embedded.sql.database import Database, SingleServerLock, migrate
from embedded.sql.datasets import Outcome, Path, Session
from embedded.sql.engine_port import Cancellation, Engine, MakeEngine, Rows
from embedded.sql.faults import Faults
from embedded.sql.flight.server import FlightServer, Tls
from embedded.sql.identity import Identity
from embedded.sql.jobs import model
from embedded.sql.jobs.model import Job
from embedded.sql.jobs.results import Results
from embedded.sql.jobs.service import Jobs, current
from embedded.sql.jobs.store import JobStore
from embedded.sql.jobs.streams import Streams
from embedded.sql.oauth import OAuth
from embedded.sql.reflections.builder import EngineBuilder
from embedded.sql.reflections.files import Distributed
from embedded.sql.reflections.manager import ReflectionManager
from embedded.sql.reflections.service import Reflections
from embedded.sql.reflections.store import ReflectionStore
from embedded.sql.rest import app
from embedded.sql.rest.app import Endpoint
from embedded.sql.rest.calls import Call, empty
from embedded.sql.rest.catalog import CatalogHandlers
from embedded.sql.rest.collaboration import CollaborationHandlers
from embedded.sql.rest.grants import GrantHandlers
from embedded.sql.rest.jobs import JobHandlers
from embedded.sql.rest.lineage import LineageHandlers
from embedded.sql.rest.login import LoginHandlers
from embedded.sql.rest.oauth import OAuthHandlers
from embedded.sql.rest.reflections import ReflectionHandlers
from embedded.sql.rest.roles import RoleHandlers
from embedded.sql.rest.sources_v2 import SourceV2Handlers
from embedded.sql.rest.users import UserHandlers
from embedded.sql.settings import Settings, SettingsError

log = logging.getLogger(__name__)

CLEAN_EVERY = 600.0  # seconds


class SqlServer:
    """One server over one database. `start` does everything that may fail; `app` is then ready to serve."""

    def __init__(self, settings: Settings, make_engine: MakeEngine) -> None:
        self.settings = settings
        self._make_engine = make_engine
        self.database = Database(settings.database_url)
        self._lock = SingleServerLock(settings.database_url)
        self._stopping = threading.Event()
        self._vault = Vault(settings.secret_keys)
        self._steps: list[Callable[[], None]] = []  # how to undo what was started

    def start(self, on_lost: Callable[[str], None]) -> None:
        """Raises DatabaseError, SettingsError or SqlError with words that say what to do.

        `on_lost` is called when another server has taken the database over: this one must end.
        """
        self._lock.acquire()
        self._steps.append(self._lock.release)
        self.database.open()
        self._steps.append(self.database.close)
        migrate(self.database)
        self.make_parts()
        self.identity.load(self.settings.admin_user, self.settings.admin_password)
        self.access.load()
        self.catalog.entities.load()
        for user in self.identity.users():
            self.catalog.create_home(user.name)
        self._reflection_store.load()
        self.jobs.start()
        self._steps.append(self.jobs.stop)
        self.manager.start()
        self._steps.append(self.manager.stop)
        self.upkeep.start()
        self._steps.append(self.upkeep.stop)
        self._serve_flight()
        threading.Thread(target=self._keep_house, name="housekeeping", daemon=True).start()
        self._lock.watch(on_lost)

    def _serve_flight(self) -> None:
        settings = self.settings
        if settings.flight_port is None:
            return
        tls = None
        if settings.flight_certificate and settings.flight_key:
            tls = Tls(settings.flight_certificate.read_bytes(), settings.flight_key.read_bytes())
        self.streams.start()
        address = (settings.host, settings.flight_port)
        try:
            server = FlightServer(address, tls, self.identity, self.engine, self.streams, self.faults)
        except (pa.ArrowException, OSError) as error:
            raise SettingsError(
                f"LAKEHOUSE_SQL_FLIGHT_PORT {settings.flight_port}: Flight cannot serve: {error}"
            ) from None
        self._steps.append(server.stop)
        log.info("Serving Flight on grpc%s://%s:%d", "+tls" if tls else "", settings.host, server.port)

    def stop(self) -> None:
        """Undo `start`, last step first; every step is tried."""
        self._stopping.set()
        while self._steps:
            step = self._steps.pop()
            try:
                step()
            except Exception:
                log.exception("Stopping was not clean")

    def make_parts(self) -> None:
        """Build all parts; nothing is connected or started yet."""
        settings = self.settings
        scratch = settings.scratch / "engine"
        shutil.rmtree(scratch, ignore_errors=True)  # spill files of a killed server
        scratch.mkdir(parents=True, exist_ok=True)
        self.identity = Identity(self.database)
        self.access = Access(self.database, self.identity, settings.edition)
        self.oauth = OAuth(self.database, self.identity)
        self.faults = Faults(settings.faults, self.identity.expire_login_tokens)
        self.catalog = CatalogService(
            self.database,
            self._vault,
            lambda sql, context: self.engine.describe(sql, context),
            lambda files, kind, access, options: self.engine.describe_files(files, kind, access, options),
        )
        self.upkeep = MetadataUpkeep(self.catalog)
        self.access.owner = self.catalog.owner
        self.catalog.on_removed.append(lambda gone: self.access.forget([entity.path for entity in gone]))
        self._reflection_store = ReflectionStore(self.database)
        self.reflections = Reflections(self._reflection_store, self.catalog, settings.edition, settings.dist_access)
        self._job_store = JobStore(self.database)
        self.results = Results(settings.scratch / "results")
        self.jobs = Jobs(
            self._job_store,
            self.results,
            lambda job_id: self.engine.interrupt(job_id),
            workers=settings.workers,
            queue_limit=settings.queue_limit,
            time_limit=settings.query_timeout,
        )
        self.streams = Streams(
            self.jobs,
            self._open_rows,
            slots=settings.workers,
            limit=settings.queue_limit,
            unclaimed=settings.unclaimed_timeout,
            idle=settings.reader_timeout,
        )
        rows = system_rows.SystemRows(self.reflections, self.catalog, self.jobs, settings, self.access, self.identity)
        self._system = SystemTables(rows.by_name())
        self._information_schema = InformationSchema(self.catalog, self._system.schemas, self.access.visible)
        accounts = Accounts(self.identity, self.access, self.catalog)
        self.engine_catalog = EngineCatalog(
            self.catalog, self.reflections, self._system_table, self.access, accounts, _planning, self.upkeep.queried
        )
        threads = settings.threads or os.cpu_count() or 2
        self.engine: Engine = self._make_engine(self.engine_catalog, scratch, settings.memory_limit, threads)
        self._steps.append(self.engine.close)
        distributed = Distributed(settings.dist_root, settings.dist_access)
        builder = EngineBuilder(self.engine, settings.dist_access)
        self.manager = ReflectionManager(self.reflections, self.catalog, self.jobs, builder, distributed, self.faults)

    def _system_table(self, path: Path) -> pa.Table | None:
        if self.settings.cloud_project and len(path) == 3 and [p.lower() for p in path[:2]] == ["sys", "project"]:
            path = (path[0], path[2])  # where Cloud keeps them
        if len(path) != 2:
            return None
        if path[0].lower() == "sys":
            return self._system.table(path[1])
        return self._information_schema.table(path[1])

    # Jobs -------------------------------------------------------------------------------------------------------

    def run(self, job: Job) -> Outcome:
        """Carry out a job's statement, in a worker."""
        self.faults.before_job(job.cancelled)
        outcome = self.engine.execute(job.sql, _session(job), cancelled=Cancellation(job))
        self.reflections.count(outcome.reflections)
        return outcome

    def _open_rows(self, job: Job) -> Rows:
        """The same for a job whose rows are read while they are computed."""
        self.faults.before_job(job.cancelled)
        rows = self.engine.stream(job.sql, _session(job), cancelled=Cancellation(job))
        self.reflections.count(rows.reflections)
        return rows

    def _dataset_id(self, path: Path) -> str | None:
        entity = self.catalog.entities.find(path)
        return entity.id if entity is not None else None

    def _keep_house(self) -> None:
        while True:
            try:
                limits = self.settings
                self.jobs.clean(limits.job_retention, limits.result_retention, limits.result_bytes)
                self._reflection_store.clean(clock.now() - system_rows.MATERIALIZATION_MEMORY)
            except Exception:
                log.exception("Housekeeping failed; it is tried again")
            if self._stopping.wait(CLEAN_EVERY):
                return

    # The wire ---------------------------------------------------------------------------------------------------

    def application(self) -> ASGIApp:
        """Call it after `start`."""
        endpoints = self.endpoints()
        if self.faults.enabled:
            endpoints += [
                Endpoint("POST", "/faults", self._add_faults),
                Endpoint("DELETE", "/faults", self._clear_faults),
            ]
        return app.build(endpoints, self.identity, self.faults, self.settings.cloud_project)

    def endpoints(self) -> list[Endpoint]:
        """All that this edition answers."""
        handlers: Iterable[Any] = (
            LoginHandlers(self.identity, self.database, self.catalog),
            UserHandlers(self.identity, self.access, self.catalog),
            JobHandlers(self.jobs, self.results, self.run, self._dataset_id, self.access),
            CatalogHandlers(self.catalog, self.reflections.request_dataset, self.access),
            CollaborationHandlers(self.catalog, self.database, self.access),
            ReflectionHandlers(self.reflections, self.catalog, self.access),
            SourceV2Handlers(self.catalog, self.access),
            LineageHandlers(self.catalog, self.access),
            *self._enterprise(),
        )
        return [endpoint for part in handlers for endpoint in part.endpoints()]

    def _enterprise(self) -> list[Any]:
        """What the Community edition does not have."""
        if self.settings.edition != "enterprise":
            return []
        return [
            RoleHandlers(self.access, self.identity),
            GrantHandlers(self.catalog, self.access, self.identity),
            OAuthHandlers(self.oauth, self.identity, self.access),
        ]

    def _add_faults(self, call: Call) -> Response:
        self.faults.add(call.json())
        return JSONResponse({"ok": True})

    def _clear_faults(self, call: Call) -> Response:
        self.faults.clear()
        return empty()


def _session(job: Job) -> Session:
    return Session(job.user, job.context, job.id, on_start=lambda: job.advance(model.RUNNING))


def _planning() -> None:
    """The first look at a name ends the retrieval of metadata."""
    job = current()
    if job is not None:
        job.advance(model.PLANNING)
