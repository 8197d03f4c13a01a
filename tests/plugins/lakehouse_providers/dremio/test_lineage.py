"""OpenLineage: what a task's statement read and wrote."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from airflow.providers.openlineage.extractors.manager import ExtractorManager
from airflow.sdk.exceptions import TaskDeferred
from airflow.utils.state import TaskInstanceState

from lakehouse_providers.dremio import lineage
from lakehouse_providers.dremio.operators import DremioSqlOperator


@pytest.mark.parametrize(
    ("statement", "path"),
    [
        ("SELECT * FROM a.b", None),
        ("INSERT INTO a.b SELECT 1", ("a", "b")),
        ('/* {app} */ -- x\n insert into "a.b".c (x) values (1)', ("a.b", "c")),
        ('CREATE OR REPLACE VIEW "s" . "v" AS SELECT 1', ("s", "v")),
        ("create table if not exists lake.gold.t (a int)", ("lake", "gold", "t")),
        ("MERGE INTO t USING s ON (1=1) WHEN MATCHED THEN DELETE", ("lake", "t")),
        ("UPDATE a.b SET x = 1", ("a", "b")),
        ("DELETE FROM a.b WHERE x", ("a", "b")),
        ("TRUNCATE TABLE a.b", ("a", "b")),
        ("COPY INTO a.b FROM '@s'", ("a", "b")),
        ("ALTER TABLE a.b REFRESH METADATA", None),
        ("", None),
    ],
)
def test_the_dataset_that_a_statement_writes(statement: str, path: tuple[str, ...] | None) -> None:
    assert lineage.target(statement, ("lake",)) == path


@pytest.mark.parametrize(
    "value",
    [
        "lake.silver.a, lake.b, lake.b",
        '[lake.silver.a,"lake"."b"]',
        ["lake.silver.a", '"lake".b'],
        "lake.silver.a,lake.b",
    ],
)
def test_queried_datasets_in_all_their_spellings(value: Any) -> None:
    assert lineage.queried(value) == [("lake", "silver", "a"), ("lake", "b")]
    assert lineage.queried(None) == []


def finished(dremio: Any, context: Any, statement: str) -> DremioSqlOperator:
    """A task after it was resumed, as the worker holds it when lineage is asked for."""
    with pytest.raises(TaskDeferred) as caught:
        DremioSqlOperator(task_id="t", sql=statement, poll_interval=0.01).execute(context)
    event = asyncio.run(anext(aiter(caught.value.trigger.run()))).payload  # type: ignore[arg-type]
    operator = DremioSqlOperator(task_id="t", sql=statement)
    operator.execute_complete(context, event)
    return operator


def test_events_name_inputs_outputs_schemas_and_the_job(dremio: Any, context: Any) -> None:
    for name in ("orders", "daily"):
        table = dremio.table("lake", name)
        table["fields"] = [{"name": "id", "type": {"name": "BIGINT"}}, {"name": name, "type": {"name": "VARCHAR"}}]
    dremio.queried = "lake.orders, lake.unknown, lake.daily"
    statement = "INSERT INTO lake.daily SELECT * FROM lake.orders"
    operator = finished(dremio, context, statement)
    # As the OpenLineage listener does it in the worker.
    found = ExtractorManager().extract_metadata(
        dagrun=context["dag_run"],
        task=operator,
        task_instance_state=TaskInstanceState.SUCCESS,
        task_instance=context["ti"],
    )
    place = f"dremio://127.0.0.1:{dremio.wire.port}"
    assert [(d.namespace, d.name) for d in found.inputs] == [(place, "lake.orders"), (place, "lake.unknown")]
    assert [(d.namespace, d.name) for d in found.outputs] == [(place, "lake.daily")]
    schema = found.outputs[0].facets["schema"].fields
    assert [(f.name, f.type) for f in schema] == [("id", "BIGINT"), ("daily", "VARCHAR")]
    assert "schema" not in found.inputs[1].facets
    assert found.run_facets["externalQuery"].externalQueryId in dremio.jobs
    assert found.job_facets["sql"].query == statement


def test_what_dremio_does_not_tell_is_left_out(dremio: Any, context: Any) -> None:
    operator = finished(dremio, context, "INSERT INTO lake.daily SELECT 1")
    dremio.broken["queried_datasets"] = "Access denied"
    found = operator.get_openlineage_facets_on_complete(context["ti"])
    assert found is not None
    assert found.inputs == []
    assert [d.name for d in found.outputs] == ["lake.daily"]


def test_a_task_that_ran_nothing_has_no_lineage() -> None:
    assert DremioSqlOperator(task_id="t", sql="SELECT 1").get_openlineage_facets_on_complete(None) is None


def test_silent_without_the_openlineage_provider() -> None:
    program = (
        "import sys; sys.modules['airflow.providers.openlineage'] = None\n"
        "from lakehouse_providers.dremio import lineage\n"
        "print(lineage.facets(None, 'j', 'INSERT INTO a SELECT 1'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["None"]), done.stderr
