"""dbt's own adapter suites against a running SQL server; tests/contracts/test_conformance.py starts it and runs these.

The address comes in CONFORMANCE_* variables. Tables and views share one catalog: dbt-dremio's enterprise catalog mode.
"""

from __future__ import annotations

import os
from typing import Any

import pytest


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
