"""What a run has read of its source reaches the fold, whatever became of the task that wrote it down."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from airflow.sdk import DAG
from airflow.sdk.execution_time.context import set_current_context

from include import ledger
from include.specs import pipeline as specs
from include.specs.pipeline import Pipeline
from include.task_groups import ingest, speed
from tests.plugins.lakehouse_providers.live.conftest import airbyte_connection, replication_server
from tests.plugins.lakehouse_providers.live.test_airbyte import client, connection, operator, run, table

__all__ = ["airbyte_connection", "client", "connection", "replication_server", "table"]


class Instance:
    """A task instance that gives what the tasks before it returned."""

    def __init__(self, xcoms: dict[str, Any]) -> None:
        self.xcoms = xcoms

    def xcom_pull(self, *, task_ids: str) -> Any:
        return self.xcoms.get(task_ids)


def context(xcoms: dict[str, Any], run_type: str = "scheduled") -> Any:
    dag_run = SimpleNamespace(run_id="run-1", run_type=SimpleNamespace(value=run_type))
    return set_current_context({"dag_run": dag_run, "ti": Instance(xcoms)})  # type: ignore[typeddict-item]


@pytest.fixture
def retail(
    conn: ledger.Connection,
    platform_postgres: Any,
    source_postgres: Any,
    monkeypatch: pytest.MonkeyPatch,
    connection: str,
) -> Pipeline:
    """The declared pipeline, with one group: its sync is the connection of this test."""
    conn.commit()
    for name, dsn in (
        ("lakehouse", platform_postgres.dsn("lakehouse", "lakehouse")),
        ("retail_source", source_postgres.dsn("retail")),
    ):
        parts = psycopg.conninfo.conninfo_to_dict(dsn)
        fields = {"conn_type": "postgres", "host": parts["host"], "port": int(str(parts["port"]))}
        fields |= {"schema": parts["dbname"], "login": parts["user"], "password": parts["password"]}
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(fields))
    declared = specs.load("retail")
    (sales,) = [group for group in declared.groups if group.name == "sales"]
    return replace(declared, groups=(replace(sales, connection=connection),))


def record(pipeline: Pipeline) -> Callable[..., list[dict[str, Any]]]:
    """The function of the task `record`."""
    with DAG("a_run", schedule=None) as dag:
        ingest.sync(pipeline)
    found: Any = dag.get_task("ingest.sales.record")
    return found.python_callable  # type: ignore[no-any-return]


def test_a_second_try_gives_what_the_first_has_written(retail: Pipeline, connection: str) -> None:
    facts, task = run(operator(connection), {}), record(retail)
    with context({}):
        (first,) = task("0/10", facts)
        (second,) = task("0/10", facts)
    assert (first["job_id"], first["lsn_before"]) == (facts["job_id"], "0/10")
    assert second == first, "the positions too are those of the first try"
    with context({"ingest.sales.record": [second]}):
        reads = speed._reads(retail)
    assert {read.job for read in reads.values()} == {facts["job_id"]}
    assert {"orders", "order_items"} <= set(reads)


def test_a_run_that_has_lost_its_read_is_no_backfill() -> None:
    retail = specs.load("retail")
    positions = {"lsn_before": "0/10", "lsn_after": "0/20", "job_id": 7}
    recorded = {f"ingest.{group.name}.record": [positions] for group in retail.groups if group.name != "promotions"}
    with context(recorded):
        assert set(speed._reads(retail)) >= {stream.name for stream in retail.cdc_streams}
    with context({**recorded, "ingest.sales.record": []}), pytest.raises(speed.NoReadError, match=r"ingest\.sales"):
        speed._reads(retail)
    with context({}, "backfill"):
        assert speed._reads(retail) == {}
