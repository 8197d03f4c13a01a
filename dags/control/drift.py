"""Says every night where the platform is no longer what is declared. Changes nothing.

## When
04:30 UTC, and by hand.

## Needs
Connections `lakehouse`, `lakehouse_admin`, `lake_s3`, `lake_catalog`, `airbyte`, `dremio`, `airflow`, `logins`,
`retail_source`, `retail_owner`, `retail_admin`; `superset` and `elasticsearch` where there are such.

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
from include.task_groups import platform


@dag(
    schedule=CronDataIntervalTimetable("30 4 * * *", timezone="UTC"),
    start_date=dt.datetime(2017, 1, 1, tzinfo=dt.UTC),
    dagrun_timeout=dt.timedelta(minutes=30),
    doc_md=__doc__,
    tags=["control", "platform"],
    **defaults.DAG_DEFAULTS,
)
def drift():
    platform.drift_all()


drift()
