"""Small real HTTP servers for failures that a healthy server never shows, and what a task gives an operator."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from lakehouse_providers import transport


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text) if self.text else None


@dataclass
class Reply:
    """`body`: JSON, or text as it is. `lost`: the work is done, the connection breaks before the answer."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    lost: bool = False


@dataclass
class Fault:
    """Meets the next `count` requests that match. `after`: the server does its work, and only its answer is changed."""

    reply: Reply
    method: str
    path: str
    count: int
    after: bool


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # the usual 5 would refuse some of twenty clients that come at once


class Wire:
    """One server on a free port; `answer` gives the healthy reply, faults come before it."""

    def __init__(self, answer: Callable[[Request], Reply]) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self._guard = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def fail(
        self,
        status: int = 503,
        body: Any = None,
        *,
        method: str = "",
        path: str = "",
        count: int = 1,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Refuses matching requests without doing anything."""
        self.faults.append(Fault(Reply(status, body, headers or {}), method, path, count, after=False))

    def lose(self, *, method: str = "", path: str = "", count: int = 1, after: bool = True) -> None:
        """Breaks the connection, after the work was done or before."""
        self.faults.append(Fault(Reply(lost=True), method, path, count, after))

    def seen(self, method: str = "", path: str = "") -> list[Request]:
        return [r for r in self.requests if r.method.startswith(method) and path in r.path]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def reply_to(self, request: Request) -> Reply:
        with self._guard:
            self.requests.append(request)
            fault = next(
                (f for f in self.faults if f.count and f.path in request.path and f.method in ("", request.method)),
                None,
            )
            if fault is None:
                return self.answer(request)
            fault.count -= 1
            if fault.after:
                self.answer(request)
            return fault.reply

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        wire = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet, else each reply waits 40 ms for an acknowledgement

            def _serve(self) -> None:
                parts = urlsplit(self.path)
                text = self.rfile.read(int(self.headers.get("content-length") or 0)).decode(errors="replace")
                headers = {name.lower(): value for name, value in self.headers.items()}
                reply = wire.reply_to(Request(self.command, parts.path, parse_qs(parts.query), headers, text))
                if reply.lost:
                    self.close_connection = True
                    return
                is_text = isinstance(reply.body, str)
                body = b"" if reply.body is None else (reply.body if is_text else json.dumps(reply.body)).encode()
                self.send_response(reply.status)
                if body:
                    self.send_header("content-type", "text/html" if is_text else "application/json")
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if reply.status != 204:
                    self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

            def log_message(self, *args: object) -> None:
                pass

        return Handler


@pytest.fixture
def wire() -> Iterator[Callable[[Callable[[Request], Reply]], Wire]]:
    """Starts servers and stops them after the test."""
    running: list[Wire] = []

    def start(answer: Callable[[Request], Reply]) -> Wire:
        running.append(Wire(answer))
        return running[-1]

    yield start
    for one in running:
        one.close()


@pytest.fixture
def reply() -> type[Reply]:
    return Reply


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries happen, their pauses do not."""
    monkeypatch.setattr(transport, "_wait", lambda policy: lambda state: 0.0)


class Store:
    """Airflow's task_state_store as far as it is used: JSON that outlives a try."""

    def __init__(self) -> None:
        self.data: dict[str, str] = {}

    def record(self, key: str) -> Any:
        """What our operators keep under a key."""
        return json.loads(self.data[key])["record"]

    def keep(self, key: str, record: Any) -> None:
        self.set(key, {"clear_number": DagRun.clear_number, "record": record})

    def get(self, key: str, default: Any = None) -> Any:
        return json.loads(self.data[key]) if key in self.data else default

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self.data[key] = json.dumps(value)

    def delete(self, key: str) -> None:
        self.data.pop(key, None)


class TaskInstance:
    dag_id, run_id, task_id, map_index, try_number = "retail", "manual__1", "task", -1, 1

    def __init__(self) -> None:
        self.xcom: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcom[key] = value


class DagRun:
    clear_number = 0
    run_id = "manual__1"


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def context(store: Store) -> dict[str, Any]:
    """What a try gets; the next try of the same task gets the same store, and so does a cleared task."""
    return {"task_state_store": store, "ti": TaskInstance(), "dag_run": DagRun()}


@pytest.fixture
def task_state(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Lets Airflow say that the trigger's task instance is in a state (None: cleared; an exception: no answer)."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    def set_state(state: Any) -> None:
        def answer(**asked: Any) -> dict[str, dict[str, Any]]:
            if isinstance(state, Exception):
                raise state
            return {asked["run_ids"][0]: {asked["task_ids"][0]: state}}

        monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(answer))

    return set_state
