"""After a restore the ledger may be older than the lake; what the failed task advises must then work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time.context import set_current_context

from include import ledger, serving, speed
from include.fold import decide
from include.specs import pipeline as specs
from include.task_groups.fall_back import SnapshotGoneError, _fall_back
from lakehouse_providers.dremio.hook import DremioHook

GONE = 7


class Replication:
    """Airbyte as far as falling back asks it; remembers which connections begin anew."""

    def __init__(self) -> None:
        self.rebuilt: list[str] = []

    def connection_id(self, name: str) -> str:
        return f"id of {name}"

    def rebuild(self, connection_id: str) -> bool:
        self.rebuilt.append(connection_id)
        return True


@pytest.fixture
def restored(
    conn: ledger.Connection,
    platform_postgres: Any,
    dremio_connection: Any,
    lake_source: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[DremioHook]:
    """A lake that has silver.orders, and a ledger that pins a snapshot of it that is gone."""
    conn.execute(
        "insert into lakehouse.watermarks (entity, pipeline, watermark, epoch, folded_job, snapshot_id, dag_run) "
        "values ('orders', 'retail', 1, 1, 1, %s, 'run')",
        [GONE],
    )
    conn.execute(
        "insert into lakehouse.serving_mode (entity, pipeline, connection, mode, watermark, epoch) "
        "values ('orders', 'retail', 'retail_cdc', 'unified', 1, 1)"
    )
    conn.commit()
    fields = {"conn_type": "postgres", "host": "127.0.0.1", "port": platform_postgres.port, "schema": "lakehouse"}
    fields |= {"login": "lakehouse", "password": conn.info.password}
    monkeypatch.setenv("AIRFLOW_CONN_LAKEHOUSE", json.dumps(fields))
    hook = DremioHook("dremio")
    with hook.client() as client:
        client.apply_source({"entityType": "source", **lake_source})
    hook.run_sql("create folder if not exists lake.silver")
    hook.run_sql("drop table if exists lake.silver.orders")
    hook.run_sql("create table lake.silver.orders as select 1 as order_id")
    yield hook
    hook.run_sql("drop table if exists lake.silver.orders")


def test_a_pin_that_is_gone_lets_the_advised_rebuild_begin(conn: ledger.Connection, restored: DremioHook) -> None:
    retail, airbyte = specs.load("retail"), Replication()
    run = SimpleNamespace(dag_id="restore", run_id="run-1")
    with (
        set_current_context({"dag_run": run}),  # type: ignore[typeddict-item]
        pytest.raises(SnapshotGoneError, match=rf"orders \(snapshot {GONE}\).*full_rebuild"),
    ):
        _fall_back(retail, restored.run_sql, airbyte, "a-set")
    assert airbyte.rebuilt == ["id of retail_cdc"]
    (row,) = conn.execute("select mode, reason from lakehouse.serving_mode").fetchall()
    assert row == {"mode": "batch", "reason": "restored from backup set a-set"}
    (orders,) = [stream for stream in retail.cdc_streams if stream.name == "orders"]
    fold = decide("orders", None, None, speed.pins(conn, "retail").get("orders"), "")
    assert serving.prepare(restored.run_sql, orders, fold, []) == fold, "there is no snapshot to go back to"
