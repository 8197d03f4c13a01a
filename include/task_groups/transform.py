"""A layer of the dbt project as tasks: one task per model, its tests gate what follows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from airflow.sdk import Context
from cosmos import DbtTaskGroup, ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig
from cosmos.constants import ExecutionMode, InvocationMode, LoadMode, TestBehavior
from cosmos.operators._watcher.state import is_dbt_node_status_success

from include.connections import DREMIO
from include.paths import DBT_MANIFEST, DBT_PROJECT
from include.settings import SETTINGS
from include.specs.pipeline import Pipeline
from include.task_groups.run import go_on
from lakehouse_providers.dremio.profile import DremioProfileMapping

POOL = "transform"
# How often a model's task asks whether dbt is done with it; Cosmos' default of 10 s is longer than most models take.
WATCH_SECONDS = 2
# XCom of a layer's dbt process: how often the run had been cleared when it built last.
ROUND = "round"

# The run's mode and interval: models are functions of these and of bronze. Given through the environment, not as
# --vars: other vars would make dbt parse the whole project again in every run.
ENVIRONMENT = {
    "LAKEHOUSE_RUN_MODE": "{{ 'backfill' if dag_run.run_type == 'backfill' else 'scheduled' }}",
    # A run triggered without a logical date has no interval; it needs none, only a backfill does.
    "LAKEHOUSE_INTERVAL_START": "{{ (data_interval_start | ts) if data_interval_start is defined else '' }}",
    "LAKEHOUSE_INTERVAL_END": "{{ (data_interval_end | ts) if data_interval_end is defined else '' }}",
    "LAKEHOUSE_FULL_REBUILD": "{{ params.full_rebuild }}",
    # How each captured stream is folded; decided once, so that models and tests of the run agree.
    "LAKEHOUSE_FOLD": "{{ ti.xcom_pull(task_ids='prepare_fold') | tojson }}",
}


def _profile(layer: str) -> ProfileConfig:
    return ProfileConfig(
        profile_name="lakehouse",
        target_name="airflow",
        profile_mapping=DremioProfileMapping(
            conn_id=DREMIO,
            profile_args={
                "object_storage_source": "lake",
                "object_storage_path": layer,
                "dremio_space": "lakehouse",
                "dremio_space_folder": "bronze",
                "threads": 6,  # most of a node's time is waiting: dbt-dremio sleeps before it looks at a job
            },
        ),
    )


def _go_on(pipeline: str, then: Callable[[Context], None], context: Context) -> None:
    """Before a task builds: the lease must be ours still. It is renewed, however long the layer takes."""
    go_on(pipeline)
    then(context)


def _build_again(context: Context) -> None:
    """Before dbt starts. Cosmos skips it in every try but the first, and each model then starts a dbt of its own: a
    run that is cleared as a whole, as a backfill of a past interval is, would take several times as long.
    """
    ti = context["ti"]
    ti.xcom_push(key=ROUND, value=context["dag_run"].clear_number)
    ti.try_number = 1


def _watch_again(context: Context) -> None:
    """Before a model's task starts: it watches the build of its own round, and only one cleared alone starts dbt.

    A second try within a round starts dbt too, unless dbt is done with the model already: Airflow gives a deferred task
    another try when its trigger fires before the scheduler has seen it defer.
    """
    ti = context["ti"]
    task: Any = context["task"]  # Cosmos' sensor, which knows its layer's dbt process
    if ti.xcom_pull(task_ids=task.producer_task_id, key=ROUND) != context["dag_run"].clear_number:
        return
    first_try = ti.max_tries - task.retries + 1
    if ti.try_number == first_try or is_dbt_node_status_success(task._get_node_status(ti, context)):
        ti.try_number = 1


def build(pipeline: Pipeline, layer: str, select: str, with_views: str | None = None) -> Any:
    """The models of a layer built aside and tested; readers do not see them yet.

    Both are dbt selectors. `with_views`: models that the same dbt process makes first, without a task for each of them:
    replacing a view takes half a second, a task of Airflow's several.
    """
    # Unit tests judge the project, not the data: they belong to `make test`, and held up the models for 12 s a layer.
    flags = ["--exclude-resource-type", "unit_test"] + (["--select", with_views] if with_views else [])
    return DbtTaskGroup(
        group_id=layer,
        project_config=ProjectConfig(dbt_project_path=DBT_PROJECT, manifest_path=DBT_MANIFEST, install_dbt_deps=False),
        profile_config=_profile(layer),
        render_config=RenderConfig(
            load_method=LoadMode.DBT_MANIFEST,
            select=[select],
            test_behavior=TestBehavior.AFTER_EACH,
            # Cosmos' assets carry host and port; publication emits ours, which are the same everywhere.
            emit_datasets=False,
        ),
        execution_config=ExecutionConfig(
            execution_mode=ExecutionMode.WATCHER,
            invocation_mode=InvocationMode.SUBPROCESS,
            dbt_executable_path=SETTINGS.dbt_executable,
            # One retry heals a killed process; bad data is as bad in the next build.
            setup_operator_args={
                "dbt_cmd_flags": flags,
                "pre_execute": partial(_go_on, pipeline.name, _build_again),
                "retries": 1,
            },
        ),
        operator_args={
            "env": ENVIRONMENT,
            "append_env": True,
            "pool": POOL,
            "install_deps": False,
            "poke_interval": WATCH_SECONDS,
            "pre_execute": partial(_go_on, pipeline.name, _watch_again),
        },
    )
