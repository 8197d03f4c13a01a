"""What gets installed is what was locked, and it is hashed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

EXPORTS = (
    "requirements.txt",
    "dev-requirements.txt",
    "dbt-requirements.txt",
    "embedded-requirements.txt",
    "conformance-requirements.txt",
)
OTHERS = ("uv-requirements.txt", "clients-requirements.txt", "superset-requirements.txt")
# What the bundle must be able to count on, in the image as here.
NAMED = (
    "apache-airflow",
    "apache-airflow-providers-airbyte",
    "apache-airflow-providers-amazon",
    "apache-airflow-providers-postgres",
    "astronomer-cosmos",
    "pyarrow",
)


def _pins(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+)", path.read_text(), re.M))


@pytest.mark.parametrize("name", [*EXPORTS, *OTHERS])
def test_every_requirement_is_pinned_and_hashed(project: Path, name: str) -> None:
    entries = re.split(r"\n(?=[A-Za-z0-9])", (project / name).read_text())
    unhashed = [entry.split()[0] for entry in entries if not entry.startswith("#") and "--hash=sha256:" not in entry]
    assert not unhashed


def test_requirements_name_what_the_image_needs(project: Path) -> None:
    assert set(NAMED) <= _pins(project / "requirements.txt").keys()


def test_duckdb_and_its_extensions_are_one_version(project: Path) -> None:
    """An extension of another version does not load, and there is no network to fetch the right one."""
    pins = _pins(project / "embedded-requirements.txt")
    versions = {name: version for name, version in pins.items() if name.startswith("duckdb")}
    assert len(versions) > 1
    assert len(set(versions.values())) == 1, versions


def test_exports_are_fresh(project: Path) -> None:
    uv = project / ".venvs" / "uv" / "bin" / "uv"
    if not uv.exists():
        pytest.skip("uv is not installed; `make setup` brings it")
    result = subprocess.run(
        ["make", "--no-print-directory", "lock-check"], cwd=project, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
