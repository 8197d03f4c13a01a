"""From the connection's fields to addresses and credentials; what signs in, and again when a token ends."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from airflow.sdk import Connection

from lakehouse_providers.dremio import auth, errors
from lakehouse_providers.dremio.client import AsyncDremioClient, DremioClient
from lakehouse_providers.dremio.connection import endpoint
from lakehouse_providers.dremio.endpoint import Endpoint, FlightPlace
from lakehouse_providers.transport import Call


def connection(**fields: Any) -> Connection:
    extra = fields.pop("extra", {})
    return Connection(conn_id="dremio", conn_type="dremio", extra=json.dumps(extra), **fields)


def place(**fields: Any) -> Endpoint:
    return endpoint(connection(**{"login": "anna", "password": "x", "host": "dremio", **fields}))


@pytest.mark.parametrize(
    ("extra", "flight"),
    [
        ({}, FlightPlace("dremio", 32010, True, True)),
        ({"use_ssl": False}, FlightPlace("dremio", 32010, False, True)),
        ({"flight_port": "1234", "flight_host": "flight"}, FlightPlace("flight", 1234, True, True)),
        ({"use_ssl": False, "use_encryption": True}, FlightPlace("dremio", 32010, True, True)),
        ({"verify_ssl": "/ca.pem"}, FlightPlace("dremio", 32010, True, "/ca.pem")),
        ({"verify_ssl": False}, FlightPlace("dremio", 32010, True, False)),
        ({"disable_certificate_verification": True}, FlightPlace("dremio", 32010, True, False)),
        ({"routing_queue": "q"}, FlightPlace("dremio", 32010, True, True, {"routing_queue": "q"})),
        ({"flight_port": 0}, None),
    ],
)
def test_where_flight_listens(extra: dict[str, Any], flight: FlightPlace | None) -> None:
    assert place(extra=extra).flight == flight


@pytest.mark.parametrize(
    ("host", "rest", "flight", "tokens", "page"),
    [
        (None, "https://api.dremio.cloud", "data.dremio.cloud", "https://login.dremio.cloud", "app.dremio.cloud"),
        (
            "api.eu.dremio.cloud",
            "https://api.eu.dremio.cloud",
            "data.eu.dremio.cloud",
            "https://login.eu.dremio.cloud",
            "app.eu.dremio.cloud",
        ),
    ],
)
def test_a_project_of_cloud(host: str | None, rest: str, flight: str, tokens: str, page: str) -> None:
    found = endpoint(connection(host=host, extra={"project_id": "p-1", "pat": "t", "auth": "token_exchange"}))
    assert found.base_url == rest
    assert found.flight == FlightPlace(flight, 443, True, True, {"project_id": "p-1"})
    assert isinstance(found.credential, auth.OAuth)
    assert found.credential.url == f"{tokens}/oauth/token"
    assert found.job_url("j") == f"https://{page}/sonar/p-1/job/j"
    assert found.system == "sys.project"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/v3/sql", "/v0/projects/a%2Fb/sql"),
        ("/api/v3/catalog/by-path/x/y", "/v0/projects/a%2Fb/catalog/by-path/x/y"),
        ("/api/v3/user/by-name/u", "/v0/user/by-name/u"),
        ("/api/v3/role", "/v0/role"),
        ("/faults", "/faults"),
    ],
)
def test_paths_of_cloud(path: str, expected: str) -> None:
    found = endpoint(connection(extra={"project_id": "a/b", "pat": "t"}))
    assert found.place(Call("GET", path)).path == expected
    assert place().place(Call("GET", path)).path == path


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"extra": {"auth": "kerberos"}}, "auth must be one of password, pat"),
        ({"extra": {"auth": "pat"}}, "pat in Extra is empty"),
        ({"extra": {"auth": "token_exchange"}}, "give pat, subject_token or subject_token_file"),
        ({"extra": {"auth": "client_credentials"}, "login": None}, "Login is empty"),
        ({"extra": {"project_id": "p"}}, "Cloud takes no password"),
        ({"extra": {"project_id": 5}}, "project_id must be text"),
        ({"extra": {"flight_port": "many"}}, "flight_port must be a port"),
        ({"extra": {"flight_port": 70000}}, "flight_port must be a port"),
        ({"extra": {"use_encryption": "maybe"}}, "use_encryption must be true or false"),
        ({"host": "dremio:port"}, "is no address"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(errors.DremioConfigurationError, match=complaint):
        place(**fields)


def test_nothing_secret_is_shown() -> None:
    shown = repr(place(extra={"pat": "my-secret-pat"}, password="my-secret-word")) + repr(place().flight)
    assert "my-secret" not in shown


class Tokens:
    """An OAuth server: counts what it was asked, gives tokens that live `lives` seconds."""

    def __init__(self, dremio: Any, reply: Any, wire: Any) -> None:
        self.forms: list[dict[str, list[str]]] = []
        self.lives = 3600
        self.refuse = False
        self._dremio, self._reply = dremio, reply
        self.url = wire(self.answer).url + "/oauth/token"

    def answer(self, request: Any) -> Any:
        assert request.headers["content-type"] == "application/x-www-form-urlencoded"
        self.forms.append(parse_qs(request.text))
        if self.refuse:
            return self._reply(401, {"error": "invalid_client", "errorMessage": "unknown client"})
        token = f"access-{len(self.forms)}"
        self._dremio.tokens.add(token)
        self._dremio.flight.tokens.add(token)
        body = {"access_token": token, "expires_in": self.lives, "token_type": "Bearer", "scope": "dremio.all"}
        return self._reply(body=body)


@pytest.fixture
def tokens(dremio: Any, reply: Any, wire: Any) -> Tokens:
    return Tokens(dremio, reply, wire)


def client(dremio: Any, tokens: Tokens, **fields: Any) -> DremioClient:
    extra = {"use_ssl": False, "oauth_url": tokens.url, "flight_port": dremio.flight_port, **fields.pop("extra")}
    return DremioClient(endpoint(connection(host=dremio.wire.url, extra=extra, **fields)))


def test_client_credentials(dremio: Any, tokens: Tokens) -> None:
    with client(dremio, tokens, login="id", password="secret", extra={"auth": "client_credentials"}) as rest:
        rest.catalog()
        rest.catalog()
        assert rest.endpoint.bearer() == "access-1", "Flight uses the token that REST has"
    assert tokens.forms == [
        {
            "grant_type": ["client_credentials"],
            "client_id": ["id"],
            "client_secret": ["secret"],
            "scope": ["dremio.all"],
        }
    ]


def test_exchange_of_a_personal_access_token(dremio: Any, tokens: Tokens) -> None:
    with client(dremio, tokens, extra={"auth": "token_exchange", "pat": "my-pat"}) as rest:
        rest.catalog()
    (form,) = tokens.forms
    assert form["subject_token"] == ["my-pat"]
    assert form["subject_token_type"] == ["urn:ietf:params:oauth:token-type:dremio:personal-access-token"]


def test_a_projected_token_is_read_again_each_time(dremio: Any, tokens: Tokens, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    extra = {"auth": "token_exchange", "subject_token_file": str(file)}
    with client(dremio, tokens, extra=extra) as rest:
        rest.catalog()
        file.write_text("second\n")
        dremio.tokens.clear()
        rest.catalog()
        file.unlink()
        dremio.tokens.clear()
        with pytest.raises(errors.DremioConfigurationError, match="subject_token_file in Extra cannot be read"):
            rest.catalog()
    assert [form["subject_token"] for form in tokens.forms] == [["first"], ["second"]]
    assert tokens.forms[0]["subject_token_type"] == ["urn:ietf:params:oauth:token-type:jwt"]


def test_hours_of_waiting_outlive_any_token(dremio: Any, tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve hours of looks, ten minutes apart, by a clock that the test moves: renewed before each token's end."""
    now = [time.time()]
    monkeypatch.setattr("lakehouse_providers.dremio.auth.time.time", lambda: now[0])
    with client(dremio, tokens, login="id", password="s", extra={"auth": "client_credentials"}) as rest:
        for _ in range(72):
            rest.catalog()
            now[0] += 600
    assert len(tokens.forms) == 12
    assert len(dremio.wire.requests) == 72, "no request was wasted on a token that had ended"


def test_a_refused_client_is_not_asked_for_ever(dremio: Any, tokens: Tokens) -> None:
    tokens.refuse = True
    with (
        client(dremio, tokens, login="id", password="s", extra={"auth": "client_credentials"}) as rest,
        pytest.raises(errors.DremioAuthenticationError, match="unknown client"),
    ):
        rest.catalog()
    assert len(tokens.forms) == 1
    with pytest.raises(errors.DremioAuthenticationError, match="unknown client"):
        rest.endpoint.bearer()


def test_cloud_is_spoken_to_under_its_project(dremio: Any) -> None:
    dremio.tokens.add("pat")
    healthy = dremio.wire.answer

    def cloud(request: Any) -> Any:
        assert request.path.startswith("/v0/projects/p-1/"), request.path
        request.path = "/api/v3" + request.path.removeprefix("/v0/projects/p-1")
        return healthy(request)

    dremio.wire.answer = cloud
    dremio.results["FROM t"] = [{"a": 1}]
    found = endpoint(connection(host=dremio.wire.url, extra={"project_id": "p-1", "pat": "pat", "engine": "preview"}))
    with DremioClient(found) as rest:
        assert rest.query("SELECT a FROM t") == [{"a": 1}]

    async def again() -> Any:
        async with AsyncDremioClient(found) as rest:
            return await rest.query("SELECT a FROM t")

    assert asyncio.run(again()) == [{"a": 1}]
    assert {r.json["engineName"] for r in dremio.wire.seen("POST", "/sql")} == {"preview"}
