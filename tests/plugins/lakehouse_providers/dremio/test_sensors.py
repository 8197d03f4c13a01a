from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

import pytest
from airflow.sdk._shared.module_loading import import_string
from airflow.sdk.exceptions import AirflowSensorTimeout, AirflowSkipException, TaskDeferred

from lakehouse_providers.dremio import errors
from lakehouse_providers.dremio.sensors import DremioDatasetExistenceSensor, DremioReflectionFreshnessSensor

GOLD = ("lake", "gold", "t")


def existence(**options: Any) -> DremioDatasetExistenceSensor:
    defaults: dict[str, Any] = {"task_id": "wait", "datasets": [GOLD], "poke_interval": 0.01}
    return DremioDatasetExistenceSensor(**defaults | options)


def freshness(**options: Any) -> DremioReflectionFreshnessSensor:
    defaults: dict[str, Any] = {"task_id": "wait", "datasets": [GOLD], "poke_interval": 0.01}
    return DremioReflectionFreshnessSensor(**defaults | {"since": "2026-01-01T12:00:00"} | options)


def run(sensor: Any, context: dict[str, Any]) -> Any:
    """Through a trigger that has travelled through the database, where the sensor defers."""
    try:
        return sensor.execute(context)
    except TaskDeferred as deferred:
        path, kwargs = deferred.trigger.serialize()
        event = asyncio.run(anext(aiter(import_string(path)(**kwargs).run())))
        return getattr(sensor, deferred.method_name)(context, event.payload)


def on_look(dremio: Any, number: int, step: Any) -> None:
    """Something happens before a sensor's look of that number."""
    answer = dremio.wire.answer
    looks = iter(range(1, 1000))

    def watch(request: Any) -> Any:
        if "/by-path/" in request.path and next(looks) == number:
            step()
        return answer(request)

    dremio.wire.answer = watch


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_dataset_that_appears(dremio: Any, context: Any, deferrable: bool) -> None:
    on_look(dremio, 3, lambda: dremio.table(*GOLD))
    run(existence(deferrable=deferrable), context)
    assert len(dremio.wire.seen("GET", "/by-path/")) == 3


def test_a_folder_is_no_dataset_and_columns_count(dremio: Any, context: Any) -> None:
    path = "/".join(GOLD)
    dremio.entities[path] = {"entityType": "folder", "id": "f", "path": list(GOLD), "tag": "t"}
    with pytest.raises(AirflowSensorTimeout, match=r"lake\.gold\.t is no dataset yet"):
        run(existence(timeout=0), context)
    dremio.table(*GOLD)["fields"] = [{"name": "id", "type": {"name": "BIGINT"}}]
    with pytest.raises(AirflowSensorTimeout, match="has no column amount yet"):
        run(existence(timeout=0, columns=["id", "amount"]), context)
    run(existence(columns=["id"]), context)


def test_all_datasets_must_exist(dremio: Any, context: Any) -> None:
    dremio.table(*GOLD)
    with pytest.raises(AirflowSensorTimeout, match=r"lake\.gold\.u"):
        run(existence(datasets=[GOLD, "lake.gold.u"], timeout=0), context)


def test_a_sensor_may_skip_instead_of_failing(dremio: Any, context: Any) -> None:
    with pytest.raises(AirflowSkipException):
        run(existence(timeout=0, soft_fail=True), context)


def test_the_tasks_own_time_limit_counts(dremio: Any, context: Any) -> None:
    with pytest.raises(AirflowSensorTimeout):
        run(existence(timeout=3600, execution_timeout=dt.timedelta(0)), context)


@pytest.mark.parametrize("datasets", [[], "lake.gold.t", [""], [["a", ""]]])
def test_wrong_paths_are_refused_before_waiting(dremio: Any, context: Any, datasets: Any) -> None:
    with pytest.raises(errors.DremioConfigurationError):
        run(existence(datasets=datasets), context)
    assert dremio.wire.requests == []


def test_outages_are_waited_out(dremio: Any, context: Any) -> None:
    dremio.table(*GOLD)
    dremio.wire.fail(503, path="/by-path/", count=20)
    dremio.wire.fail(429, path="/by-path/", count=7)
    dremio.wire.lose(path="/by-path/", count=7)
    dremio.tokens.clear()
    run(existence(poke_interval=0.0), context)


@pytest.fixture
def reflected(dremio: Any) -> Any:
    """A table with two reflections that hold data fetched at noon."""
    table = dremio.table(*GOLD)
    for name in ("a", "b"):
        dremio.reflection(name, table)
        dremio.status(name, lastDataFetch="2026-01-01T12:00:00.000Z", availability="AVAILABLE")
    return table


@pytest.mark.parametrize("deferrable", [True, False])
def test_reflections_that_become_fresh(dremio: Any, context: Any, reflected: Any, deferrable: bool) -> None:
    dremio.status("b", lastDataFetch="2026-01-01T11:59:59.000Z")
    on_look(dremio, 3, lambda: dremio.status("b", lastDataFetch="2026-01-01T12:00:01.000Z"))
    run(freshness(deferrable=deferrable), context)
    assert len(dremio.wire.seen("GET", "/by-path/")) == 3


@pytest.mark.parametrize(
    ("status", "complaint"),
    [
        ({"lastDataFetch": "2026-01-01T11:00:00.000Z"}, "b on lake.gold.t holds data of 2026-01-01T11:00:00"),
        ({"lastDataFetch": "1969-12-31T23:59:59.999Z"}, "holds nothing yet"),
        ({"availability": "NONE"}, "holds nothing yet"),
        # What an accelerated query would show is old, whatever this says.
        ({"lastDataFetch": "2026-01-01T11:00:00.000Z", "combinedStatus": "CAN_ACCELERATE"}, "holds data of"),
    ],
)
def test_what_is_not_fresh(dremio: Any, context: Any, reflected: Any, status: Any, complaint: str) -> None:
    dremio.status("b", **status)
    with pytest.raises(AirflowSensorTimeout, match=complaint):
        run(freshness(timeout=0), context)
    run(freshness(reflections=["a"]), context)


@pytest.mark.parametrize(
    ("status", "complaint"),
    [
        ({"config": "INVALID", "lastFailureMessage": "no column x"}, "does not fit its dataset. no column x"),
        ({"refresh": "GIVEN_UP", "failureCount": 24, "lastFailureMessage": "disk"}, "given up after 24 failures: disk"),
    ],
)
def test_what_nobody_will_refresh_fails_at_once(
    dremio: Any, context: Any, reflected: Any, status: Any, complaint: str
) -> None:
    dremio.status("b", **status)
    with pytest.raises(errors.DremioError, match=complaint):
        run(freshness(), context)
    with pytest.raises(AirflowSkipException):
        run(freshness(never_fail=True), context)


def test_the_age_of_the_data(dremio: Any, context: Any, reflected: Any) -> None:
    now = dt.datetime.now(dt.UTC)
    for name in ("a", "b"):
        dremio.status(name, lastDataFetch=(now - dt.timedelta(hours=1)).isoformat())
    run(freshness(since=None, max_age=dt.timedelta(hours=2)), context)
    with pytest.raises(AirflowSensorTimeout):
        run(freshness(since=None, max_age=dt.timedelta(minutes=30), timeout=0), context)


def test_a_reflection_that_is_not_there_is_waited_for(dremio: Any, context: Any, reflected: Any) -> None:
    with pytest.raises(AirflowSensorTimeout, match="no reflection c yet"):
        run(freshness(reflections=["a", "c"], timeout=0), context)


def test_either_a_moment_or_an_age(dremio: Any, context: Any) -> None:
    with pytest.raises(ValueError, match="either since or max_age"):
        freshness(max_age=dt.timedelta(1))
    with pytest.raises(errors.DremioConfigurationError, match="since must be an ISO date"):
        run(freshness(since="{{ typo }}"), context)
