"""Other people's Flight clients, unmodified: ADBC's Flight SQL driver, and sqlalchemy-dremio in Superset's versions.

They run in a venv of their own, each once; a real Dremio can take our server's place (test_dremio.py says how, and
LAKEHOUSE_REAL_DREMIO_FLIGHT_PORT is its Flight port).
"""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.embedded.sql.process import PASSWORD, USER, SqlProcess, new_database, rest_source

if TYPE_CHECKING:
    from embedded.object_store import ObjectStore
    from embedded.postgres import PostgresServer

PROJECT = Path(__file__).resolve().parents[2]
PYTHON = PROJECT / ".venvs" / "clients" / "bin" / "python"
SCRIPT = Path(__file__).with_name("clients") / "flight_clients.py"

pytestmark = [
    pytest.mark.contract,
    pytest.mark.skipif(not PYTHON.exists(), reason="these clients need Python 3.11 or 3.12 (Makefile: clients)"),
]


@dataclass(frozen=True)
class Target:
    host: str
    port: int
    user: str
    password: str = field(repr=False)
    schema: str

    def seen_by(self, client: str) -> dict[str, Any]:
        """What a client saw. Fails with its output when it ended badly."""
        command = [str(PYTHON), str(SCRIPT), client, self.host, str(self.port), self.user, self.password, self.schema]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture(scope="module")
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    namespace = f"f{uuid.uuid4().hex[:8]}"
    if real := os.environ.get("LAKEHOUSE_REAL_DREMIO_URL"):
        user, password, lake = (os.environ[f"LAKEHOUSE_REAL_DREMIO_{name}"] for name in ("USER", "PASSWORD", "LAKE"))
        port = int(os.environ.get("LAKEHOUSE_REAL_DREMIO_FLIGHT_PORT", "32010"))
        yield Target(urlsplit(real).hostname or "", port, user, password, f"{lake}.{namespace}")
        return
    postgres: PostgresServer = request.getfixturevalue("platform_postgres")
    store: ObjectStore = request.getfixturevalue("object_store")
    server = SqlProcess(new_database(postgres), store, tmp_path_factory.mktemp("clients")).start()
    server.client().create(rest_source(store, "lake"))
    yield Target("127.0.0.1", server.flight_port, USER, PASSWORD, f"lake.{namespace}")
    server.close()


@pytest.fixture(scope="module")
def adbc(target: Target) -> dict[str, Any]:
    return target.seen_by("adbc")


def test_adbc(adbc: dict[str, Any]) -> None:
    found = adbc
    assert found["info"] == "Dremio Server"
    assert found["ddl"] == [[True, "Table created"]]
    assert found["empty"] == [[], ["a", "b", "c", "d", "e"]]
    assert (found["inserted"], found["many"]) == ([[1]], 3)
    assert found["bound"] == [[2**53 + 1, "it's", 0.1, "2024-02-29", "2024-01-02 03:04:05.678000"]]
    assert (found["hostile"], found["null"]) == ([[3]], [[1]])
    assert found["types"] == [
        *("int64", "decimal128(12, 2)", "string", "date32[day]", "timestamp[ms]", "bool", "string"),
    ]
    assert found["dropped"][0][0] is True


def test_adbcs_metadata_and_errors(adbc: dict[str, Any], target: Target) -> None:
    found = adbc
    assert found["table_types"] == ["SYSTEM_TABLE", "TABLE", "VIEW"]
    assert found["schema"] == ["int64", "string", "double", "date32[day]", "timestamp[ms]"]
    (catalog,) = found["objects"]
    assert catalog["catalog_name"] == ""  # Dremio has no catalogs
    (schema,) = catalog["catalog_db_schemas"]
    assert schema["db_schema_name"] == target.schema
    (table,) = schema["db_schema_tables"]
    assert (table["table_name"], table["table_type"]) == ("t", "TABLE")
    assert [(column["column_name"], column["xdbc_type_name"]) for column in table["table_columns"]] == [
        *(("a", "BIGINT"), ("b", "CHARACTER VARYING"), ("c", "DOUBLE"), ("d", "DATE"), ("e", "TIMESTAMP")),
    ]
    assert "2 parameters, but 1 values are bound" in found["count"]
    assert found["syntax"].startswith("ProgrammingError: INVALID_ARGUMENT")
    assert "Object 'nothing' not found" in found["missing"]
    assert "Could not convert string 'x'" in found["late"]
    assert "UNAUTHENTICATED" in found["password"]
    assert "UNAUTHENTICATED" in found["token"]


def test_sqlalchemy_dremio(target: Target) -> None:
    found = target.seen_by("sqlalchemy")
    assert found["rows"] == [[2**53 + 1, "1.50", "ü", "2024-02-29", "2024-01-02 03:04:05.678000", True, None]]
    assert found["one_type"] == [[2**53 + 1]]
    assert found["empty"] == []
    assert len(found["nulls"]) == 1
    assert {target.schema, "INFORMATION_SCHEMA", "sys"} <= set(found["schemas"])
    assert (found["tables"], found["views"], found["has"]) == (["s"], [], [True, False])
    assert found["columns"] == [
        *(["big", "BIGINT"], ["m", "DECIMAL"], ["s", "VARCHAR"], ["day", "DATE"]),
        *(["ts", "TIMESTAMP"], ["b", "BOOLEAN"], ["n", "VARCHAR"]),
    ]
    assert 'Encountered "selec" at line 1' in found["syntax"]
    assert "Invalid username or password" in found["password"]
