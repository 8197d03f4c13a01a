"""Writes docs/dags.md from the DAGs themselves; a test fails when the page is not what this would write.

python -m docs.generate
"""

from __future__ import annotations

import ast
import datetime as dt
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.sdk import DAG

PROJECT = Path(__file__).resolve().parent.parent
PAGE = PROJECT / "docs" / "dags.md"

HEAD = """# DAGs

Generated from the DAG files by `make docs`; the texts are the ones on each DAG's page in Airflow.
"""


def load() -> DagBag:
    """All DAGs of the project, parsed as Airflow parses them; raises ImportError with Airflow's own words."""
    os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="lakehouse-docs-"))
    os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "ERROR")
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(PROJECT / "dags", bundle_path=PROJECT / "dags", bundle_name="dags")
    if bag.import_errors:
        raise ImportError("\n".join(f"{file}: {error}" for file, error in bag.import_errors.items()))
    return bag


def _duration(value: dt.timedelta | None) -> str:
    if value is None:
        return "none"
    minutes = int(value.total_seconds() // 60)
    return f"{minutes // 60} h" if minutes % 60 == 0 else f"{minutes} min"


def _schedule(dag: DAG) -> str:
    """The declared cron text; the timetable's own words differ between Airflow versions."""
    schedule: Any = dag.schedule
    if schedule is None:
        return "by hand"
    return str(getattr(schedule, "expression", schedule))


def _facts(dag: DAG) -> list[str]:
    tasks = list(dag.tasks)
    pools = sorted({task.pool for task in tasks} - {"default_pool"})
    outlets = sorted({asset.uri for task in tasks for asset in task.outlets if hasattr(asset, "uri")})
    rows = [
        ("file", f"[`{Path(dag.fileloc).relative_to(PROJECT)}`](../{Path(dag.fileloc).relative_to(PROJECT)})"),
        ("schedule", f"`{_schedule(dag)}`"),
        ("time limit", _duration(dag.dagrun_timeout)),
        ("tags", ", ".join(f"`{tag}`" for tag in sorted(dag.tags))),
        ("pools", ", ".join(f"`{pool}`" for pool in pools) or "none"),
        ("params", ", ".join(f"`{name}`" for name in sorted(dag.params)) or "none"),
        ("updates", ", ".join(f"`{uri}`" for uri in outlets) or "no asset"),
    ]
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]


def _text(dag: DAG) -> str:
    """The DAG file's docstring with its headings one level lower than the DAG's own."""
    doc = ast.get_docstring(ast.parse(Path(dag.fileloc).read_text(encoding="utf-8"))) or ""
    return "\n".join(f"#{line}" if line.startswith("## ") else line for line in doc.splitlines())


def render(bag: DagBag) -> str:
    parts = [HEAD]
    for dag_id in sorted(bag.dags):
        dag = bag.dags[dag_id]
        parts.append("\n".join([f"## {dag_id}", "", _text(dag), "", *_facts(dag), ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(render(load()), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(PROJECT)}")
