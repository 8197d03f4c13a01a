from __future__ import annotations

import json
import socket
from typing import Any

import pytest
from airflow.sdk import Connection

from lakehouse_providers.dremio import errors
from lakehouse_providers.dremio.hook import DremioHook, base_url


def connection(**fields: Any) -> Connection:
    extra = fields.pop("extra", {})
    return Connection(conn_id="dremio", conn_type="dremio", extra=json.dumps(extra), **fields)


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "dremio"}, "https://dremio:9047"),
        ({"host": "dremio", "port": 80, "extra": {"use_ssl": False}}, "http://dremio:80"),
        ({"host": "dremio", "extra": {"use_ssl": "false"}}, "http://dremio:9047"),
        ({"host": "http://dremio:1234/sub/"}, "http://dremio:1234/sub"),
        ({"host": "::1".join("[]"), "port": 1}, "https://[::1]:1"),
    ],
)
def test_address(fields: dict[str, Any], url: str) -> None:
    assert base_url(connection(**fields)) == url


def test_rows_in_one_call(dremio: Any) -> None:
    dremio.results["t"] = [{"a": 1}]
    assert DremioHook().run_sql("SELECT a FROM t") == [{"a": 1}]


def test_the_test_really_logs_in(dremio: Any) -> None:
    ok, message = DremioHook().test_connection()
    assert ok, message
    assert dremio.logins == 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"password": "wrong"}, "Login or Password is wrong"),
        ({"password": None}, "Password is empty"),
        ({"login": None}, "Login is empty"),
        ({"host": ""}, "Host is empty"),
        ({"host": "ftp://x"}, "Host 'ftp://x'"),
        ({"extra": {"use_ssl": "maybe"}}, "use_ssl"),
        ({"extra": {"use_ssl": False, "timeout": -1}}, "timeout"),
        ({"extra": {"use_ssl": False, "pat": "expired"}}, "pat in Extra is refused"),
        ({"extra": {"use_ssl": True}}, "use_ssl"),
    ],
)
def test_a_failed_test_names_the_field(
    dremio: Any, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], field: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DREMIO", dremio.connection(**changes))
    ok, message = DremioHook().test_connection()
    assert not ok
    assert field in message
    assert "correct" not in message.replace("incorrect", ""), "a message must not show the password"


def test_a_port_where_nothing_listens(dremio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("AIRFLOW_CONN_DREMIO", dremio.connection(port=port))
    ok, message = DremioHook().test_connection()
    assert (ok, "check Host and Port" in message) == (False, True)


def test_a_server_that_is_something_else(dremio: Any, monkeypatch: pytest.MonkeyPatch, wire: Any, reply: Any) -> None:
    other = wire(lambda request: reply(404, "<h1>Not here</h1>"))
    monkeypatch.setenv("AIRFLOW_CONN_DREMIO", dremio.connection(port=other.port))
    ok, message = DremioHook().test_connection()
    assert (ok, "not Dremio's REST" in message) == (False, True)


def test_airflow_finds_the_hook_and_its_form() -> None:
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    found = manager.hooks["dremio"]
    assert found is not None
    assert found.hook_class_name == "lakehouse_providers.dremio.hook.DremioHook"
    assert "extra__dremio__use_ssl" in manager.connection_form_widgets
    assert manager.connection_form_widgets["extra__dremio__pat"].is_sensitive
    assert manager.field_behaviours["dremio"]["relabeling"] == {"login": "User"}


def test_links_use_the_address_that_people_use(dremio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"use_ssl": False, "ui_url": "https://dremio.example.com/"}
    monkeypatch.setenv("AIRFLOW_CONN_DREMIO", dremio.connection(extra=extra))
    assert DremioHook().job_url("j") == "https://dremio.example.com/job/j"


def test_a_wrong_statement_says_why(dremio: Any) -> None:
    dremio.broken["nothing"] = "Object 'nothing' not found"
    with pytest.raises(errors.DremioJobFailedError, match="Object 'nothing' not found"):
        DremioHook().run_sql("SELECT * FROM nothing")
