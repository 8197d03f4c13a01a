"""The declarations and the DAG of a new pipeline."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import yaml

from embedded.scaffold.catalog import Stream
from embedded.scaffold.models import silver

DAG = '''"""{title}, nightly: replicate, reconcile, build silver and gold aside, test, accelerate, publish.

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

{constant} = pipeline.load("{name}")


@dag(
    schedule=CronDataIntervalTimetable({constant}.schedule, timezone="UTC"),
    start_date={constant}.start_date,
    dagrun_timeout={constant}.timeout,
    deadline=alerts.late({constant}.deadline),
    doc_md=__doc__,
    tags=["batch", "{name}", "tier-2"],
    params=defaults.BATCH_PARAMS,
    **defaults.DAG_DEFAULTS,
)
def {name}_batch():
    lease = run.acquire({constant})
    replicate, first_tasks = ingest.sync({constant})
    refresh_metadata = verify.refresh_metadata({constant})
    streams = verify.reconcile({constant})()
    silver = transform.build(
        {constant},
        "silver",
        select="tag:{name},tag:silver",
        with_views="tag:{name},tag:bronze",
    )
    gold = transform.build(
        {constant},
        "gold",
        select="tag:{name},tag:gold",
    )
    audited = verify.audit({constant})(streams)
    pinned = publish.pin({constant})
    apply_reflections, refresh_reflections = publish.reflections({constant})
    published = publish.publish({constant})(pinned)
    receipt = run.receipt({constant})
    warm = dashboards.warm({constant})
    release = run.release({constant})

    chain(lease, run.choose(first_tasks), replicate, refresh_metadata, streams)
    chain(streams, silver, gold, audited, pinned)
    chain(pinned, apply_reflections, refresh_reflections, published, receipt, warm)
    published >> publish.mark_stale({constant})
    # All of them: a failed model ends the run at once while its siblings, and dbt itself, may still write.
    chain([replicate, silver, gold, receipt, warm], release.as_teardown(setups=lease))


{name}_batch()
'''


def dag(name: str) -> str:
    return DAG.format(name=name, title=name.capitalize(), constant=name.upper())


def declaration(name: str, connector: str, streams: list[Stream], today: dt.date) -> str:
    """include/pipelines/<name>.yaml."""
    declared = {stream.name: _stream(name, stream) for stream in streams}
    content = {
        "name": name,
        "description": f"What Airbyte's {connector} delivers.",
        "schedule": "0 3 * * *",
        "start_date": today - dt.timedelta(days=1),
        "deadline_minutes": 60,
        "timeout_minutes": 120,
        "freshness_hours": 26,
        "source": {"airbyte": name, "schema": name},
        "destination": "lake_bronze",
        "bronze_source": "bronze",
        "bronze_retention_days": 400,
        "groups": {"all": {"connection": f"{name}_all", "streams": declared}},
    }
    return yaml.safe_dump(content, sort_keys=False, width=115)


def _stream(pipeline: str, stream: Stream) -> dict[str, Any]:
    found: dict[str, Any] = {"key": list(stream.key), "cursor": stream.cursor}
    if stream.created:
        found["created"] = "created_at"
    if not stream.incremental:
        found["mode"] = "full_refresh_append"
    return {**found, "table": silver(pipeline, stream)}


def source(name: str, connector: str, configuration: Mapping[str, Any]) -> str:
    """The entry for include/platform/airbyte/sources.yaml."""
    entry = {name: {"sourceType": connector.removeprefix("source-"), **configuration}}
    return yaml.safe_dump(entry, sort_keys=False, width=115)


def reflection(name: str) -> str:
    """The entry for include/platform/dremio/reflections.yaml."""
    entry = {
        "dataset": ["lake", "gold", f"{name}_activity"],
        "name": f"{name}_activity_raw",
        "type": "RAW",
        "display": "*",
    }
    return yaml.safe_dump({name: [entry]}, sort_keys=False, width=115)
