"""A run builds upon what it decided only while nobody else has had the lease: real leases, two runs."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from include import ledger
from include.task_groups import run


class Tasks:
    """The tasks of two runs: what they push stays, as Airflow's XComs do."""

    def __init__(self) -> None:
        self.name = ""
        self.xcoms: dict[tuple[str, str, str], Any] = {}

    def __call__(self) -> dict[str, Any]:
        return {"dag_run": SimpleNamespace(dag_id="retail_batch", run_id=self.name), "ti": self}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[self.name, run.FOLD_TASK, key] = value

    def xcom_pull(self, *, task_ids: str, key: str = "return_value") -> Any:
        return self.xcoms.get((self.name, task_ids, key))

    def acquire(self, name: str) -> None:
        self.name = name
        self.xcoms[name, run.LEASE_TASK, "return_value"] = run.hold("retail")

    def release(self, conn: ledger.Connection) -> None:
        ledger.release_lease(conn, "retail", run.holder())
        conn.commit()


@pytest.fixture
def tasks(conn: ledger.Connection, platform_postgres: Any, monkeypatch: pytest.MonkeyPatch) -> Tasks:
    conn.commit()
    parts = conninfo_to_dict(platform_postgres.dsn("lakehouse", "lakehouse"))
    fields = {"host": parts["host"], "port": int(str(parts["port"])), "schema": parts["dbname"], "login": parts["user"]}
    whole = {"conn_type": "postgres", "password": parts["password"], **fields}
    monkeypatch.setenv("AIRFLOW_CONN_LAKEHOUSE", json.dumps(whole))
    found = Tasks()
    monkeypatch.setattr(run, "get_current_context", found)
    return found


def test_a_run_goes_on_through_its_own_retries_and_clears(tasks: Tasks, conn: ledger.Connection) -> None:
    tasks.acquire("a")
    run.decide_turn("retail")
    token = run.go_on("retail")
    tasks.release(conn)
    assert run.go_on("retail") == token, "a red task that is cleared in the morning, when nothing else has run"


def test_a_run_that_was_overtaken_must_decide_anew(tasks: Tasks, conn: ledger.Connection) -> None:
    """Its fold builds upon a snapshot that is published no more; its pins would take readers back."""
    tasks.acquire("a")
    run.decide_turn("retail")
    tasks.release(conn)
    tasks.acquire("b")
    run.decide_turn("retail")
    tasks.release(conn)
    tasks.name = "a"
    with pytest.raises(run.OvertakenError, match="Clear this run from its task prepare_fold on"):
        run.go_on("retail")
    run.decide_turn("retail")
    run.go_on("retail")


def test_a_run_without_a_fold_must_begin_anew(tasks: Tasks, conn: ledger.Connection) -> None:
    tasks.acquire("a")
    run.go_on("retail")
    tasks.release(conn)
    tasks.acquire("b")
    tasks.release(conn)
    tasks.name = "a"
    with pytest.raises(run.OvertakenError, match="Clear this run from its task acquire_lease on"):
        run.go_on("retail")


def test_a_lease_of_another_run_is_waited_for(tasks: Tasks) -> None:
    tasks.acquire("a")
    tasks.name = "b"
    with pytest.raises(ledger.LeaseHeldError, match="held by retail_batch/a"):
        run.go_on("retail")
