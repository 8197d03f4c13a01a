"""The steps of docs/new-pipeline.md as they stand there, in a copy of the project with a platform of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from embedded.airflow_client import AirflowClient
from embedded.demo import source
from embedded.home import PROJECT
from embedded.stack import Stack
from tests.e2e.conftest import RUN_SECONDS, Dremio
from tests.e2e.test_dashboards import CHROMIUM, PYTHON, look, no_chart_in_error

PAGE = PROJECT / "docs" / "new-pipeline.md"
MADE_HERE = (".venvs", ".git", ".mypy_cache", ".ruff_cache", ".pytest_cache", "__pycache__", "logs")


def steps() -> list[str]:
    """The indented commands of the page, up to its first heading below the title."""
    text = PAGE.read_text(encoding="utf-8").split("\n## ", 1)[0]
    return re.findall(r"^    (make .+)$", text, re.MULTILINE)


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
        began = time.monotonic()
        for step in prepare:
            run(step)
        airflow.wait_for_dag("shop_batch")
        run(switch_on)
        started = airflow.runs("shop_batch")
        run_id = started[0]["dag_run_id"] if started else airflow.trigger("shop_batch")
        assert airflow.wait_for_run("shop_batch", run_id, RUN_SECONDS) == "success"
        dremio = Dremio(endpoints.sql_url, variables["LAKEHOUSE_DREMIO_USER"], variables["LAKEHOUSE_DREMIO_PASSWORD"])
        counted = "SELECT stream_name, SUM(stored_rows) AS n FROM lakehouse.gold.shop_activity GROUP BY stream_name"
        rows = {row["stream_name"]: int(row["n"]) for row in dremio.sql(counted)}
        assert rows == {"users": 1000, "products": 100, "purchases": 1000}
        warmed = airflow.xcom("shop_batch", run_id, "warm_dashboards")
        assert "skipped" in warmed or warmed["charts"] == 2
        print(f"from `make new-pipeline` to a green run: {time.monotonic() - began:.0f} s")
        if CHROMIUM and PYTHON.exists() and "skipped" not in warmed:
            url, user, password = (variables[f"LAKEHOUSE_SUPERSET_{name}"] for name in ("URL", "USER", "PASSWORD"))
            (seen,) = look(url, user, password, [{"do": "dashboard", "slug": "shop", "charts": 2}])
            no_chart_in_error(seen)
            assert seen["big_numbers"] == ["2,100"]
    finally:
        stack.reset()
