"""Backup, nightly: one encrypted set of every database and of what is declared; it counts once its manifest exists.

## When
02:00 UTC every day: a full base backup once a week, increments in between; `full` makes one at once. The write-ahead
log is archived all the time, by `python -m include.backup archive`.

## Needs
Connections `backup_s3`, `backup_key`, `backup_platform`, `backup_source`, `lakehouse`; `dremio`, `elasticsearch` where
they exist; pool `backup`. It waits while retention, a drill or a restore runs.

## If it fails
No manifest was written and `finish` says which part is missing. Clear the red part and `finish`: what is done already
is not done again.
Runbook: docs/runbooks/restore.md
"""

from __future__ import annotations

import datetime as dt

from airflow.sdk import CronDataIntervalTimetable, Param, chain, dag

from include import defaults
from include.task_groups import backup as tasks


@dag(
    schedule=CronDataIntervalTimetable("0 2 * * *", timezone="UTC"),
    start_date=dt.datetime(2017, 1, 1, tzinfo=dt.UTC),
    dagrun_timeout=dt.timedelta(hours=12),
    doc_md=__doc__,
    tags=["upkeep", "backup", "tier-1"],
    params={"full": Param(False, type="boolean", description="A full base backup, whatever the day")},
    **defaults.DAG_DEFAULTS,
)
def backup():
    begun = tasks.begin()
    chain(tasks.parts(begun), tasks.finish(), tasks.release())


backup()
