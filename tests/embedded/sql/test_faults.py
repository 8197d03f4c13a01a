"""Failures on demand: what the tests of clients need."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.embedded.sql.process import Client, SqlProcess, until


@pytest.fixture(autouse=True)
def _no_faults(server: SqlProcess) -> Iterator[None]:
    yield
    server.client().http.delete("/faults")


def ask(client: Client, **faults: object) -> None:
    answer = client.http.post("/faults", json=faults)
    assert answer.status_code == 200, answer.text


def test_statuses_are_given_so_many_times(client: Client) -> None:
    ask(client, http=[{"kind": "status", "status": 429, "count": 2, "path": "/api/v3/sql", "retry_after": 1}])
    answers = [client.http.post("/api/v3/sql", json={"sql": "select 1"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["retry-after"] == "1"
    assert answers[0].json()["errorMessage"]
    ask(client, http=[{"kind": "status", "status": 401, "count": 1}])
    refused = client.http.get("/api/v3/catalog")
    assert (refused.status_code, refused.content) == (401, b"")


def test_a_lost_reply_is_work_done_and_nothing_heard(client: Client) -> None:
    ask(client, http=[{"kind": "lost_reply", "count": 1, "path": "/api/v3/catalog", "method": "POST"}])
    with pytest.raises(httpx.TransportError):
        client.http.post("/api/v3/catalog", json={"entityType": "space", "name": "lost"})
    assert client.entity("lost")["entityType"] == "space"


def test_tokens_can_be_made_to_expire(client: Client, server: SqlProcess) -> None:
    other = server.client()
    ask(client, expire_tokens=True)
    assert other.http.get("/api/v3/catalog").status_code == 401
    fresh = server.client()
    assert fresh.http.get("/api/v3/catalog").status_code == 200
    client.http.headers["Authorization"] = fresh.http.headers["Authorization"]


def test_jobs_can_be_slow(client: Client) -> None:
    ask(client, job_delay=30)
    job_id = client.submit("select 1")
    until(lambda: client.job(job_id)["jobState"] == "METADATA_RETRIEVAL", "the job's start")
    client.http.post(f"/api/v3/job/{job_id}/cancel")
    assert client.wait(job_id)["jobState"] == "CANCELED"


def test_unknown_faults_are_refused(client: Client) -> None:
    for faults in ({"colour": "red"}, {"http": [{"kind": "status", "number": 5, "count": 1}]}, {"http": [5]}):
        assert client.http.post("/faults", json=faults).status_code == 400


def test_without_the_variable_there_are_no_faults(make_server: Callable[..., SqlProcess]) -> None:
    client = make_server().start().client()
    assert client.http.post("/faults", json={"job_delay": 1}).status_code == 404
