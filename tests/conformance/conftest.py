"""dbt's own adapter suites against a running SQL server; tests/contracts/test_conformance.py starts it and runs these.

The address comes in CONFORMANCE_* variables. Tables and views share one catalog: dbt-dremio's enterprise catalog mode.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from typing import Any

import jinja2
import pytest
from dbt.adapters.dremio.impl import DremioAdapter

from tests.conformance.by_hand import run_by_hand


@pytest.fixture(scope="session", autouse=True)
def _each_template_once() -> Iterator[None]:
    """dbt reads its own thousand macros anew for every project; the same text gives the same tree and the same code."""
    patch = pytest.MonkeyPatch()
    for name in ("parse", "compile"):
        patch.setattr(jinja2.Environment, name, _by_text(getattr(jinja2.Environment, name)))
    yield
    patch.undo()


def _by_text(method: Any) -> Any:
    known: dict[tuple[Any, ...], Any] = {}

    @functools.wraps(method)
    def once(self: jinja2.Environment, source: Any, *places: Any, **options: Any) -> Any:
        if not isinstance(source, str):
            return method(self, source, *places, **options)
        # Classes that dbt makes for each environment have one name and the same filters and extensions.
        key = (type(self).__qualname__, source, *places, *sorted(options.items()))
        if key not in known:
            known[key] = method(self, source, *places, **options)
        return known[key]

    return once


@pytest.fixture(scope="session", autouse=True)
def _words_of_dremio() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setattr(DremioAdapter, "run_sql_for_tests", run_by_hand)
    yield
    patch.undo()


@pytest.fixture(scope="class")
def unique_schema(prefix: str) -> str:
    return prefix


@pytest.fixture(scope="class")
def dbt_profile_target(unique_schema: str) -> dict[str, Any]:
    return {
        "type": "dremio",
        "threads": 2,
        "software_host": "127.0.0.1",
        "port": int(os.environ["CONFORMANCE_PORT"]),
        "use_ssl": False,
        "user": os.environ["CONFORMANCE_USER"],
        "password": os.environ["CONFORMANCE_PASSWORD"],
        "datalake": os.environ["CONFORMANCE_LAKE"],
        "root_path": unique_schema,
        "database": os.environ["CONFORMANCE_LAKE"],
        "schema": unique_schema,
    }
