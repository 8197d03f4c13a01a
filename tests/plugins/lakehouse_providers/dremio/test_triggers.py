from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk._shared.module_loading import import_string
from airflow.triggers.base import BaseTrigger

from lakehouse_providers.dremio import reflections
from lakehouse_providers.dremio.refresh import Baseline
from lakehouse_providers.dremio.triggers import DremioJobTrigger, DremioReflectionTrigger

GOLD = ("lake", "gold", "t")


def fire(trigger: BaseTrigger) -> dict[str, Any]:
    async def first() -> Any:
        return await anext(aiter(trigger.run()))

    payload: dict[str, Any] = asyncio.run(first()).payload
    return payload


def baseline(dremio: Any, *names: str) -> dict[str, Any]:
    """Reflections on one table, and what an operator knows of them before it asks."""
    table = dremio.table(*GOLD)
    for name in names:
        dremio.reflection(name, table)
    with dremio.client() as client:
        chosen = reflections.choose(client, reflections.Selection((GOLD,)))
        return reflections.take_baseline(client, chosen, [table["id"]]).dump()


def waiting(known: dict[str, Any], **options: Any) -> DremioReflectionTrigger:
    defaults: dict[str, Any] = {"baseline": known, "conn_id": "dremio", "interval": 0.01, "longest": 0.05}
    return DremioReflectionTrigger(**defaults | options)


@pytest.mark.parametrize(
    "trigger",
    [
        DremioJobTrigger("j", "conn", 12.5, 3.0, 4.0),
        DremioReflectionTrigger({"at": "x", "targets": [], "tables": []}, "conn", 1.0, 2.0, 3.0, True, 4.0, True),
    ],
)
def test_a_trigger_survives_the_move_to_another_process(trigger: BaseTrigger) -> None:
    path, kwargs = trigger.serialize()
    again = import_string(path)(**kwargs)
    assert type(again) is type(trigger)
    assert again.serialize() == (path, kwargs)


def test_a_job_is_awaited(dremio: Any) -> None:
    dremio.jobs["j"] = {"jobState": "RUNNING"}
    states = iter(["ENQUEUED", "RUNNING", "SOMETHING_NEW", "COMPLETED"])
    answer = dremio.wire.answer

    def advance(request: Any) -> Any:
        if request.path.endswith("/job/j"):
            dremio.jobs["j"]["jobState"] = next(states)
        return answer(request)

    dremio.wire.answer = advance
    event = fire(DremioJobTrigger("j", "dremio", interval=0.01))
    assert event == {
        "status": "success",
        "job_id": "j",
        "state": "COMPLETED",
        "message": "",
        "url": f"{dremio.wire.url}/job/j",
    }


@pytest.mark.parametrize(
    ("state", "status"), [("FAILED", "failed"), ("CANCELED", "cancelled"), ("CANCELLED", "cancelled")]
)
def test_a_job_that_ends_badly(dremio: Any, state: str, status: str) -> None:
    dremio.jobs["j"] = {"jobState": state, "errorMessage": "why"}
    assert fire(DremioJobTrigger("j", "dremio"))["status"] == status


def test_a_job_out_of_time(dremio: Any) -> None:
    dremio.jobs["j"] = {"jobState": "RUNNING"}
    assert fire(DremioJobTrigger("j", "dremio", deadline=time.time()))["status"] == "timeout"


def test_an_outage_longer_than_all_retries_is_waited_out(dremio: Any) -> None:
    """Throttled, down, broken connections, expired tokens: each more often than one call's retries bear."""
    dremio.jobs["j"] = {"jobState": "COMPLETED"}
    dremio.wire.fail(429, path="/job/j", count=7)
    dremio.wire.fail(503, path="/job/j", count=20)
    dremio.wire.lose(path="/job/j", count=7)
    dremio.wire.fail(401, path="/job/j", count=1)
    dremio.wire.fail(503, path="/login", count=1)
    assert fire(DremioJobTrigger("j", "dremio", interval=0.001, longest=0.001))["status"] == "success"


def test_a_standing_refusal_ends_the_wait_with_its_reason(dremio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DREMIO", dremio.connection(password="changed"))
    event = fire(DremioJobTrigger("j", "dremio", interval=0.001, longest=0.001))
    assert event["status"] == "error"
    assert "Invalid username or password" in event["message"]
    assert dremio.logins == 3


def test_waiting_does_not_stall_the_event_loop(dremio: Any) -> None:
    """Twenty waits share one loop and a slow server; another task of the loop must run in between."""
    dremio.jobs["j"] = {"jobState": "RUNNING"}
    answer = dremio.wire.answer
    slow = threading.Event()

    def delayed(request: Any) -> Any:
        slow.wait(0.02)
        return answer(request)

    dremio.wire.answer = delayed

    async def run() -> int:
        ticks = 0
        triggers = [DremioJobTrigger("j", "dremio", interval=0.01) for _ in range(20)]
        waits = [asyncio.ensure_future(anext(aiter(trigger.run()))) for trigger in triggers]
        while len(dremio.wire.seen("GET", "/job/j")) < 40:
            await asyncio.sleep(0)
            ticks += 1
        dremio.jobs["j"]["jobState"] = "COMPLETED"
        await asyncio.gather(*waits)
        return ticks

    assert asyncio.run(run()) > 100


def test_every_reflection_must_be_fresh(dremio: Any) -> None:
    known = baseline(dremio, "a", "b")
    job = dremio.made("a", state="DONE", fetched=1)
    looks = iter([None, None, lambda: dremio.made("b", state="DONE", fetched=2)])
    answer = dremio.wire.answer

    def advance(request: Any) -> Any:
        if request.path.endswith("/reflection/ref-b"):
            step = next(looks, None)
            if step:
                step()
        return answer(request)

    dremio.wire.answer = advance
    event = fire(waiting(known))
    assert event["status"] == "success"
    first, second = event["reflections"]
    assert first == {
        "id": "ref-a",
        "reflection": "a",
        "dataset": "lake.gold.t",
        "type": "RAW",
        "method": "FULL",
        "duration_seconds": 1.5,
        "rows": 7,
        "bytes": 1234,
        "data_fetched_at": "2026-01-01T12:00:01+00:00",
        "job_id": job,
        "job_url": f"{dremio.wire.url}/job/{job}",
    }
    assert second["reflection"] == "b"


def test_a_failed_refresh_names_reason_job_and_page(dremio: Any) -> None:
    known = baseline(dremio, "a")
    job = dremio.made("a", state="FAILED", failure="disk is full")
    dremio.status("a", failureCount=1)
    event = fire(waiting(known))
    assert event["status"] == "failed"
    assert event["message"] == (
        f"Reflection a on lake.gold.t: its refresh failed: disk is full [job {job}, {dremio.wire.url}/job/{job}]"
    )


def test_a_deleted_reflection_is_a_failure(dremio: Any) -> None:
    known = baseline(dremio, "a")
    del dremio.reflections["ref-a"]
    assert "deleted" in fire(waiting(known))["message"]


def test_a_refresh_stuck_behind_others_is_a_failure(dremio: Any) -> None:
    known = baseline(dremio, "a")
    dremio.status("a", refresh="PENDING")
    event = fire(waiting(known, pending_limit=0.0))
    assert event["status"] == "failed"
    assert "REFRESH_PENDING" in event["message"]


def test_out_of_time_says_what_was_last_seen(dremio: Any) -> None:
    known = baseline(dremio, "a")
    dremio.status("a", refresh="RUNNING")
    job = dremio.made("a", state="RUNNING")
    event = fire(waiting(known, deadline=time.time()))
    assert event["status"] == "timeout"
    assert "a on lake.gold.t: refresh RUNNING" in event["message"]
    assert event["jobs"] == [job]


def test_success_does_not_depend_on_the_row_count(dremio: Any) -> None:
    known = baseline(dremio, "a")
    dremio.made("a", state="DONE", fetched=1)
    dremio.broken["record_count"] = "Access denied"
    assert fire(waiting(known))["reflections"][0]["rows"] is None


def test_a_refresh_survives_an_outage(dremio: Any) -> None:
    known = baseline(dremio, "a")
    dremio.made("a", state="DONE", fetched=1)
    dremio.wire.fail(503, path="/sql", count=15)
    dremio.wire.fail(429, path="/reflection", count=15)
    dremio.tokens.clear()
    assert fire(waiting(known, interval=0.001, longest=0.001))["status"] == "success"


class Instance:
    dag_id, run_id, task_id, map_index = "d", "r", "t", -1


@pytest.mark.parametrize(
    ("state", "cancels"),
    [
        ("failed", True),
        ("success", True),
        ("skipped", True),
        (None, True),  # cleared
        ("scheduled", True),
        ("deferred", False),  # moved to another triggerer, which waits for the same job
        ("running", False),  # a new try has adopted the job
        (ConnectionError("api server is down"), False),
    ],
)
def test_only_a_person_stops_a_job(dremio: Any, task_state: Callable[[Any], None], state: Any, cancels: bool) -> None:
    dremio.jobs["j"] = {"jobState": "RUNNING"}
    task_state(state)
    trigger = DremioJobTrigger("j", "dremio")
    trigger._task_instance = Instance()
    asyncio.run(trigger.on_kill())
    assert dremio.cancelled == (["j"] if cancels else [])


def test_a_stopped_refresh_is_cancelled_only_if_asked(dremio: Any, task_state: Callable[[Any], None]) -> None:
    known = baseline(dremio, "a")
    assert Baseline.load(known).targets
    job = dremio.made("a", state="RUNNING")
    task_state("failed")
    for cancel, expected in ((False, []), (True, [job])):
        trigger = waiting(known, cancel_on_kill=cancel)
        trigger._task_instance = Instance()
        asyncio.run(trigger.on_kill())
        assert dremio.cancelled == expected


def test_a_wait_of_four_days_outlives_every_login(dremio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only the waiting moves: tokens end after 30 hours, and the server throttles now and then."""
    now, ends = [time.time()], dict[str, float]()
    answer = dremio.wire.answer

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    def aging(request: Any) -> Any:
        for token, end in list(ends.items()):
            if end <= now[0]:
                dremio.tokens.discard(token)
        reply = answer(request)
        ends.update({token: now[0] + 30 * 3600 for token in dremio.tokens if token not in ends})
        if "/job/j" in request.path:
            looks.append(request.path)
            if len(looks) == 400:
                dremio.jobs["j"]["jobState"] = "COMPLETED"
            if len(looks) % 50 == 0 and reply.status == 200:
                return dremio.reply(429, {"errorMessage": "too many requests"})
        return reply

    looks: list[str] = []
    dremio.jobs["j"] = {"jobState": "RUNNING"}
    dremio.wire.answer = aging
    for name in ("lakehouse_providers.polling", "lakehouse_providers.dremio.auth"):
        monkeypatch.setattr(f"{name}.time.time", lambda: now[0])
    monkeypatch.setattr("lakehouse_providers.polling.asyncio.sleep", sleep)
    started = now[0]
    assert fire(DremioJobTrigger("j", "dremio", interval=900.0, longest=900.0))["status"] == "success"
    assert now[0] - started > 3.5 * 86400
    assert dremio.logins >= 4
