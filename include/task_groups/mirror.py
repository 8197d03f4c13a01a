"""The mirror's tasks, and the check of what upkeep promises. The libraries: include/mirror, include/upkeep_alerts."""

from __future__ import annotations

import datetime as dt
from typing import Any

from airflow.sdk import task

from include import connections, upkeep
from include.connections import LEDGER, OFFSITE, STORE
from include.task_groups.run import holder

POOL = "mirror"


def copy() -> Any:
    @task(task_id="copy", pool=POOL, retries=1, retry_delay=dt.timedelta(minutes=1))
    def copy() -> dict[str, Any]:
        """Copies what is new, puts aside what is gone, reads back a share; one run at a time."""
        from include.mirror import run, spec
        from include.task_groups.retention import store

        sites = run.Sites(lambda: connections.connect(LEDGER), store(STORE), store(OFFSITE))
        with upkeep.turn(sites.ledger, holder(), name=run.LEASE) as turn:
            done = run.sync(sites, spec.load(), holder(), turn)
        for bucket, counts in done.items():
            print(
                f"{bucket}: {counts.listed} listed, {counts.copied} copied, {counts.quarantined} quarantined, "
                f"{counts.verified} read back"
            )
        return {bucket: vars(counts) for bucket, counts in done.items()}

    return copy()


def check() -> Any:
    @task(task_id="check_alerts", trigger_rule="all_done")
    def check_alerts() -> list[str]:
        """Evaluates include/platform/alerts and tells what began or ended; whatever became of the copy."""
        from include import alerts, upkeep_alerts

        with connections.connect(LEDGER) as conn:
            told = upkeep_alerts.evaluate(conn, upkeep_alerts.load(), alerts.tell)
        print("\n".join(told) or "nothing to tell")
        return told

    return check_alerts()
