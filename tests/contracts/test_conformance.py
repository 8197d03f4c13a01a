"""dbt-dremio, unmodified, under dbt's own adapter suites against our SQL server (tests/conformance).

With the marker `faults` (make verify): a suite takes seconds, all of them the better part of an hour.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.embedded.sql.process import PASSWORD, USER, SqlProcess, new_database, rest_source

if TYPE_CHECKING:
    from embedded.object_store import ObjectStore
    from embedded.postgres import PostgresServer

pytestmark = pytest.mark.contract

PROJECT = Path(__file__).resolve().parents[2]
PYTHON = PROJECT / ".venvs" / "conformance" / "bin" / "python"
USERS = ("dbt_user_1", "dbt_user_2", "dbt_user_3")


@pytest.fixture(scope="module")
def suites(
    platform_postgres: PostgresServer, object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., str]]:
    """Runs suites by a pytest expression and gives their output; fails with it when one of them fails."""
    server = SqlProcess(new_database(platform_postgres), object_store, tmp_path_factory.mktemp("conformance")).start()
    client = server.client()
    client.create(rest_source(object_store, "lake"))
    for user in USERS:
        assert client.http.post("/api/v3/user", json={"name": user, "password": PASSWORD}).status_code == 200
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(server.folder),
        "CONFORMANCE_PORT": str(server.port),
        "CONFORMANCE_LAKE": "lake",
        "CONFORMANCE_USER": USER,
        "CONFORMANCE_PASSWORD": PASSWORD,
        **{f"DBT_TEST_USER_{number}": f"user:{user}" for number, user in enumerate(USERS, 1)},
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DO_NOT_TRACK": "1",
    }
    options = ["-p", "dbt.tests.fixtures.project", "-p", "no:cacheprovider", "-p", "no:logging", "-W", "ignore"]
    options += ["-q", "--no-header", "--tb=short", "--timeout=1200"]

    def run(*chosen: str) -> str:
        done = subprocess.run(
            [str(PYTHON), "-m", "pytest", *options, "tests/conformance", *chosen],
            cwd=PROJECT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    yield run
    server.close()


@pytest.mark.faults
@pytest.mark.timeout(0)
def test_dbt_passes_all_its_applicable_adapter_suites(suites: Callable[..., str]) -> None:
    print(suites())
