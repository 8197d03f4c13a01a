"""Login, tokens, personal access tokens, the first look at a server."""

from __future__ import annotations

import httpx

from tests.embedded.sql.process import PASSWORD, USER, Client, SqlProcess


def test_login_answers_in_dremios_form(client: Client) -> None:
    login = client.login
    assert login["userName"] == USER
    assert login["admin"] is True
    assert {"token", "expires", "userId", "clusterId", "version", "permissions"} <= set(login)
    assert client.http.get("/apiv2/login").json() is True


def test_a_wrong_password_is_401_with_a_body(server: SqlProcess) -> None:
    answer = httpx.post(f"{server.base}/apiv2/login", json={"userName": USER, "password": "wrong"})
    assert answer.status_code == 401
    assert answer.json()["errorMessage"].startswith("Login failed")
    unknown = httpx.post(f"{server.base}/apiv2/login", json={"userName": "nobody", "password": PASSWORD})
    assert (unknown.status_code, unknown.text) == (401, answer.text)


def test_a_bad_token_is_401_without_a_body(server: SqlProcess) -> None:
    for header in ("", "Bearer x", "_dremionothing", "Basic abc", "_dremioa.b"):
        answer = httpx.get(f"{server.base}/api/v3/catalog", headers={"Authorization": header})
        assert (answer.status_code, answer.content) == (401, b"")


def test_both_header_forms_carry_a_login_token(server: SqlProcess, client: Client) -> None:
    for header in (f"_dremio{client.login['token']}", f"Bearer {client.login['token']}"):
        assert httpx.get(f"{server.base}/api/v3/catalog", headers={"Authorization": header}).status_code == 200


def test_logout_ends_a_token_for_good(make_server, server: SqlProcess) -> None:  # type: ignore[no-untyped-def]
    other = server.client()
    assert other.http.delete("/apiv2/login").status_code == 204
    assert other.http.get("/apiv2/login").status_code == 401


def test_tokens_survive_a_kill(make_server) -> None:  # type: ignore[no-untyped-def]
    server = make_server().start()
    client, gone = server.client(), server.client()
    gone.http.delete("/apiv2/login")
    server.kill()
    server.start()
    assert client.http.get("/apiv2/login").status_code == 200
    assert gone.http.get("/apiv2/login").status_code == 401


def test_a_personal_token_lives_until_it_is_deleted(server: SqlProcess, client: Client) -> None:
    place = f"/api/v3/user/{client.login['userId']}/token"
    answer = client.http.post(place, json={"label": "airflow", "millisecondsToExpire": 86_400_000})
    assert answer.status_code == 200
    bearer = {"Authorization": f"Bearer {answer.text}"}
    assert httpx.get(f"{server.base}/api/v3/catalog", headers=bearer).status_code == 200
    listed = client.http.get(place).json()["data"]
    assert [token["label"] for token in listed] == ["airflow"]
    assert answer.text not in client.http.get(place).text
    assert client.http.delete(f"{place}/{listed[0]['tid']}").status_code == 204
    assert httpx.get(f"{server.base}/api/v3/catalog", headers=bearer).status_code == 401


def test_a_personal_token_must_expire_within_reason(client: Client) -> None:
    place = f"/api/v3/user/{client.login['userId']}/token"
    for lifetime in (0, -5, 10**12):
        answer = client.http.post(place, json={"label": "x", "millisecondsToExpire": lifetime})
        assert answer.status_code == 400


def test_there_is_only_one_first_user(server: SqlProcess) -> None:
    body = {"userName": "second", "firstName": "a", "lastName": "b", "email": "a@b.c", "password": "secret123"}
    answer = httpx.put(f"{server.base}/apiv2/bootstrap/firstuser", json=body)
    assert answer.status_code == 400
    assert "already registered" in answer.json()["errorMessage"]


def test_unknown_endpoints_and_fields_are_refused(client: Client) -> None:
    answer = client.http.get("/api/v3/scripts")
    assert answer.status_code == 404
    assert answer.json()["errorMessage"] == "HTTP 404 Not Found"
    answer = client.http.post("/api/v3/sql", json={"sql": "select 1", "colour": "red"})
    assert (answer.status_code, answer.json()["errorMessage"]) == (400, "Invalid value found at: colour")
    answer = client.http.post("/api/v3/sql", content=b"{not json")
    assert answer.status_code == 400
    assert client.http.delete("/api/v3/sql").status_code == 405
