"""Brings the platform to its declared state, service by service. Deletes only when asked.

## When
By hand: after installing, and after a change in `include/platform` or `include/pipelines`. `plan_only` shows the
difference; `prune` deletes what was made from declarations that are gone, and nothing else. The same in a terminal:
`python -m include.reconcile plan|apply|drift`.

## Needs
Connections `lakehouse`, `lakehouse_admin`, `lake_s3`, `lake_catalog`, `airbyte`, `dremio`, `airflow`, `logins`,
`retail_source`, `retail_owner`, `retail_admin`; `superset` and `elasticsearch` where there are such: without them their
tasks say that they are skipped.

## If it fails
The red task names the object and the field. Mend the declaration or the connection and clear the task; whatever was
applied stays and is found equal the next time.
Runbook: docs/runbooks/platform.md
"""

from __future__ import annotations

import datetime as dt

from airflow.sdk import Param, chain, dag

from include import defaults
from include.task_groups import platform


@dag(
    schedule=None,
    start_date=dt.datetime(2017, 1, 1, tzinfo=dt.UTC),
    dagrun_timeout=dt.timedelta(minutes=30),
    doc_md=__doc__,
    tags=["control", "platform"],
    params={
        "plan_only": Param(False, type="boolean", description="Show what would change, change nothing"),
        "prune": Param(False, type="boolean", description="Also delete what was made from declarations that are gone"),
    },
    **defaults.DAG_DEFAULTS,
)
def apply_platform():
    chain(*platform.apply_all())


apply_platform()
