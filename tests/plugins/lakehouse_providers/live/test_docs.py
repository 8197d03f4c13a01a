"""Every example of the provider's page runs, as it stands there, against our SQL server."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk import DAG
from airflow.sdk.exceptions import TaskDeferred

from include.specs import dremio as spec
from lakehouse_providers.dremio.hook import DremioHook

pytestmark = pytest.mark.contract
PAGE = Path(__file__).resolve().parents[4] / "docs" / "providers" / "dremio.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def lake(dremio_connection: Any, lake_source: dict[str, Any]) -> None:
    """The source that the examples use."""
    with DremioHook().client() as client:
        client.apply_source(lake_source)


def walk(dag: DAG, context: dict[str, Any]) -> None:
    """The tasks of a DAG in their order, through their triggers."""
    for task in dag.topological_sort():
        try:
            task.execute(context)
        except TaskDeferred as deferred:
            event = asyncio.run(anext(aiter(deferred.trigger.run())))
            getattr(task, deferred.method_name)(context, event.payload)


def test_the_python_runs_in_the_order_of_the_page(lake: None, context: dict[str, Any]) -> None:
    examples = [text for language, text in BLOCKS if language == "python"]
    assert len(examples) >= 7
    for text in examples:
        made: list[DAG] = []
        source = re.sub(r"^(\w+\(\))$", r"made.append(\1)", text, flags=re.MULTILINE)
        exec(compile(source, str(PAGE), "exec"), {"made": made, "__name__": "example"})
        for dag in made:
            walk(dag, context)


def test_the_declarations_load(tmp_path: Path) -> None:
    (text,) = [text for language, text in BLOCKS if language == "yaml"]
    for name, body in re.findall(r"^# (\w+)\.yaml.*?\n((?:(?!^# \w+\.yaml).*\n)*)", text, re.MULTILINE):
        yaml.safe_load(body)
        (tmp_path / f"{name}.yaml").write_text(body.replace("ledger.lakehouse", "lake.lakehouse"))
    state = spec.load(tmp_path)
    assert {len(state.users), len(state.roles), len(state.grants), len(state.views), len(state.reflections)} == {1}
