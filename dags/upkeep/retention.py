"""Retention, daily: plans what may go by include/retention.yaml, deletes what is due, asks for what is unusual.

## When
05:00 UTC every day, after the backup and its drill. A rule with a grace deletes on the day after it was planned.

## Needs
Connections `lakehouse`, `lake_s3`, `dremio`, `alerts`; `offsite_s3`, `airflow_metadata`, `elasticsearch` where they
exist (rules without theirs are skipped); pool `upkeep`. It waits while a backup or a restore runs.

## If it fails
Nothing is half deleted: clear the red task, it goes on where it stopped. `report` is red when a guard blocked a rule;
`approve` waits on the page of required actions until somebody answers, and no answer is a refusal.
Runbook: docs/runbooks/retention.md
"""

from __future__ import annotations

import datetime as dt

from airflow.sdk import CronDataIntervalTimetable, chain, dag

from include import defaults
from include.task_groups import retention as tasks


@dag(
    schedule=CronDataIntervalTimetable("0 5 * * *", timezone="UTC"),
    start_date=dt.datetime(2017, 1, 1, tzinfo=dt.UTC),
    dagrun_timeout=dt.timedelta(hours=23),
    doc_md=__doc__,
    tags=["upkeep", "retention", "tier-2"],
    **defaults.DAG_DEFAULTS,
)
def retention():
    made = tasks.make_plan()
    due, approve = tasks.apply_due("apply"), tasks.ask()
    chosen = tasks.choose("approve", "report")(made)
    approved = tasks.record_approval()(made, approve.output)
    report = tasks.finish()(made)
    chain(made, due, chosen, [approve, report])
    chain(approve, approved, tasks.apply_due("apply_approved"), report)


retention()
