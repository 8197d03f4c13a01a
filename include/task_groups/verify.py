"""Refreshes bronze's metadata and proves that nothing was lost between source, bronze and silver."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from airflow.sdk import task

from include import connections, ledger, reconciliation, source
from include.connections import DREMIO, LEDGER
from include.fold import Fold, from_xcom
from include.publication import LAYERS, datasets, quote
from include.specs.pipeline import Group, Pipeline, Stream
from include.task_groups.run import go_on
from lakehouse_providers.dremio.hook import DremioHook
from lakehouse_providers.dremio.operators import DremioRefreshMetadataOperator


def refresh_metadata(pipeline: Pipeline) -> Any:
    """New files stay invisible to every model until this has run."""
    return DremioRefreshMetadataOperator(
        task_id="refresh_metadata",
        conn_id=DREMIO,
        datasets=[quote(pipeline.bronze_path(stream)) for stream in pipeline.streams],
        auto_promotion=True,
        trigger_rule="none_failed",
    )


def _bronze(hook: DremioHook, pipeline: Pipeline, stream: Stream, jobs: list[int]) -> reconciliation.Bronze:
    if not jobs:
        return reconciliation.Bronze(rows=0, keys=0, cursor_max=None, generation=None)
    row = hook.run_sql(reconciliation.bronze_sql(pipeline, stream, jobs))[0]
    per_job = hook.run_sql(reconciliation.jobs_sql(pipeline, stream, jobs))
    return reconciliation.Bronze(
        rows=int(row["row_count"]),
        keys=int(row["key_count"]),
        cursor_max=row["cursor_max"],
        generation=row["generation"],
        by_job={int(r["job_id"]): int(r["row_count"]) for r in per_job},
    )


def _check_jobs(
    group: Group, last_job: int | None, expected: int, found: dict[str, reconciliation.Bronze]
) -> list[str]:
    """The newest sync's committed rows, as Airbyte reported them, must all be visible in bronze."""
    if last_job is None:
        return []
    visible = sum(bronze.by_job.get(last_job, 0) for bronze in found.values())
    if visible == expected:
        return []
    return [f"sync {last_job} of {group.connection}: {expected} rows committed, {visible} visible in bronze"]


def _source_totals(
    pipeline: Pipeline, group: Group, found: Mapping[str, reconciliation.Bronze]
) -> dict[str, source.Totals]:
    """By stream, in one snapshot of the source.

    A source that cannot be asked is taken at bronze's word: what its syncs committed is compared with bronze all the
    same, and bronze with silver.
    """
    if pipeline.source_connection is None:
        return {name: source.Totals(bronze.keys, 0, {}) for name, bronze in found.items()}
    with connections.connect(pipeline.source_connection) as conn:
        conn.execute("set transaction isolation level repeatable read, read only")
        return {
            stream.name: source.totals(conn, pipeline.source_schema, stream, found[stream.name].cursor_max)
            for stream in group.streams
        }


def _reconcile_group(
    pipeline: Pipeline, group: Group, hook: DremioHook, folds: Mapping[str, Fold]
) -> tuple[list[dict[str, Any]], list[str]]:
    with connections.connect(LEDGER) as conn:
        jobs = ledger.succeeded_jobs(conn, pipeline.name, group.connection)
        committed = ledger.committed_rows(conn, group.connection, jobs[-1]) if jobs else 0
    found = {stream.name: _bronze(hook, pipeline, stream, jobs) for stream in group.streams}
    lines, differences = [], _check_jobs(group, jobs[-1] if jobs else None, committed, found)
    at_source = _source_totals(pipeline, group, found)
    for stream in group.streams:
        bronze, totals, fold = found[stream.name], at_source[stream.name], folds.get(stream.name)
        captured = fold is not None and (fold.mode == "unified" or fold.watermark > 0)
        differences += reconciliation.bronze_differences(stream, totals, bronze, captured=captured)
        lines.append(
            {
                "stream": stream.name,
                "source_rows": totals.rows,
                "source_moved": totals.moved,
                "source_money": {column: str(amount) for column, amount in totals.money.items()},
                "bronze_rows": bronze.rows,
                "bronze_keys": bronze.keys,
                "position": bronze.cursor_max,
            }
        )
    with connections.connect(LEDGER) as conn:
        for job in jobs[-1:]:
            counts = {name: (bronze.by_job.get(job, 0), bronze.generation) for name, bronze in found.items()}
            ledger.record_streams(conn, job, group.connection, counts)
    return lines, differences


def reconcile(pipeline: Pipeline) -> Any:
    @task(task_id="reconcile")
    def reconcile(folded: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Source = bronze, per stream, at bronze's own position. A green sync that lost rows turns red here."""
        hook, folds = DremioHook(DREMIO), from_xcom(folded)
        lines, differences = [], []
        for group in pipeline.groups:
            group_lines, group_differences = _reconcile_group(pipeline, group, hook, folds)
            lines += group_lines
            differences += group_differences
        for line in lines:
            print(f"{line['stream']}: source {line['source_rows']} = bronze {line['bronze_keys']} keys")
        reconciliation.check(differences, "source and bronze differ")
        return lines

    return reconcile


def _totals(line: dict[str, Any]) -> source.Totals:
    money = {column: Decimal(amount) for column, amount in line["source_money"].items()}
    return source.Totals(line["source_rows"], line["source_moved"], money)


def audit(pipeline: Pipeline) -> Any:
    @task(task_id="audit")
    def audit(streams: list[dict[str, Any]], folded: dict[str, Any] | None = None) -> dict[str, Any]:
        """Bronze = silver + quarantine, money to the cent; a captured stream is compared with its log at W."""
        hook, folds = DremioHook(DREMIO), from_xcom(folded)
        go_on(pipeline.name)
        declared = {stream.name: stream for stream in pipeline.streams}
        differences, silver = [], {}
        for line in streams:
            stream, fold = declared[line["stream"]], folds.get(line["stream"])
            row = hook.run_sql(reconciliation.silver_sql(stream))[0]
            if fold is not None and fold.mode == "unified":
                log = hook.run_sql(reconciliation.log_sql(stream, fold))[0]
                differences += reconciliation.folded_differences(stream, log, row)
            elif fold is None or fold.watermark == 0:
                differences += reconciliation.silver_differences(stream, _totals(line), line["bronze_keys"], row)
            silver[line["stream"]] = {
                "rows": int(row["good_count"]),
                "quarantined": int(row["row_count"]) - int(row["good_count"]),
            }
        reconciliation.check(differences, "bronze and silver differ")
        gold = {
            dataset.name: {"rows": int(hook.run_sql(f"SELECT COUNT(*) AS n FROM {quote(dataset.table)}")[0]["n"])}
            for dataset in datasets(pipeline.name)
            if dataset.layer == LAYERS[-1]
        }
        return {"silver": silver, "gold": gold}

    return audit
