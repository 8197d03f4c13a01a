"""CREATE FUNCTION: expanded where it is called, with its own names, types and context."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from embedded.sql.errors import ConcurrentModification, NotFound, SqlError, ValidationError

if TYPE_CHECKING:
    from tests.embedded.sql.engine.conftest import Bench


def test_scalar_functions(bench: Bench) -> None:
    bench.run("CREATE FUNCTION a.area (x DOUBLE, y DOUBLE DEFAULT 2) RETURNS DOUBLE RETURN SELECT x * y")
    bench.run("CREATE FUNCTION a.plus_one (x INT) RETURNS BIGINT RETURN x + 1")
    bench.run(
        "CREATE FUNCTION a.twice (x INT) RETURNS VARCHAR RETURN CAST(a.plus_one(a.plus_one(x)) AS VARCHAR) || '!'"
    )
    assert bench.rows("SELECT a.area(3, 4), a.AREA(3), a.plus_one(1), a.twice(40)") == [(12.0, 6.0, 2, "42!")]
    assert bench.run("SELECT a.plus_one(1) AS v").table.schema.field("v").type == "int64"
    assert bench.rows("SELECT a.plus_one(v) FROM (VALUES (1), (2)) t (v) WHERE a.plus_one(v) > 2") == [(3,)]
    assert bench.run("SELECT plus_one(1) AS v", context=("a",)).table.to_pylist() == [{"v": 2}]


def test_a_body_reads_tables_of_its_own_and_nothing_of_the_caller(bench: Bench) -> None:
    bench.run("CREATE TABLE $ns.prices AS SELECT * FROM (VALUES (1, 10), (2, 20), (3, 30)) v (id, price)")
    bench.run(
        "CREATE FUNCTION a.price_of (item INT) RETURNS INT RETURN SELECT MAX(price) FROM $ns.prices WHERE id = item"
    )
    # The caller's column is called like the body's: it must not be captured.
    assert bench.rows("SELECT a.price_of(id) FROM (VALUES (2), (3), (9)) t (id) ORDER BY id") == [(20,), (30,), (None,)]
    assert bench.one("SELECT a.price_of(1)") == 10
    bench.run("CREATE VIEW a.v AS SELECT a.price_of(2) AS p")
    assert bench.one("SELECT p FROM a.v") == 20
    bench.run("CREATE TABLE $ns.t AS SELECT 1 AS id, 0 AS p")
    bench.run("UPDATE $ns.t SET p = a.price_of(id)")
    assert bench.rows("SELECT * FROM $ns.t") == [(1, 10)]


def test_table_functions(bench: Bench) -> None:
    bench.run("CREATE TABLE $ns.prices AS SELECT * FROM (VALUES (1, 10), (2, 20), (3, 30)) v (id, price)")
    bench.run(
        "CREATE FUNCTION a.above (low INT) RETURNS TABLE (item BIGINT, cost DOUBLE) "
        "RETURN SELECT id, price FROM $ns.prices WHERE price > low"
    )
    assert bench.rows("SELECT * FROM TABLE(a.above(15)) ORDER BY item") == [(2, 20.0), (3, 30.0)]
    assert bench.rows(
        "SELECT SUM(x.cost) FROM TABLE(a.above(0)) AS x JOIN TABLE(a.above(25)) y ON x.item = y.item"
    ) == [(30.0,)]
    with pytest.raises(SqlError):
        bench.run("SELECT * FROM TABLE(a.above('x; DROP'))")


def test_listing_describing_and_dropping(bench: Bench) -> None:
    bench.run("CREATE FUNCTION a.f (x INT) RETURNS INT RETURN x")
    with pytest.raises(ConcurrentModification, match="already exists"):
        bench.run("CREATE FUNCTION a.f (x INT) RETURNS INT RETURN x")
    assert bench.run("CREATE FUNCTION IF NOT EXISTS a.f (x INT) RETURNS INT RETURN 7").table.to_pylist()[0]["ok"]
    assert bench.one("SELECT a.f(1)") == 1
    bench.run("CREATE OR REPLACE FUNCTION a.f (x INT) RETURNS INT RETURN x * 3")
    assert bench.one("SELECT a.f(1)") == 3
    assert bench.rows("SHOW FUNCTIONS LIKE 'a.%'") == [("a.f",)]
    row = bench.run("DESCRIBE FUNCTION a.f").table.to_pylist()[0]
    assert (row["Name"], row["Input"], row["Returns"], row["Body"]) == ("a.f", "x INTEGER", "INTEGER", "x * 3")
    bench.run("DROP FUNCTION a.f")
    for sql in ("DROP FUNCTION a.f", "DESCRIBE FUNCTION a.f"):
        with pytest.raises(NotFound, match="does not exist"):
            bench.run(sql)
    bench.run("DROP FUNCTION IF EXISTS a.f")


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("CREATE FUNCTION a.f (x INT) RETURNS INT RETURN nope(x)", "No match found for function signature NOPE"),
        ("CREATE FUNCTION a.f (x INT) RETURNS INT RETURN y", "y"),
        ("CREATE FUNCTION a.f (x INT) RETURNS DATE RETURN x", "Row types are different"),
        ("CREATE FUNCTION a.f (x INT, X INT) RETURNS INT RETURN x", "more than once"),
        ("CREATE FUNCTION a.f (x INT) RETURNS INT RETURN SELECT 1 FROM a.nope", "nope"),
        ("CREATE FUNCTION a.f () RETURNS TABLE (a INT, b INT) RETURN SELECT 1", "Row types are different"),
        ("SELECT a.nope(1)", r"No match found for function signature A\.NOPE|NOPE"),
    ],
)
def test_what_cannot_be_is_refused(bench: Bench, sql: str, words: str) -> None:
    with pytest.raises(SqlError, match=words):
        bench.run(sql)


def test_wrong_numbers_of_arguments_and_endless_recursion(bench: Bench) -> None:
    bench.run("CREATE FUNCTION a.f (x INT) RETURNS INT RETURN x")
    with pytest.raises(ValidationError, match="Invalid number of arguments to function 'F'"):
        bench.run("SELECT a.f(1, 2)")
    bench.run("CREATE FUNCTION a.g (x INT) RETURNS INT RETURN a.f(x)")
    bench.run("CREATE OR REPLACE FUNCTION a.f (x INT) RETURNS INT RETURN x + 1")
    assert bench.one("SELECT a.g(1)") == 2
    bench.run("CREATE OR REPLACE FUNCTION a.f (x INT) RETURNS INT RETURN a.g(x)")  # and g calls f
    with pytest.raises(ValidationError, match="nested too deeply"):
        bench.run("SELECT a.g(1)")
