"""The demo is never silent, and tells what a person wants to know of a run."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from embedded.demo import follow
from embedded.demo.follow import SILENCE, Follower, failure


class Stage:
    """A clock that the test moves, and what was said."""

    def __init__(self) -> None:
        self.now = 0.0
        self.said: list[str] = []
        self.follower = Follower(self.said.append, lambda: self.now)

    def look(self, seconds: float, *tasks: dict[str, Any]) -> list[str]:
        """Lines said at a look `seconds` later, without their time."""
        self.now += seconds
        before = len(self.said)
        self.follower(tasks)
        return [line.split(" s  ", 1)[1] for line in self.said[before:]]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def _task(task_id: str, state: str | None, **facts: Any) -> dict[str, Any]:
    return {"task_id": task_id, "state": state, "map_index": -1, **facts}


def test_a_line_when_a_task_starts_and_when_it_ends(stage: Stage) -> None:
    assert stage.look(0, _task("sync", None)) == []
    assert stage.look(1, _task("sync", "queued")) == []
    assert stage.look(1, _task("sync", "running")) == ["sync ..."]
    assert stage.look(1, _task("sync", "running")) == []
    assert stage.look(1, _task("sync", "success", duration=2.04)) == ["sync: done in 2.0 s"]
    assert stage.look(1, _task("sync", "success", duration=2.04)) == []


def test_going_to_the_triggerer_and_back_is_no_news(stage: Stage) -> None:
    stage.look(0, _task("sync", "running"))
    for state in ("deferred", "scheduled", "queued", "running"):
        assert stage.look(1, _task("sync", state)) == []


def test_a_task_seen_only_after_its_end_is_still_told(stage: Stage) -> None:
    assert stage.look(1, _task("quick", "success", duration=0.3)) == ["quick: done in 0.3 s"]


def test_a_retry_starts_again(stage: Stage) -> None:
    stage.look(0, _task("publish", "running"))
    assert stage.look(1, _task("publish", "up_for_retry")) == ["publish: failed, will be tried again"]
    assert stage.look(1, _task("publish", "running")) == ["publish ..."]
    assert stage.look(1, _task("publish", "failed")) == ["publish: FAILED"]


def test_a_sign_of_life_names_what_is_at_work(stage: Stage) -> None:
    stage.look(0, _task("sync", "running"), _task("reconcile", None))
    assert stage.look(SILENCE - 1, _task("sync", "deferred"), _task("reconcile", None)) == []
    assert stage.look(1, _task("sync", "deferred"), _task("reconcile", None)) == [
        f"at work: sync ({SILENCE:.0f} s); 1 to come"
    ]


def test_a_task_that_waits_to_be_tried_again_is_named(stage: Stage) -> None:
    stage.look(0, _task("publish", "running"))
    stage.look(1, _task("publish", "up_for_retry"))
    assert stage.look(SILENCE, _task("publish", "up_for_retry"), _task("receipt", None)) == [
        "to be tried again: publish; 1 to come"
    ]


def test_a_slow_look_does_not_make_it_silent(stage: Stage) -> None:
    stage.look(0, _task("sync", "running"))
    stage.now += SILENCE
    stage.follower.tick()
    stage.follower.tick()
    assert [line.split(" s  ", 1)[1] for line in stage.said[1:]] == [f"at work: sync ({SILENCE:.0f} s); 0 to come"]


def test_it_speaks_by_itself_while_somebody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "SILENCE", 0.0)
    spoke = threading.Event()
    with Follower(lambda line: spoke.set()):
        assert spoke.wait(30)


def test_a_run_that_no_task_of_has_started_is_not_silent_either(stage: Stage) -> None:
    assert stage.look(SILENCE, _task("sync", None)) == ["at work: the scheduler; 1 to come"]


def test_a_mapped_task_shows_its_index(stage: Stage) -> None:
    assert stage.look(0, _task("load", "running", map_index=2)) == ["load[2] ..."]


class RecordedRun:
    """The answers of Airflow's API about a failed run."""

    url = "http://127.0.0.1:8080"

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        return [
            _task("sync", "failed", try_number=2, end_date="2017-01-01T02:00:00Z"),
            _task("publish", "upstream_failed", try_number=0, end_date=None),
        ]

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int) -> str:
        folded = ["::group::DAG bundles", *("how the file was parsed" for _ in range(60)), "::endgroup::"]
        cause = f"{task_id} {try_number}: no such table retail.orders"
        return "\n".join([*(f"line {n}" for n in range(100)), "::group::Execute", *folded, cause, *folded])


def test_a_failure_shows_the_cause_and_where_to_read_on() -> None:
    text = failure(RecordedRun(), "retail_batch", "manual__1")  # type: ignore[arg-type]
    assert "sync 2: no such table retail.orders" in text
    assert "line 0\n" not in text
    assert "how the file was parsed" not in text
    assert "publish" not in text
    assert "http://127.0.0.1:8080/dags/retail_batch/runs/manual__1" in text
