"""OAuth tokens, service users, and Cloud's paths."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.embedded.sql.process import PASSWORD, USER, Client, SqlProcess

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
PAT = "urn:ietf:params:oauth:token-type:dremio:personal-access-token"


@pytest.fixture(scope="module")
def token(server: SqlProcess) -> Callable[..., httpx.Response]:
    return lambda **form: httpx.post(f"{server.base}/oauth/token", data=form)


def works(server: SqlProcess, answer: dict[str, Any]) -> bool:
    headers = {"Authorization": f"{answer['token_type']} {answer['access_token']}"}
    return httpx.get(f"{server.base}/api/v3/catalog", headers=headers).status_code == 200


def test_a_password_buys_a_token(server: SqlProcess, token: Callable[..., httpx.Response]) -> None:
    answer = token(grant_type="password", username=USER, password=PASSWORD, scope="dremio.all offline_access").json()
    assert works(server, answer)
    assert answer["expires_in"] == 3599
    again = token(grant_type="refresh_token", refresh_token=answer["refresh_token"]).json()
    assert works(server, again)
    used = token(grant_type="refresh_token", refresh_token=answer["refresh_token"])
    assert (used.status_code, used.json()["error"]) == (401, "invalid_grant")


def test_a_personal_token_buys_a_token(
    server: SqlProcess, client: Client, token: Callable[..., httpx.Response]
) -> None:
    place = f"/api/v3/user/{client.login['userId']}/token"
    personal = client.http.post(place, json={"label": "x", "millisecondsToExpire": 60_000}).text
    form = {"grant_type": EXCHANGE, "subject_token": personal, "subject_token_type": PAT, "scope": "dremio.all"}
    assert works(server, token(**form).json())
    assert token(**form | {"subject_token": "nonsense"}).status_code == 401
    assert token(**form | {"subject_token_type": "urn:ietf:params:oauth:token-type:jwt"}).status_code == 400


def test_a_service_user_has_client_credentials(
    server: SqlProcess, client: Client, token: Callable[..., httpx.Response]
) -> None:
    user = client.http.post("/api/v3/user", json={"name": "robot", "identityType": "SERVICE_USER"}).json()
    place = f"/api/v3/user/{user['id']}/oauth/credentials"
    made = client.http.post(place, json={"name": "ci", "clientSecretConfig": {"expiresInDays": 1}}).json()
    config = made["clientSecretConfig"]
    form = {"grant_type": "client_credentials", "client_id": config["clientId"], "scope": "dremio.all"}
    assert works(server, token(**form, client_secret=config["clientSecret"]).json())
    assert token(**form, client_secret="wrong").json()["error"] == "invalid_client"
    assert token(**form | {"client_id": "no-uuid"}, client_secret="x").status_code == 401
    assert config["clientSecret"] not in client.http.get(place).text
    assert client.http.delete(f"{place}/{made['id']}").status_code == 204
    assert token(**form, client_secret=config["clientSecret"]).status_code == 401
    login = httpx.post(f"{server.base}/apiv2/login", json={"userName": "robot", "password": ""})
    assert login.status_code == 401


def test_bad_token_requests_have_the_standards_errors(server: SqlProcess, token: Callable[..., httpx.Response]) -> None:
    assert token(grant_type="magic").json()["error"] == "unsupported_grant_type"
    assert token(grant_type="password", username=USER).json()["error"] == "invalid_request"
    assert token(grant_type="password", username=USER, password="no").status_code == 401
    assert (
        token(grant_type="password", username=USER, password=PASSWORD, scope="all").json()["error"] == "invalid_scope"
    )
    assert httpx.post(f"{server.base}/oauth/token", json={"grant_type": "password"}).status_code == 400


def test_clouds_paths_are_a_switch(make_server: Callable[..., SqlProcess]) -> None:
    project = str(uuid.uuid4())
    client = make_server(CLOUD_PROJECT=project).start().client()
    base = f"/v0/projects/{project}"
    job = client.http.post(f"{base}/sql", json={"sql": "select 1 as one"}).json()["id"]
    client.wait(job)
    assert client.http.get(f"{base}/job/{job}/results").json()["rows"] == [{"one": 1}]
    assert client.http.post(f"{base}/catalog", json={"entityType": "space", "name": "s"}).status_code == 200
    taken = client.http.post(f"{base}/catalog", json={"entityType": "space", "name": "s"})
    assert taken.status_code == 400
    assert "An object already exists with that name" in taken.json()["errorMessage"]
    assert client.http.post("/api/v3/catalog", json={"entityType": "space", "name": "s"}).status_code == 409
    assert client.value("select count(*) from sys.project.reflections") == 0
    assert client.http.get(f"/v0/projects/{uuid.uuid4()}/catalog").status_code == 404
