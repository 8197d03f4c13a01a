"""The parts that other services give: the catalogue of our SQL server, snapshots of an API of recorded shape."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from include.backup import dremio, elasticsearch, sets
from include.backup.dremio import ExportError, without_secrets
from include.backup.elasticsearch import SnapshotError
from include.backup.manifest import File
from include.backup.sealed import Key
from include.backup.sets import SetWriter, open_file
from include.backup.settings import Login
from include.backup.store import Store
from lakehouse_providers.dremio.administration import Administration
from lakehouse_providers.dremio.client import DremioClient
from lakehouse_providers.dremio.endpoint import Endpoint
from tests.plugins.lakehouse_providers.live.conftest import sql_server

__all__ = ["sql_server"]


def test_the_catalogue_is_exported_without_secrets(sql_server: Any, store: Store, key: Key) -> None:
    login = Login(
        "dremio",
        "127.0.0.1",
        sql_server.port,
        sql_server.environment["LAKEHOUSE_SQL_ADMIN_USER"],
        sql_server.environment["LAKEHOUSE_SQL_ADMIN_PASSWORD"],
    )
    with DremioClient(Endpoint(sql_server.url, user=login.login, password=login.password)) as client:
        client.ensure_space("backed_up")
        client.ensure_folder(["backed_up", "folder"])
        view = client.apply_view(["backed_up", "folder", "one"], "SELECT 1 AS n")
        admin = Administration(client)
        admin.set_wiki(view["id"], "what it is")
        admin.set_tags(view["id"], ["kept"])
    writer, files = SetWriter(store, key, sets.new_id()), list[File]()
    facts = dremio.part(writer, files, login)
    text = open_file(store, key, files[0]).read().decode()
    by_path = {
        ".".join(item["entity"].get("path") or [item["entity"].get("name", "")]): item
        for item in json.loads(text)["objects"]
    }
    exported = by_path["backed_up.folder.one"]
    assert exported["entity"]["sql"] == "SELECT 1 AS n"
    assert (exported["wiki"], exported["tags"]) == ("what it is", ["kept"])
    assert facts["objects"]["dataset"] >= 1
    assert login.password not in text
    with pytest.raises(ExportError, match="connection 'dremio'"):
        dremio.part(writer, [], Login("dremio", "127.0.0.1", sql_server.port, login.login, "wrong"))


def test_secrets_are_left_out_wherever_they_stand() -> None:
    config = {
        "accessKey": "a",
        "accessSecret": "b",
        "hostname": "h",
        "propertyList": [{"name": "fs.s3a.secret.key", "value": "c"}, {"name": "dremio.s3.compat", "value": "true"}],
        "nested": {"password": "d", "port": 1},
    }
    assert without_secrets(config) == {
        "hostname": "h",
        "propertyList": [{"name": "fs.s3a.secret.key"}, {"name": "dremio.s3.compat", "value": "true"}],
        "nested": {"port": 1},
    }


class _Snapshots(BaseHTTPRequestHandler):
    """As Elasticsearch 8 answers; `state` is what a snapshot ends as."""

    state: ClassVar[str] = "SUCCESS"
    made: ClassVar[set[str]] = set()

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        if self.path.startswith("/_snapshot/missing/"):
            self._answer(404, {"error": {"type": "repository_missing_exception"}, "status": 404})
        else:
            self._answer(200, {"nodes": {"n1": {"name": "one"}}})

    def do_PUT(self) -> None:
        name = self.path.split("/")[3].split("?")[0]
        if name in self.made:
            self._answer(400, {"error": {"reason": f"[x:{name}] snapshot with the same name already exists"}})
            return
        self.made.add(name)
        self._answer(200, {"snapshot": {"snapshot": name, "state": self.state}})

    def do_GET(self) -> None:
        failed = 0 if self.state == "SUCCESS" else 1
        found = {"snapshot": "s", "uuid": "u1", "state": self.state, "indices": ["b", "a"], "version": "8.15.3"}
        self._answer(
            200, {"snapshots": [{**found, "shards": {"total": 2, "failed": failed, "successful": 2 - failed}}]}
        )

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def snapshots() -> Iterator[Login]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Snapshots)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Login("elasticsearch", f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    server.server_close()
    _Snapshots.state = "SUCCESS"


def test_a_snapshot_is_bound_by_the_set_and_only_a_whole_one_counts(snapshots: Login) -> None:
    facts = elasticsearch.part("20261126T020000Z-0123abcd", snapshots)
    assert (facts["indices"], facts["uuid"]) == (["a", "b"], "u1")
    _Snapshots.state = "PARTIAL"
    with pytest.raises(SnapshotError, match="is PARTIAL, 1 shards failed"):
        elasticsearch.part("20261126T030000Z-0123abcd", snapshots)


def test_a_missing_repository_or_server_is_named(snapshots: Login) -> None:
    with pytest.raises(SnapshotError, match=r"missing/_verify.*404"):
        elasticsearch.part(
            "20261126T020000Z-0123abcd", Login("elasticsearch", snapshots.host, extra={"repository": "missing"})
        )
    with pytest.raises(SnapshotError, match="does not answer"):
        elasticsearch.part("20261126T020000Z-0123abcd", Login("elasticsearch", "http://127.0.0.1:9"))
