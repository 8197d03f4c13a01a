"""Result types and exact values: decimals, integers, dates, text; in every place that an expression can stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

if TYPE_CHECKING:
    from tests.embedded.sql.engine.conftest import Bench

DATA = """
CREATE TABLE $ns.t AS SELECT * FROM (VALUES
  (1, 'a', CAST(1.50 AS DECIMAL(12, 2)), DATE '2024-01-01', TIMESTAMP '2024-01-01 10:00:00', CAST(0.5 AS DOUBLE)),
  (2, 'b', 2.50, DATE '2024-02-01', TIMESTAMP '2024-02-01 11:30:00', 1.5),
  (3, NULL, NULL, NULL, NULL, NULL)
) AS v (id, s, m, d, ts, f)
"""


@pytest.fixture(scope="module")
def data(shared: Bench) -> Bench:
    import dataclasses
    import uuid

    bench = dataclasses.replace(shared, namespace=f"t{uuid.uuid4().hex[:12]}")
    bench.run(DATA)
    return bench


@pytest.mark.parametrize(
    ("expression", "kind", "value"),
    [
        ("5 / 2", pa.int32(), "2"),
        ("-7 / 2", pa.int32(), "-3"),
        ("CAST(7 AS BIGINT) / 2", pa.int64(), "3"),
        ("CAST(5 AS DOUBLE) / 2", pa.float64(), "2.5"),
        ("1.0 / 3", pa.decimal128(13, 12), "0.333333333333"),
        ("CAST(2 AS DECIMAL(10, 2)) / 7", pa.decimal128(21, 13), "0.2857142857143"),
        ("-1.00 / 3", pa.decimal128(14, 13), "-0.3333333333333"),
        ("10 / 4.0", pa.decimal128(17, 6), "2.500000"),
        ("SUM(m) / COUNT(*)", pa.decimal128(38, 6), "1.333333"),
        ("SUM(m) / SUM(id)", pa.decimal128(38, 6), "0.666667"),
        ("SUM(id) / COUNT(*)", pa.int64(), "2"),
        ("SUM(m) / COUNT(m) / 3", pa.decimal128(38, 6), "0.666667"),
        ("100 * SUM(m) / (SELECT SUM(m) FROM $ns.t)", pa.decimal128(38, 6), "100.000000"),
        ("AVG(m)", pa.float64(), "2.0"),
        ("SUM(id)", pa.int64(), "6"),
        ("SUM(m)", pa.decimal128(38, 2), "4.00"),
        ("SUM(f)", pa.float64(), "2.0"),
        ("COUNT(*)", pa.int64(), "3"),
        ("MAX(m) * 1.1", pa.decimal128(14, 3), "2.750"),
        ("DATE_TRUNC('month', MAX(d))", pa.date32(), "2024-02-01"),
        ("DATE_TRUNC('month', MAX(ts))", pa.timestamp("ms"), "2024-02-01 00:00:00"),
        ("TIMESTAMPADD(DAY, 1, MAX(d))", pa.date32(), "2024-02-02"),
        ("TIMESTAMPADD(HOUR, 1, MAX(d))", pa.timestamp("ms"), "2024-02-01 01:00:00"),
        ("MAX(d) + INTERVAL '1' MONTH", pa.date32(), "2024-03-01"),
        ("MAX(ts) - INTERVAL '1' HOUR", pa.timestamp("ms"), "2024-02-01 10:30:00"),
        ("DATEDIFF(MAX(d), MIN(d))", pa.int32(), "31"),
        ("TIMESTAMPDIFF(MONTH, MIN(ts), MAX(ts))", pa.int32(), "1"),
        ("EXTRACT(HOUR FROM MAX(ts))", pa.int64(), "11"),
        ("CAST(MAX(ts) AS VARCHAR)", pa.string(), "2024-02-01 11:30:00.000"),
        ("CAST(MAX(m) AS INTEGER)", pa.int32(), "3"),
        ("MAX(id) || '-' || MIN(s)", pa.string(), "3-a"),
        ("MAX(id) - MIN(id)", pa.int32(), "2"),
    ],
)
def test_expressions(data: Bench, expression: str, kind: pa.DataType, value: str) -> None:
    over = " FROM $ns.t" if any(name in expression for name in ("MAX(", "MIN(", "SUM(", "COUNT(", "AVG(")) else ""
    table = data.run(f"SELECT {expression} AS x{over}").table
    assert (table.schema.field("x").type, str(table.column("x")[0].as_py())) == (kind, value)


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        (
            "WITH a AS (SELECT SUM(m) / 3 AS q FROM $ns.t), b AS (SELECT q / 2 AS r FROM a) SELECT r * 3 FROM b",
            ["2.000001"],
        ),
        ("SELECT id FROM $ns.t GROUP BY id HAVING SUM(m) / 2 > 1 ORDER BY SUM(m) / 2", ["2"]),
        ("SELECT q FROM (SELECT id, m / 4 AS q FROM $ns.t) x WHERE q > 0.4 ORDER BY q / 2", ["0.6250000000000"]),
        ("SELECT id FROM $ns.t QUALIFY SUM(m) OVER (ORDER BY id) / 2 > 1 ORDER BY id", ["2", "3"]),
        (
            "SELECT DATE_TRUNC('year', MAX(d)) FROM $ns.t GROUP BY DATE_TRUNC('month', d) ORDER BY 1",
            ["2024-01-01"] * 2 + ["None"],
        ),
        (
            "SELECT (SELECT MAX(u.m) / 2 FROM $ns.t u WHERE u.id = t.id) FROM $ns.t t WHERE t.id = 1",
            ["0.7500000000000"],
        ),
        ("SELECT CASE WHEN COUNT(*) = 0 THEN 0 ELSE SUM(m) / COUNT(m) END FROM $ns.t", ["2.000000"]),
        ("SELECT SUM(m / 2) FROM $ns.t", ["2.0000000000000"]),
        ("SELECT SUM(m) OVER (ORDER BY id) / 3 FROM $ns.t WHERE id = 1", ["0.500000"]),
    ],
)
def test_division_is_exact_everywhere(data: Bench, sql: str, rows: list[str]) -> None:
    got = [str(row[0]) for row in data.rows(sql)]
    assert len(got) == len(rows)
    for have, want in zip(got, rows, strict=True):
        assert have.rstrip("0").rstrip(".") == want.rstrip("0").rstrip(".")


def test_division_by_zero_fails_for_every_type(data: Bench) -> None:
    from embedded.sql.errors import SqlError

    for expression in ("1 / 0", "m / 0", "1.5 / 0", "f / 0", "MOD(id, 0)"):
        with pytest.raises(SqlError, match="divide by zero"):
            data.run(f"SELECT {expression} FROM $ns.t")


def test_nulls_are_the_largest_values(data: Bench) -> None:
    assert [r[0] for r in data.rows("SELECT s FROM $ns.t ORDER BY s DESC")] == [None, "b", "a"]
    assert [r[0] for r in data.rows("SELECT s FROM $ns.t ORDER BY s")] == ["a", "b", None]
    assert data.rows("SELECT id FROM $ns.t QUALIFY ROW_NUMBER() OVER (ORDER BY s DESC) = 1") == [(3,)]


def test_unnamed_and_repeated_columns_get_calcites_names(data: Bench) -> None:
    assert data.run("SELECT 1, id, id, COUNT(*) FROM $ns.t GROUP BY id").table.column_names == [
        "EXPR$0",
        "id",
        "id0",
        "EXPR$3",
    ]
    assert data.run("SELECT * FROM $ns.t a JOIN $ns.t b ON a.id = b.id").table.column_names[6:8] == ["id0", "s0"]
