"""Restore, by hand: a plan, somebody's approval, then databases or a data folder as they were at one position.

## When
When somebody asks for it. `lsn` or `time` name the position; without them it is the end of the archived log.

## Needs
Connections as `backup`, and `admin_platform` or `admin_source` for databases; `airbyte`, `dremio`; pool `backup`.
What would replace something live needs the `word` that `plan` names.

## If it fails
Nothing live is touched before the whole set was read and restored aside. Clear the red task: it goes on. The replaced
databases are kept as `<name>_before_<plan>`. Afterwards serving views are in mode batch until the next batch run.
Runbook: docs/runbooks/restore.md
"""

from __future__ import annotations

import datetime as dt

from airflow.sdk import Param, chain, dag

from include import defaults
from include.specs import pipeline
from include.task_groups import backup as tasks
from include.task_groups import fall_back

PIPELINES = [pipeline.load("retail")]


@dag(
    schedule=None,
    start_date=dt.datetime(2017, 1, 1, tzinfo=dt.UTC),
    dagrun_timeout=dt.timedelta(hours=12),
    doc_md=__doc__,
    tags=["upkeep", "backup"],
    params={
        "instance": Param("source", type="string", description="PostgreSQL server, as include/backup.yaml names it"),
        "databases": Param([], type="array", items={"type": "string"}, description="Databases to replace"),
        "into": Param("", type="string", description="Or a data folder to build, on the worker"),
        "set_id": Param("", type="string", description="Backup set; default: the newest that reaches the position"),
        "lsn": Param("", type="string", description="Stop before the record at this LSN"),
        "time": Param("", type="string", description="Stop at this time, such as 2026-11-26T02:00:00+00:00"),
        "word": Param("", type="string", description="What the plan asks for when something live is replaced"),
    },
    **defaults.DAG_DEFAULTS,
)
def restore():
    planned, approved = tasks.plan(), tasks.approve()
    applied = tasks.apply()(planned)
    fallen = fall_back.fall_back(PIPELINES)(planned)
    chain(planned, approved, applied, fallen, tasks.release())


restore()
