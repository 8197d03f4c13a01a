"""Every file in dags/ is loaded and yields its one DAG. "No import errors" alone also holds for an empty folder."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pendulum
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG, CronDataIntervalTimetable
from airflow.serialization.serialized_objects import DagSerialization
from airflow.utils.file import might_contain_dag

from docs import generate

# Loading these while parsing costs every process that reads a DAG file, again and again; tasks import them as they run.
HEAVY = {"boto3", "botocore", "dbt", "duckdb", "numpy", "pandas", "pyarrow", "sqlglot"}


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if path.name != "__init__.py")


def test_every_file_yields_exactly_its_dag(bag: DagBag, dags_folder: Path) -> None:
    assert not bag.import_errors
    expected = {(str(path), path.stem) for path in _files(dags_folder)}
    assert expected, f"no DAG files under {dags_folder}"
    assert {(dag.fileloc, dag.dag_id) for dag in bag.dags.values()} == expected


def test_no_file_is_skipped_by_the_safe_mode(dags_folder: Path) -> None:
    """Airflow silently skips a file that holds not both words, "airflow" and "dag"."""
    skipped = [path.name for path in _files(dags_folder) if not might_contain_dag(str(path), safe_mode=True)]
    assert not skipped, f"say `from airflow.sdk import dag` in {skipped}"


def test_id_is_the_name_of_file_and_function(dags_folder: Path) -> None:
    for path in _files(dags_folder):
        functions = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        assert functions == [path.stem], f"{path.name}: one function, named {path.stem} like the file"


def test_scheduled_runs_cover_time(dags: list[DAG]) -> None:
    """Airflow 3's default cron timetable gives empty intervals: a backfill over one would build nothing."""
    for dag in dags:
        timetable = DagSerialization.from_dict(DagSerialization.to_dict(dag)).timetable
        if not timetable.can_be_scheduled or "speed" in dag.tags:  # a micro-batch takes what there is
            continue
        assert isinstance(dag.timetable, CronDataIntervalTimetable), f"{dag.dag_id}: use CronDataIntervalTimetable"
        interval = timetable.infer_manual_data_interval(run_after=pendulum.datetime(2017, 6, 15, 12))
        assert interval.end > interval.start, dag.dag_id


def test_parsing_loads_nothing_heavy(dags_folder: Path) -> None:
    """The list of imports is what can be asserted; how long parsing takes is measured in benchmarks/parse."""
    program = "\n".join(
        [
            "import runpy, sys",
            "import airflow.sdk, airflow.dag_processing.processor",
            # The first asset makes Airflow load every provider's URI handler, Amazon's with boto3 among them.
            "airflow.sdk.Asset('s3://any/one')",
            "before = set(sys.modules)",
            "for path in sys.argv[1:]: runpy.run_path(path)",
            "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))",
        ]
    )
    result = subprocess.run(
        [sys.executable, "-c", program, *map(str, _files(dags_folder))],
        cwd=dags_folder.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    loaded = set(result.stdout.splitlines()[-1].split())
    heavy = sorted(loaded & HEAVY)
    assert not heavy, f"import {heavy} inside the task that needs them"


def test_the_generated_page_is_fresh(bag: DagBag) -> None:
    assert generate.PAGE.read_text(encoding="utf-8") == generate.render(bag), "docs/dags.md is stale: make docs"
