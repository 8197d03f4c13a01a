"""Queries over Flight, and every way to sign in, against our SQL server."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from lakehouse_providers.dremio import errors
from lakehouse_providers.dremio.client import DremioClient
from lakehouse_providers.dremio.hook import DremioHook
from lakehouse_providers.transport import Call
from tests.plugins.lakehouse_providers.live.conftest import CLOUD_PROJECT

pytestmark = pytest.mark.contract


@pytest.fixture
def client(dremio_connection: Any) -> Iterator[DremioClient]:
    with DremioHook().client() as client:
        yield client


@pytest.fixture
def connect(dremio_connection: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., DremioHook]:
    """The same server, reached in another way."""

    def another(**fields: Any) -> DremioHook:
        extra = {"use_ssl": False, "flight_port": dremio_connection.flight_port, **fields.pop("extra", {})}
        place = {"conn_type": "dremio", "host": "127.0.0.1", "port": dremio_connection.port}
        monkeypatch.setenv("AIRFLOW_CONN_DREMIO", json.dumps({**place, **fields, "extra": extra}))
        return DremioHook()

    return another


def test_types_and_nulls(dremio_connection: Any) -> None:
    query = (
        "SELECT CAST(1 AS INT) AS i, CAST(2 AS BIGINT) AS b, CAST('12345678901234567890.12' AS DECIMAL(38,2)) AS d, "
        "CAST(0.5 AS DOUBLE) AS f, 'it''s' AS s, TRUE AS t, DATE '2026-01-02' AS day, "
        "TIMESTAMP '2026-01-02 03:04:05.678' AS at, CAST(NULL AS VARCHAR) AS n"
    )
    moment = dt.datetime.fromisoformat("2026-01-02T03:04:05.678")
    number = Decimal("12345678901234567890.12")
    expected = (1, 2, number, 0.5, "it's", True, dt.date(2026, 1, 2), moment, None)
    assert DremioHook().get_first(query) == expected
    table = DremioHook().get_arrow(query)
    assert table.schema.field("d").type == pa.decimal128(38, 2)
    assert table.schema.field("at").type == pa.timestamp("ms")


def test_literals_arrive_as_they_left(dremio_connection: Any) -> None:
    values = ['it\'s -- ? "x" // /*', 7, True, Decimal("-1.50"), None, dt.date(2026, 1, 2)]
    values += [dt.datetime.fromisoformat("2026-01-02T03:04:05.678"), 0.1]
    query = "SELECT " + ", ".join(f"? AS c{number}" for number in range(len(values)))
    assert DremioHook().get_first(query, parameters=values) == tuple(values)


def test_a_large_result_arrives_in_batches(dremio_connection: Any) -> None:
    digits = "(VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9))"
    joined = " CROSS JOIN ".join(f"{digits} AS t{n}(d{n})" for n in range(5))
    number = " + ".join(f"d{n} * {10**n}" for n in range(5))
    batches = list(DremioHook().arrow_batches(f"SELECT {number} AS n FROM {joined}"))
    assert sum(batch.num_rows for batch in batches) == 100_000
    assert len(batches) > 1
    assert sorted(pa.Table.from_batches(batches)["n"].to_pylist()) == list(range(100_000))


def test_an_empty_result(dremio_connection: Any) -> None:
    assert DremioHook().get_arrow("SELECT 1 AS n WHERE 1 = 0").column_names == ["n"]
    assert DremioHook().get_records("SELECT 1 AS n WHERE 1 = 0") == []


def test_several_statements(dremio_connection: Any) -> None:
    found = DremioHook().run(
        "SELECT 1; SELECT 2", split_statements=True, return_last=False, handler=lambda cursor: cursor.fetchall()
    )
    assert found == [[(1,)], [(2,)]]


def test_a_wrong_statement_gives_dremios_words(dremio_connection: Any) -> None:
    with pytest.raises(errors.DremioStatementError, match="nothing_there"):
        DremioHook().get_records('SELECT * FROM "nothing_there"')


def test_rows_are_inserted(client: DremioClient, lake_source: dict[str, Any]) -> None:
    client.apply_source(lake_source)
    space = f"n{uuid.uuid4().hex[:8]}"
    client.query(f'CREATE TABLE "lake"."{space}"."t" AS SELECT 0 AS id, \'a\' AS word')
    hook = DremioHook()
    hook.insert_rows(["lake", space, "t"], ((n, f"w'{n}") for n in range(1, 6)), ["id", "word"], commit_every=2)
    assert hook.get_first(f'SELECT COUNT(*), MAX(word) FROM "lake"."{space}"."t"') == (6, "w'5")
    history = client.query(f'SELECT COUNT(*) AS n FROM TABLE(table_history(\'"lake"."{space}"."t"\'))')
    assert history == [{"n": 4}], "three statements, not five"


def test_every_way_to_sign_in(client: DremioClient, connect: Callable[..., DremioHook]) -> None:
    """Over REST and over Flight, each."""
    admin = client.call(Call("GET", "/api/v3/user/by-name/admin"))["id"]
    body = {"label": uuid.uuid4().hex, "millisecondsToExpire": 600_000}
    pat = client._http.post(f"/api/v3/user/{admin}/token", json=body).text
    robot = client.call(
        Call("POST", "/api/v3/user", json={"name": f"r{uuid.uuid4().hex[:8]}", "identityType": "SERVICE_USER"})
    )
    place = f"/api/v3/user/{robot['id']}/oauth/credentials"
    wanted = {"name": "ci", "clientSecretConfig": {"expiresInDays": 1}}
    secret = client.call(Call("POST", place, json=wanted))["clientSecretConfig"]
    project = {"project_id": CLOUD_PROJECT, "use_encryption": False}
    ways: list[dict[str, Any]] = [
        {"login": "admin", "password": "dremio123"},
        {"extra": {"pat": pat}},
        {"extra": {"pat": pat, "auth": "token_exchange"}},
        {"login": secret["clientId"], "password": secret["clientSecret"], "extra": {"auth": "client_credentials"}},
        {"extra": {"pat": pat, **project}},
    ]
    for fields in ways:
        ok, message = connect(**fields).test_connection()
        assert ok, message
    for fields in ({"login": "admin", "password": "wrong"}, {"extra": {"pat": pat[:-2]}}):
        ok, message = connect(**fields).test_connection()
        assert not ok
        assert "wrong" in message


def test_cloud_paths_and_system_tables(client: DremioClient, connect: Callable[..., DremioHook]) -> None:
    admin = client.call(Call("GET", "/api/v3/user/by-name/admin"))["id"]
    body = {"label": uuid.uuid4().hex, "millisecondsToExpire": 600_000}
    pat = client._http.post(f"/api/v3/user/{admin}/token", json=body).text
    hook = connect(extra={"pat": pat, "project_id": CLOUD_PROJECT, "use_encryption": False})
    assert hook.run_sql("SELECT 1 AS n") == [{"n": 1}]
    with hook.client() as cloud:
        name = f"s{uuid.uuid4().hex[:8]}"
        cloud.ensure_space(name)
        cloud.ensure_space(name)
        assert cloud.endpoint.system == "sys.project"
        assert cloud.query("SELECT COUNT(*) AS n FROM sys.project.jobs_recent")[0]["n"] > 0
