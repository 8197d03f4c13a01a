"""Every morning: checks the gold layer for what somebody must know, and draws dashboards as PDF and PNG.

## When
06:00 UTC every day, after the batch lane's deadline; by hand at any time. Drawing a day again replaces its files.

## Needs
Connections `lakehouse`, `dremio`, `alerts`, `lake_s3`, `superset`, `logins`; alerts in `include/platform/alerts/gold`,
reports in `include/platform/superset/reports.yaml`. Without Superset, Chromium or Playwright (`make browser`) a report
is skipped, and the task says which of them is missing.

## If it fails
`check_gold_alerts` names the alert whose query failed; the others were told. A red `draw_...` gives the words of the
chart in error: open the dashboard as the report's member, mend it, clear the task. Only files below `reports/` are
written.
Runbook: docs/runbooks/dashboards.md
"""

from __future__ import annotations

import datetime as dt

from airflow.sdk import CronDataIntervalTimetable, dag

from include import defaults
from include.task_groups import reports


@dag(
    schedule=CronDataIntervalTimetable("0 6 * * *", timezone="UTC"),
    start_date=dt.datetime(2017, 1, 1, tzinfo=dt.UTC),
    dagrun_timeout=dt.timedelta(hours=1),
    doc_md=__doc__,
    tags=["control", "dashboards"],
    **defaults.DAG_DEFAULTS,
)
def dashboard_reports():
    reports.check()
    reports.draw_all()


dashboard_reports()
