"""TPC-H: the 22 queries in Dremio SQL on Iceberg tables give what plain DuckDB gives on the generated files, and at
scale factor 1 the answers that the specification publishes; over REST and Flight, with and without reflections.

`Ask` is one client's way to run a query: another protocol is another function.
"""

from __future__ import annotations

import datetime
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import duckdb
import pytest

from tests.embedded.sql.flight_client import FlightClient
from tests.embedded.sql.process import Client, SqlProcess, rest_source, s3_source, until

if TYPE_CHECKING:
    from embedded.object_store import ObjectStore

TABLES = ("nation", "region", "part", "supplier", "partsupp", "customer", "orders", "lineitem")
Ask = Callable[[str], list[dict[str, Any]]]
# Of the published answer set at scale factor 1: query, row, column -> value.
PUBLISHED: tuple[tuple[int, int, str, str], ...] = (
    (1, 0, "sum_qty", "37734107.00"),
    (1, 0, "sum_base_price", "56586554400.73"),
    (1, 0, "sum_disc_price", "53758257134.8700"),
    (1, 0, "sum_charge", "55909065222.827692"),
    (1, 0, "count_order", "1478493"),
    (1, 2, "sum_qty", "74476040.00"),
    (1, 3, "sum_qty", "37719753.00"),
    (3, 0, "l_orderkey", "2456423"),
    (3, 0, "revenue", "406181.0111"),
    (4, 0, "order_count", "10594"),
    (5, 0, "revenue", "55502041.1697"),
    (6, 0, "revenue", "123141078.2283"),
    (7, 0, "revenue", "54639732.7336"),
    (12, 0, "high_line_count", "6202"),
    (12, 0, "low_line_count", "9324"),
    (13, 0, "custdist", "50005"),
    (15, 0, "s_suppkey", "8449"),
    (15, 0, "total_revenue", "1772627.2087"),
    (18, 0, "o_totalprice", "544089.09"),
    (19, 0, "revenue", "3083843.0578"),
    (22, 0, "numcust", "888"),
    (22, 0, "totacctbal", "6737713.99"),
)


def queries(scale: float) -> dict[int, str]:
    text = Path(__file__).with_name("tpch.sql").read_text()
    parts = re.split(r"^-- Q(\d+)\n", text, flags=re.MULTILINE)[1:]
    found = {int(number): sql.strip() for number, sql in zip(parts[::2], parts[1::2], strict=True)}
    return {number: sql.replace("{fraction}", f"{0.0001 / scale:.10f}") for number, sql in found.items()}


def generate(folder: Path, scale: float) -> Path:
    tool = Path(sys.executable).with_name("tpchgen-cli")
    subprocess.run([tool, "parquet", "-s", str(scale), "--output-dir", folder], check=True, capture_output=True)
    return folder


def load(client: Client, store: ObjectStore, folder: Path, name: str) -> list[str]:
    """The generated files as Iceberg tables lake.<name>.*; returns the context for queries."""
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://{store.endpoint.removeprefix('http://')}",
        aws_access_key_id=store.access_key,
        aws_secret_access_key=store.secret_key,
        region_name="us-east-1",
    )
    client.create(rest_source(store, "lake"))
    client.create(s3_source(store, "files", f"/lakehouse/{name}"))
    for table in TABLES:
        s3.upload_file(str(folder / f"{table}.parquet"), "lakehouse", f"{name}/{table}/{table}.parquet")
        client.promote("files", table)
        made = client.submit(f'create table lake."{name}".{table} as select * from files.{table}')
        assert client.wait(made, timeout=600)["jobState"] == "COMPLETED"
    return ["lake", name]


def plain(folder: Path, wanted: dict[int, str]) -> dict[int, list[tuple[Any, ...]]]:
    """What DuckDB alone answers, on the generated files."""
    con = duckdb.connect()
    for table in TABLES:
        con.execute(f"create view {table} as select * from '{folder / table}.parquet'")
    return {number: con.execute(sql).fetchall() for number, sql in wanted.items()}


def same(mine: list[dict[str, Any]], theirs: list[tuple[Any, ...]]) -> None:
    assert len(mine) == len(theirs)
    for row, other in zip(mine, theirs, strict=True):
        assert len(row) == len(other)
        for value, expected in zip(row.values(), other, strict=True):
            if isinstance(expected, float | Decimal):
                assert float(value) == pytest.approx(float(expected), rel=1e-9, abs=1e-6), (row, other)
            elif isinstance(expected, datetime.date):
                assert value == expected.isoformat()
            else:
                assert value == expected, (row, other)


@dataclass
class Answers:
    """The queries of one scale and what each must give."""

    wanted: dict[int, str]
    expected: dict[int, list[tuple[Any, ...]]]

    def check(self, ask: Ask) -> None:
        for number, sql in self.wanted.items():
            rows = ask(sql)
            same(rows, self.expected[number])
            assert rows, f"Q{number} gives no row: it proves nothing"


def reflect(client: Client, context: list[str]) -> None:
    """An aggregation that answers Q1 and a raw reflection that answers Q6, built and available."""
    table = client.entity(*context, "lineitem")
    dimensions = ("l_returnflag", "l_linestatus", "l_shipdate")
    measures = ("l_quantity", "l_extendedprice", "l_discount")
    client.run(
        f"alter table {'.'.join(context)}.lineitem create aggregate reflection by_ship using dimensions "
        f"({', '.join(dimensions)}) measures ({', '.join(f'{m} (sum, count)' for m in measures)})",
    )
    client.run(
        f"alter table {'.'.join(context)}.lineitem create raw reflection narrow using display "
        "(l_orderkey, l_extendedprice, l_discount, l_quantity, l_shipdate, l_commitdate, l_receiptdate) "
        "localsort by (l_shipdate)"
    )

    def ready() -> bool:
        answer = client.http.get(f"/api/v3/dataset/{table['id']}/reflection").json()["data"]
        return len(answer) == 2 and all(r["status"]["availability"] == "AVAILABLE" for r in answer)

    until(ready, "two available reflections on lineitem", timeout=300)


def by_rest(client: Client, context: list[str]) -> Ask:
    def ask(sql: str) -> list[dict[str, Any]]:
        job_id = client.submit(sql, context)
        job = client.wait(job_id, timeout=600)
        assert job["jobState"] == "COMPLETED", job["errorMessage"]
        rows: list[dict[str, Any]] = []
        while len(rows) < job["rowCount"]:
            page = client.http.get(f"/api/v3/job/{job_id}/results", params={"offset": len(rows), "limit": 500})
            assert page.status_code == 200, page.text
            rows += page.json()["rows"]
        return rows

    return ask


def by_flight(port: int, context: list[str]) -> Ask:
    rpc = FlightClient(port, headers={"schema": ".".join(f'"{part}"' for part in context)})

    def ask(sql: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = rpc.table(sql).to_pylist()
        return [{name: _as_rest(value) for name, value in row.items()} for row in rows]

    return ask


def _as_rest(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime.date) else value


@dataclass
class Loaded:
    """A server with the tables of one scale."""

    client: Client
    context: list[str]
    rest: Ask
    flight: Ask
    answers: Answers


def prepare(
    make_server: Callable[..., SqlProcess], store: ObjectStore, folder: Path, scale: float, name: str
) -> Loaded:
    server = make_server(MEMORY_LIMIT="1500MB").start()
    client = server.client()
    client.http.timeout = 600
    context = load(client, store, generate(folder, scale), name)
    wanted = queries(scale)
    answers = Answers(wanted, plain(folder, wanted))
    return Loaded(client, context, by_rest(client, context), by_flight(server.flight_port, context), answers)


def accelerate(tpch: Loaded) -> None:
    """From here on reflections answer; shown by one query that says so."""
    reflect(tpch.client, tpch.context)
    chosen = tpch.client.run(
        "select l_returnflag, l_linestatus, sum(l_quantity) as q from lineitem "
        "where l_shipdate <= date '1998-09-02' group by l_returnflag, l_linestatus",
        tpch.context,
    )
    relations = chosen["acceleration"]["reflectionRelationships"]
    assert "CHOSEN" in [item["relationship"] for item in relations]


def test_scale_factor_a_tenth(
    make_server: Callable[..., SqlProcess], object_store: ObjectStore, tmp_path: Path, prefix: str
) -> None:
    """Each protocol and each way once; all four together at scale factor 1."""
    tpch = prepare(make_server, object_store, tmp_path, 0.1, prefix)
    tpch.answers.check(tpch.rest)
    accelerate(tpch)
    tpch.answers.check(tpch.flight)


@pytest.mark.faults
def test_scale_factor_one_gives_the_published_answers(
    make_server: Callable[..., SqlProcess], object_store: ObjectStore, tmp_path: Path, prefix: str
) -> None:
    tpch = prepare(make_server, object_store, tmp_path, 1, f"{prefix}_one")
    tpch.answers.check(tpch.rest)
    tpch.answers.check(tpch.flight)
    accelerate(tpch)
    tpch.answers.check(tpch.flight)
    tpch.answers.check(tpch.rest)
    answers = {number: tpch.rest(tpch.answers.wanted[number]) for number in {number for number, *_ in PUBLISHED}}
    for number, row, column, value in PUBLISHED:
        assert Decimal(str(answers[number][row][column])) == pytest.approx(Decimal(value), rel=Decimal("1e-6")), number
