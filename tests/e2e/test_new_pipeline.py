"""The steps of docs/new-pipeline.md as they stand there, in a copy of the project with a platform of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from embedded.airflow_client import AirflowClient
from embedded.demo import source
from embedded.home import PROJECT
from embedded.stack import Stack
from tests.e2e.conftest import RUN_SECONDS, Dremio

PAGE = PROJECT / "docs" / "new-pipeline.md"
MADE_HERE = (".venvs", ".git", ".mypy_cache", ".ruff_cache", ".pytest_cache", "__pycache__", "logs")


def steps() -> list[str]:
    """The indented commands of the page."""
    return re.findall(r"^    (make .+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.faults
def test_the_documented_steps_give_a_green_run_and_a_chart(tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns(*MADE_HERE))
    (project / ".venvs").symlink_to((PROJECT / ".venvs").resolve())
    home = tmp_path / "home"
    environment: dict[str, Any] = {**os.environ, "LAKEHOUSE_HOME": str(home)}

    def run(command: str) -> None:
        done = subprocess.run(
            command, shell=True, cwd=project, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}"

    stack = Stack(home)
    try:
        run("make up")
        endpoints = stack.endpoints()
        source.load(endpoints.source.dsn("retail"), "tiny")
        run("make apply")
        variables = endpoints.environment()
        login = (variables["LAKEHOUSE_AIRFLOW_USER"], variables["LAKEHOUSE_AIRFLOW_PASSWORD"])
        airflow = AirflowClient(endpoints.airflow_url, *login)
        *prepare, switch_on = steps()
        for step in prepare:
            run(step)
        airflow.wait_for_dag("marketing_batch")
        run(switch_on)
        started = airflow.runs("marketing_batch")
        run_id = started[0]["dag_run_id"] if started else airflow.trigger("marketing_batch")
        assert airflow.wait_for_run("marketing_batch", run_id, RUN_SECONDS) == "success"
        dremio = Dremio(endpoints.sql_url, variables["LAKEHOUSE_DREMIO_USER"], variables["LAKEHOUSE_DREMIO_PASSWORD"])
        counted = "SELECT stream_name, SUM(row_count) AS n FROM lakehouse.gold.marketing_activity GROUP BY stream_name"
        rows = {row["stream_name"]: int(row["n"]) for row in dremio.sql(counted)}
        assert rows == {"users": 1000, "products": 100, "purchases": 1000}
        warmed = airflow.xcom("marketing_batch", run_id, "warm_dashboards")
        assert "skipped" in warmed or warmed["charts"] == 2
    finally:
        stack.reset()
