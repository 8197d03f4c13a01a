"""Says every night where the platform is no longer what is declared. Changes nothing.

## When
04:30 UTC, and by hand.

## Needs
Connections `lakehouse`, `lake_s3`, `lake_catalog`, `airbyte`, `dremio`, `retail_source`, `superset`.

## If it fails
A red task names the service and each object that differs, field by field. Somebody changed it by hand: take the change
into `include/platform` or `include/pipelines`, or let `apply_platform` undo it. "delete" lines are objects whose
declaration is gone: run `apply_platform` with `prune`, or declare them again.
Runbook: docs/runbooks/platform.md
"""

from __future__ import annotations

import datetime as dt

from airflow.sdk import CronDataIntervalTimetable, dag

from include import defaults
from include.specs import pipeline
from include.task_groups import platform

PIPELINES = [pipeline.load("retail")]


@dag(
    schedule=CronDataIntervalTimetable("30 4 * * *", timezone="UTC"),
    start_date=dt.datetime(2017, 1, 1, tzinfo=dt.UTC),
    dagrun_timeout=dt.timedelta(minutes=30),
    doc_md=__doc__,
    tags=["control", "platform"],
    **defaults.DAG_DEFAULTS,
)
def drift():
    platform.drift_ledger()
    platform.drift_object_store()
    platform.drift_airbyte(PIPELINES)
    platform.drift_dremio()
    platform.drift_superset()


drift()
