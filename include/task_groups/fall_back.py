"""After databases were restored: readers get mode batch, and the speed lane begins anew."""

from __future__ import annotations

from typing import Any

from airflow.sdk import task

from include import connections, serving, speed, upkeep
from include.connections import AIRBYTE, DREMIO, LEDGER
from include.fold import Pin
from include.ledger import Connection
from include.publication import LAKE, dataset_columns, quote
from include.specs.pipeline import Pipeline
from include.task_groups.backup import POOL
from include.task_groups.run import holder
from include.task_groups.turns import PATIENT, holding


class SnapshotGoneError(Exception):
    """The restored ledger pinned snapshots that the lake no longer has; the message says how to go on."""


def fall_back(pipelines: list[Pipeline]) -> Any:
    @task(task_id="fall_back", pool=POOL, **PATIENT)
    def fall_back(planned: dict[str, Any]) -> list[str]:
        """Neither log nor slot can be trusted now: one publication to mode batch, and a new CDC snapshot is asked for.

        A ledger that is older than the lake may pin snapshots that are gone. Such a pin is given up, so that a run can
        build the entity anew from bronze; the task fails and says so.
        """
        from lakehouse_providers.airbyte.hook import AirbyteSyncHook
        from lakehouse_providers.dremio.hook import DremioHook

        if not planned["databases"]:
            print("only a folder was built: nothing that is live has changed")
            return []
        with holding():  # the restored ledger may know nothing of this run's lease
            run_sql, client = DremioHook(DREMIO).run_sql, AirbyteSyncHook(AIRBYTE).client()
            lanes = [pipeline for pipeline in pipelines if pipeline.speed is not None]
            return [line for pipeline in lanes for line in _fall_back(pipeline, run_sql, client, planned["set_id"])]

    return fall_back


def _ledger() -> Connection:
    return connections.connect(LEDGER)


def _fall_back(pipeline: Pipeline, run_sql: serving.Sql, client: Any, set_id: str) -> list[str]:
    assert pipeline.speed is not None
    reason = f"restored from backup set {set_id}"
    # No batch run publishes at the same time what it has folded from the log that is gone.
    with upkeep.turn(_ledger, holder(), name=pipeline.name), _ledger() as conn:
        pins = speed.pins(conn, pipeline.name)
        gone = _gone(run_sql, pins)
        for entity, pin in pins.items():
            if entity not in gone:
                serving.fall_back(run_sql, entity, pin, dataset_columns(pipeline.name, entity), reason)
        mark(conn, pipeline.name, reason)
        unpin(conn, gone)
    if not client.rebuild(client.connection_id(pipeline.speed.connection)):
        print(f"clear the state of connection {pipeline.speed.connection} in Airbyte: it needs a new snapshot")
    if gone:
        raise SnapshotGoneError(
            f"the restored ledger pinned what the lake has no more: {_listed(gone, pins)}. It is pinned no more; when "
            "retail_speed has taken the new CDC snapshot, run retail_batch with full_rebuild: it builds silver from "
            "bronze and publishes it"
        )
    return [f"{entity}: batch, {reason}" for entity in sorted(pins)]


def mark(conn: Connection, pipeline: str, reason: str) -> None:
    """Every entity of a pipeline is in mode batch, and says why, until a run has folded a new snapshot."""
    conn.execute(
        "update lakehouse.serving_mode set since = case when mode = 'batch' then since else clock_timestamp() end, "
        "mode = 'batch', reason = %s where pipeline = %s",
        [reason, pipeline],
    )


def unpin(conn: Connection, entities: list[str]) -> None:
    """The next run starts from no snapshot, and builds these entities from all of bronze."""
    conn.execute("delete from lakehouse.watermarks where entity = any(%s)", [entities])


def _gone(run_sql: serving.Sql, pins: dict[str, Pin]) -> list[str]:
    """The entities whose pinned snapshot the lake does not have."""
    gone = []
    for entity, pin in sorted(pins.items()):
        name = quote((LAKE, "silver", entity)).replace("'", "''")
        rows = run_sql(f"SELECT snapshot_id FROM TABLE(table_snapshot('{name}'))")
        if pin.snapshot_id not in {int(row["snapshot_id"]) for row in rows}:
            gone.append(entity)
    return gone


def _listed(gone: list[str], pins: dict[str, Pin]) -> str:
    return ", ".join(f"{entity} (snapshot {pins[entity].snapshot_id})" for entity in gone)
