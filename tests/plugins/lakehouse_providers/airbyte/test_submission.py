"""One sync is started once, whatever gets lost."""

from __future__ import annotations

from typing import Any

import pytest

from lakehouse_providers.airbyte import errors
from lakehouse_providers.airbyte.submission import ConnectionBusyError, Submission
from lakehouse_providers.deferral import Memory


@pytest.fixture
def start(airbyte: Any, connection_id: str, context: Any) -> Any:
    """A try: (job id, adopted)."""

    def start(**options: Any) -> tuple[int, bool]:
        with airbyte.client() as client:
            submission = Submission(client, Memory(context, "airbyte_job"), **{"looks": (0.0, 0.0)} | options)
            started = submission.start(connection_id)
        return started.job.id, started.adopted

    return start


def test_a_sync_is_started_and_noted(airbyte: Any, start: Any, store: Any, connection_id: str) -> None:
    assert start() == (41, False)
    assert store.record("airbyte_job") == {"connection_id": connection_id, "job_id": 41}


def test_the_floor_is_noted_before_the_request(airbyte: Any, start: Any, store: Any, connection_id: str) -> None:
    airbyte.job("succeeded")
    airbyte.wire.fail(422, path="/jobs", method="POST")
    with pytest.raises(errors.AirbyteRequestError):
        start()
    assert store.record("airbyte_job") == {"connection_id": connection_id, "floor": 41}


@pytest.mark.parametrize("status", ["running", "pending", "queued", "incomplete", "succeeded"])
def test_the_next_try_adopts_the_job(airbyte: Any, start: Any, status: str) -> None:
    job_id, _ = start()
    airbyte.jobs[job_id]["status"] = status
    assert start() == (job_id, True)
    assert len(airbyte.created) == 1


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_the_next_try_of_a_lost_job_starts_another(airbyte: Any, start: Any, status: str) -> None:
    airbyte.jobs[start()[0]]["status"] = status
    assert start() == (42, False)


def test_a_job_that_airbyte_forgot_is_started_again(airbyte: Any, start: Any) -> None:
    del airbyte.jobs[start()[0]]
    assert start()[1] is False


def test_a_lost_reply_is_answered_by_looking(airbyte: Any, start: Any) -> None:
    airbyte.job("succeeded")
    airbyte.wire.lose(method="POST", path="/jobs")
    assert start() == (42, True)
    assert len(airbyte.created) == 1


def test_a_job_that_ended_before_we_looked_is_ours(airbyte: Any, start: Any) -> None:
    airbyte.first_status = "succeeded"
    airbyte.wire.lose(method="POST", path="/jobs")
    assert start() == (41, True)


def test_a_worker_that_died_before_noting_the_job_finds_it(
    airbyte: Any, start: Any, store: Any, connection_id: str
) -> None:
    airbyte.job("succeeded")
    store.keep("airbyte_job", {"connection_id": connection_id, "floor": 41})
    airbyte.job("running")
    assert start() == (42, True)
    assert airbyte.created == []


def test_a_request_that_never_arrived_is_sent_again(airbyte: Any, start: Any) -> None:
    airbyte.wire.lose(method="POST", path="/jobs", after=False)
    airbyte.wire.fail(500, method="POST", path="/jobs")
    assert start() == (41, False)
    assert len(airbyte.created) == 3


def test_an_outage_that_stays_is_reported(airbyte: Any, start: Any) -> None:
    airbyte.wire.fail(503, method="POST", path="/jobs", count=99)
    with pytest.raises(errors.AirbyteUnavailableError):
        start(attempts=2)


def test_a_running_sync_of_somebody_else(airbyte: Any, start: Any) -> None:
    job = airbyte.job("running")
    assert start() == (job, True)
    assert airbyte.created == []


@pytest.mark.parametrize("policy", ["wait", "fail"])
def test_a_running_sync_is_not_adopted_against_the_policy(airbyte: Any, start: Any, store: Any, policy: str) -> None:
    airbyte.job("queued")
    with pytest.raises(ConnectionBusyError, match="Airbyte job 41 of this connection is queued"):
        start(on_running=policy)
    assert store.data == {}


def test_a_sync_that_begins_between_look_and_request(airbyte: Any, start: Any) -> None:
    answer = airbyte.wire.answer

    def race(request: Any) -> Any:
        if request.method == "POST" and request.path.endswith("/jobs"):
            airbyte.job("running")
        return answer(request)

    airbyte.wire.answer = race
    assert start() == (41, True)


def test_a_conflict_without_a_running_job_is_tried_again(airbyte: Any, start: Any) -> None:
    problem = {"status": 409, "title": "try-again-later", "data": {"message": "A sync is already running for: x"}}
    airbyte.wire.fail(409, problem, method="POST", path="/jobs", count=2)
    assert start() == (41, False)


def test_an_inactive_connection_is_no_race(airbyte: Any, start: Any) -> None:
    problem = {"status": 409, "title": "state-conflict", "data": {"message": "Could not fulfill request"}}
    airbyte.wire.fail(409, problem, method="POST", path="/jobs", count=99)
    with pytest.raises(errors.AirbyteConflictError, match="Could not fulfill"):
        start()
    assert len(airbyte.created) == 1


def test_another_connections_note_is_not_ours(airbyte: Any, start: Any, store: Any) -> None:
    store.keep("airbyte_job", {"connection_id": "other", "job_id": airbyte.job("running", connection="other")})
    assert start() == (42, False)


def test_a_cleared_task_syncs_again_unless_its_sync_still_runs(airbyte: Any, start: Any, context: Any) -> None:
    job_id, _ = start()
    context["dag_run"].clear_number = 1
    assert start() == (job_id, True)
    airbyte.jobs[job_id]["status"] = "succeeded"
    assert start() == (job_id, True)
    context["dag_run"].clear_number = 2
    assert start() == (job_id + 1, False)


@pytest.mark.parametrize("policy", ["adopt", "fail"])
def test_a_job_of_ours_that_shows_up_late_is_no_foreign_one(airbyte: Any, start: Any, reply: Any, policy: str) -> None:
    """The reply was lost, a first look found nothing, and the second request meets our own sync."""
    answer = airbyte.wire.answer
    lists = [reply(body={"data": [], "next": "", "previous": ""})] * 2

    def late(request: Any) -> Any:
        is_list = request.method == "GET" and request.path.endswith("/jobs")
        return lists.pop() if is_list and lists else answer(request)

    airbyte.wire.answer = late
    airbyte.wire.lose(method="POST", path="/jobs")
    assert start(on_running=policy, looks=(0.0,)) == (41, True)
    assert len(airbyte.created) == 2
