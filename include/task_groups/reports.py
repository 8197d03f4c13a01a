"""Alerts on gold, and dashboards drawn as PDF and PNG. The libraries: include/upkeep_alerts, include/reports."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from airflow.sdk import get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from include import alerts, connections
from include.connections import DREMIO, LEDGER, STORE, SUPERSET
from include.reports import archive, browser, spec
from include.specs import policy


def check() -> Any:
    @task(task_id="check_gold_alerts")
    def check_gold_alerts() -> list[str]:
        """Evaluates include/platform/alerts/gold on the published tables, and tells what began or ended."""
        from include import upkeep_alerts
        from lakehouse_providers.dremio.hook import DremioHook

        hook = DremioHook(DREMIO)
        with connections.connect(LEDGER) as conn:
            told = upkeep_alerts.evaluate(
                conn, upkeep_alerts.load(upkeep_alerts.GOLD), alerts.tell, ask=lambda query: hook.run_sql(query)
            )
        print("\n".join(told) or "nothing to tell")
        return told

    return check_gold_alerts()


def draw_all() -> list[Any]:
    """A task a report, side by side: one that cannot be drawn hides no other."""
    return [_draw(report) for report in spec.load(policy.load())]


def _draw(report: spec.Report) -> Any:
    @task(task_id=f"draw_{report.name}")
    def draw() -> dict[str, Any]:
        """As its member sees it; kept in the lake's bucket, and told. Skipped where there is no Superset or browser."""
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        from lakehouse_providers.superset.hook import SupersetHook, endpoint

        reason = connections.absent(SUPERSET) or browser.absent()
        if reason:
            raise AirflowSkipException(f"report {report.name} is not drawn: {reason}")
        page = browser.Page(
            url=endpoint(SupersetHook.get_connection(SUPERSET)).base_url.rstrip("/"),
            user=report.member.name,
            password=str(connections.resolve(report.member.password)),
            dashboard=report.dashboard,
            width=report.width,
        )
        run = get_current_context()["dag_run"]
        day = (run.data_interval_end or run.run_after).date()
        with tempfile.TemporaryDirectory() as folder:
            files = browser.draw(page, report.formats, Path(folder))
            kept = archive.keep(S3Hook(STORE).get_conn(), report.name, day, files)
        message = {"kind": "report", "report": report.name, "dashboard": report.dashboard, "objects": kept}
        alerts.tell(message)
        print("\n".join(kept))
        return message

    return draw()
