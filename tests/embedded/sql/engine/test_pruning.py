"""A query reads only the files that can hold its rows: by partition values, and by the bounds in the manifests."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from embedded.sql.datasets import Session
from embedded.sql.engine.database import NeverSet
from embedded.sql.engine.engine import Run

if TYPE_CHECKING:
    from tests.embedded.sql.engine.conftest import Bench


def files_read(bench: Bench, sql: str) -> int:
    """What DuckDB's profile of the very SQL that a query becomes counts."""
    with bench.engine.database.job("", NeverSet()) as job:
        run = Run(bench.engine, job, Session("tester"))
        plan = run.plan()
        body = plan.query(sql.replace("$ns", f'"lake"."{bench.namespace}"'), ())
        profile = "\n".join(str(row[1]) for row in job.rows(f"EXPLAIN ANALYZE {plan.complete(body)}"))
    found = re.findall(r"Total Files Read:\s*(\d+)", profile)
    assert found, profile
    return sum(int(number) for number in found)


@pytest.fixture
def table(bench: Bench) -> Bench:
    bench.run(
        "CREATE TABLE $ns.t PARTITION BY (region) AS SELECT * FROM (VALUES ('n', 1), ('s', 2), ('w', 3)) v (region, id)"
    )
    bench.run("INSERT INTO $ns.t VALUES ('n', 100), ('s', 200)")
    return bench


@pytest.mark.parametrize(
    ("condition", "files"),
    [
        ("TRUE", 5),
        ("region = 'n'", 2),
        ("region IN ('n', 'w')", 3),
        ("region = 'n' AND id < 50", 1),
        ("id BETWEEN 150 AND 250", 1),
        ("id > 50", 2),
    ],
)
def test_files_are_left_out(table: Bench, condition: str, files: int) -> None:
    assert files_read(table, f"SELECT id FROM $ns.t WHERE {condition}") == files


def test_files_are_left_out_by_their_times_and_times_of_other_programs_are_cut(bench: Bench) -> None:
    bench.run("CREATE TABLE $ns.moments AS SELECT 1 AS id, TIMESTAMP '2024-01-01 00:00:00' AS moment")
    bench.run("INSERT INTO $ns.moments VALUES (2, TIMESTAMP '2025-01-01 00:00:00.001')")
    late = "SELECT id FROM $ns.moments WHERE moment >= TIMESTAMP '2025-01-01 00:00:00.001' ORDER BY id"
    assert files_read(bench, late) == 1
    table = bench.catalog.iceberg.load_table((bench.namespace, "moments"))
    micros = dt.datetime(2025, 1, 1, 0, 0, 0, 1999)  # noqa: DTZ001 - Dremio's have no zone
    table.append(pa.table({"id": [3], "moment": [micros]}, schema=table.schema().as_arrow()))
    bench.run("INSERT INTO $ns.moments VALUES (4, TIMESTAMP '2025-01-01 00:00:00.001')")
    assert bench.rows(late) == [(2,), (3,), (4,)]
    assert bench.one("SELECT COUNT(DISTINCT moment) FROM $ns.moments") == 2
