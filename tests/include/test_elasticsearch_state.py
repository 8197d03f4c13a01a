"""Templates and lifecycle policies against the recorded contract of Elasticsearch 8.15."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from include.reconcile import elasticsearch
from include.reconcile.plan import ApplyError
from include.reconcile.steps import Options, by_name

CREDENTIALS = "Basic " + base64.b64encode(b"elastic:secret").decode()


def text(value: Any) -> Any:
    """Index settings come back as text, as the product gives them."""
    return {k: text(v) for k, v in value.items()} if isinstance(value, dict) else str(value)


class Recorded(BaseHTTPRequestHandler):
    """Bodies and statuses as 8.15 gives them for these paths; anything else is a 400, as there."""

    store: dict[str, dict[str, Any]]
    too_many: list[int]

    def _answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("X-elastic-product", "Elasticsearch")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _refused(self) -> bool:
        if self.headers.get("Authorization") != CREDENTIALS:
            reason = "unable to authenticate user [elastic] for REST request [/]"
            self._answer(401, {"error": {"type": "security_exception", "reason": reason}, "status": 401})
            return True
        if self.too_many:
            self.too_many.pop()
            reason = "rejected execution of coordinating operation"
            self._answer(429, {"error": {"type": "es_rejected_execution_exception", "reason": reason}, "status": 429})
            return True
        return False

    def do_GET(self) -> None:
        if self._refused():
            return
        found = self.store.get(self.path)
        name = self.path.rsplit("/", 1)[1]
        if found is None:
            kind = "resource_not_found_exception"
            self._answer(404, {"error": {"type": kind, "reason": f"[{name}] not found"}, "status": 404})
        elif self.path.startswith("/_ilm/policy/"):
            self._answer(200, {name: {"version": 1, "modified_date": "2026-01-01T00:00:00.000Z", **found}})
        else:
            self._answer(200, {"index_templates": [{"name": name, "index_template": {**found, "composed_of": []}}]})

    def do_PUT(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._refused():
            return
        if self.path.startswith("/_index_template/"):
            unknown = set(body) - {"index_patterns", "priority", "template", "_meta", "composed_of", "version"}
            if unknown:
                reason = f"[1:2] [index_template] unknown field [{unknown.pop()}]"
                self._answer(400, {"error": {"type": "x_content_parse_exception", "reason": reason}, "status": 400})
                return
            body["template"]["settings"] = text(body["template"]["settings"])
        self.store[self.path] = body
        self._answer(200, {"acknowledged": True})

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Recorded]]:
    handler = type("Handler", (Recorded,), {"store": {}, "too_many": []})
    listening = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{listening.server_port}"
    fields = {"conn_type": "http", "host": url, "login": "elastic", "password": "secret"}
    monkeypatch.setenv("AIRFLOW_CONN_ELASTICSEARCH", json.dumps(fields))
    yield handler
    listening.shutdown()
    thread.join()
    listening.server_close()


def lines(*, apply: bool) -> list[str]:
    return [str(change) for change in elasticsearch.run(apply=apply)]


def test_applied_once_then_drift_by_hand_is_named_and_put_back(server: type[Recorded]) -> None:
    planned = lines(apply=False)
    assert planned == ["create lifecycle policy lakehouse-logs", "create index template lakehouse-logs"]
    assert not server.store
    server.too_many.append(1)  # busy once: tried again
    assert lines(apply=True) == planned
    assert lines(apply=True) == []
    server.store["/_ilm/policy/lakehouse-logs"]["policy"]["phases"]["delete"]["min_age"] = "1d"
    server.store["/_index_template/lakehouse-logs"]["template"]["settings"]["index"]["number_of_replicas"] = "0"
    drift = lines(apply=False)
    assert drift == [
        'update lifecycle policy lakehouse-logs\n    phases.delete.min_age: "1d" -> "90d"',
        'update index template lakehouse-logs\n    template.settings.index.number_of_replicas: "0" -> 1',
    ]
    assert lines(apply=True) == drift
    assert lines(apply=False) == []


def test_a_killed_apply_is_finished_by_the_next(server: type[Recorded]) -> None:
    lines(apply=True)
    del server.store["/_index_template/lakehouse-logs"]  # as after the first of the two
    assert lines(apply=True) == ["create index template lakehouse-logs"]
    assert lines(apply=True) == []


def test_a_refusal_names_the_object_and_the_reason(server: type[Recorded], monkeypatch: pytest.MonkeyPatch) -> None:
    fields = json.loads(os.environ["AIRFLOW_CONN_ELASTICSEARCH"]) | {"login": "somebody"}
    monkeypatch.setenv("AIRFLOW_CONN_ELASTICSEARCH", json.dumps(fields))
    with pytest.raises(ApplyError, match=r"GET /_ilm/policy/lakehouse-logs: HTTP 401 unable to authenticate"):
        lines(apply=False)


def test_without_a_connection_the_step_says_that_it_is_skipped() -> None:
    (change,) = by_name()["elasticsearch"].changes(Options(apply=True, prune=False))
    assert not change.differs
    assert "skipped: there is no Airflow connection elasticsearch" in str(change)
