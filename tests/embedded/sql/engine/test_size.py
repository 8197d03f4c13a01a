"""Long statements, as generators of SQL write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from embedded.sql.errors import SqlError

if TYPE_CHECKING:
    from tests.embedded.sql.engine.conftest import Bench


def test_a_seed_of_thousands_of_rows_in_one_statement(bench: Bench) -> None:
    """dbt writes a seed as one VALUES list of texts."""
    values = ", ".join(f"('{i}', 'it''s {i}', '2024-01-01', '{i}.50', null)" for i in range(3000))
    bench.run(
        "create table $ns.seed as ( select cast(a as integer) as a, cast(b as varchar) as b, cast(c as date) as c, "
        f"cast(d as decimal(12, 2)) as d, e from (values {values}) temp_table (a, b, c, d, e) )"
    )
    assert bench.one("SELECT COUNT(*) FROM $ns.seed WHERE d = a + 0.5") == 3000


@pytest.mark.parametrize(
    ("sql", "result"),
    [
        ("SELECT 1 WHERE " + " OR ".join(f"1 = {i}" for i in range(1500)), 1),
        (" UNION ALL ".join(f"SELECT {i} AS x" for i in range(300)), 0),
        ("SELECT LENGTH(" + " || ".join(["'ab'"] * 900) + ")", 1800),
        ("SELECT COUNT(*) FROM (SELECT 7 AS a) t WHERE a IN (" + ", ".join(map(str, range(5000))) + ")", 1),
        ("SELECT " + "(" * 100 + "1" + ")" * 100, 1),
    ],
    ids=["or", "union", "pipes", "in", "parentheses"],
)
def test_long_chains(bench: Bench, sql: str, result: int) -> None:
    assert bench.one(sql) == result


def test_too_deep_is_an_error_and_no_crash(bench: Bench) -> None:
    for sql in ("SELECT " + "(" * 3000 + "1" + ")" * 3000, "SELECT " + " + ".join(["1"] * 3000)):
        with pytest.raises(SqlError):
            bench.run(sql)
    assert bench.one("SELECT 1") == 1


def test_names_that_the_catalog_refuses(bench: Bench) -> None:
    for name in ('"a/b"', '".."', '"a b"'):
        with pytest.raises(SqlError, match="cannot be created"):
            bench.run(f"CREATE TABLE $ns.{name} AS SELECT 1 AS x")
