from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
from typing import Any

import pytest
from airflow.sdk._shared.module_loading import import_string
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from lakehouse_providers.webhook import client
from lakehouse_providers.webhook.errors import WebhookConfigurationError, WebhookDeliveryError
from lakehouse_providers.webhook.notifier import WebhookNotifier, message

SECRET = "/hooks/T000/s3cr3t"


@pytest.fixture
def receiver(wire: Any, reply: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A receiver behind the Airflow connection `alerts`, whose host holds the whole URL."""
    server = wire(lambda request: reply(204))
    fields = {"conn_type": "http", "host": f"{server.url}{SECRET}", "extra": {"headers": {"X-Team": "data"}}}
    monkeypatch.setenv("AIRFLOW_CONN_ALERTS", json.dumps(fields))
    return server


class Run:
    dag_id, run_id = "retail_batch", "scheduled__2026-01-01"


class Task(Run):
    task_id, log_url = "sync", "http://airflow/log"


class Broken(Run):
    task_id = "sync"

    @property
    def log_url(self) -> str:
        raise RuntimeError("not in this process")


def test_a_failed_task(receiver: Any) -> None:
    WebhookNotifier()({"dag_run": Run(), "ti": Task(), "run_id": Run.run_id, "exception": ValueError("disk full")})
    (request,) = receiver.requests
    assert request.path == SECRET
    assert request.headers["x-team"] == "data"
    body = request.json
    assert body.pop("at").endswith("+00:00")
    assert body == {
        "kind": "task_failed",
        "dag_id": "retail_batch",
        "run_id": "scheduled__2026-01-01",
        "task_id": "sync",
        "reason": "disk full",
        "url": "http://airflow/log",
    }


def test_a_failed_run_keeps_airflows_reason() -> None:
    body = message(None, {"dag": Run(), "run_id": "r/1", "reason": "task_failure"}, "http://airflow/")
    assert (body["kind"], body["reason"], body["task_id"]) == ("run_failed", "task_failure", None)
    assert body["url"] == "http://airflow/dags/retail_batch/runs/r%2F1"


def test_a_failed_run_whose_dag_is_a_stored_one(receiver: Any) -> None:
    """Airflow's scheduler gives a serialized DAG, which cannot render templates."""
    WebhookNotifier()({"dag": Run(), "run_id": "r", "reason": "task_failure"})
    assert receiver.requests[0].json["kind"] == "run_failed"


def test_a_fact_that_airflow_cannot_compute_does_not_cost_the_alert(receiver: Any) -> None:
    WebhookNotifier(kind="run_failed")({"ti": Broken(), "run_id": "r", "reason": "x"})
    assert receiver.requests[0].json["task_id"] == "sync"


def test_a_missed_deadline_as_the_triggerer_tells_it(receiver: Any) -> None:
    """Airflow keeps the callback's path and arguments, and gives a small context of plain JSON."""
    alert = DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=dt.timedelta(hours=1),
        callback=AsyncCallback(WebhookNotifier, kwargs={"conn_id": "alerts", "kind": "deadline_missed"}),
    )
    stored = alert.callback.serialize()
    context = {
        "dag_run": {"dag_id": "retail_batch", "dag_run_id": "r1"},
        "deadline": {"id": "1", "deadline_time": "2026-01-01T04:00:00Z"},
    }

    async def call() -> Any:
        return await import_string(stored["path"])(**stored["kwargs"], context=context)

    assert asyncio.run(call()) is None
    body = receiver.requests[0].json
    assert (body["kind"], body["dag_id"], body["run_id"]) == ("deadline_missed", "retail_batch", "r1")
    assert body["reason"] == "not finished by 2026-01-01T04:00:00Z"


def test_a_receiver_that_is_busy_gets_it_later(receiver: Any) -> None:
    receiver.fail(429)
    receiver.fail(503)
    receiver.lose()
    WebhookNotifier()({"run_id": "r"})
    assert len(receiver.requests) == 4


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("trouble", ["refused", "silent", "unconfigured", "unknown", "none"])
def test_nothing_is_ever_raised_and_no_secret_logged(
    receiver: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, way: str, trouble: str
) -> None:
    if trouble == "refused":
        receiver.fail(403, count=99)
    elif trouble == "silent":
        receiver.close()
        receiver.close = lambda: None
    elif trouble == "unconfigured":
        monkeypatch.setenv("AIRFLOW_CONN_ALERTS", json.dumps({"conn_type": "http", "host": ""}))
    notifier = WebhookNotifier(conn_id="unknown" if trouble == "unknown" else "alerts", context={"run_id": "r"})
    caplog.set_level(logging.INFO, logger="httpx")  # it would write every address into the task's log
    with caplog.at_level(logging.INFO):
        if way == "sync":
            notifier({"run_id": "r"})
        else:

            async def call() -> None:
                await notifier

            asyncio.run(call())
    assert "s3cr3t" not in caplog.text


def test_a_given_reason_wins(receiver: Any) -> None:
    WebhookNotifier(kind="stale", reason="older than 26 h")({"run_id": "r", "reason": "other"})
    assert receiver.requests[0].json["reason"] == "older than 26 h"


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "https://h/x?y=1"}, "https://h/x?y=1"),
        ({"host": "h", "scheme": "http", "port": 8080}, "http://h:8080"),
        ({"host": "h/path"}, "https://h/path"),
        ({"host": "http://h:1/x", "port": 2}, "http://h:1/x"),
    ],
)
def test_addresses(fields: dict[str, Any], url: str) -> None:
    assert client.address(**fields).url == url


@pytest.mark.parametrize("host", ["", " ", "ftp://x", "http://"])
def test_no_address(host: str) -> None:
    with pytest.raises(WebhookConfigurationError, match="Host is"):
        client.address(host)


def test_an_address_shows_no_secret() -> None:
    to = client.address("https://h/s3cr3t", login="u", password="s3cr3t", extra={"headers": {"X": "s3cr3t"}})
    assert "s3cr3t" not in repr(to)


def test_a_refusal_names_the_receiver_only(receiver: Any) -> None:
    receiver.fail(400, count=9)
    with pytest.raises(WebhookDeliveryError, match=r"^the webhook at 127\.0\.0\.1 answered 400$"):
        client.post(client.address(f"{receiver.url}{SECRET}"), {})
