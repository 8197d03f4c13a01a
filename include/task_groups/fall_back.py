"""After databases were restored: readers get mode batch, and the speed lane begins anew."""

from __future__ import annotations

from typing import Any

from airflow.sdk import task

from include import connections, serving, speed, upkeep
from include.connections import AIRBYTE, DREMIO, LEDGER
from include.fold import Fold, Pin
from include.ledger import Connection
from include.publication import LAKE, quote
from include.specs.pipeline import Pipeline
from include.task_groups.backup import POOL
from include.task_groups.run import holder
from include.task_groups.turns import PATIENT, holding


class SnapshotGoneError(Exception):
    """The restored ledger pins snapshots that the lake no longer has; the message says how to go on."""


def fall_back(pipelines: list[Pipeline]) -> Any:
    @task(task_id="fall_back", pool=POOL, **PATIENT)
    def fall_back(planned: dict[str, Any]) -> list[str]:
        """Neither log nor slot can be trusted now: one publication to mode batch, and a new CDC snapshot is asked for.

        A ledger that is older than the lake may pin snapshots that are gone; that is found before a view is served.
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
        _check(run_sql, pins)
        for entity, pin in pins.items():
            serving.publish(run_sql, _as_batch(entity, pin, reason), pin.snapshot_id)
        mark(conn, pipeline.name, reason)
    if not client.rebuild(client.connection_id(pipeline.speed.connection)):
        print(f"clear the state of connection {pipeline.speed.connection} in Airbyte: it needs a new snapshot")
    return [f"{entity}: batch, {reason}" for entity in sorted(pins)]


def mark(conn: Connection, pipeline: str, reason: str) -> None:
    """Every entity of a pipeline is in mode batch, and says why, until a run has folded a new snapshot."""
    conn.execute(
        "update lakehouse.serving_mode set since = case when mode = 'batch' then since else clock_timestamp() end, "
        "mode = 'batch', reason = %s where pipeline = %s",
        [reason, pipeline],
    )


def _as_batch(entity: str, pin: Pin, reason: str) -> Fold:
    return Fold(
        stream=entity,
        mode="batch",
        watermark=pin.watermark,
        before=pin.watermark,
        after=pin.watermark,
        epoch=pin.epoch,
        from_job=pin.job,
        job=pin.job,
        pinned_snapshot=pin.snapshot_id,
        reason=reason,
    )


def _check(run_sql: serving.Sql, pins: dict[str, Pin]) -> None:
    gone = []
    for entity, pin in sorted(pins.items()):
        name = quote((LAKE, "silver", entity)).replace("'", "''")
        rows = run_sql(f"SELECT snapshot_id FROM TABLE(table_snapshot('{name}'))")
        if pin.snapshot_id not in {int(row["snapshot_id"]) for row in rows}:
            gone.append(f"{entity} (snapshot {pin.snapshot_id})")
    if gone:
        raise SnapshotGoneError(
            f"the restored ledger pins what the lake has no more: {', '.join(gone)}. Run retail_batch with "
            "full_rebuild: it builds silver from bronze and publishes it"
        )
