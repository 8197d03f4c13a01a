"""Who may import whom: the contracts of pyproject.toml hold, and each of them would notice a breach."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = ("dags", "embedded", "include")


def _lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache", "--no-logo"]
    environment = {"PATH": "", "PYTHONPATH": f"{folder}:{folder / 'plugins'}", "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_contracts_are_kept(project: Path) -> None:
    result = _lint(project)
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"


@pytest.fixture(scope="module")
def copy(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python files of the project, without anything else."""
    target = tmp_path_factory.mktemp("copy")
    shutil.copy(project / "pyproject.toml", target)
    python_only = shutil.ignore_patterns("*.pyc", "__pycache__", "*.sql", "*.yaml", "*.json")
    for name in (*PACKAGES, "plugins"):
        shutil.copytree(project / name, target / name, ignore=python_only)
    return target


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("plugins/lakehouse_providers/dremio/hook.py", "import include.settings", "dags -> include"),
        ("include/settings.py", "import dags.batch.retail_batch", "dags -> include"),
        (
            "plugins/lakehouse_providers/dremio/client.py",
            "from airflow.sdk import Connection",
            "know nothing of Airflow",
        ),
        ("plugins/lakehouse_providers/dremio/client.py", "import lakehouse_providers.dremio.hook", "inside a provider"),
        ("plugins/lakehouse_providers/dremio/hook.py", "import embedded", "on the wire only"),
        ("embedded/demo/__init__.py", "import lakehouse_providers", "on the wire only"),
        ("embedded/demo/__init__.py", "import airflow", "needs neither Airflow"),
        ("include/settings.py", "import embedded", "never imports the embedded platform"),
        ("dags/control/apply_platform.py", "import dags.batch.retail_batch", "another DAG"),
    ],
)
def test_a_breach_is_noticed(copy: Path, file: str, line: str, contract: str) -> None:
    path = copy / file
    honest = path.read_text()
    path.write_text(f"{honest}\n{line}\n")
    try:
        result = _lint(copy)
    finally:
        path.write_text(honest)
    broken = [row for row in result.stdout.splitlines() if " BROKEN" in row]
    assert any(contract in row for row in broken), f"{result.stdout}\n{result.stderr}"
