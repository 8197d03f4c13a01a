"""`python -m embedded.scaffold NAME --connector source-faker --config '{...}'`: writes a pipeline that works at once.

Everything is written, or nothing: what is there already is never overwritten. `make new-pipeline NAME=...` runs it.
"""

from __future__ import annotations

import datetime as dt
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from embedded.home import PROJECT
from embedded.scaffold import catalog, dashboards, models, pipeline
from embedded.scaffold.catalog import ScaffoldError, Stream

SOURCES = "include/platform/airbyte/sources.yaml"
REFLECTIONS = "include/platform/dremio/reflections.yaml"


def files(name: str, connector: str, streams: list[Stream], today: dt.date) -> Iterator[tuple[str, str]]:
    """Path in the project, and text, of every new file."""
    yield f"include/pipelines/{name}.yaml", pipeline.declaration(name, connector, streams, today)
    for path, text in models.files(name, f"{name}_all", streams):
        yield f"dbt/lakehouse/models/{path}", text
    for path, text in dashboards.files(name):
        yield f"include/platform/superset/{path}", text
    # Last: Airflow sees the DAG when all that it reads is there.
    yield f"dags/batch/{name}_batch.py", pipeline.dag(name)


def write(
    root: Path, name: str, connector: str, configuration: Mapping[str, Any], streams: list[Stream], today: dt.date
) -> list[str]:
    """Writes all of it below `root`; gives the paths. Raises ScaffoldError before anything is written."""
    if not catalog.NAME.fullmatch(name) or name.startswith("dbt_"):
        raise ScaffoldError(f"NAME={name!r} must match {catalog.NAME.pattern}, and not begin with dbt_")
    entries = {SOURCES: pipeline.source(name, connector, configuration), REFLECTIONS: pipeline.reflection(name)}
    made = list(files(name, connector, streams, today))
    taken = [path for path, _ in made if (root / path).exists()]
    taken += [path for path in entries if f"\n{name}:" in (root / path).read_text(encoding="utf-8")]
    if taken:
        raise ScaffoldError(f"{taken[0]} has {name} already; choose another NAME, or remove the old pipeline first")
    for path, entry in entries.items():
        file = root / path
        file.write_text(file.read_text(encoding="utf-8").rstrip("\n") + "\n" + entry, encoding="utf-8")
    for path, text in made:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    return [*entries, *(path for path, _ in made)]


def main(
    name: Annotated[str, typer.Argument(help="Of the pipeline, such as marketing.")],
    connector: Annotated[str, typer.Option(help="An installed Airbyte connector.")] = "source-faker",
    config: Annotated[str, typer.Option(help="Its configuration, as JSON.")] = '{"count": 1000, "seed": 1}',
) -> None:
    """Write declarations, dbt models, a DAG and a dashboard from what the connector discovers."""
    try:
        configuration = json.loads(config)
        if not isinstance(configuration, dict):
            raise ScaffoldError(f"CONFIG must be a JSON object, found {config}")
        streams = catalog.discover(connector, configuration)
        for path in write(PROJECT, name, connector, configuration, streams, dt.datetime.now(dt.UTC).date()):
            typer.echo(f"  {path}")
    except (ScaffoldError, ValueError, OSError, subprocess.SubprocessError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(main)
