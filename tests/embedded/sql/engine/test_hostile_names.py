"""Names that hurt, in every place that takes one: an error of ours or a correct result, never an escape."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as some
from pyiceberg.catalog.rest import RestCatalog

from embedded.sql.errors import SqlError

if TYPE_CHECKING:
    from tests.embedded.sql.engine.conftest import Bench

NAMES = [
    'a"b', "a'b", "a.b", "a/b", "../../x", "..", "x'; DROP TABLE canary; --", '"; DROP TABLE canary; --', "/* x */",
    "-- x", "a\\b", "a\nb", "a\tb", "%s {0} $1 ?", "été 表 🙂", "‮override", "a b ", " ", "SELECT", "__job1_1",
    "information_schema", "x" * 10_000, "s3://warehouse/x", "a%2Fb", "a;b", "a,b", "[1:2]", "COLUMNS(*)", "*",
]  # fmt: skip
SOME = [name for name in NAMES if set(name) & set("\"';/\\\n🙂*")] + ["x" * 10_000]
# Where a name stands. {q}: quoted as an identifier, {s}: as a text.
PLACES = [
    "SELECT {q} FROM $ns.canary",
    "SELECT v AS {q} FROM $ns.canary",
    "SELECT {q}.v FROM $ns.canary AS {q}",
    "WITH {q} AS (SELECT 1 AS v) SELECT v FROM {q}",
    "SELECT {q}(1)",
    "SELECT a.{q}(v) FROM $ns.canary",
    "SELECT * FROM {q}.{q}.{q}",
    "SELECT * FROM $ns.canary AT SNAPSHOT {s}",
    "SELECT * FROM $ns.canary AT TIMESTAMP {s}",
    "SELECT * FROM $ns.canary AT TAG {q}",
    "SELECT * FROM TABLE(table_files({s}))",
    "SELECT * FROM TABLE({q}.external_query({s}))",
    "SELECT * FROM TABLE({q}(type => {s}))",
    "CREATE VIEW a.{q} AS SELECT v AS {q} FROM $ns.canary",
    "CREATE FUNCTION a.{q} ({q} INT) RETURNS INT RETURN {q}",
    "DROP VIEW a.{q}",
    "DROP FUNCTION {q}",
    "DROP TABLE $ns.{q}",
    "ALTER TABLE $ns.{q} ADD COLUMNS (x INT)",
    "ALTER TABLE $ns.canary DROP COLUMN {q}",
    "ALTER TABLE $ns.canary ALTER COLUMN {q} {q} INT",
    "ALTER TABLE $ns.canary ADD PARTITION FIELD {q}",
    "ALTER TABLE $ns.canary UNSET TBLPROPERTIES ({s})",
    "ALTER TABLE $ns.canary CREATE RAW REFLECTION {q} USING DISPLAY ({q})",
    "ALTER TABLE $ns.canary REFRESH METADATA FOR FILES ({s})",
    "INSERT INTO $ns.canary ({q}) VALUES (1)",
    "UPDATE $ns.canary SET {q} = 1",
    "DELETE FROM $ns.canary WHERE {q} = 1",
    "MERGE INTO $ns.canary USING {q} ON v = {q} WHEN MATCHED THEN UPDATE SET {q} = 1",
    "COPY INTO $ns.canary FROM {s}",
    "COPY INTO $ns.canary FROM '@files/in' FILES ({s})",
    "COPY INTO $ns.canary FROM '@files/in' REGEX {s}",
    "OPTIMIZE TABLE $ns.canary FOR PARTITIONS {q} = 1",
    "VACUUM TABLE $ns.canary REMOVE ORPHAN FILES LOCATION {s}",
    "ROLLBACK TABLE $ns.canary TO SNAPSHOT {s}",
    "CREATE FOLDER lake.{q}",
    "CREATE BRANCH {q} IN {q}",
    "SHOW TABLES IN {q}",
    "SHOW FUNCTIONS LIKE {s}",
    "DESCRIBE {q}",
    "USE {q}",
    "GRANT SELECT ON TABLE {q} TO ROLE {q}",
    "ALTER SESSION SET {q} = {s}",
]


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def text(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"


@pytest.fixture(scope="module")
def canary(shared: Bench) -> Bench:
    """A table that every statement of this module must leave as it is."""
    from tests.embedded.sql.engine.conftest import Bench

    bench = Bench(shared.engine, shared.catalog, "hostile")
    if bench.catalog.iceberg.table_exists(("hostile", "canary")):
        bench.run("DROP TABLE $ns.canary")
    bench.run("CREATE TABLE $ns.canary AS SELECT 7 AS v")
    return bench


def attempt(bench: Bench, place: str, name: str) -> object:
    """The rows, or our own error; anything else fails the test."""
    try:
        return bench.run(place.replace("{q}", quoted(name)).replace("{s}", text(name))).table
    except SqlError as error:
        found = error
    assert "__job" not in found.message.replace(name, ""), "a name of the server's own shows"
    return found


def unharmed(bench: Bench, lake: RestCatalog) -> None:
    assert bench.rows("SELECT * FROM $ns.canary") == [(7,)]
    assert lake.list_tables(("hostile",)) == [("hostile", "canary")]


@pytest.mark.parametrize("place", PLACES)
def test_every_place(canary: Bench, lake: RestCatalog, place: str) -> None:
    for name in SOME:
        attempt(canary, place, name)
    unharmed(canary, lake)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=some.sampled_from(PLACES[:12]), name=some.text(min_size=0, max_size=30))
@example(place=PLACES[0], name="\x00")
@example(place=PLACES[0], name="")
@example(place=PLACES[0], name="\ud800")
def test_any_text(canary: Bench, place: str, name: str) -> None:
    attempt(canary, place, name)


@pytest.mark.parametrize("name", NAMES, ids=lambda n: repr(n)[:24])
def test_an_alias_is_what_was_written(canary: Bench, name: str) -> None:
    table = canary.run(f"SELECT v AS {quoted(name)} FROM $ns.canary").table
    assert table.column_names == [name]
    inner = f"(SELECT {text(name)} AS {quoted(name)} FROM $ns.canary) AS {quoted(name)}"
    assert canary.rows(f"SELECT {quoted(name)}.{quoted(name)} FROM {inner}") == [(name,)]


def test_columns_of_one_table_with_all_of_them(bench: Bench, lake: RestCatalog) -> None:
    names = [name for name in NAMES if len(name) < 1000]
    columns = ", ".join(f"{number} AS {quoted(name)}" for number, name in enumerate(names))
    bench.run(
        f"CREATE TABLE $ns.t PARTITION BY ({quoted(names[0])}) LOCALSORT BY ({quoted(names[6])}) AS SELECT {columns}"
    )
    sets = ", ".join(f"{quoted(name)} = {quoted(name)} + 100" for name in names)
    bench.run(f"UPDATE $ns.t SET {sets} WHERE {quoted(names[7])} = 7")
    bench.run(
        f"INSERT INTO $ns.t ({', '.join(quoted(n) for n in reversed(names))}) SELECT {', '.join(['0'] * len(names))}"
    )
    wanted = ", ".join(quoted(name) for name in names)
    rows = bench.rows(f"SELECT {wanted} FROM $ns.t ORDER BY {quoted(names[1])} DESC")
    assert rows == [tuple(range(100, 100 + len(names))), (0,) * len(names)]
    assert lake.load_table((bench.namespace, "t")).scan().to_arrow().column_names == names


@pytest.mark.parametrize("name", ['a"b', "a'b; DROP TABLE t", "été 表", "a b", "a%2Fb"])
def test_tables(bench: Bench, name: str) -> None:
    made = attempt(bench, "CREATE TABLE $ns.{q} AS SELECT 1 AS id", name)
    if isinstance(made, SqlError):
        return
    assert bench.rows(f"SELECT id FROM $ns.{quoted(name)}") == [(1,)]
    bench.run(f"DELETE FROM $ns.{quoted(name)}")
    bench.run(f"DROP TABLE $ns.{quoted(name)}")


@pytest.mark.parametrize("name", ["a/b", "../../x", "..", ".", "", "a.b", "x" * 10_000, "a\nb"])
def test_names_that_could_leave_their_folder(bench: Bench, lake: RestCatalog, name: str) -> None:
    made = attempt(bench, "CREATE TABLE $ns.{q} AS SELECT 1 AS id", name)
    if not isinstance(made, SqlError):
        place = lake.load_table((bench.namespace, name)).location()
        assert ".." not in place.split("/")
        assert f"/{bench.namespace}/" in place
        bench.run(f"DROP TABLE $ns.{quoted(name)}")
