"""Tasks that plan and apply declared platform state, one service each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.sdk import get_current_context, task

from include import connections, ledger
from include.paths import PLATFORM
from include.reconcile import airbyte, dremio, object_store
from include.reconcile.plan import Change
from include.specs.pipeline import Pipeline
from include.task_groups.ingest import AIRBYTE
from include.task_groups.run import LEDGER
from include.task_groups.verify import DREMIO
from lakehouse_providers.airbyte.hook import AirbyteSyncHook
from lakehouse_providers.dremio.hook import DremioHook

MIGRATIONS = PLATFORM / "postgres" / "ledger"


def _apply() -> bool:
    return not get_current_context()["params"]["plan_only"]


def _show(changes: Sequence[Change]) -> list[str]:
    lines = [str(change) for change in changes]
    print("\n".join(lines) or "nothing to change")
    return lines


@task(task_id="apply_ledger")
def apply_ledger() -> list[str]:
    """The ledger's schema, migrated by versioned scripts."""
    with connections.connect(LEDGER) as conn:
        names = ledger.migrate(conn, MIGRATIONS) if _apply() else ledger.pending(conn, MIGRATIONS)
    return _show([Change("create", "ledger migration", name) for name in names])


@task(task_id="apply_object_store")
def apply_object_store() -> list[str]:
    return _show(object_store.run(S3Hook("lake_s3").get_conn(), apply=_apply()))


def apply_airbyte(pipelines: list[Pipeline]) -> Any:
    @task(task_id="apply_airbyte")
    def apply_airbyte() -> list[str]:
        """Sources and destinations from include/platform, connections from the pipelines' streams."""
        return _show(airbyte.AirbyteState(AirbyteSyncHook(AIRBYTE).client(), pipelines).run(apply=_apply()))

    return apply_airbyte()


@task(task_id="apply_dremio")
def apply_dremio() -> list[str]:
    return _show(dremio.run(DremioHook(DREMIO), apply=_apply()))
