"""Accelerates what was built and tested, then shows it to readers: one atomic view replacement per dataset."""

from __future__ import annotations

from typing import Any

from airflow.sdk import get_current_context, task

from include import assets, connections, ledger, serving, speed
from include.connections import DREMIO, LEDGER
from include.publication import LAYERS, PublicationError, datasets, head_snapshot_sql, quote, views
from include.reconcile import dremio as declared
from include.specs.pipeline import Pipeline
from include.task_groups.run import go_on
from include.task_groups.speed import folds_of_run
from lakehouse_providers.dremio.hook import DremioHook
from lakehouse_providers.dremio.operators import DremioRefreshReflectionsOperator


def pin(pipeline: Pipeline) -> Any:
    @task(task_id="pin_snapshots")
    def pin_snapshots() -> dict[str, int]:
        """The snapshots that passed tests and audit: what is accelerated and published is exactly these."""
        hook = DremioHook(DREMIO)
        go_on(pipeline.name)
        pinned = {}
        for dataset in datasets(pipeline.name):
            rows = hook.run_sql(head_snapshot_sql(dataset.table))
            if not rows:
                raise PublicationError(f"{quote(dataset.table)} has no snapshot; was its model built?")
            pinned[dataset.id] = int(rows[0]["snapshot_id"])
        return pinned

    return pin_snapshots()


def reflections(pipeline: Pipeline) -> tuple[Any, Any]:
    @task(task_id="apply_reflections")
    def apply_reflections() -> list[str]:
        """Declared reflections exist before they are refreshed; tables exist only now."""
        done = declared.apply_reflections(DremioHook(DREMIO), pipeline.name)
        for line in done:
            print(line)
        return done

    refresh = DremioRefreshReflectionsOperator(
        task_id="refresh_reflections",
        conn_id=DREMIO,
        datasets=[quote(path) for path in declared.reflection_datasets(pipeline.name)],
        deferrable=True,
        pool="refresh",
    )
    return apply_reflections(), refresh


def publish(pipeline: Pipeline) -> Any:
    @task(task_id="publish", outlets=[assets.published(pipeline, layer) for layer in LAYERS])
    def publish(pinned: dict[str, int]) -> dict[str, int]:
        """Replaces each dataset's view; before each one the lease must still be ours, as it was when we decided."""
        hook = DremioHook(DREMIO)
        run = get_current_context()["dag_run"]
        folds = folds_of_run()
        serving.make_folder(hook.run_sql)
        for dataset in datasets(pipeline.name):
            snapshot = int(pinned[dataset.id])
            token = go_on(pipeline.name)
            fold = folds.get(dataset.name) if dataset.layer == LAYERS[0] else None
            selects = views(dataset, snapshot, fold.extra if fold else ())
            for path, select in selects:
                hook.run_sql(f"CREATE OR REPLACE VIEW {quote(path)} AS {select}")
            if fold is not None:
                serving.publish(hook.run_sql, fold, snapshot)
            with connections.connect(LEDGER) as conn:
                ledger.record_publication(
                    conn,
                    pipeline=pipeline.name,
                    dataset=dataset.id,
                    view_path=quote(selects[0][0]),
                    snapshot_id=snapshot,
                    dag_run=run.run_id,
                    fence_token=token,
                )
                if fold is not None:
                    speed.record(conn, pipeline, fold, snapshot, run.run_id)
        serving.publish_status(hook.run_sql)
        return pinned

    return publish


def mark_stale(pipeline: Pipeline) -> Any:
    @task(task_id="mark_stale", trigger_rule="one_failed")
    def mark_stale() -> None:
        """Readers keep the last good version; the ledger says that it is not today's, and why."""
        run = get_current_context()["dag_run"]
        with connections.connect(LEDGER) as conn:
            names = [dataset.id for dataset in datasets(pipeline.name)]
            ledger.set_status(conn, pipeline.name, names, stale=True, reason=f"run {run.run_id} failed")

    return mark_stale()
