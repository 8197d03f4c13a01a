"""Mirror, every ten minutes: copies the lake's new objects to another site, and checks what upkeep promises.

## When
Every ten minutes. A run takes all that is new since the last one: after an outage one run catches up.

## Needs
Connections `lakehouse`, `lake_s3`, `offsite_s3`, `alerts`; pool `mirror`; include/mirror.yaml.

## If it fails
The lake is not touched by this DAG, and copies are only ever moved aside. The red task names the store, the object and
the fix; the next run goes on where this one stopped. `check_alerts` runs whatever became of the copy.
Runbook: docs/runbooks/retention.md
"""

from __future__ import annotations

import datetime as dt

from airflow.sdk import CronDataIntervalTimetable, chain, dag

from include import defaults
from include.task_groups import mirror as tasks


@dag(
    schedule=CronDataIntervalTimetable("*/10 * * * *", timezone="UTC"),
    start_date=dt.datetime(2017, 1, 1, tzinfo=dt.UTC),
    dagrun_timeout=dt.timedelta(hours=6),
    doc_md=__doc__,
    tags=["upkeep", "mirror", "tier-2"],
    **defaults.DAG_DEFAULTS,
)
def mirror():
    chain(tasks.copy(), tasks.check())


mirror()
