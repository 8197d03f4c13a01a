from __future__ import annotations

from typing import Any

import pytest

from lakehouse_providers.airbyte import errors
from lakehouse_providers.airbyte.client import AirbyteClient, Endpoint
from lakehouse_providers.airbyte.models import SyncJob, seconds


def test_login_is_a_form_and_serves_many_calls(airbyte: Any) -> None:
    with airbyte.client() as client:
        client.workspaces()
        client.workspaces()
    assert airbyte.logins == [{"grant_type": "client_credentials", "client_id": "id", "client_secret": "secret"}]
    login = airbyte.wire.seen("POST", "/token")[0]
    assert login.headers["content-type"] == "application/x-www-form-urlencoded"
    assert "authorization" not in login.headers


def test_a_refused_token_is_renewed_and_the_request_repeated(airbyte: Any) -> None:
    with airbyte.client() as client:
        client.workspaces()
        airbyte.tokens.clear()
        assert len(client.workspaces()) == 1
    assert len(airbyte.logins) == 2


def test_a_token_about_to_expire_is_renewed(airbyte: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("lakehouse_providers.airbyte.calls.time.monotonic", lambda: now)
    with airbyte.client() as client:
        client.workspaces()
        now += 839
        client.workspaces()
        assert len(airbyte.logins) == 1
        now += 2
        client.workspaces()
    assert len(airbyte.logins) == 2


def test_two_servers_with_the_same_credentials_do_not_share_tokens(airbyte: Any, wire: Any) -> None:
    with airbyte.client() as one, airbyte.client() as two:
        one.workspaces()
        two.workspaces()
    assert len(airbyte.logins) == 2


def test_without_credentials_nothing_is_sent(airbyte: Any) -> None:
    with AirbyteClient(Endpoint(airbyte.base)) as client, pytest.raises(errors.AirbyteAuthenticationError):
        client.workspaces()
    assert airbyte.logins == []
    assert "authorization" not in airbyte.wire.requests[0].headers


@pytest.mark.parametrize("status", [429, 500, 503])
def test_reading_survives_a_storm(airbyte: Any, connection_id: str, status: int) -> None:
    airbyte.wire.fail(status, path="/jobs", count=3)
    with airbyte.client() as client:
        assert client.jobs(connection_id) == []


def test_a_sync_is_never_requested_twice_by_itself(airbyte: Any, connection_id: str) -> None:
    airbyte.wire.lose(method="POST", path="/jobs")
    with airbyte.client() as client, pytest.raises(errors.AirbyteUnreachableError):
        client.create_job(connection_id)
    assert len(airbyte.created) == 1


def test_an_unknown_status_or_job_type_is_no_error() -> None:
    job = SyncJob.parse({"jobId": "7", "status": "hibernating", "connectionId": "c", "jobType": "refresh"})
    assert (job.id, job.final) == (7, False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("PT1M5S", 65.0), ("P1DT2H", 93600.0), ("PT0.5S", 0.5), ("PT0S", 0.0), (None, None), ("P", None), ("x", None)],
)
def test_durations(text: Any, expected: float | None) -> None:
    assert seconds(text) == expected


def test_jobs_since_an_id_are_read_to_the_end_and_no_further(airbyte: Any, connection_id: str) -> None:
    for _ in range(250):
        airbyte.job("succeeded")
    airbyte.job("succeeded", connection="other")
    with airbyte.client() as client:
        assert [job.id for job in client.jobs(connection_id)] == list(range(290, 40, -1))
        airbyte.wire.requests.clear()
        assert [job.id for job in client.jobs(connection_id, after=288)] == [290, 289]
    assert len(airbyte.wire.seen("GET", "/jobs")) == 1


def test_only_syncs_count(airbyte: Any, connection_id: str) -> None:
    airbyte.job("succeeded", jobType="reset")
    with airbyte.client() as client:
        assert client.jobs(connection_id) == []


def test_cancelling_what_has_ended_is_fine(airbyte: Any) -> None:
    job = airbyte.job("succeeded")
    running = airbyte.job("running")
    with airbyte.client() as client:
        assert client.cancel_job(job) is False
        assert client.cancel_job(999) is False
        assert client.cancel_job(running) is True


def test_objects_are_found_by_name_beyond_the_first_page(airbyte: Any) -> None:
    airbyte.objects["connections"] += [{"connectionId": f"c{n}", "name": f"n{n}"} for n in range(150)]
    with airbyte.client() as client:
        assert client.connection_id("n149") == "c149"
        with pytest.raises(errors.AirbyteConfigurationError, match="'typo'"):
            client.connection_id("typo")
        airbyte.objects["connections"].append({"connectionId": "x", "name": "n1"})
        with pytest.raises(errors.AirbyteConfigurationError, match="2 Airbyte connections are named 'n1'"):
            client.connection_id("n1")


def test_a_server_that_ignores_paging_does_not_hang_the_client(airbyte: Any, reply: Any) -> None:
    answer = airbyte.wire.answer

    def same(request: Any) -> Any:
        if request.path.endswith("/connections"):
            return reply(body={"data": airbyte.objects["connections"], "next": "?", "previous": ""})
        return answer(request)

    airbyte.wire.answer = same
    with airbyte.client() as client:
        assert len(client.all("connection")) == 1
    assert len(airbyte.wire.seen("GET", "/connections")) == 2


def test_configuration_travels_untouched(airbyte: Any) -> None:
    """The SDK sends a configuration without a known sourceType as another connector's, and drops unknown fields."""
    configuration = {"host": "h", "port": 5432, "custom": {"deep": [1, {"x": None}]}}
    with airbyte.client() as client:
        made = client.upsert("source", {"name": "retail", "workspaceId": "w1", "configuration": configuration})
        assert airbyte.wire.seen("POST", "/sources")[0].json["configuration"] == configuration
        changed = client.upsert("source", {"name": "retail", "workspaceId": "w1", "configuration": {"host": "other"}})
    assert changed["sourceId"] == made["sourceId"]
    patch = airbyte.wire.seen("PATCH", "/sources")[0].json
    assert patch == {"name": "retail", "configuration": {"host": "other"}}


def test_a_connection_keeps_its_ends(airbyte: Any, connection_id: str) -> None:
    body = {"name": "retail_sales", "sourceId": "s", "destinationId": "d", "status": "active"}
    with airbyte.client() as client:
        assert client.upsert("connection", body)["connectionId"] == connection_id
    assert airbyte.wire.seen("PATCH")[0].json == {"name": "retail_sales", "status": "active"}


def test_deleting_twice_is_fine(airbyte: Any, connection_id: str) -> None:
    with airbyte.client() as client:
        client.delete("connection", connection_id)
        client.delete("connection", connection_id)


def test_workspace_must_be_clear(airbyte: Any) -> None:
    with airbyte.client() as client:
        assert client.workspace_id() == "w1"
        airbyte.objects["workspaces"].append({"workspaceId": "w2", "name": "Other"})
        assert client.workspace_id("Other") == "w2"
        with pytest.raises(errors.AirbyteConfigurationError, match="2 Airbyte workspaces"):
            client.workspace_id()


def test_the_reports_of_our_own_server_are_optional(airbyte: Any, reply: Any) -> None:
    with airbyte.client() as client:
        assert client.job_report(1) is None
        airbyte.reports[1] = {"failureReason": "x"}
        assert client.job_report(1) == {"failureReason": "x"}
        airbyte.wire.answer = lambda request: reply(body="<html>the web app answers every path</html>")
        assert client.job_report(1) is None


def test_problems_carry_airbytes_words(airbyte: Any, connection_id: str) -> None:
    airbyte.job("running")
    with airbyte.client() as client, pytest.raises(errors.AirbyteConflictError, match="already running for"):
        client.create_job(connection_id)
