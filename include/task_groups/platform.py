"""Tasks that plan and apply declared platform state, and tasks that only say where it has drifted; one a service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.sdk import get_current_context, task

from include import connections, ledger, speed
from include.paths import PLATFORM
from include.reconcile import airbyte, capture, dremio, object_store, superset
from include.reconcile.plan import Change
from include.specs.pipeline import Pipeline
from include.task_groups.dashboards import SUPERSET, absent
from include.task_groups.ingest import AIRBYTE
from include.task_groups.run import LEDGER
from include.task_groups.verify import DREMIO
from lakehouse_providers.airbyte.hook import AirbyteSyncHook
from lakehouse_providers.dremio.hook import DremioHook
from lakehouse_providers.superset.hook import SupersetHook

MIGRATIONS = PLATFORM / "postgres" / "ledger"


class DriftError(Exception):
    """A service is not what is declared; the message names each object that differs, and how."""


def _apply() -> bool:
    return not get_current_context()["params"]["plan_only"]


def _prune() -> bool:
    return bool(get_current_context()["params"]["prune"])


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


def apply_sources(pipelines: list[Pipeline]) -> Any:
    @task(task_id="apply_sources")
    def apply_sources() -> list[str]:
        """Publication and replica identities of captured tables, as their owner; the slot, as its reader."""
        changes = []
        for pipeline in pipelines:
            if pipeline.speed is not None:
                with connections.connect(pipeline.speed.owner) as conn:
                    changes += capture.run(conn, pipeline, apply=_apply())
                with connections.connect(LEDGER) as conn:
                    begun = speed.position(conn, pipeline.speed.connection) is not None
                with connections.connect(pipeline.source_connection) as conn:
                    changes += capture.slot(conn, pipeline, begun=begun, apply=_apply())
        return _show(changes)

    return apply_sources()


def apply_airbyte(pipelines: list[Pipeline]) -> Any:
    @task(task_id="apply_airbyte")
    def apply_airbyte() -> list[str]:
        """Sources and destinations from include/platform, connections from the pipelines' streams."""
        return _show(airbyte.AirbyteState(AirbyteSyncHook(AIRBYTE).client(), pipelines).run(apply=_apply()))

    return apply_airbyte()


@task(task_id="apply_dremio")
def apply_dremio() -> list[str]:
    return _show(dremio.run(DremioHook(DREMIO), apply=_apply(), prune=_prune()))


@task(task_id="apply_superset")
def apply_superset() -> list[str]:
    """Databases, datasets, charts and dashboards; nothing where no Superset is connected."""
    if reason := absent():
        return _show([Change("await", "superset", reason)])
    with SupersetHook(SUPERSET).client() as client:
        return _show(superset.run(client, apply=_apply(), prune=_prune()))


def _judge(service: str, changes: Sequence[Change]) -> list[str]:
    """Prints what is only awaited; raises DriftError for what differs."""
    lines = _show(changes)
    differing = [str(change) for change in changes if change.differs]
    if differing:
        raise DriftError(
            f"{service} is not as declared; to make it so: run apply_platform, or correct the declaration.\n"
            + "\n".join(differing)
        )
    return lines


@task(task_id="ledger")
def drift_ledger() -> list[str]:
    with connections.connect(LEDGER) as conn:
        names = ledger.pending(conn, MIGRATIONS)
    return _judge("The ledger", [Change("create", "ledger migration", name) for name in names])


@task(task_id="object_store")
def drift_object_store() -> list[str]:
    return _judge("The object store", object_store.run(S3Hook("lake_s3").get_conn(), apply=False))


def drift_airbyte(pipelines: list[Pipeline]) -> Any:
    @task(task_id="airbyte")
    def airbyte_() -> list[str]:
        state = airbyte.AirbyteState(AirbyteSyncHook(AIRBYTE).client(), pipelines)
        return _judge("Airbyte", state.run(apply=False))

    return airbyte_()


@task(task_id="dremio")
def drift_dremio() -> list[str]:
    """Also names what was made from declarations that are gone."""
    return _judge("Dremio", dremio.run(DremioHook(DREMIO), apply=False, prune=True))


@task(task_id="superset")
def drift_superset() -> list[str]:
    """Also names what was made from files that are gone."""
    if reason := absent():
        return _judge("Superset", [Change("await", "superset", reason)])
    with SupersetHook(SUPERSET).client() as client:
        return _judge("Superset", superset.run(client, apply=False, prune=True))
