"""The Dremio provider against our SQL server, over the wire."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from lakehouse_providers.dremio import errors
from lakehouse_providers.dremio.client import DremioClient
from lakehouse_providers.dremio.hook import DremioHook
from lakehouse_providers.dremio.operators import DremioRefreshReflectionsOperator, DremioSqlOperator
from lakehouse_providers.transport import Call

pytestmark = pytest.mark.contract


@pytest.fixture
def client(dremio_connection: Any) -> Iterator[DremioClient]:
    with DremioHook().client() as client:
        yield client
        faults(client, clear=True)


def faults(client: DremioClient, *, clear: bool = False, **wanted: Any) -> None:
    """Our server's own end of the wire; the real product has none."""
    method = "DELETE" if clear else "POST"
    client.call(Call(method, "/faults", json=None if clear else wanted, idempotent=False))


@pytest.fixture(scope="session")
def namespace() -> str:
    return f"n{uuid.uuid4().hex[:8]}"


@pytest.fixture
def gold(client: DremioClient, lake_source: dict[str, Any], namespace: str) -> tuple[str, ...]:
    """A table with two reflections, both built."""
    client.apply_source(lake_source)
    path = ("lake", namespace, f"t{uuid.uuid4().hex[:8]}")
    client.query(
        f'CREATE TABLE "lake"."{namespace}"."{path[2]}" AS '
        "SELECT * FROM (VALUES (1, 'a', 10), (2, 'b', 20), (3, 'a', 30)) AS t(id, kind, amount)"
    )
    dataset = client.by_path(path)["id"]
    client.create_reflection(
        {"type": "RAW", "name": "raw", "datasetId": dataset, "displayFields": [{"name": n} for n in ("id", "kind")]}
    )
    client.create_reflection(
        {
            "type": "AGGREGATION",
            "name": "agg",
            "datasetId": dataset,
            "dimensionFields": [{"name": "kind", "granularity": "NORMAL"}],
            "measureFields": [{"name": "amount", "measureTypeList": ["SUM", "COUNT"]}],
        }
    )
    return path


def table(path: tuple[str, ...]) -> str:
    return ".".join(f'"{part}"' for part in path)


def refresh(path: tuple[str, ...], **options: Any) -> DremioRefreshReflectionsOperator:
    defaults: dict[str, Any] = {"task_id": "refresh", "datasets": [path], "poll_interval": 0.1, "timeout": 60}
    return DremioRefreshReflectionsOperator(**defaults | options)


def run(operator: Any, context: dict[str, Any]) -> Any:
    try:
        return operator.execute(context)
    except TaskDeferred as deferred:
        event = asyncio.run(anext(aiter(deferred.trigger.run())))
        return getattr(operator, deferred.method_name)(context, event.payload)


def test_the_connection_test_logs_in(dremio_connection: Any) -> None:
    ok, message = DremioHook().test_connection()
    assert ok, message


def test_rows_of_several_pages_keep_order_and_columns(client: DremioClient, gold: tuple[str, ...]) -> None:
    joined = ", ".join(f"{table(gold)} AS t{n}" for n in range(6))
    rows = client.query(
        f"SELECT ROW_NUMBER() OVER (ORDER BY t0.id, t1.id, t2.id, t3.id, t4.id, t5.id) AS n FROM {joined}"
    )
    assert sorted(row["n"] for row in rows) == list(range(1, 730))


def test_a_wrong_statement_gives_dremios_words(dremio_connection: Any) -> None:
    with pytest.raises(errors.DremioJobFailedError, match="nothing_there"):
        DremioHook().run_sql('SELECT * FROM "nothing_there"')


def test_reflections_hold_this_runs_data(client: DremioClient, gold: tuple[str, ...], context: Any) -> None:
    client.query(f"INSERT INTO {table(gold)} VALUES (4, 'c', 40)")
    query = f"SELECT kind, SUM(amount) AS total FROM {table(gold)} GROUP BY kind"
    result = run(refresh(gold, check_queries=[query]), context)
    assert {fact["reflection"] for fact in result["reflections"]} == {"raw", "agg"}
    assert result["checked"] == 1
    rows = {fact["reflection"]: fact["rows"] for fact in result["reflections"]}
    assert rows == {"raw": 4, "agg": 3}
    assert all(fact["data_fetched_at"] >= result["asked_at"] for fact in result["reflections"])
    assert {row["kind"]: row["total"] for row in client.query(query)} == {"a": 40, "b": 20, "c": 40}


def test_a_failed_refresh_fails_the_task_with_the_reason(
    client: DremioClient, gold: tuple[str, ...], context: Any
) -> None:
    run(refresh(gold), context)
    faults(client, refresh_failures={"count": 2, "reason": "disk is full"})
    with pytest.raises(errors.DremioReflectionError, match="disk is full"):
        run(refresh(gold), context)
    assert len(run(refresh(gold), context)["reflections"]) == 2


def test_failures_can_be_left_to_the_server(client: DremioClient, gold: tuple[str, ...], context: Any) -> None:
    run(refresh(gold), context)
    faults(client, refresh_failures={"count": 2, "reason": "for a moment"}, backoff_unit=0.05)
    assert len(run(refresh(gold, wait_for_retries=True), context)["reflections"]) == 2


def test_throttling_lost_replies_and_expired_tokens_while_waiting(
    client: DremioClient, gold: tuple[str, ...], context: Any
) -> None:
    faults(client, refresh_delay=1.0)
    with pytest.raises(TaskDeferred) as caught:
        refresh(gold).execute(context)
    faults(
        client,
        http=[
            {"kind": "status", "status": 429, "count": 5, "path": "/sql", "retry_after": 1},
            {"kind": "status", "status": 503, "count": 5, "path": "/reflection"},
            {"kind": "lost_reply", "count": 3, "path": "/job"},
        ],
        expire_tokens=True,
    )
    event = asyncio.run(anext(aiter(caught.value.trigger.run())))  # type: ignore[arg-type]
    assert event.payload["status"] == "success"


def test_a_killed_server_is_waited_for(
    client: DremioClient, gold: tuple[str, ...], context: Any, sql_server: Any
) -> None:
    faults(client, refresh_delay=1.0)
    with pytest.raises(TaskDeferred) as caught:
        refresh(gold).execute(context)
    sql_server.kill()
    restart = threading.Thread(target=sql_server.start)
    restart.start()
    event = asyncio.run(anext(aiter(caught.value.trigger.run())))  # type: ignore[arg-type]
    restart.join()
    assert event.payload["status"] == "success", event.payload


def test_a_statement_whose_reply_is_lost_runs_once(client: DremioClient, gold: tuple[str, ...], context: Any) -> None:
    faults(client, http=[{"kind": "lost_reply", "count": 1, "path": "/sql", "method": "POST"}])
    insert = DremioSqlOperator(
        task_id="insert", sql=f"INSERT INTO {table(gold)} VALUES (9, 'z', 90)", poll_interval=0.1
    )
    assert run(insert, context)["state"] == "COMPLETED"
    assert client.query(f"SELECT COUNT(*) AS n FROM {table(gold)} WHERE id = 9") == [{"n": 1}]


def test_a_killed_statement_is_cancelled(client: DremioClient, gold: tuple[str, ...], context: Any) -> None:
    faults(client, job_delay=30.0)
    operator = DremioSqlOperator(task_id="slow", sql=f"SELECT COUNT(*) FROM {table(gold)}", poll_interval=0.1)
    with pytest.raises(TaskDeferred) as caught:
        operator.execute(context)
    operator.on_kill()
    event = asyncio.run(anext(aiter(caught.value.trigger.run())))  # type: ignore[arg-type]
    assert event.payload["status"] == "cancelled"


def test_containers_and_views(client: DremioClient, gold: tuple[str, ...]) -> None:
    space = f"s{uuid.uuid4().hex[:8]}"
    client.ensure_space(space)
    client.ensure_space(space)
    client.ensure_folder([space, "gold"])
    client.ensure_folder([space, "gold"])
    client.apply_view([space, "gold", "v"], f"SELECT id FROM {table(gold)}")
    client.apply_view([space, "gold", "v"], f"SELECT id, kind FROM {table(gold)}")
    assert list(client.query(f'SELECT * FROM "{space}"."gold"."v" LIMIT 1')[0]) == ["id", "kind"]
