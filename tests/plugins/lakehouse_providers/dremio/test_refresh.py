"""The rules by which a reflection counts as refreshed. Each case is one that a simpler rule gets wrong."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from lakehouse_providers.dremio import refresh
from lakehouse_providers.dremio.models import Materialization, Reflection, instant

BASELINE = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


def moment(seconds: float) -> dt.datetime:
    return BASELINE + dt.timedelta(seconds=seconds)


def materialization(identity: str, state: str, fetched: float | None = None, **values: Any) -> Materialization:
    defaults: dict[str, Any] = {"created": moment(fetched or 0), "failure": "", "job_id": f"job-{identity}"}
    return Materialization(
        **{
            "id": identity,
            "reflection_id": "r",
            "state": state,
            "data_fetched": None if fetched is None else moment(fetched),
            "bytes": 1,
            "milliseconds": 1,
            **defaults,
            **values,
        }
    )


def reflection(**status: Any) -> Reflection:
    body = {"config": "OK", "refresh": "SCHEDULED", "availability": "AVAILABLE", "failureCount": 0, **status}
    enabled = body.pop("enabled", True)
    return Reflection.parse({"id": "r", "name": "n", "datasetId": "d", "enabled": enabled, "status": body})


OLD = materialization("old", "DONE", -60)
RUNNING = materialization("running", "RUNNING")
TARGET = refresh.Target("r", "n", "lake.gold.t", failures=2, known=("old", "running"), running=("running",))


def judge(now: Reflection | None, *made: Materialization, **options: Any) -> refresh.Verdict:
    return refresh.judge(TARGET, BASELINE, now, [OLD, *made], **options)


def test_the_previous_materialization_is_no_success() -> None:
    now = reflection(combinedStatus="CAN_ACCELERATE", failureCount=2)
    assert judge(now).state == "waiting"


def test_a_refresh_that_ran_before_we_asked_is_no_success() -> None:
    """It ends as DONE and nothing runs any more, but it read the tables before our data was there."""
    now = reflection(failureCount=2)
    early = materialization("running", "DONE", -1)
    assert judge(now, early).state == "waiting"
    assert judge(now, materialization("new", "DONE", -0.001)).state == "waiting"


def test_a_new_materialization_with_data_from_the_baseline_is_success() -> None:
    verdict = judge(reflection(failureCount=2), materialization("new", "DONE", 0))
    assert (verdict.state, verdict.job_id) == ("fresh", "job-new")


def test_the_known_one_does_not_count_even_if_its_time_moves() -> None:
    assert judge(reflection(failureCount=2), materialization("running", "DONE", 5)).state == "waiting"


def test_it_must_have_reached_the_planner() -> None:
    verdict = judge(reflection(availability="NONE", failureCount=0), materialization("new", "DONE", 5))
    assert verdict.state == "waiting"
    assert "planner" in verdict.reason


@pytest.mark.parametrize(("state", "word"), [("FAILED", "failed"), ("CANCELED", "was cancelled")])
def test_a_new_materialization_that_was_lost_is_a_failure(state: str, word: str) -> None:
    """Also one that had expired when it was done: that one does not raise the failure count."""
    lost = materialization("new", state, failure="Successful materialization already expired")
    verdict = judge(reflection(failureCount=2), lost)
    assert verdict.state == "failed"
    assert verdict.reason == f"its refresh {word}: Successful materialization already expired"
    assert verdict.job_id == "job-new"


def test_a_risen_failure_count_is_a_failure_with_its_message() -> None:
    verdict = judge(reflection(failureCount=3, lastFailureMessage={"message": "disk is full"}))
    assert (verdict.state, verdict.reason) == ("failed", "its refresh failed: disk is full")


def test_the_failure_of_the_refresh_that_already_ran_is_forgiven() -> None:
    """Dremio then starts the one that we asked for."""
    now = reflection(failureCount=3, refresh="RUNNING")
    assert judge(now, materialization("running", "FAILED")).state == "waiting"
    assert judge(reflection(failureCount=4), materialization("running", "FAILED")).state == "failed"


def test_failures_can_be_left_to_dremio_but_giving_up_cannot() -> None:
    lost = materialization("new", "FAILED", failure="first try")
    assert judge(reflection(failureCount=3), lost, wait_for_retries=True).state == "waiting"
    verdict = judge(reflection(failureCount=24, refresh="GIVEN_UP"), lost, wait_for_retries=True)
    assert verdict.state == "failed"
    assert verdict.reason == "Dremio has given it up after 24 failures: first try"


def test_a_later_success_heals_an_earlier_failure() -> None:
    made = [materialization("a", "FAILED", created=moment(1)), materialization("b", "DONE", 2)]
    assert judge(reflection(failureCount=0), *made).state == "fresh"


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (None, "deleted"),
        (reflection(enabled=False), "disabled"),
        (reflection(config="INVALID", lastFailureMessage="no column x"), "no longer fits the dataset. no column x"),
    ],
)
def test_what_cannot_come_back_is_a_failure(now: Reflection | None, reason: str) -> None:
    verdict = judge(now, materialization("new", "DONE", 5))
    assert verdict.state == "failed"
    assert reason in verdict.reason


def test_other_reflections_materializations_are_not_ours() -> None:
    assert judge(reflection(failureCount=2), materialization("new", "DONE", 5, reflection_id="x")).state == "waiting"


def test_a_baseline_survives_json() -> None:
    baseline = refresh.Baseline(BASELINE, (TARGET,), ("t1", "t2"))
    assert refresh.Baseline.load(json.loads(json.dumps(baseline.dump()))) == baseline


def test_an_endless_reason_is_cut() -> None:
    verdict = judge(reflection(failureCount=2), materialization("new", "FAILED", failure="x" * 100_000))
    assert len(verdict.reason) < 2000


def test_never_is_no_moment() -> None:
    assert instant("1969-12-31T23:59:59.999Z") is None
    assert instant("") is None
    assert instant("2026-01-01 12:00:00.000") == BASELINE
    assert instant("2026-01-01T13:00:00+01:00") == BASELINE


def test_a_reflection_built_on_an_older_reflection_is_not_fresh() -> None:
    """It is made anew, and done; but its data are as old as those of the reflection that it was built from."""
    now = reflection(failureCount=2)
    child = materialization("new", "DONE", -5, created=moment(30))
    assert judge(now, child).state == "waiting"
    assert judge(now, child, materialization("newer", "DONE", 1)).state == "fresh"


def test_data_that_expired_at_once_is_a_failure() -> None:
    verdict = judge(reflection(failureCount=2, availability="EXPIRED"), materialization("new", "DONE", 1))
    assert verdict.state == "failed"
    assert "grace period is shorter" in verdict.reason
    assert verdict.job_id == "job-new"
