"""Retail, nightly: replicate, reconcile, build silver and gold aside, test, accelerate, publish, warm dashboards.

## When
02:00 UTC every day. Trigger it by hand at any time; backfill any past interval from the UI or with
`airflow backfill create --dag-id retail_batch --from-date ... --to-date ...`: a backfill rebuilds its interval from
bronze and does not touch the source (set the param `resync` to do so, `full_rebuild` to rebuild every interval).

## Needs
Connections `airbyte`, `dremio`, `retail_source`, `lakehouse`, `alerts`, and `superset` where there are dashboards;
pools `ingest`, `transform`, `refresh`; the platform applied once by `apply_platform`; dbt's manifest (`make setup`).

## If it fails
Readers keep the last published version, marked stale in `lakehouse.dataset_status`. Read the red task's log, mend what
it names, clear that task: every step is idempotent, a running sync is adopted, never started twice.
Runbook: docs/runbooks/batch.md
"""

from __future__ import annotations

from airflow.sdk import CronDataIntervalTimetable, chain, dag

from include import alerts, defaults
from include.specs import pipeline
from include.task_groups import dashboards, ingest, publish, run, speed, transform, verify

RETAIL = pipeline.load("retail")


@dag(
    schedule=CronDataIntervalTimetable(RETAIL.schedule, timezone="UTC"),
    start_date=RETAIL.start_date,
    dagrun_timeout=RETAIL.timeout,
    deadline=alerts.late(RETAIL.deadline),
    doc_md=__doc__,
    tags=["batch", "retail", "tier-1"],
    params=defaults.BATCH_PARAMS,
    **defaults.DAG_DEFAULTS,
)
def retail_batch():
    lease = run.acquire(RETAIL)
    replicate, first_tasks = ingest.sync(RETAIL)
    needed = speed.needed(RETAIL)
    wait = speed.wait(RETAIL, needed)
    fold = speed.prepare(RETAIL)(wait.output)
    refresh_metadata = verify.refresh_metadata(RETAIL)
    streams = verify.reconcile(RETAIL)(fold)
    silver = transform.build(RETAIL, "silver", select="tag:retail,tag:silver", with_views="tag:retail,tag:bronze")
    gold = transform.build(RETAIL, "gold", select="tag:retail,tag:gold")
    audited = verify.audit(RETAIL)(streams, fold)
    pinned = publish.pin(RETAIL)
    apply_reflections, refresh_reflections = publish.reflections(RETAIL)
    published = publish.publish(RETAIL)(pinned)
    receipt = run.receipt(RETAIL)
    warm = dashboards.warm(RETAIL)
    release = run.release(RETAIL)

    chain(lease, run.choose(first_tasks), replicate, needed, wait, fold, refresh_metadata, streams)
    chain(streams, silver, gold, audited, pinned)
    chain(pinned, apply_reflections, refresh_reflections, published, receipt, warm)
    published >> publish.mark_stale(RETAIL)
    # All of them: a failed model ends the run at once while its siblings, and dbt itself, may still write.
    chain([replicate, silver, gold, receipt, warm], release.as_teardown(setups=lease))


retail_batch()
