"""The client against a small server that asks for tokens as Superset does, and against its failures."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from lakehouse_providers.superset import errors
from lakehouse_providers.superset.client import Endpoint, SupersetClient
from lakehouse_providers.superset.hook import SupersetHook, endpoint
from lakehouse_providers.transport import RetryPolicy

QUICK = RetryPolicy(attempts=3, first=0.01, longest=0.02)


class Superset:
    """Tokens that live as long as the test wants; `answers`: the healthy reply by method and path."""

    def __init__(self, reply: Any) -> None:
        self.reply, self.logins, self.csrf = reply, 0, "csrf-1"
        self.answers: dict[str, Callable[[Any], Any]] = {}

    def answer(self, request: Any) -> Any:
        if request.path == "/api/v1/security/login":
            if request.json["password"] != "right":
                return self.reply(401, {"message": "Not authorized"})
            self.logins += 1
            return self.reply(200, {"access_token": f"token-{self.logins}"})
        if request.headers.get("authorization") != f"Bearer token-{self.logins}":
            return self.reply(401, {"msg": "Token has expired"})
        if request.path == "/api/v1/security/csrf_token/":
            return self.reply(200, {"result": self.csrf})
        if request.method != "GET" and request.headers.get("x-csrftoken") != self.csrf:
            return self.reply(400, {"errors": [{"message": "400 Bad Request: The CSRF token is invalid."}]})
        return self.answers[f"{request.method} {request.path}"](request)


@pytest.fixture
def superset(reply: Any) -> Superset:
    return Superset(reply)


@pytest.fixture
def server(wire: Any, superset: Superset) -> Any:
    return wire(superset.answer)


@pytest.fixture
def client(server: Any) -> Any:
    with SupersetClient(Endpoint(server.url, "admin", "right", retry=QUICK)) as client:
        yield client


def test_it_signs_in_once_and_again_when_a_token_has_ended(client: Any, superset: Superset, reply: Any) -> None:
    superset.answers["GET /api/v1/chart/7"] = lambda request: reply(200, {"result": {"id": 7}})
    assert client.item("chart", 7) == {"id": 7}
    client.item("chart", 7)
    assert superset.logins == 1
    superset.logins += 1  # as if another process had taken its place
    assert client.item("chart", 7) == {"id": 7}


def test_a_csrf_token_that_has_ended_is_renewed(client: Any, superset: Superset, reply: Any) -> None:
    superset.answers["POST /api/v1/chart/"] = lambda request: reply(201, {"id": 3})
    assert client.create("chart", {"slice_name": "Revenue"}) == 3
    superset.csrf = "csrf-2"
    assert client.create("chart", {"slice_name": "Revenue"}) == 3
    assert superset.logins == 2


def test_pages_are_walked_to_the_end(client: Any, superset: Superset, reply: Any) -> None:
    def page(request: Any) -> Any:
        number = int(re.search(r"page:(\d+)", request.query["q"][0])[1])  # type: ignore[index]
        ids = range(number * 100, min(number * 100 + 100, 230))
        return reply(200, {"count": 230, "result": [{"id": one} for one in ids]})

    superset.answers["GET /api/v1/dashboard/"] = page
    assert [one["id"] for one in client.items("dashboard", ["id"])] == list(range(230))


def test_assets_are_one_archive_with_passwords_beside_it(client: Any, superset: Superset, reply: Any) -> None:
    seen: list[Any] = []

    def answer(request: Any) -> Any:
        seen.append(request)
        return reply(200, {})

    superset.answers["POST /api/v1/assets/import/"] = answer
    client.import_assets({"metadata.yaml": "type: assets"}, {"databases/lake.yaml": "s3cr3t"})
    (request,) = seen
    assert request.headers["content-type"].startswith("multipart/form-data")
    assert '{"databases/lake.yaml": "s3cr3t"}' in request.text
    assert "assets/metadata.yaml" in request.text


def test_a_refused_import_names_file_and_field(client: Any, superset: Superset, reply: Any) -> None:
    body = {"errors": [{"message": "Error importing assets", "extra": {"charts/a.yaml": {"uuid": ["Not a UUID"]}}}]}
    superset.answers["POST /api/v1/assets/import/"] = lambda request: reply(422, body)
    with pytest.raises(errors.SupersetRequestError, match=r"charts/a\.yaml.*Not a UUID"):
        client.import_assets({"metadata.yaml": ""}, {})


def test_chart_data_tells_a_hit_from_a_question(client: Any, superset: Superset, reply: Any) -> None:
    def data(request: Any) -> Any:
        one = {"is_cached": None if request.json["force"] else True, "data": [{"revenue": 5}], "query": "SELECT"}
        return reply(200, {"result": [one]})

    superset.answers["POST /api/v1/chart/data"] = data
    assert [one.cached for one in client.chart_data({"queries": [{}]}, force=True)] == [False]
    assert [one.cached for one in client.chart_data({"queries": [{}]})] == [True]


def test_a_query_that_fails_says_so_in_the_databases_words(client: Any, superset: Superset, reply: Any) -> None:
    superset.answers["POST /api/v1/chart/data"] = lambda request: reply(400, {"message": "Error: Column 'x' not found"})
    with pytest.raises(errors.SupersetQueryError, match="Column 'x' not found"):
        client.chart_data({"queries": [{}]})


def test_a_busy_server_is_asked_again(client: Any, server: Any, superset: Superset, reply: Any) -> None:
    superset.answers["GET /api/v1/chart/7"] = lambda request: reply(200, {"result": {"id": 7}})
    server.fail(503, path="/chart/7")
    assert client.item("chart", 7) == {"id": 7}


def test_deleting_what_is_gone_is_done(client: Any, superset: Superset, reply: Any) -> None:
    superset.answers["DELETE /api/v1/chart/7"] = lambda request: reply(404, {"message": "Not found"})
    client.delete("chart", 7)


@pytest.mark.parametrize(
    ("fields", "good", "told"),
    [
        ({"password": "right"}, True, "1 dashboards are visible"),
        ({"password": "wrong"}, False, "Login or Password is wrong"),
        ({"password": ""}, False, "Password is empty"),
        ({"host": "superset"}, False, "must be the whole base URL"),
        ({"host": "http://127.0.0.1:9"}, False, "Nothing answers there"),
    ],
)
def test_the_connection_test_names_the_field(
    server: Any, superset: Superset, reply: Any, monkeypatch: Any, fields: dict[str, str], good: bool, told: str
) -> None:
    superset.answers["GET /api/v1/dashboard/"] = lambda request: reply(200, {"count": 1, "result": [{"id": 1}]})
    connection = {"conn_type": "superset", "host": server.url, "login": "admin", "password": "right", **fields}
    monkeypatch.setenv("AIRFLOW_CONN_SUPERSET", json.dumps(connection))
    state, message = SupersetHook().test_connection()
    assert (state, told in message) == (good, True), message


def test_a_time_limit_must_be_a_number(monkeypatch: Any) -> None:
    fields = {"conn_type": "superset", "host": "http://s", "login": "a", "password": "b", "extra": {"timeout": "soon"}}
    monkeypatch.setenv("AIRFLOW_CONN_SUPERSET", json.dumps(fields))
    with pytest.raises(errors.SupersetConfigurationError, match="timeout must be a positive number"):
        endpoint(SupersetHook().get_connection("superset"))
