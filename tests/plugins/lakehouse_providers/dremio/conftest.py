"""A Dremio that does what the test says: reflections and jobs are moved by hand."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import pytest

from lakehouse_providers.dremio.client import DremioClient
from lakehouse_providers.dremio.endpoint import Endpoint
from tests.plugins.lakehouse_providers.dremio.flight_server import FlightDremio, FlightServer

PASSWORD = "correct"


def at(seconds: float) -> str:
    """A moment on the stand-in's clock, as SQL shows it."""
    moment = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC) + dt.timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def schema(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As the results of a job name the types of such values."""
    names = {int: "BIGINT", float: "DOUBLE", bool: "BOOLEAN"}
    columns = rows[0] if rows else {}
    return [{"name": name, "type": {"name": names.get(type(value), "VARCHAR")}} for name, value in columns.items()]


@dataclass
class Dremio:
    wire: Any = None
    reply: Any = None
    clock: float = 0.0
    tokens: set[str] = field(default_factory=set)
    logins: int = 0
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    entities: dict[str, dict[str, Any]] = field(default_factory=dict)
    reflections: dict[str, dict[str, Any]] = field(default_factory=dict)
    materializations: list[dict[str, Any]] = field(default_factory=list)
    dependencies: list[dict[str, Any]] = field(default_factory=list)
    graph: dict[str, list[str]] = field(default_factory=dict)
    refreshed: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    results: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # by a part of the statement
    broken: dict[str, str] = field(default_factory=dict)  # part of a statement: error message
    endless: set[str] = field(default_factory=set)  # parts of statements whose jobs run until cancelled
    on_refresh: Callable[[str], None] = lambda table: None
    queried: str = ""  # the datasets that any job has read
    flight: FlightDremio = field(default_factory=FlightDremio)
    flight_port: int = 0
    ids: Any = field(default_factory=lambda: itertools.count(1))

    # What a test sets up

    def table(self, *path: str, kind: str = "PHYSICAL_DATASET") -> dict[str, Any]:
        entity = {"entityType": "dataset", "id": f"id-{'-'.join(path)}", "type": kind, "path": list(path), "tag": "t1"}
        self.entities["/".join(path)] = entity
        return entity

    def reflection(self, name: str, dataset: dict[str, Any], *, tables: list[str] | None = None) -> dict[str, Any]:
        identity = f"ref-{name}"
        for table in [dataset["id"]] if tables is None else tables:
            self.dependencies.append(
                {"reflection_id": identity, "dependency_id": table, "dependency_type": "DATASET", "dependency_path": ""}
            )
        self.reflections[identity] = {
            "id": identity,
            "name": name,
            "type": "RAW",
            "tag": "t1",
            "datasetId": dataset["id"],
            "enabled": True,
            "currentSizeBytes": 10,
            "status": {
                "config": "OK",
                "refresh": "SCHEDULED",
                "availability": "AVAILABLE",
                "combinedStatus": "CAN_ACCELERATE",
                "failureCount": 0,
                "refreshMethod": "FULL",
            },
        }
        self.made(name, state="DONE", fetched=-100)
        return self.reflections[identity]

    def made(self, name: str, *, state: str, fetched: float | None = None, failure: str = "") -> str:
        """A new materialization of a reflection."""
        number = next(self.ids)
        job_id = f"refresh-job-{number}"
        self.jobs[job_id] = {"jobState": "COMPLETED" if state == "DONE" else state, "rowCount": 1}
        self.materializations.append(
            {
                "reflection_id": f"ref-{name}",
                "materialization_id": f"mat-{number}",
                "state": state,
                "created": at(number),
                "last_refresh_from_pds": None if fetched is None else at(fetched),
                "failure_msg": failure,
                "init_refresh_job_id": job_id,
                "size_bytes": 1234,
                "last_refresh_duration_millis": 1500,
            }
        )
        return job_id

    def status(self, name: str, **values: Any) -> None:
        self.reflections[f"ref-{name}"]["status"].update(values)

    def statements(self, part: str = "") -> list[str]:
        return [r.json["sql"] for r in self.wire.seen("POST", "/sql") if part in r.json["sql"]]

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.wire.url, user="anna", password=PASSWORD)

    def client(self) -> DremioClient:
        return DremioClient(self.endpoint)

    def connection(self, **changes: Any) -> str:
        return json.dumps(
            {
                "conn_type": "dremio",
                "host": "127.0.0.1",
                "port": self.wire.port,
                "login": "anna",
                "password": PASSWORD,
                **changes,
                "extra": {"use_ssl": False, "flight_port": self.flight_port, **changes.get("extra", {})},
            }
        )

    # What it answers

    def answer(self, request: Any) -> Any:
        if request.path == "/apiv2/login":
            return self._login(request)
        token = request.headers.get("authorization", "").removeprefix("_dremio").removeprefix("Bearer ")
        if token not in self.tokens:
            return self.reply(401)  # with an empty body, as Dremio does it
        path = request.path.removeprefix("/api/v3")
        for pattern, method, handle in (
            (r"/sql", "POST", self._sql),
            (r"/job/([^/]+)", "GET", self._job),
            (r"/job/([^/]+)/results", "GET", self._results),
            (r"/job/([^/]+)/cancel", "POST", self._cancel),
            (r"/catalog", "GET", lambda r: self.reply(body={"data": list(self.entities.values())})),
            (r"/catalog", "POST", self._create),
            (r"/catalog/by-path/(.+)", "GET", self._by_path),
            (r"/catalog/([^/]+)/refresh", "POST", self._refresh),
            (r"/catalog/([^/]+)/graph", "GET", self._graph),
            (r"/catalog/([^/]+)/collaboration/(tag|wiki)", "(GET|POST)", self._note),
            (r"/catalog/([^/]+)", "(GET|PUT|POST)", self._entity),
            (r"/dataset/([^/]+)/reflection", "GET", self._of_dataset),
            (r"/reflection/([^/]+)", "(GET|PUT|DELETE)", self._reflection),
        ):
            match = re.fullmatch(pattern, path)
            if match and re.fullmatch(method, request.method):
                return handle(request, *(part if "by-path" in pattern else unquote(part) for part in match.groups()))
        return self.reply(404, {"errorMessage": f"HTTP 404 Not Found {path}", "moreInfo": ""})

    def _login(self, request: Any) -> Any:
        self.logins += 1
        if request.json != {"userName": "anna", "password": PASSWORD}:
            return self.reply(401, {"errorMessage": "Login failed: Invalid username or password", "moreInfo": ""})
        token = f"token-{self.logins}"
        self.tokens.add(token)
        return self.reply(body={"token": token, "userName": "anna"})

    def _sql(self, request: Any) -> Any:
        sql = request.json["sql"]
        job_id = f"job-{next(self.ids)}"
        error = next((message for part, message in self.broken.items() if part in sql), "")
        state = "RUNNING" if any(part in sql for part in self.endless) else "FAILED" if error else "COMPLETED"
        rows = self._rows(sql)
        self.jobs[job_id] = {"jobState": state, "errorMessage": error, "rowCount": len(rows), "rows": rows, "sql": sql}
        self.jobs[job_id] |= {"startedAt": "2026-01-01T12:00:00.000Z", "endedAt": "2026-01-01T12:00:02.500Z"}
        return self.reply(body={"id": job_id})

    def _rows(self, sql: str) -> list[dict[str, Any]]:
        if "CURRENT_TIMESTAMP" in sql:
            return [{"server_time": at(self.clock)}]
        if "sys.reflection_dependencies" in sql:
            return self.dependencies
        if "sys.materializations" in sql:
            return [m for m in self.materializations if f"'{m['reflection_id']}'" in sql]
        if "sys.reflections" in sql:
            return [{"reflection_id": key, "record_count": 7} for key in self.reflections if f"'{key}'" in sql]
        if "queried_datasets" in sql:
            return [{"queried_datasets": self.queried}]
        if "sys.jobs_recent" in sql:
            prefix = sql.partition("LIKE '")[2].partition("%'")[0]
            return [{"job_id": key} for key, job in self.jobs.items() if job.get("sql", "").startswith(prefix)]
        return next((rows for part, rows in self.results.items() if part in sql), [])

    def _job(self, request: Any, job_id: str) -> Any:
        if job_id not in self.jobs:
            return self.reply(404, {"errorMessage": f"Could not find a job with id [{job_id}]", "moreInfo": ""})
        return self.reply(body={k: v for k, v in self.jobs[job_id].items() if k not in ("rows", "sql")})

    def _results(self, request: Any, job_id: str) -> Any:
        offset, limit = int(request.query["offset"][0]), int(request.query["limit"][0])
        if limit > 500:
            return self.reply(400, {"errorMessage": "limit can not exceed 500 rows", "moreInfo": ""})
        rows = self.jobs[job_id]["rows"]
        return self.reply(body={"rowCount": len(rows), "schema": schema(rows), "rows": rows[offset : offset + limit]})

    def _cancel(self, request: Any, job_id: str) -> Any:
        self.cancelled.append(job_id)
        self.jobs[job_id]["jobState"] = "CANCELED"
        return self.reply(204)

    def _by_path(self, request: Any, path: str) -> Any:
        found = self.entities.get("/".join(unquote(part).replace("/", "%2F") for part in path.split("/")))
        missing = self.reply(404, {"errorMessage": f"Could not find entity with path [{path}]", "moreInfo": ""})
        return missing if found is None else self.reply(body=found)

    def _create(self, request: Any) -> Any:
        body = request.json
        path = body.get("path") or [body["name"]]
        if "/".join(path) in self.entities:
            return self.reply(409, {"errorMessage": "exists", "moreInfo": ""})
        self.entities["/".join(path)] = {**body, "id": f"id-{'-'.join(path)}", "tag": "t1"}
        return self.reply(body=self.entities["/".join(path)])

    def _entity(self, request: Any, identity: str) -> Any:
        key = next((key for key, entity in self.entities.items() if entity["id"] == identity), None)
        if key is None:
            return self.reply(404, {"errorMessage": f"Could not find entity with id [{identity}]", "moreInfo": ""})
        if request.method == "PUT" and request.json.get("tag") != self.entities[key]["tag"]:
            return self.reply(409, {"errorMessage": "stale tag", "moreInfo": ""})
        if request.method != "GET":
            self.entities[key] = {**request.json, "id": identity, "tag": f"t{next(self.ids)}"}
        return self.reply(body=self.entities[key])

    def _refresh(self, request: Any, identity: str) -> Any:
        self.refreshed.append(identity)
        self.on_refresh(identity)
        return self.reply(204)

    def _graph(self, request: Any, identity: str) -> Any:
        if not self.graph:
            return self.reply(404, {"errorMessage": "HTTP 404 Not Found", "moreInfo": ""})
        return self.reply(body={"parents": [{"id": parent} for parent in self.graph.get(identity, [])]})

    def _note(self, request: Any, identity: str, kind: str) -> Any:
        entity = next(e for e in self.entities.values() if e["id"] == identity)
        there = entity.get(f"{kind}_note") or {"tags": entity.get("tags", []), "text": ""}
        if request.method == "POST":
            if request.json.get("version") != there.get("version"):
                return self.reply(409, {"errorMessage": "changed since", "moreInfo": ""})
            there = entity[f"{kind}_note"] = {**request.json, "version": f"v{next(self.ids)}"}
        return self.reply(body=there)

    def _of_dataset(self, request: Any, identity: str) -> Any:
        return self.reply(body={"data": [r for r in self.reflections.values() if r["datasetId"] == identity]})

    def _reflection(self, request: Any, identity: str) -> Any:
        if identity not in self.reflections:
            return self.reply(404, {"errorMessage": f"Could not find reflection {identity}", "moreInfo": ""})
        if request.method == "DELETE":
            return self.reply(body=self.reflections.pop(identity))
        if request.method == "PUT":
            if request.json["tag"] != self.reflections[identity]["tag"]:
                return self.reply(409, {"errorMessage": "The reflection seems to have been modified", "moreInfo": ""})
            tag = f"t{next(self.ids)}"
            self.reflections[identity] = {**self.reflections[identity], **request.json, "tag": tag}
        return self.reply(body=self.reflections[identity])


@pytest.fixture(scope="session")
def flight_server() -> Iterator[FlightServer]:
    server = FlightServer(FlightDremio())
    yield server
    server.shutdown()


@pytest.fixture
def dremio(wire: Any, reply: Any, flight_server: FlightServer, monkeypatch: pytest.MonkeyPatch) -> Dremio:
    """A stand-in behind the Airflow connection `dremio`: REST and Flight."""
    server = Dremio(reply=reply, flight_port=flight_server.port)
    flight_server.dremio = server.flight
    server.wire = wire(server.answer)
    monkeypatch.setenv("AIRFLOW_CONN_DREMIO", server.connection())
    return server
