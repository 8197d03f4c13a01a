from __future__ import annotations

import socket
from typing import Any

import pytest

from lakehouse_providers.airbyte.hook import AirbyteSyncHook


def test_the_test_really_logs_in(airbyte: Any) -> None:
    ok, message = AirbyteSyncHook("airbyte").test_connection()
    assert ok, message
    assert len(airbyte.logins) == 1
    assert "1 workspaces" in message


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"password": "wrong"}, "Client ID (login) or Client Secret (password) is wrong"),
        ({"login": None, "password": None}, "The server wants a login"),
        ({"password": None}, "Client Secret (password) is empty"),
        ({"login": None}, "Client ID (login) is empty"),
        ({"host": "airbyte"}, "Server URL (host)"),
        ({"extra": {"timeout": "soon"}}, "timeout"),
    ],
)
def test_a_failed_test_names_the_field(
    airbyte: Any, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], field: str
) -> None:
    """The official test asks the health endpoint, which is green whatever the credentials."""
    monkeypatch.setenv("AIRFLOW_CONN_AIRBYTE", airbyte.connection(**changes))
    ok, message = AirbyteSyncHook("airbyte").test_connection()
    assert not ok
    assert field in message


def test_a_path_that_is_not_the_public_api(airbyte: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AIRBYTE", airbyte.connection(host=airbyte.wire.url, login=None, password=None))
    assert not AirbyteSyncHook("airbyte").test_connection()[0]


def test_nobody_there(airbyte: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("AIRFLOW_CONN_AIRBYTE", airbyte.connection(host=f"http://127.0.0.1:{port}/api/public/v1"))
    ok, message = AirbyteSyncHook("airbyte").test_connection()
    assert (ok, "Nothing answers" in message) == (False, True)


def test_the_token_endpoint_is_found_as_the_official_provider_finds_it(
    airbyte: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"host": f"{airbyte.base}/", "schema": "v1/applications/token"}
    monkeypatch.setenv("AIRFLOW_CONN_AIRBYTE", airbyte.connection(**changes))
    assert AirbyteSyncHook("airbyte").test_connection()[0]


def test_finished_jobs_for_the_ledger(airbyte: Any, connection_id: str) -> None:
    airbyte.job("succeeded")
    airbyte.job("failed")
    airbyte.job("cancelled")
    airbyte.job("running")
    jobs = AirbyteSyncHook("airbyte").finished_jobs(connection_id, after=41)
    assert [(job["jobId"], job["status"]) for job in jobs] == [(42, "failed"), (43, "cancelled")]
