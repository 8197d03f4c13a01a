"""An Airbyte that does what the test says: jobs are moved by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import pytest

from lakehouse_providers.airbyte.client import AirbyteClient, Endpoint

PUBLIC = "/api/public/v1"
CONNECTION = "c0000000-0000-0000-0000-000000000001"
IDS = {
    "workspaces": "workspaceId",
    "sources": "sourceId",
    "destinations": "destinationId",
    "connections": "connectionId",
}


@dataclass
class Airbyte:
    wire: Any = None
    reply: Any = None
    logins: list[Any] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    jobs: dict[int, dict[str, Any]] = field(default_factory=dict)
    objects: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {kind: [] for kind in IDS})
    cancelled: list[int] = field(default_factory=list)
    reports: dict[int, dict[str, Any]] = field(default_factory=dict)
    first_status: str = "running"
    on_look: Callable[[dict[str, Any]], None] = lambda job: None

    # What a test sets up

    def job(self, status: str, connection: str = CONNECTION, **values: Any) -> int:
        job_id = max(self.jobs, default=40) + 1
        self.jobs[job_id] = {
            "jobId": job_id,
            "status": status,
            "jobType": "sync",
            "connectionId": connection,
            "startTime": "2026-01-01T12:00:00Z",
            **values,
        }
        return job_id

    def ends(self, status: str = "succeeded", after: int = 1) -> None:
        """The running job ends at its n-th look."""
        left = [after]

        def look(job: dict[str, Any]) -> None:
            left[0] -= 1
            if left[0] <= 0 and job["status"] not in ("succeeded", "failed", "cancelled"):
                job.update(status=status, rowsSynced=5, bytesSynced=600, duration="PT1M5S")
                job["lastUpdatedAt"] = "2026-01-01T12:01:05Z"

        self.on_look = look

    @property
    def created(self) -> list[Any]:
        requests: list[Any] = self.wire.seen("POST", "/jobs")
        return requests

    @property
    def base(self) -> str:
        return f"{self.wire.url}{PUBLIC}"

    def client(self) -> AirbyteClient:
        return AirbyteClient(Endpoint(self.base, client_id="id", client_secret="secret"))

    def connection(self, **changes: Any) -> str:
        fields = {
            "conn_type": "airbyte",
            "host": self.base,
            "login": "id",
            "password": "secret",
            "extra": {"timeout": 5},
        }
        return json.dumps({**fields, **changes})

    # What it answers

    def answer(self, request: Any) -> Any:
        if request.path == f"{PUBLIC}/health":
            return self.reply(body="Successful operation")
        if request.path == f"{PUBLIC}/applications/token":
            return self._login(request)
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return self._problem(401, "invalid-api-key", "")
        report = re.fullmatch(r"/api/lakehouse/v1/jobs/(\d+)", request.path)
        if report and int(report[1]) in self.reports:
            return self.reply(body=self.reports[int(report[1])])
        path = request.path.removeprefix(PUBLIC)
        one = re.fullmatch(r"/jobs/(\d+)", path)
        if one:
            return self._job(request, int(one[1]))
        if path == "/jobs":
            return self._create_job(request) if request.method == "POST" else self._list_jobs(request)
        member = re.fullmatch(r"/(workspaces|sources|destinations|connections)(?:/([^/]+))?", path)
        if member:
            return self._object(request, member[1], member[2])
        return self._problem(404, "resource-not-found", f"no route {request.path}")

    def _problem(self, status: int, title: str, message: str) -> Any:
        return self.reply(status, {"status": status, "title": title, "detail": "?", "data": {"message": message}})

    def _login(self, request: Any) -> Any:
        form = {key: values[0] for key, values in parse_qs(request.text).items()}
        self.logins.append(form)
        if form != {"grant_type": "client_credentials", "client_id": "id", "client_secret": "secret"}:
            return self._problem(401, "unauthorized", "wrong client")
        token = f"token-{len(self.logins)}"
        self.tokens.add(token)
        return self.reply(body={"access_token": token, "token_type": "Bearer", "expires_in": 900})

    def _job(self, request: Any, job_id: int) -> Any:
        job = self.jobs.get(job_id)
        if job is None:
            return self._problem(404, "resource-not-found", f"job {job_id}")
        if request.method == "DELETE":
            if job["status"] in ("succeeded", "failed", "cancelled"):
                return self._problem(409, "state-conflict", "Job is not currently running")
            self.cancelled.append(job_id)
            job["status"] = "cancelled"
        else:
            self.on_look(job)
        return self.reply(body=job)

    def _create_job(self, request: Any) -> Any:
        connection = request.json["connectionId"]
        busy = [
            j for j in self.jobs.values() if j["connectionId"] == connection and j["status"] in ("running", "queued")
        ]
        if busy:
            return self._problem(409, "try-again-later", f"A sync is already running for: {connection}")
        return self.reply(body=self.jobs[self.job(self.first_status, connection)])

    def _list_jobs(self, request: Any) -> Any:
        own = [j for j in self.jobs.values() if j["connectionId"] == request.query["connectionId"][0]]
        return self._page(request, sorted(own, key=lambda j: -j["jobId"]))

    def _page(self, request: Any, items: list[Any]) -> Any:
        offset, limit = int(request.query["offset"][0]), int(request.query["limit"][0])
        page = items[offset : offset + limit]
        following = f"{self.base}?offset={offset + limit}" if page else ""
        return self.reply(body={"data": page, "next": following, "previous": ""})

    def _object(self, request: Any, kind: str, identity: str | None) -> Any:
        items = self.objects[kind]
        if identity is None and request.method == "GET":
            return self._page(request, items)
        if identity is None:
            items.append({**request.json, IDS[kind]: f"{kind}-{len(items)}"})
            return self.reply(body=items[-1])
        found = next((item for item in items if item[IDS[kind]] == identity), None)
        if found is None:
            return self._problem(404, "resource-not-found", identity)
        if request.method == "DELETE":
            items.remove(found)
            return self.reply(204)
        if request.method == "PATCH":
            found.update(request.json)
        return self.reply(body=found)


@pytest.fixture
def airbyte(wire: Any, reply: Any, monkeypatch: pytest.MonkeyPatch) -> Airbyte:
    """A stand-in behind the Airflow connection `airbyte`, with one connection named retail_sales."""
    server = Airbyte(reply=reply)
    server.wire = wire(server.answer)
    server.objects["workspaces"].append({"workspaceId": "w1", "name": "Default"})
    one = {"connectionId": CONNECTION, "name": "retail_sales", "status": "active", "workspaceId": "w1"}
    server.objects["connections"].append(one)
    monkeypatch.setenv("AIRFLOW_CONN_AIRBYTE", server.connection())
    return server


@pytest.fixture
def connection_id() -> str:
    return CONNECTION
