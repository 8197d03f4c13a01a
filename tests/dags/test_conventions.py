"""What a person on call can count on, on every DAG page."""

from __future__ import annotations

import ast
import datetime as dt
import re
from pathlib import Path

import pytest
import yaml
from airflow.sdk import DAG, Asset

PROJECT = Path(__file__).resolve().parent.parent.parent
LANES = {"batch", "speed", "upkeep", "control"}
HEADINGS = ("## When", "## Needs", "## If it fails")
# A task of these kinds works elsewhere, so a pool limits how many do so at once.
POOL_OF = {
    "AirbyteSyncOperator": "ingest",
    "DremioRefreshReflectionsOperator": "refresh",
    "DbtProducerWatcherOperator": "transform",
    "DbtRunWatcherOperator": "transform",
    "DbtTestWatcherOperator": "transform",
}
# Stable: a scheme, a name that no environment changes, lower-case parts. No host, no port, no bucket of one stack.
STABLE_URI = re.compile(r"(s3|dremio)://lakehouse(/[a-z][a-z0-9_]*)+")
# A DAG file says what runs, when and in which order; these say how.
NOT_IN_A_DAG_FILE = re.compile(r"os\.environ|Variable\.get|import (httpx|requests|psycopg|boto3)\b")


@pytest.fixture(scope="session")
def declared_pools() -> set[str]:
    settings = yaml.safe_load((PROJECT / "airflow_settings.yaml").read_text(encoding="utf-8"))
    return {pool["pool_name"] for pool in settings["airflow"]["pools"]} | {"default_pool"}


def test_folder_is_the_lane_and_the_first_tag(dags: list[DAG]) -> None:
    for dag in dags:
        lane = Path(dag.fileloc).parent.name
        assert lane in LANES, f"{dag.fileloc}: dags/ has the folders {sorted(LANES)}"
        assert lane in dag.tags, f"{dag.dag_id}: the first tag is the folder's name, {lane!r}"
        # Airflow keeps tags as a set: the order is in the file.
        tags = next(
            keyword.value.elts
            for node in ast.walk(ast.parse(Path(dag.fileloc).read_text()))
            if isinstance(node, ast.Call)
            for keyword in node.keywords
            if keyword.arg == "tags" and isinstance(keyword.value, ast.List)
        )
        assert isinstance(tags[0], ast.Constant)
        assert tags[0].value == lane


def test_page_says_when_needs_and_what_to_do(dags: list[DAG]) -> None:
    for dag in dags:
        doc = dag.doc_md or ""
        found = [line for line in doc.splitlines() if line.startswith("## ")]
        assert tuple(found) == HEADINGS, f"{dag.dag_id}: the docstring needs the headings {HEADINGS}, in this order"
        first = doc.strip().splitlines()[0]
        assert first.endswith("."), f"{dag.dag_id}: the first line is one sentence"
        assert 5 <= len(doc.strip().splitlines()) <= 25, f"{dag.dag_id}: 5 to 25 lines"
        assert "docs/runbooks/" in doc, f"{dag.dag_id}: name the runbook"


def test_everything_ends_and_somebody_owns_it(dags: list[DAG]) -> None:
    for dag in dags:
        assert dag.dagrun_timeout, f"{dag.dag_id}: give it a dagrun_timeout"
        assert not dag.catchup, f"{dag.dag_id}: a past interval is built by a backfill, never by switching it on"
        assert dag.on_failure_callback, f"{dag.dag_id}: nobody would be told that it failed"
        for task in dag.tasks:
            assert task.owner != "airflow", f"{dag.dag_id}.{task.task_id}: name an owner in default_args"
            assert isinstance(task.execution_timeout, dt.timedelta), f"{task.task_id}: give it an execution_timeout"


def test_pools_are_declared_and_used(dags: list[DAG], declared_pools: set[str]) -> None:
    for dag in dags:
        for task in dag.tasks:
            assert task.pool in declared_pools, f"{task.task_id}: pool {task.pool!r} is not in airflow_settings.yaml"
            wanted = POOL_OF.get(task.task_type)
            assert wanted in (None, task.pool), f"{task.task_id}: a {task.task_type} runs in pool {wanted!r}"


def test_asset_uris_are_stable_and_unique(dags: list[DAG]) -> None:
    assets = [asset for dag in dags for task in dag.tasks for asset in task.outlets if isinstance(asset, Asset)]
    assert assets, "no task updates an asset"
    for asset in assets:
        assert STABLE_URI.fullmatch(asset.uri), f"{asset.uri} would change with the environment"
    assert len({asset.name for asset in assets}) == len({asset.uri for asset in assets})


def test_dag_files_hold_order_only(dags_folder: Path) -> None:
    for path in dags_folder.glob("*/*.py"):
        text = path.read_text()
        assert not NOT_IN_A_DAG_FILE.search(text), f"{path.name}: move it into include/"
        assert len(text.splitlines()) <= 150, f"{path.name}: over 150 lines; what can move into a task group?"
        nodes = list(ast.walk(ast.parse(text)))
        assert not [node for node in nodes if isinstance(node, ast.Try)], f"{path.name}: no try in a DAG file"


def _upstream(dag: DAG, task_id: str) -> set[str]:
    return dag.get_task(task_id).get_flat_relative_ids(upstream=True)


def test_the_edges_that_protect_readers(dags: list[DAG]) -> None:
    """Refactor the graph at will, but nothing is shown before it was tested, audited and accelerated."""
    dag = next(dag for dag in dags if dag.dag_id == "retail_batch")
    before = _upstream(dag, "publish")
    for guard in ("reconcile", "audit", "pin_snapshots", "refresh_reflections"):
        assert guard in before, f"publish must wait for {guard}"
    gold = {task.task_id for task in dag.tasks if task.task_id.startswith("gold.")}
    silver_tests = {task.task_id for task in dag.tasks if task.task_id.startswith("silver.") and "test" in task.task_id}
    assert gold <= before, "publish must wait for every gold model and its tests"
    assert silver_tests, "silver has no test tasks"
    for task_id in gold:
        assert silver_tests <= _upstream(dag, task_id), f"{task_id} must wait for silver's tests"
    assert "acquire_lease" in _upstream(dag, "refresh_metadata"), "no writing without the lease"
    syncs = {task.task_id for task in dag.tasks if task.task_id.endswith(".record")}
    assert syncs <= _upstream(dag, "needed_position"), "the log is waited for to the position read after the last sync"
    assert "wait_for_log" in _upstream(dag, "prepare_fold"), "slices are written once the log is complete"
    silver = {task.task_id for task in dag.tasks if task.task_id.startswith("silver.")}
    for task_id in silver:
        assert "prepare_fold" in _upstream(dag, task_id), f"{task_id} must wait for the log's slices"
