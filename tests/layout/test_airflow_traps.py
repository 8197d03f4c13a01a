"""Where files must lie so that Airflow loads what it should, once, under its own name."""

from __future__ import annotations

import json
import tomllib
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path

import jsonschema
from airflow._shared.module_loading import find_path_from_directory

from lakehouse_providers import get_provider_info


def test_airflow_executes_no_provider_file_as_a_plugin(project: Path) -> None:
    """Airflow runs every .py under plugins/ that no .airflowignore names, and registers it under its bare file name.

    A `client.py` would then exist twice (an `except` in one copy does not catch the other's error), and a `types.py`
    would replace the standard library's.
    """
    plugins = project / "plugins"
    executed = {Path(path).relative_to(plugins) for path in find_path_from_directory(str(plugins), ".airflowignore")}
    nested = sorted(str(path) for path in executed if path.suffix == ".py" and len(path.parts) > 1)
    assert not nested, f"name these packages in plugins/.airflowignore, with a slash at the end: {nested}"


def test_every_provider_file_is_found_by_import_instead(project: Path) -> None:
    installed = distribution("open-lakehouse")
    points = [point for point in installed.entry_points if point.group == "apache_airflow_provider"]
    assert [point.value for point in points] == ["lakehouse_providers:get_provider_info"], (
        "Airflow finds connection types through this entry point only: run `make setup`"
    )
    assert points[0].load() is get_provider_info


def test_provider_info_is_valid() -> None:
    """An invalid answer stops all of Airflow: every command, and even `Asset(...)` at import."""
    schema = json.loads(files("airflow").joinpath("provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_provider_info_names_the_installed_distribution(project: Path) -> None:
    """Airflow refuses to start when the two differ."""
    name = tomllib.loads((project / "pyproject.toml").read_text())["project"]["name"]
    assert get_provider_info()["package-name"] == name


def test_only_dags_are_scanned_when_the_whole_repository_is_the_bundle(project: Path) -> None:
    found = {
        Path(path).relative_to(project).parts[0] for path in find_path_from_directory(str(project), ".airflowignore")
    }
    assert found == {"dags"}, "the root .airflowignore must hold `/*` and then `!/dags`, without a slash at the end"
