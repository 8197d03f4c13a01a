from __future__ import annotations

import asyncio
import datetime as dt
import json
import time
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout, TaskDeferred

from lakehouse_providers.dremio import errors
from lakehouse_providers.dremio.operators import (
    DremioRefreshMetadataOperator,
    DremioRefreshReflectionsOperator,
    DremioSqlOperator,
)

GOLD = ("lake", "gold", "t")


def run(operator: Any, context: dict[str, Any]) -> Any:
    """A whole try, through the trigger where the operator defers."""
    try:
        return operator.execute(context)
    except TaskDeferred as deferred:
        event = asyncio.run(anext(aiter(deferred.trigger.run())))
        return getattr(operator, deferred.method_name)(context, event=event.payload, **(deferred.kwargs or {}))


def defer(operator: Any, context: dict[str, Any]) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        operator.execute(context)
    return caught.value


# SQL


def sql(**options: Any) -> DremioSqlOperator:
    defaults: dict[str, Any] = {"task_id": "task", "conn_id": "dremio", "sql": "INSERT INTO t", "poll_interval": 0.01}
    return DremioSqlOperator(**defaults | options)


@pytest.mark.parametrize("deferrable", [True, False])
def test_sql_reports_its_job(dremio: Any, context: Any, store: Any, deferrable: bool) -> None:
    dremio.results["INSERT"] = [{"Records": 3}]
    facts = run(sql(deferrable=deferrable), context)
    job_id = facts["job_id"]
    assert facts == {
        "job_id": job_id,
        "state": "COMPLETED",
        "rows": 1,
        "duration_seconds": 2.5,
        "url": f"{dremio.wire.url}/job/{job_id}",
        "accelerated": False,
        "reflections": [],
        "schema": [{"name": "Records", "type": "BIGINT"}],
        "first_rows": [{"Records": 3}],
        "truncated": False,
        "bytes": 8,
        "result": None,
    }
    json.dumps(facts)
    assert context["ti"].xcom["dremio_job_url"] == facts["url"]
    assert store.data == {}, "a later clear of this task must run the statement again"


def test_sql_is_adopted_by_the_next_try(dremio: Any, context: Any) -> None:
    dremio.endless.add("INSERT")
    first = defer(sql(), context)
    second = defer(sql(), context)
    assert second.trigger.serialize()[1]["job_id"] == first.trigger.serialize()[1]["job_id"]
    assert len(dremio.statements("INSERT")) == 1


def test_sql_that_failed_is_run_again_by_the_next_try(dremio: Any, context: Any) -> None:
    dremio.broken["INSERT"] = "Column 'x' not found"
    with pytest.raises(errors.DremioJobFailedError, match=r"Column 'x' not found.*/job/"):
        run(sql(), context)
    dremio.broken.clear()
    assert run(sql(), context)["state"] == "COMPLETED"


def test_sql_whose_reply_is_lost_is_found_not_repeated(dremio: Any, context: Any) -> None:
    dremio.wire.lose(path="/sql")
    assert run(sql(), context)["state"] == "COMPLETED"
    assert len(dremio.statements("INSERT")) == 1


def test_sql_of_a_worker_that_died_between_submission_and_note_is_found(dremio: Any, context: Any, store: Any) -> None:
    defer(sql(), context)
    store.keep("dremio_job", {"marker": store.record("dremio_job")["marker"]})
    defer(sql(), context)
    assert len(dremio.statements("INSERT")) == 1


def test_sql_is_noted_before_it_is_submitted(dremio: Any, context: Any, store: Any) -> None:
    answer = dremio.wire.answer
    notes: list[str] = []

    def look(request: Any) -> Any:
        if request.path.endswith("/sql"):
            notes.append(store.record("dremio_job")["marker"])
        return answer(request)

    dremio.wire.answer = look
    run(sql(), context)
    (statement,) = dremio.statements("INSERT")
    assert statement == f"{notes[0]} INSERT INTO t"


def test_sql_that_was_never_submitted_says_so(dremio: Any, context: Any) -> None:
    dremio.wire.lose(path="/sql", after=False)
    with pytest.raises(errors.DremioUnreachableError):
        run(sql(), context)


def test_sql_out_of_time_is_cancelled(dremio: Any, context: Any) -> None:
    dremio.endless.add("INSERT")
    with pytest.raises(errors.DremioJobTimeoutError, match="not finished in time"):
        run(sql(timeout=0), context)
    assert len(dremio.cancelled) == 1


def test_sql_killed_is_cancelled_and_before_that_nothing_breaks(dremio: Any, context: Any) -> None:
    operator = sql()
    operator.on_kill()
    dremio.endless.add("INSERT")
    defer(operator, context)
    operator.on_kill()
    assert len(dremio.cancelled) == 1


def test_sql_that_completed_is_not_repeated_when_only_its_facts_were_out_of_reach(dremio: Any, context: Any) -> None:
    deferred = defer(sql(), context)
    event = asyncio.run(anext(aiter(deferred.trigger.run()))).payload  # type: ignore[arg-type]
    dremio.wire.fail(503, path="/job", count=6)
    with pytest.raises(errors.DremioUnavailableError):
        sql().execute_complete(context, event)
    assert run(sql(), context)["job_id"] == event["job_id"]


def test_sql_of_a_cleared_task_runs_again_unless_it_still_runs(dremio: Any, context: Any) -> None:
    defer(sql(), context)
    context["dag_run"].clear_number = 1
    assert run(sql(), context)["state"] == "COMPLETED"
    assert len(dremio.statements("INSERT")) == 2
    dremio.endless.add("INSERT")
    defer(sql(), context)
    context["dag_run"].clear_number = 2
    defer(sql(), context)
    assert len(dremio.statements("INSERT")) == 3


def test_sql_shows_some_rows_and_counts_all(dremio: Any, context: Any) -> None:
    dremio.results["INSERT"] = [{"n": n, "word": "x" * 100} for n in range(1200)]
    facts = run(sql(max_rows=1000, max_bytes=2000), context)
    assert facts["rows"] == 1200
    assert 10 < len(facts["first_rows"]) < 20
    assert facts["truncated"]
    assert facts["bytes"] > 100_000
    assert run(sql(max_rows=0), context)["first_rows"] == []


def test_sql_gives_its_rows_as_arrow_to_a_handler(dremio: Any, context: Any) -> None:
    dremio.results["INSERT"] = [{"n": 1}, {"n": 41}]
    assert run(sql(handler=lambda table: table["n"].to_pylist()), context)["result"] == [1, 41]


def test_sql_says_which_reflection_answered(dremio: Any, context: Any) -> None:
    deferred = defer(sql(), context)
    job_id = deferred.trigger.serialize()[1]["job_id"]
    chosen = [{"reflectionId": "r1", "relationship": "CHOSEN"}, {"reflectionId": "r2", "relationship": "MATCHED"}]
    dremio.jobs[job_id]["acceleration"] = {"reflectionRelationships": chosen}
    event = asyncio.run(anext(aiter(deferred.trigger.run()))).payload  # type: ignore[arg-type]
    facts = sql().execute_complete(context, event)
    assert (facts["accelerated"], facts["reflections"]) == (True, ["r1"])


def test_sql_ends_with_the_tasks_own_time_limit(dremio: Any, context: Any) -> None:
    """Airflow does not apply execution_timeout to a deferred task."""
    dremio.endless.add("INSERT")
    with pytest.raises(errors.DremioJobTimeoutError):
        run(sql(execution_timeout=dt.timedelta(0)), context)
    assert len(dremio.cancelled) == 1
    for timeout, limit, seconds in ((5, 100, 5), (100, 5, 5), (None, 7, 7), (7, None, 7)):
        operator = sql(timeout=timeout, execution_timeout=limit and dt.timedelta(seconds=limit))
        end = defer(operator, {**context, "task_state_store": None}).trigger.serialize()[1]["deadline"]
        assert end == pytest.approx(time.time() + seconds, abs=60)
    assert defer(sql(), context).trigger.serialize()[1]["deadline"] is None


def test_sql_waiting_in_a_worker_is_cancelled_by_its_time_limit(
    dremio: Any, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There Airflow interrupts the task and calls on_kill."""
    dremio.endless.add("INSERT")
    operator = sql(deferrable=False)

    async def interrupted(*args: Any) -> Any:
        raise AirflowTaskTimeout

    monkeypatch.setattr("lakehouse_providers.dremio.operators.statement.watch_job", interrupted)
    with pytest.raises(AirflowTaskTimeout):
        operator.execute(context)
    operator.on_kill()
    assert len(dremio.cancelled) == 1


# Metadata


def metadata(**options: Any) -> DremioRefreshMetadataOperator:
    defaults: dict[str, Any] = {"task_id": "task", "datasets": [], "poll_interval": 0.01}
    return DremioRefreshMetadataOperator(**defaults | options)


def test_metadata_of_exactly_the_given_datasets(dremio: Any, context: Any) -> None:
    facts = run(metadata(datasets=[["bronze", "retail", "orders"], '"bronze"."retail"."stores"']), context)
    assert dremio.statements() == [
        'ALTER TABLE "bronze"."retail"."orders" REFRESH METADATA',
        'ALTER TABLE "bronze"."retail"."stores" REFRESH METADATA',
    ]
    assert [fact["dataset"] for fact in facts] == ["bronze.retail.orders", "bronze.retail.stores"]
    assert facts[0]["duration_seconds"] == 2.5
    assert not facts[0]["promoted"]


def test_metadata_of_nothing_asks_nothing(dremio: Any, context: Any) -> None:
    assert run(metadata(), context) == []
    assert dremio.wire.requests == []


def test_metadata_names_every_dataset_that_failed(dremio: Any, context: Any) -> None:
    dremio.broken['"b"'] = "Unable to find table"
    dremio.broken['"c"'] = "Access denied"
    with pytest.raises(
        errors.DremioError, match=r"^Metadata was not refreshed. b: .*Unable to find.* \| c: .*denied"
    ) as caught:
        run(metadata(datasets=["a", "b", "c"]), context)
    assert "a:" not in str(caught.value)
    assert len(dremio.statements()) == 3


def test_metadata_promotes_a_folder_first_if_told_to(dremio: Any, context: Any) -> None:
    dremio.entities["bronze/orders"] = {"entityType": "folder", "id": "f", "path": ["bronze", "orders"], "tag": "t"}
    facts = run(metadata(datasets=["bronze.orders"], promote={"type": "Parquet"}), context)
    assert facts[0]["promoted"]
    assert dremio.entities["bronze/orders"]["format"] == {"type": "Parquet"}
    assert not run(metadata(datasets=["bronze.orders"], promote={"type": "Parquet"}), context)[0]["promoted"]


def test_metadata_out_of_time_is_cancelled(dremio: Any, context: Any) -> None:
    dremio.endless.add("ALTER")
    with pytest.raises(errors.DremioJobTimeoutError):
        run(metadata(datasets=["a"], timeout=0), context)
    assert len(dremio.cancelled) == 1


def test_metadata_can_be_waited_for_in_the_triggerer(dremio: Any, context: Any, store: Any) -> None:
    dremio.broken['"b"'] = "Access denied"
    assert run(metadata(datasets=["a"], deferrable=True), context)[0]["dataset"] == "a"
    with pytest.raises(errors.DremioError, match=r"^Metadata was not refreshed. b: .*Access denied"):
        run(metadata(datasets=["a", "b"], deferrable=True), context)
    assert store.data == {}


def test_metadata_of_the_try_before_is_waited_for(dremio: Any, context: Any) -> None:
    dremio.endless.add("ALTER")
    first = defer(metadata(datasets=["a", "b"], deferrable=True), context)
    second = defer(metadata(datasets=["a", "b"], deferrable=True), context)
    assert second.trigger.serialize()[1]["job_ids"] == first.trigger.serialize()[1]["job_ids"]
    assert len(dremio.statements("ALTER")) == 2


def test_metadata_killed_is_cancelled(dremio: Any, context: Any, task_state: Any) -> None:
    dremio.endless.add("ALTER")
    operator = metadata(datasets=["a", "b"], deferrable=True)
    operator.on_kill()
    trigger = defer(operator, context).trigger
    operator.on_kill()
    assert len(dremio.cancelled) == 2
    trigger._task_instance = context["ti"]
    task_state("failed")
    asyncio.run(trigger.on_kill())
    assert len(dremio.cancelled) == 4


def test_metadata_survives_a_lost_reply(dremio: Any, context: Any) -> None:
    dremio.wire.lose(path="/sql")
    assert len(run(metadata(datasets=["a"]), context)) == 1


# Reflections


def refresh(**options: Any) -> DremioRefreshReflectionsOperator:
    defaults: dict[str, Any] = {"task_id": "task", "conn_id": "dremio", "datasets": [GOLD], "poll_interval": 0.01}
    return DremioRefreshReflectionsOperator(**defaults | options)


@pytest.fixture
def gold(dremio: Any) -> Any:
    """A table with two reflections that hold yesterday's data, on a server that refreshes when asked."""
    table = dremio.table(*GOLD)
    dremio.reflection("a", table)
    dremio.reflection("b", table)

    def refreshed(identity: str) -> None:
        for name in ("a", "b"):
            dremio.made(name, state="DONE", fetched=1)

    dremio.on_refresh = refreshed
    return table


@pytest.mark.parametrize("deferrable", [True, False])
def test_reflections_are_refreshed_with_one_request_per_table(
    dremio: Any, context: Any, store: Any, gold: Any, deferrable: bool
) -> None:
    result = run(refresh(deferrable=deferrable), context)
    assert dremio.refreshed == [gold["id"]]
    assert [fact["reflection"] for fact in result["reflections"]] == ["a", "b"]
    assert result["base_tables"] == [gold["id"]]
    assert result["asked_at"] == "2026-01-01T12:00:00+00:00"
    assert "/job/refresh-job-" in context["ti"].xcom["dremio_job_url"]
    assert store.data == {}, "a later clear of this task must refresh again"


def test_the_baseline_is_noted_before_the_first_request(dremio: Any, context: Any, store: Any, gold: Any) -> None:
    notes: list[Any] = []
    dremio.on_refresh = lambda table: notes.append(store.record("dremio_refresh")["asked"])
    defer(refresh(), context)
    assert notes == [False]
    assert store.record("dremio_refresh")["asked"] is True


def test_the_next_try_waits_for_the_refresh_already_asked_for(dremio: Any, context: Any, gold: Any) -> None:
    first = defer(refresh(), context)
    dremio.clock = 1000
    second = defer(refresh(), context)
    assert dremio.refreshed == [gold["id"]]
    assert second.trigger.serialize()[1]["baseline"] == first.trigger.serialize()[1]["baseline"]


def test_a_worker_that_died_between_note_and_request_asks_again(
    dremio: Any, context: Any, store: Any, gold: Any
) -> None:
    defer(refresh(), context)
    store.keep("dremio_refresh", {**store.record("dremio_refresh"), "asked": False})
    defer(refresh(), context)
    assert dremio.refreshed == [gold["id"], gold["id"]]


def test_a_failed_refresh_fails_the_task_and_the_next_try_asks_anew(dremio: Any, context: Any, gold: Any) -> None:
    dremio.on_refresh = lambda table: dremio.made("b", state="FAILED", failure="disk is full")
    with pytest.raises(errors.DremioReflectionError, match=r"b on lake.* its refresh failed: disk is full .*/job/"):
        run(refresh(), context)

    def mended(table: str) -> None:
        for name in ("a", "b"):
            dremio.made(name, state="DONE", fetched=1)

    dremio.on_refresh = mended
    assert len(run(refresh(), context)["reflections"]) == 2
    assert len(dremio.refreshed) == 2


def test_out_of_time_fails_and_the_next_try_reattaches(dremio: Any, context: Any, gold: Any) -> None:
    dremio.on_refresh = lambda table: None
    with pytest.raises(errors.DremioReflectionError, match="not refreshed in time"):
        run(refresh(timeout=0), context)
    for name in ("a", "b"):
        dremio.made(name, state="DONE", fetched=1)
    assert len(run(refresh(), context)["reflections"]) == 2
    assert len(dremio.refreshed) == 1


def test_a_cleared_task_refreshes_again(dremio: Any, context: Any, gold: Any) -> None:
    """Yesterday's try timed out, or failed for good; since then the upstream tasks have brought new data."""
    defer(refresh(), context)
    context["dag_run"].clear_number = 1
    dremio.clock = 1000
    kwargs = defer(refresh(), context).trigger.serialize()[1]
    assert kwargs["baseline"]["at"] == "2026-01-01T12:16:40+00:00"
    assert len(dremio.refreshed) == 2


def test_base_tables_can_be_named(dremio: Any, context: Any, gold: Any) -> None:
    dremio.table("lake", "silver", "s")
    run(refresh(base_tables=["lake.silver.s"]), context)
    assert dremio.refreshed == ["id-lake-silver-s"]


def test_downstream_reflections_are_awaited_if_asked(dremio: Any, context: Any, gold: Any) -> None:
    view = dremio.table("space", "v", kind="VIRTUAL_DATASET")
    dremio.reflection("on_view", view, tables=[gold["id"]])
    deferred = defer(refresh(wait_for_downstream=True), context)
    names = [target["name"] for target in deferred.trigger.serialize()[1]["baseline"]["targets"]]
    assert names == ["a", "b", "on_view"]


def test_nothing_is_asked_for_when_a_target_cannot_be_refreshed(dremio: Any, context: Any, gold: Any) -> None:
    dremio.status("a", config="INVALID", lastFailureMessage="no column x")
    with pytest.raises(errors.DremioReflectionError, match="no column x"):
        run(refresh(), context)
    assert dremio.refreshed == []
    assert len(run(refresh(skip_unusable=True), context)["reflections"]) == 1


def test_queries_prove_that_the_planner_uses_them(dremio: Any, context: Any, gold: Any) -> None:
    answer = dremio.wire.answer
    chosen = {"relationship": "CHOSEN", "reflectionId": "ref-b"}

    def accelerate(request: Any) -> Any:
        reply = answer(request)
        if request.path.endswith("/sql") and "SUM" in request.json["sql"]:
            dremio.jobs[reply.body["id"]]["acceleration"] = {"reflectionRelationships": [chosen]}
        return reply

    dremio.wire.answer = accelerate
    assert run(refresh(check_queries=["SELECT SUM(x) FROM t"]), context)["checked"] == 1
    chosen["relationship"] = "MATCHED"
    with pytest.raises(errors.DremioReflectionError, match=r"not answered from .* SELECT SUM\(x\) FROM t"):
        run(refresh(check_queries=["SELECT SUM(x) FROM t"]), context)


def test_a_killed_refresh_goes_on_unless_asked(dremio: Any, context: Any, gold: Any) -> None:
    dremio.on_refresh = lambda table: dremio.made("a", state="RUNNING")
    for cancel, count in ((False, 0), (True, 1)):
        operator = refresh(cancel_on_kill=cancel)
        operator.on_kill()
        defer(operator, context)
        operator.on_kill()
        assert len(dremio.cancelled) == count


def test_templates_cover_what_a_run_decides() -> None:
    assert "datasets" in DremioRefreshReflectionsOperator.template_fields
    assert "datasets" in DremioRefreshMetadataOperator.template_fields
    assert "sql" in DremioSqlOperator.template_fields
