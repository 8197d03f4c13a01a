from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk._shared.module_loading import import_string

from lakehouse_providers.airbyte.triggers import AirbyteJobTrigger


def fire(trigger: AirbyteJobTrigger) -> dict[str, Any]:
    async def first() -> Any:
        return await anext(aiter(trigger.run()))

    payload: dict[str, Any] = asyncio.run(first()).payload
    return payload


def waiting(job_id: int, **options: Any) -> AirbyteJobTrigger:
    defaults: dict[str, Any] = {"job_id": job_id, "conn_id": "airbyte", "interval": 0.001}
    return AirbyteJobTrigger(**defaults | options)


def test_it_survives_the_move_to_another_process() -> None:
    trigger = AirbyteJobTrigger(7, "c", 12.5, 3.0, True)
    path, kwargs = trigger.serialize()
    again = import_string(path)(**kwargs)
    assert isinstance(again, AirbyteJobTrigger)
    assert again.serialize() == (path, kwargs)


@pytest.mark.parametrize("status", ["pending", "queued", "running", "incomplete", "a status of tomorrow"])
def test_whatever_is_not_an_end_goes_on(airbyte: Any, status: str) -> None:
    job = airbyte.job(status)
    airbyte.ends(after=3)
    assert fire(waiting(job))["status"] == "succeeded"
    assert len(airbyte.wire.seen("GET", "/jobs/")) == 3


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_an_end_is_told(airbyte: Any, status: str) -> None:
    job = airbyte.job(status)
    event = fire(waiting(job, adopted=True))
    assert event == {"status": status, "job_id": job, "message": f"Airbyte job {job} {status}", "adopted": True}


def test_an_outage_longer_than_all_retries_is_waited_out(airbyte: Any) -> None:
    job = airbyte.job("running")
    airbyte.ends()
    airbyte.wire.fail(503, path="/jobs/", count=20)
    airbyte.wire.lose(path="/jobs/", count=7)
    airbyte.wire.fail(429, path="/jobs/", count=7)
    airbyte.wire.fail(401, path="/jobs/", count=1)
    airbyte.wire.fail(500, path="/token", count=7)
    assert fire(waiting(job))["status"] == "succeeded"


def test_a_standing_refusal_ends_the_wait_with_its_reason(airbyte: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AIRBYTE", airbyte.connection(password="changed"))
    event = fire(waiting(airbyte.job("running")))
    assert event["status"] == "error"
    assert "wrong client" in event["message"]


def test_out_of_time(airbyte: Any) -> None:
    assert fire(waiting(airbyte.job("running"), deadline=time.time()))["status"] == "timeout"


def test_waiting_does_not_stall_the_event_loop(airbyte: Any) -> None:
    """Twenty waits share one loop and a slow server; another task of the loop must run in between."""
    import threading

    job = airbyte.job("running")
    slow = threading.Event()
    answer = airbyte.wire.answer

    def delayed(request: Any) -> Any:
        slow.wait(0.02)
        return answer(request)

    airbyte.wire.answer = delayed

    async def run() -> int:
        ticks = 0
        waits = [asyncio.ensure_future(anext(aiter(waiting(job).run()))) for _ in range(20)]
        while len(airbyte.wire.seen("GET", "/jobs/")) < 40:
            await asyncio.sleep(0)
            ticks += 1
        airbyte.jobs[job]["status"] = "succeeded"
        await asyncio.gather(*waits)
        return ticks

    assert asyncio.run(run()) > 100


class Instance:
    dag_id, run_id, task_id, map_index = "d", "r", "t", 3


@pytest.mark.parametrize(
    ("state", "cancels"),
    [
        ("failed", True),
        ("success", True),
        (None, True),  # cleared
        ("queued", True),
        ("deferred", False),  # moved to another triggerer, which waits for the same job
        ("running", False),  # a new try has adopted the job
        (ConnectionError("api server is down"), False),
    ],
)
def test_only_a_person_stops_a_sync(airbyte: Any, monkeypatch: pytest.MonkeyPatch, state: Any, cancels: bool) -> None:
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    def states(**asked: Any) -> Any:
        if isinstance(state, Exception):
            raise state
        assert asked["map_index"] == 3
        return {"r": {"t_3": state}}  # Airflow names mapped tasks so

    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(states))
    job = airbyte.job("running")
    trigger = waiting(job)
    trigger._task_instance = Instance()
    asyncio.run(trigger.on_kill())
    assert airbyte.cancelled == ([job] if cancels else [])


def test_a_shutdown_cancels_nothing(airbyte: Any, task_state: Callable[[Any], None]) -> None:
    """The triggerer's own end runs cleanup, never on_kill."""
    task_state("deferred")
    job = airbyte.job("running")

    async def run() -> None:
        wait = asyncio.ensure_future(anext(aiter(waiting(job, interval=5.0).run())))
        while not airbyte.wire.seen("GET", "/jobs/"):
            await asyncio.sleep(0.01)
        wait.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wait
        await waiting(job).cleanup()

    asyncio.run(run())
    assert airbyte.cancelled == []
