"""Names that break something, far from where they were given."""

from __future__ import annotations

import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

OURS = {"dags", "embedded", "include", "lakehouse_providers"}
VAGUE = {"common", "helpers", "misc", "utils"}
# On the path of Airflow's processes, in this order: the project root, then plugins/.
ROOTS = (".", "plugins")


def _importable(root: Path) -> set[str]:
    """Top-level names that `import` would find in a folder on the path (folders with Python files count)."""
    modules = {path.stem for path in root.glob("*.py")}
    packages = {
        path.name
        for path in root.iterdir()
        if path.is_dir() and path.name.isidentifier() and any(path.glob("**/*.py")) and path.name != "__pycache__"
    }
    return modules | packages


@pytest.mark.parametrize("root", ROOTS)
def test_no_top_level_name_exists_elsewhere(project: Path, root: str) -> None:
    """A folder on the path may hide a library, or a library may hide it."""
    foreign = {name for name, owners in packages_distributions().items() if owners != ["open-lakehouse"]}
    # `dbt` is dbt's own namespace package, which has room for our folder (but see below); tests import as no package.
    clash = (_importable(project / root) - {"dbt", "tests"}) & (foreign | set(sys.stdlib_module_names))
    assert not clash, f"{sorted(clash)} under {root}/ exists in the standard library or among the installed packages"


def test_dbt_folder_is_no_package(project: Path) -> None:
    """With dbt/__init__.py and the root on the path, `import dbt.cli` finds our folder and fails."""
    packages = sorted((project / "dbt").rglob("__init__.py"))
    assert not [path for path in packages if "dbt_packages" not in path.parts]


def test_nothing_importable_is_called_dbt_something(project: Path, tracked: list[Path]) -> None:
    """dbt imports every top-level module named dbt_* as a plugin: a DAG file dbt_daily.py would run inside dbt."""
    bad = [p for p in tracked if p.suffix == ".py" and p.name.startswith("dbt_")]
    bad += [path for root in ROOTS for path in (project / root).glob("dbt_*") if path.is_dir()]
    assert not bad, f"rename: {[str(path.relative_to(project)) for path in bad]}"


def test_names_say_what_is_inside(project: Path, tracked: list[Path]) -> None:
    python = [path.relative_to(project) for path in tracked if path.suffix == ".py"]
    vague = sorted({str(path) for path in python if VAGUE & {*path.parts[:-1], path.stem}})
    assert not vague, f"name these after what they do: {vague}"


def test_tests_are_not_packages(project: Path) -> None:
    """--import-mode=importlib lets test files share names; an __init__.py would bring the package rules back."""
    assert not list((project / "tests").rglob("__init__.py"))


def test_packages_can_be_linted(project: Path) -> None:
    """import-linter sees a folder only if it is a package."""
    folders = [project / name for name in ("dags", "embedded", "include")] + [project / "plugins/lakehouse_providers"]
    missing = sorted(
        {
            str(path.parent.relative_to(project))
            for folder in folders
            for path in folder.rglob("*.py")
            if not (path.parent / "__init__.py").exists()
        }
    )
    assert not missing, f"add an __init__.py to {missing}"
