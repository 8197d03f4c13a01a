"""What Airflow demands of providers, and what keeps them from disturbing it."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from airflow.sdk._shared.module_loading import import_string

import lakehouse_providers

PACKAGE = Path(lakehouse_providers.__file__).parent
INFO = lakehouse_providers.get_provider_info()


def test_info_fits_airflows_schema() -> None:
    """Airflow does not start otherwise."""
    jsonschema.validate(INFO, json.loads(files("airflow").joinpath("provider_info.schema.json").read_text()))


def _named(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set().union(*map(_named, value.values())) if value else set()
    if isinstance(value, list):
        return set().union(*map(_named, value)) if value else set()
    return {value} if isinstance(value, str) and value.startswith("lakehouse_providers.") else set()


@pytest.mark.parametrize("name", sorted(_named(INFO)))
def test_everything_that_info_names_exists(name: str) -> None:
    import_string(name) if name.rpartition(".")[2][:1].isupper() else importlib.import_module(name)


def _modules() -> list[str]:
    found = [path.relative_to(PACKAGE.parent).with_suffix("") for path in PACKAGE.rglob("*.py")]
    return sorted(".".join(path.parts).removesuffix(".__init__") for path in found)


def _in_a_process(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("service", ["airbyte", "dremio", "webhook"])
def test_a_client_needs_no_airflow(service: str) -> None:
    code = f"import sys, lakehouse_providers.{service}.client; print('airflow' in sys.modules)"
    assert _in_a_process(code) == "False"


RULES = (".calls", ".reflections", ".refresh", ".submission", ".watch")


@pytest.mark.parametrize(
    "module", [module for module in _modules() if module.endswith(RULES) and ".operators." not in module]
)
def test_rules_need_no_airflow(module: str) -> None:
    assert _in_a_process(f"import sys, {module}; print('airflow' in sys.modules)") == "False"


def test_loading_plugins_leaves_other_modules_alone(tmp_path: Path) -> None:
    """Airflow executes loose files under plugins/ under their bare names, such as `client`."""
    code = (
        "import sys; from airflow.plugins_manager import ensure_plugins_loaded; before = dict(sys.modules); "
        "ensure_plugins_loaded(); "
        "ours = lambda m: 'lakehouse' in str(getattr(m, '__file__', '')); "
        "print(sorted(n for n, m in sys.modules.items() if '.' not in n and ours(m) and n != 'lakehouse_providers'))"
    )
    out = _in_a_process(code, AIRFLOW_HOME=str(tmp_path), AIRFLOW__CORE__PLUGINS_FOLDER=str(PACKAGE.parent))
    plugins = sorted(path.stem for path in PACKAGE.parent.glob("*.py"))
    assert out.splitlines()[-1] == str(plugins), "only the plugins themselves"


def test_one_error_class_each() -> None:
    """Two copies of a module would have two classes of one name, and `except` would miss one of them."""
    from lakehouse_providers.dremio import errors

    hook = vars(importlib.import_module("lakehouse_providers.dremio.hook"))
    assert hook["errors"].DremioError is errors.DremioError


@pytest.mark.parametrize("service", ["airbyte", "dremio"])
def test_errors_form_one_tree(service: str) -> None:
    errors = importlib.import_module(f"lakehouse_providers.{service}.errors")
    root = getattr(errors, f"{service.title()}Error")
    kinds: list[Any] = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)
    ]
    assert all(issubclass(kind, root) and kind.__name__.endswith("Error") for kind in kinds)
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in kinds)
    assert {kind for kind in kinds if kind.transient} == {
        getattr(errors, f"{service.title()}{name}Error") for name in ("Unreachable", "Unavailable")
    }
