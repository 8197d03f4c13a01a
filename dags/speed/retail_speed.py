"""Retail, every minute: captures the source's changes into the change log, so that readers see them within seconds.

## When
Every minute, or as `LAKEHOUSE_SPEED_SCHEDULE` says: a cron expression, or `continuous` for one run after the other. One
run at a time. A run takes everything since the last position, so after an outage one run catches up, not one a minute.

## Needs
Connections `airbyte`, `retail_source`, `lakehouse`, `alerts`; pool `ingest`; the platform applied by `apply_platform`.

## If it fails
Readers keep what is exact at the last position; `lakehouse.serving.serving_status` says how far that is behind. A lost
replication slot is never skipped over: the task says how to take a new snapshot.
Runbook: docs/runbooks/speed.md
"""

from __future__ import annotations

from airflow.sdk import chain, dag

from include import alerts, defaults, schedules
from include.specs import pipeline
from include.task_groups import speed

RETAIL = pipeline.load("retail")


@dag(
    schedule=schedules.speed(),
    start_date=RETAIL.start_date,
    dagrun_timeout=RETAIL.timeout,
    deadline=alerts.late(schedules.speed_deadline(RETAIL)),
    doc_md=__doc__,
    tags=["speed", "retail", "tier-1"],
    **defaults.DAG_DEFAULTS,
)
def retail_speed():
    chain(speed.position(RETAIL), speed.capture(RETAIL), speed.settle(RETAIL))


retail_speed()
