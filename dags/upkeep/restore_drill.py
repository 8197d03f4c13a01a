"""Restore drill, nightly: restores the newest set into scratch, compares every table, and only then calls it verified.

## When
03:30 UTC every day, after the backup. On Sundays, or with `older`, a set that was proven before is proven again.

## Needs
Connections as `backup`; Airflow's Fernet key, which no set holds; pool `backup`; PostgreSQL's programs
(`LAKEHOUSE_POSTGRES_BIN`); room for one set in the temporary folder.

## If it fails
The set is not verified, whatever the reason: "could not" counts as "is not". The task says which comparison failed.
Make a new set with `backup` and drill that; the damaged one stays for whoever looks into it.
Runbook: docs/runbooks/restore.md
"""

from __future__ import annotations

import datetime as dt

from airflow.sdk import CronDataIntervalTimetable, Param, chain, dag

from include import defaults
from include.task_groups import backup as tasks


@dag(
    schedule=CronDataIntervalTimetable("30 3 * * *", timezone="UTC"),
    start_date=dt.datetime(2017, 1, 1, tzinfo=dt.UTC),
    dagrun_timeout=dt.timedelta(hours=12),
    doc_md=__doc__,
    tags=["upkeep", "backup", "tier-1"],
    params={"older": Param(False, type="boolean", description="Prove an older set again, too")},
    **defaults.DAG_DEFAULTS,
)
def restore_drill():
    chain(tasks.drill(tasks.choose()), tasks.release())


restore_drill()
