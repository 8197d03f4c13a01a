"""Reflections: what a refresh stores, and which queries it may answer."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from embedded.sql.datasets import Materialization, Measure, Path, S3Access, Session
from embedded.sql.engine.materialize import Materialized

if TYPE_CHECKING:
    from tests.embedded.sql.engine.conftest import Bench

SALES = """
CREATE TABLE $ns.sales AS
SELECT id, MOD(id, 4) AS region, CASE WHEN MOD(id, 10) = 0 THEN NULL ELSE MOD(id, 7) END AS units,
       CAST(MOD(id, 13) * 1.25 AS DECIMAL(12, 2)) AS amount, CAST(id AS DOUBLE) AS weight,
       TIMESTAMPADD(DAY, MOD(id, 30), DATE '2024-01-15') AS sold_on,
       TIMESTAMPADD(HOUR, id, TIMESTAMP '2024-01-01 00:00:00') AS sold_at
FROM (SELECT FLATTEN(ARRAY_GENERATE_RANGE(0, 1000)) AS id)
"""


@pytest.fixture
def sales(bench: Bench) -> Bench:
    bench.run(SALES)
    return bench


def definition(dataset: Path, access: S3Access, kind: str) -> Materialization:
    return Materialization(
        reflection_id=f"r-{kind}",
        name=kind,
        kind=kind,  # type: ignore[arg-type]
        dataset=dataset,
        display=("id", "amount") if kind == "RAW" else (),
        dimensions=() if kind == "RAW" else (("region", "NORMAL"), ("sold_on", "DATE"), ("sold_at", "DATE")),
        measures=()
        if kind == "RAW"
        else (
            Measure("amount", ("SUM", "COUNT", "MIN", "MAX")),
            Measure("units", ("COUNT", "SUM")),
            Measure("weight", ("SUM",)),
        ),
        access=access,
    )


def built(wanted: Materialization, made: Materialized) -> Materialization:
    return dataclasses.replace(
        wanted,
        metadata=made.metadata,
        files=made.files,
        columns=made.columns,
        sources=made.sources,
        rows=made.rows,
        size=made.size,
    )


def refresh(bench: Bench, kind: str) -> Materialization:
    wanted = definition(bench.table("sales"), bench.catalog.access, kind)
    made = bench.engine.materialize(
        wanted, f"s3://lakehouse-dist/{bench.namespace}/{kind}", Session("refresh"), order=("region",)
    )
    assert made.scanned == (bench.table("sales"),)
    done = built(wanted, made)
    bench.catalog.made.append(done)
    return done


def relationships(bench: Bench, sql: str) -> list[str]:
    return [relationship for _, _, relationship in bench.run(sql).reflections]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT id, amount FROM $ns.sales WHERE id > 990", "CHOSEN"),
        ("SELECT SUM(amount) FROM $ns.sales", "CHOSEN"),
        ("SELECT COUNT(*) FROM $ns.sales", "CHOSEN"),
        ("SELECT s.id FROM $ns.sales s JOIN $ns.sales t ON s.id = t.id WHERE t.amount > 10", "CHOSEN"),
        ("SELECT * FROM $ns.sales", "CONSIDERED"),
        ("SELECT id, region FROM $ns.sales", "CONSIDERED"),
        ("SELECT id FROM $ns.sales ORDER BY region", "CONSIDERED"),
    ],
)
def test_raw_reflections_answer_what_they_show(sales: Bench, sql: str, expected: str) -> None:
    before = sorted(map(str, sales.rows(sql)))
    refresh(sales, "RAW")
    assert relationships(sales, sql) == [expected]
    assert sorted(map(str, sales.rows(sql))) == before


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (
            "SELECT region, SUM(amount), COUNT(*) AS n, MIN(amount), MAX(amount) FROM $ns.sales GROUP BY region",
            "CHOSEN",
        ),
        ("SELECT s.region AS r, COUNT(units) c FROM $ns.sales s GROUP BY s.region ORDER BY c DESC, r", "CHOSEN"),
        ("SELECT region, SUM(units) FROM $ns.sales WHERE sold_on >= DATE '2024-02-01' GROUP BY 1 ORDER BY 1", "CHOSEN"),
        (
            "SELECT DATE_TRUNC('month', sold_on) m, SUM(amount) FROM $ns.sales GROUP BY DATE_TRUNC('month', sold_on)",
            "CHOSEN",
        ),
        (
            "SELECT DATE_TRUNC('month', sold_at) m, SUM(amount) FROM $ns.sales GROUP BY DATE_TRUNC('month', sold_at)",
            "CHOSEN",
        ),
        ("SELECT CAST(sold_at AS DATE) d, COUNT(1) FROM $ns.sales GROUP BY 1", "CHOSEN"),
        ("SELECT SUM(amount), COUNT(*), COUNT(units) FROM $ns.sales WHERE region = 77", "CHOSEN"),
        ("SELECT region, SUM(amount) s FROM $ns.sales GROUP BY region HAVING SUM(amount) > 1800 ORDER BY s", "CHOSEN"),
        ("SELECT region FROM $ns.sales GROUP BY region", "CHOSEN"),
        ("SELECT DISTINCT region FROM $ns.sales", "CHOSEN"),
        ("SELECT region, AVG(amount) AS a, AVG(units) AS u FROM $ns.sales GROUP BY region", "CHOSEN"),
        ("SELECT AVG(units) FROM $ns.sales WHERE region = 77", "CHOSEN"),
        ("SELECT region, SUM(weight) FROM $ns.sales GROUP BY region", "CHOSEN"),  # whole numbers: exact
        ("SELECT COUNT(DISTINCT region), MAX(sold_on) FROM $ns.sales", "CHOSEN"),
        ("SELECT COUNT(sold_on) FROM $ns.sales", "CHOSEN"),
        ("SELECT SUM(CASE WHEN region = 1 THEN amount ELSE 0 END) FROM $ns.sales", "CHOSEN"),
        ("SELECT SUM(CASE WHEN region = 1 THEN 1 ELSE 0 END) FROM $ns.sales", "CHOSEN"),
        ("SELECT COUNT(CASE WHEN region = 1 THEN units END) FROM $ns.sales", "CHOSEN"),
        ("SELECT region, SUM(amount) FROM (SELECT * FROM $ns.sales WHERE region < 3) t GROUP BY region", "CHOSEN"),
        ("WITH s AS (SELECT region AS r, amount AS a FROM $ns.sales) SELECT r, SUM(a) FROM s GROUP BY r", "CHOSEN"),
        (
            "SELECT region, SUM(amount) FROM $ns.sales WHERE sold_at >= TIMESTAMP '2024-01-10 00:00:00'"
            " AND sold_at < TO_TIMESTAMP('2024-02-01 00:00:00.000', 'YYYY-MM-DD HH24:MI:SS.FFF') GROUP BY region",
            "CHOSEN",
        ),
        (
            "SELECT EXTRACT(YEAR FROM sold_at) y, EXTRACT(DAY FROM sold_at) d, COUNT(*) FROM $ns.sales GROUP BY 1, 2",
            "CHOSEN",
        ),
        (
            "SELECT n.name, SUM(s.amount) FROM $ns.sales s JOIN (VALUES (1, 'a'), (2, 'b')) n(id, name)"
            " ON s.region = n.id GROUP BY n.name",
            "CONSIDERED",
        ),
        ("SELECT region, SUM(DISTINCT units) FROM $ns.sales GROUP BY region", "CONSIDERED"),
        ("SELECT COUNT(*) FROM $ns.sales WHERE sold_at > TIMESTAMP '2024-01-10 00:00:00'", "CONSIDERED"),
        ("SELECT region, COUNT(*), ROW_NUMBER() OVER (ORDER BY region) FROM $ns.sales GROUP BY region", "CONSIDERED"),
        ("SELECT region, SUM(CASE WHEN units > 2 THEN amount END) FROM $ns.sales GROUP BY region", "CONSIDERED"),
        ("SELECT SUM(CASE WHEN region = 1 THEN amount ELSE units END) FROM $ns.sales", "CONSIDERED"),
        ("SELECT COUNT(*) FROM $ns.sales WHERE RANDOM() < 2 GROUP BY region", "CONSIDERED"),
        (
            "SELECT a.region, SUM(a.amount) FROM $ns.sales a JOIN $ns.sales b ON a.id = b.id GROUP BY a.region",
            "CONSIDERED",
        ),
        # not provably the same, or not there
        ("SELECT region, AVG(weight) FROM $ns.sales GROUP BY region", "CONSIDERED"),  # its COUNT is not stored
        ("SELECT region, MAX(units) FROM $ns.sales GROUP BY region", "CONSIDERED"),
        ("SELECT region, COUNT(DISTINCT units) FROM $ns.sales GROUP BY region", "CONSIDERED"),
        ("SELECT sold_at, SUM(amount) FROM $ns.sales GROUP BY sold_at", "CONSIDERED"),
        ("SELECT DATE_TRUNC('hour', sold_at) h, SUM(amount) FROM $ns.sales GROUP BY 1", "CONSIDERED"),
        ("SELECT region, SUM(amount) FROM $ns.sales WHERE id < 100 GROUP BY region", "CONSIDERED"),
        ("SELECT units, SUM(amount) FROM $ns.sales GROUP BY units", "CONSIDERED"),
        ("SELECT region, SUM(amount + 1) FROM $ns.sales GROUP BY region", "CONSIDERED"),
    ],
)
def test_aggregations_answer_only_what_is_provably_the_same(sales: Bench, sql: str, expected: str) -> None:
    before = sales.run(sql).table
    refresh(sales, "AGGREGATION")
    outcome = sales.run(sql)
    assert [r for _, _, r in outcome.reflections] == [expected]
    assert outcome.table.schema == before.schema
    assert sorted(map(str, outcome.table.to_pylist())) == sorted(map(str, before.to_pylist()))


def test_a_published_view_uses_the_reflection_of_the_snapshot_it_pins(sales: Bench) -> None:
    done = refresh(sales, "AGGREGATION")
    snapshot = done.sources[sales.table("sales")].split(".")[0]
    sales.run(f"CREATE VIEW gold.sales AS SELECT region AS area, amount, id FROM $ns.sales AT SNAPSHOT '{snapshot}'")
    query = "SELECT area, SUM(amount) AS total FROM gold.sales GROUP BY area ORDER BY area"
    expected = sales.rows(query)
    assert relationships(sales, query) == ["CHOSEN"]
    sales.run("INSERT INTO $ns.sales (id, region, amount) VALUES (5000, 1, 10.00)")
    assert relationships(sales, query) == ["CHOSEN"]
    assert sales.rows(query) == expected


def test_a_changed_table_is_not_answered_from_an_older_refresh(sales: Bench) -> None:
    refresh(sales, "AGGREGATION")
    refresh(sales, "RAW")
    query = "SELECT region, COUNT(*) FROM $ns.sales GROUP BY region ORDER BY region"
    _, before = sales.rows(query)[1]  # region 1
    sales.run("INSERT INTO $ns.sales (id, region) VALUES (5000, 1)")
    _, after = sales.rows(query)[1]
    assert int(str(after)) == int(str(before)) + 1
    assert set(relationships(sales, query)) == {"CONSIDERED"}


def test_a_reflection_of_an_empty_table_answers_zero_rows(bench: Bench) -> None:
    bench.run(SALES.replace("0, 1000", "0, 0"))
    refresh(bench, "AGGREGATION")
    assert bench.rows("SELECT COUNT(*), SUM(amount), COUNT(units) FROM $ns.sales") == [(0, None, 0)]
    assert relationships(bench, "SELECT COUNT(*) FROM $ns.sales") == ["CHOSEN"]
