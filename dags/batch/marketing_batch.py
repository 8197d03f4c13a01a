"""Marketing, nightly: replicate, reconcile, build silver and gold aside, test, accelerate, publish.

## When
03:00 UTC every day. Trigger it by hand at any time; a backfill rebuilds its interval from bronze and does not touch the
source (set the param `resync` to do so, `full_rebuild` to rebuild every interval).

## Needs
Connections `airbyte`, `dremio`, `lakehouse`, `alerts`; pools `ingest`, `transform`, `refresh`; the platform applied by
`apply_platform` since this pipeline was declared; dbt's manifest (`make setup`).

## If it fails
Readers keep the last published version, marked stale in `lakehouse.dataset_status`. Read the red task's log, mend what
it names, clear that task: every step is idempotent, a running sync is adopted, never started twice.
Runbook: docs/runbooks/batch.md
"""

from __future__ import annotations

from airflow.sdk import CronDataIntervalTimetable, chain, dag

from include import alerts, defaults
from include.specs import pipeline
from include.task_groups import dashboards, ingest, publish, run, transform, verify

MARKETING = pipeline.load("marketing")


@dag(
    schedule=CronDataIntervalTimetable(MARKETING.schedule, timezone="UTC"),
    start_date=MARKETING.start_date,
    dagrun_timeout=MARKETING.timeout,
    deadline=alerts.late(MARKETING.deadline),
    doc_md=__doc__,
    tags=["batch", "marketing", "tier-2"],
    params=defaults.BATCH_PARAMS,
    **defaults.DAG_DEFAULTS,
)
def marketing_batch():
    lease = run.acquire(MARKETING)
    replicate, first_tasks = ingest.sync(MARKETING)
    refresh_metadata = verify.refresh_metadata(MARKETING)
    streams = verify.reconcile(MARKETING)()
    silver = transform.build(
        MARKETING,
        "silver",
        select="tag:marketing,tag:silver",
        with_views="tag:marketing,tag:bronze",
    )
    gold = transform.build(
        MARKETING,
        "gold",
        select="tag:marketing,tag:gold",
    )
    audited = verify.audit(MARKETING)(streams)
    pinned = publish.pin(MARKETING)
    apply_reflections, refresh_reflections = publish.reflections(MARKETING)
    published = publish.publish(MARKETING)(pinned)
    receipt = run.receipt(MARKETING)
    warm = dashboards.warm(MARKETING)
    release = run.release(MARKETING)

    chain(lease, run.choose(first_tasks), replicate, refresh_metadata, streams)
    chain(streams, silver, gold, audited, pinned)
    chain(pinned, apply_reflections, refresh_reflections, published, receipt, warm)
    published >> publish.mark_stale(MARKETING)
    # All of them: a failed model ends the run at once while its siblings, and dbt itself, may still write.
    chain([replicate, silver, gold, receipt, warm], release.as_teardown(setups=lease))


marketing_batch()
