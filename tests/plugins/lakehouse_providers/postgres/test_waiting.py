"""Waiting for a condition in a real PostgreSQL: reached, out of patience, and through an outage."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import psycopg
import pytest
from airflow.sdk._shared.module_loading import import_string
from airflow.sdk.exceptions import TaskDeferred
from psycopg.conninfo import conninfo_to_dict

from lakehouse_providers.postgres.operators import PostgresConditionError, PostgresConditionOperator
from lakehouse_providers.postgres.triggers import PostgresConditionTrigger

SQL = "select %s > 0"


@pytest.fixture
def platform(platform_postgres, monkeypatch) -> str:
    dsn = platform_postgres.dsn("lakehouse")
    parts = conninfo_to_dict(dsn)
    connection = {
        "conn_type": "postgres",
        "host": parts["host"],
        "port": int(str(parts["port"])),
        "schema": parts["dbname"],
        "login": parts["user"],
        "password": parts["password"],
    }
    monkeypatch.setenv("AIRFLOW_CONN_PLATFORM", json.dumps(connection))
    return str(dsn)


def first(trigger: PostgresConditionTrigger) -> dict[str, Any]:
    async def only() -> dict[str, Any]:
        return dict((await anext(trigger.run())).payload)

    return asyncio.run(only())


def trigger(sql: str, *parameters: Any, patience: float = 60.0) -> PostgresConditionTrigger:
    return PostgresConditionTrigger("platform", sql, parameters, time.time() + patience, 0.05)


def test_it_survives_a_move_to_another_triggerer() -> None:
    one = trigger(SQL, 1)
    path, arguments = one.serialize()
    assert import_string(path)(**arguments).serialize() == one.serialize()


def test_reached_and_out_of_patience(platform: str) -> None:
    assert first(trigger(SQL, 1)) == {"status": "reached"}
    assert first(trigger(SQL, 0, patience=0.3)) == {"status": "timeout"}


def test_a_condition_that_comes_true_while_it_waits(platform: str) -> None:
    with psycopg.connect(platform, autocommit=True) as conn:
        conn.execute("create table if not exists public.flags (name text primary key)")
        conn.execute("delete from public.flags")

        async def both() -> dict[str, Any]:
            waiting = asyncio.ensure_future(anext(trigger("select count(*) > 0 from public.flags").run()))
            await asyncio.sleep(0)
            conn.execute("insert into public.flags values ('up')")
            return dict((await waiting).payload)

        assert asyncio.run(both()) == {"status": "reached"}
        conn.execute("drop table public.flags")


def test_a_broken_query_is_an_error_and_not_an_answer(platform: str) -> None:
    event = first(trigger("select nowhere"))
    assert event["status"] == "error"
    operator = PostgresConditionOperator(task_id="wait", conn_id="platform", sql="select nowhere", deferrable=False)
    with pytest.raises(PostgresConditionError, match="nowhere"):
        operator.execute({})  # type: ignore[arg-type]  # a context that is not read


def test_a_wait_that_is_over_already_is_not_deferred(platform: str) -> None:
    def wait(value: int) -> Any:
        operator = PostgresConditionOperator(task_id="wait", conn_id="platform", sql=SQL, parameters=[value])
        return operator.execute({})  # type: ignore[arg-type]

    assert wait(1)["reached"] is True
    with pytest.raises(TaskDeferred):
        wait(0)


def test_no_patience_left_is_an_answer(platform: str) -> None:
    def wait(value: int) -> dict[str, Any]:
        operator = PostgresConditionOperator(
            task_id="wait", conn_id="platform", sql=SQL, parameters=[value], timeout=0.3, deferrable=False
        )
        return operator.execute({})  # type: ignore[arg-type]

    assert wait(1)["reached"] is True
    assert wait(0)["reached"] is False
