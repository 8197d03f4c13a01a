"""The defects of the official operator, one by one: each test fails with it."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

import pytest
from airflow.providers.airbyte.operators.airbyte import AirbyteTriggerSyncOperator
from airflow.sdk.exceptions import TaskDeferred

from lakehouse_providers.airbyte import errors
from lakehouse_providers.airbyte.operators import AirbyteSyncOperator, reason
from lakehouse_providers.airbyte.submission import ConnectionBusyError


def operator(**options: Any) -> AirbyteSyncOperator:
    defaults: dict[str, Any] = {
        "task_id": "sync",
        "airbyte_conn_id": "airbyte",
        "poll_interval": 0.001,
        "wait_seconds": 0.001,
    }
    named = {} if "connection_id" in options else {"connection_name": "retail_sales"}
    return AirbyteSyncOperator(**defaults | named | options)


def run(task: Any, context: dict[str, Any]) -> Any:
    """A whole try, through the trigger where the operator defers."""
    step: Any = task.execute
    arguments: tuple[Any, ...] = (context,)
    while True:
        try:
            return step(*arguments)
        except TaskDeferred as deferred:
            event = asyncio.run(anext(aiter(deferred.trigger.run())))
            step, arguments = getattr(task, deferred.method_name), (context, event.payload)


def defer(task: Any, context: dict[str, Any]) -> dict[str, Any]:
    with pytest.raises(TaskDeferred) as caught:
        task.execute(context)
    kwargs: dict[str, Any] = caught.value.trigger.serialize()[1]
    return kwargs


@pytest.mark.parametrize("deferrable", [True, False])
def test_facts_come_back_in_both_modes(
    airbyte: Any, context: Any, store: Any, connection_id: str, deferrable: bool
) -> None:
    airbyte.ends(after=2)
    airbyte.reports[41] = {"streams": [{"name": "orders", "rows": 5}]}
    facts = run(operator(deferrable=deferrable), context)
    assert facts == {
        "job_id": 41,
        "connection_id": connection_id,
        "connection": "retail_sales",
        "status": "succeeded",
        "rows": 5,
        "bytes": 600,
        "duration_seconds": 65.0,
        "started_at": "2026-01-01T12:00:00Z",
        "ended_at": "2026-01-01T12:01:05Z",
        "adopted": False,
        "url": f"{airbyte.wire.url}/workspaces/w1/connections/{connection_id}/timeline?jobId=41",
        "streams": [{"name": "orders", "rows": 5}],
    }
    assert context["ti"].xcom["airbyte_job_url"] == facts["url"]
    assert store.data == {}, "a later clear of this task must sync again"


def test_a_short_sync_ends_without_deferring_and_a_long_one_defers(airbyte: Any, context: Any) -> None:
    airbyte.ends(after=2)
    assert operator(defer_after=60).execute(context)["status"] == "succeeded"
    airbyte.ends(after=10**6)
    defer(operator(defer_after=0.3), context)
    assert len(airbyte.created) == 2


def test_the_official_arguments_work(airbyte: Any, context: Any, connection_id: str) -> None:
    task = operator(connection_id=connection_id, api_version="v1", timeout=10, asynchronous=True)
    assert isinstance(task, AirbyteTriggerSyncOperator)
    assert task.execute(context) == 41
    assert set(AirbyteTriggerSyncOperator.template_fields) <= set(task.template_fields)


def test_one_way_to_say_which_connection() -> None:
    with pytest.raises(ValueError, match="either connection_id or connection_name"):
        operator(connection_id="a", connection_name="b")
    with pytest.raises(ValueError, match="either connection_id or connection_name"):
        operator(connection_id=None, connection_name=None)
    with pytest.raises(ValueError, match="adopt, wait or fail"):
        operator(on_running="hope")


def test_a_queued_sync_is_not_a_failure(airbyte: Any, context: Any) -> None:
    airbyte.first_status = "queued"
    airbyte.ends(after=3)
    assert run(operator(), context)["status"] == "succeeded"


@pytest.mark.parametrize("deferrable", [True, False])
def test_an_outage_during_the_wait_is_not_a_failure(airbyte: Any, context: Any, deferrable: bool) -> None:
    airbyte.ends(after=2)
    airbyte.wire.fail(503, path="/jobs/41", count=15)
    assert run(operator(deferrable=deferrable), context)["status"] == "succeeded"
    assert len(airbyte.created) == 1


def test_a_lost_reply_is_adopted(airbyte: Any, context: Any) -> None:
    airbyte.wire.lose(method="POST", path="/jobs")
    airbyte.ends(after=2)
    facts = run(operator(), context)
    assert (facts["job_id"], facts["adopted"]) == (41, True)
    assert len(airbyte.created) == 1


def test_the_next_try_adopts(airbyte: Any, context: Any) -> None:
    assert defer(operator(), context)["job_id"] == 41
    assert defer(operator(), context)["job_id"] == 41
    assert len(airbyte.created) == 1


def test_a_running_sync_is_adopted(airbyte: Any, context: Any) -> None:
    job = airbyte.job("running")
    kwargs = defer(operator(), context)
    assert (kwargs["job_id"], kwargs["adopted"]) == (job, True)


def test_a_running_sync_can_be_a_failure(airbyte: Any, context: Any) -> None:
    airbyte.job("running")
    with pytest.raises(ConnectionBusyError):
        run(operator(on_running="fail"), context)


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled"])
def test_a_running_sync_can_be_waited_for(airbyte: Any, context: Any, deferrable: bool, end: str) -> None:
    other = airbyte.job("running")
    airbyte.ends(end, after=2)
    task = operator(on_running="wait", deferrable=deferrable)
    if deferrable:
        assert defer(task, context)["job_id"] == other
    airbyte.on_look = lambda job: job.update(status=end if job["jobId"] == other else "succeeded")
    facts = run(task, context)
    assert (facts["job_id"], facts["adopted"]) == (other + 1, False)


def test_the_poll_interval_reaches_the_trigger(airbyte: Any, context: Any) -> None:
    assert defer(operator(poll_interval=2.5), context)["interval"] == 2.5


def test_an_adopted_job_that_is_then_cancelled_is_replaced(airbyte: Any, context: Any) -> None:
    """The trigger of the try before may still cancel it, when its task was cleared a moment ago."""
    job = airbyte.job("running")
    kwargs = defer(operator(), context)
    airbyte.jobs[job]["status"] = "cancelled"
    task = operator()
    event = {"status": "cancelled", "job_id": job, "message": "", "adopted": kwargs["adopted"]}
    with pytest.raises(TaskDeferred) as caught:
        task.execute_complete(context, event)
    assert caught.value.trigger.serialize()[1]["job_id"] == job + 1


def test_an_own_job_that_is_cancelled_is_a_failure(airbyte: Any, context: Any) -> None:
    airbyte.ends("cancelled", after=2)
    with pytest.raises(errors.AirbyteJobCancelledError, match="job 41 cancelled"):
        run(operator(), context)
    assert len(airbyte.created) == 1


def test_a_failure_says_why_and_where(airbyte: Any, context: Any, store: Any) -> None:
    airbyte.reports[41] = {"failureReason": {"origin": "source", "type": "config_error", "message": "no table x"}}
    airbyte.ends("failed", after=2)
    with pytest.raises(
        errors.AirbyteJobFailedError, match=r"source: config_error: no table x \[http.*timeline\?jobId=41\]"
    ):
        run(operator(), context)
    assert store.data == {}, "the next try starts another sync"


def test_a_failure_on_a_server_that_gives_no_reason(airbyte: Any, context: Any) -> None:
    airbyte.ends("failed", after=2)
    with pytest.raises(errors.AirbyteJobFailedError, match=r"^Airbyte job 41 failed \[http"):
        run(operator(), context)


@pytest.mark.parametrize(
    ("report", "text"), [({}, ""), ({"reason": "x"}, "x"), ({"failureReason": {"message": "m"}}, "m")]
)
def test_reasons(report: dict[str, Any], text: str) -> None:
    assert reason(report) == text


@pytest.mark.parametrize("deferrable", [True, False])
def test_out_of_time_cancels(airbyte: Any, context: Any, store: Any, deferrable: bool) -> None:
    with pytest.raises(errors.AirbyteJobTimeoutError, match="was cancelled: not finished after 0 s"):
        run(operator(timeout=0, deferrable=deferrable), context)
    assert airbyte.cancelled == [41]
    assert store.data == {}


def test_out_of_time_can_leave_the_sync_to_the_next_try(airbyte: Any, context: Any) -> None:
    with pytest.raises(errors.AirbyteJobTimeoutError, match="the next try adopts it"):
        run(operator(timeout=0, cancel_on_timeout=False), context)
    assert airbyte.cancelled == []
    airbyte.ends()
    assert run(operator(), context)["job_id"] == 41


def test_the_execution_timeout_holds_while_deferred_and_always_cancels(airbyte: Any, context: Any) -> None:
    task = operator(timeout=100, cancel_on_timeout=False, execution_timeout=dt.timedelta(0))
    with pytest.raises(errors.AirbyteJobTimeoutError):
        run(task, context)
    assert airbyte.cancelled == [41]


def test_a_wait_that_broke_leaves_the_sync_to_the_next_try(
    airbyte: Any, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    defer(operator(), context)
    monkeypatch.setenv("AIRFLOW_CONN_AIRBYTE", airbyte.connection(password="changed"))
    with pytest.raises(errors.AirbyteError, match="wrong client"):
        operator().execute_complete(context, {"status": "error", "job_id": 41, "message": "wrong client"})
    monkeypatch.setenv("AIRFLOW_CONN_AIRBYTE", airbyte.connection())
    assert defer(operator(), context)["job_id"] == 41


def test_a_sync_that_succeeded_is_not_repeated_when_only_its_facts_were_out_of_reach(
    airbyte: Any, context: Any
) -> None:
    defer(operator(), context)
    airbyte.jobs[41]["status"] = "succeeded"
    airbyte.wire.fail(503, path="/jobs/41", count=6)
    with pytest.raises(errors.AirbyteUnavailableError):
        operator().execute_complete(context, {"status": "succeeded", "job_id": 41})
    assert run(operator(), context)["job_id"] == 41


def test_a_kill_at_any_moment_breaks_nothing(airbyte: Any, context: Any) -> None:
    task = operator()
    task.on_kill()
    assert airbyte.cancelled == []
    defer(task, context)
    task.on_kill()
    assert airbyte.cancelled == [41]


def test_a_kill_asks_for_no_status_first(airbyte: Any, context: Any) -> None:
    task = operator()
    defer(task, context)
    airbyte.wire.fail(503, method="GET", count=99)
    task.on_kill()
    assert airbyte.cancelled == [41]


def test_a_kill_while_the_reply_is_outstanding_finds_the_sync(
    airbyte: Any, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lakehouse_providers.airbyte.client import AirbyteClient

    create = AirbyteClient.create_job

    def killed(self: AirbyteClient, connection_id: str) -> Any:
        create(self, connection_id)
        raise KeyboardInterrupt

    monkeypatch.setattr(AirbyteClient, "create_job", killed)
    task = operator()
    with pytest.raises(KeyboardInterrupt):
        task.execute(context)
    task.on_kill()
    assert airbyte.cancelled == [41]


def test_an_inactive_connection_is_named_before_anything_starts(airbyte: Any, context: Any) -> None:
    airbyte.objects["connections"][0].update(status="inactive", statusReason="SCHEMA_CHANGE")
    with pytest.raises(errors.AirbyteConfigurationError, match=r"'retail_sales' is inactive; .* SCHEMA_CHANGE"):
        run(operator(), context)
    assert airbyte.created == []


def test_an_unknown_connection_is_named(airbyte: Any, context: Any) -> None:
    with pytest.raises(errors.AirbyteConfigurationError, match="no Airbyte connection is named 'typo'"):
        run(operator(connection_name="typo"), context)
    with pytest.raises(errors.AirbyteNotFoundError):
        run(operator(connection_id="typo"), context)


def test_without_a_state_store_nothing_breaks(airbyte: Any) -> None:
    airbyte.ends()
    assert run(operator(), {})["job_id"] == 41
