"""What a query may read: promoted files as of their last refresh, PostgreSQL tables, views; and nothing else."""

from __future__ import annotations

import dataclasses
import datetime
import io
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import boto3
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedded.sql.datasets import FileTable, PostgresTable, SystemTable, View
from embedded.sql.errors import DataReadError, NotFound, ParseError, SqlError, ValidationError

if TYPE_CHECKING:
    from embedded.postgres import PostgresServer
    from tests.embedded.sql.engine.conftest import Bench


class Folder:
    """A folder of the bucket, and the promoted table over it."""

    def __init__(self, bench: Bench) -> None:
        access = bench.catalog.access
        self.bench = bench
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=f"http://{access.endpoint}",
            aws_access_key_id=access.access_key,
            aws_secret_access_key=access.secret_key,
            region_name="us-east-1",
        )

    def put(self, name: str, body: bytes) -> str:
        self.client.put_object(Bucket="lakehouse", Key=f"{self.bench.namespace}/{name}", Body=body)
        return f"s3://lakehouse/{self.bench.namespace}/{name}"

    def parquet(self, name: str, **columns: list[object] | pa.Array) -> str:
        stream = io.BytesIO()
        pq.write_table(pa.table(columns), stream)
        return self.put(name, stream.getvalue())

    def promote(self, *files: str, kind: str = "Parquet", options: dict[str, object] | None = None) -> FileTable:
        """What a metadata refresh does."""
        access = self.bench.catalog.access
        columns = self.bench.engine.describe_files(files, kind, access, options)
        table = FileTable(("bronze", "t"), files, kind, access, columns, options or {})  # type: ignore[arg-type]
        self.bench.catalog.add(table)
        return table


def test_new_files_and_columns_are_invisible_until_a_refresh(bench: Bench) -> None:
    folder = Folder(bench)
    first = folder.parquet("a.parquet", id=[1, 2], s=["x", None])
    folder.promote(first)
    second = folder.parquet("b.parquet", id=[3], s=["y"], extra=[1.5])
    assert bench.rows("SELECT * FROM bronze.t ORDER BY id") == [(1, "x"), (2, None)]
    assert folder.promote(first, second).columns == (("id", "BIGINT"), ("s", "VARCHAR"), ("extra", "DOUBLE"))
    assert bench.rows("SELECT * FROM bronze.t ORDER BY id") == [(1, "x", None), (2, None, None), (3, "y", 1.5)]
    assert bench.run("SELECT id FROM bronze.t").scanned == [("bronze", "t")]


def test_source_types_become_dremios(bench: Bench) -> None:
    folder = Folder(bench)
    moment = datetime.datetime(2024, 1, 1, 12, 0, 0, 123456, tzinfo=datetime.UTC)
    nested = pa.array([{"a": 1, "b": ["x"]}], pa.struct([("a", pa.int16()), ("b", pa.list_(pa.string()))]))
    uri = folder.parquet(
        "a.parquet",
        small=pa.array([1], pa.int8()),
        at=pa.array([moment], pa.timestamp("us", tz="UTC")),
        plain=pa.array([moment.replace(tzinfo=None)], pa.timestamp("us")),
        money=pa.array([Decimal("1.25")], pa.decimal128(12, 2)),
        meta=nested,
        raw=pa.array([b"\x00\xff"], pa.binary()),
    )
    assert folder.promote(uri).columns == (
        ("small", "INTEGER"),
        ("at", "TIMESTAMP"),
        ("plain", "TIMESTAMP"),
        ("money", "DECIMAL(12,2)"),
        ("meta", 'ROW("a" INTEGER, "b" LIST(VARCHAR))'),
        ("raw", "VARBINARY"),
    )
    cut = datetime.datetime(2024, 1, 1, 12, 0, 0, 123000)  # noqa: DTZ001  Dremio's timestamps: UTC, no zone, ms
    assert bench.rows("SELECT * FROM bronze.t") == [(1, cut, cut, Decimal("1.25"), {"a": 1, "b": ["x"]}, b"\x00\xff")]
    assert bench.rows("SELECT t.meta.a, meta['b'], t.meta.b[0] FROM bronze.t AS t") == [(1, ["x"], "x")]


def test_a_file_that_is_gone_is_a_clear_error(bench: Bench) -> None:
    folder = Folder(bench)
    uri = folder.parquet("gone.parquet", id=[1])
    folder.promote(uri)
    folder.client.delete_object(Bucket="lakehouse", Key=f"{bench.namespace}/gone.parquet")
    with pytest.raises(DataReadError, match=f"{bench.namespace}/gone.parquet"):
        bench.run("SELECT * FROM bronze.t")
    bench.catalog.add(dataclasses.replace(folder.promote(), columns=(("id", "BIGINT"),)))
    assert bench.rows("SELECT COUNT(*), MAX(id) FROM bronze.t") == [(0, None)]


def test_text_and_json_files(bench: Bench) -> None:
    folder = Folder(bench)
    text = folder.put("a.csv", b'id;name\n1;"x;y"\n2;z\n')
    table = folder.promote(text, kind="Text", options={"fieldDelimiter": ";", "extractHeader": True})
    assert table.columns == (("id", "VARCHAR"), ("name", "VARCHAR"))
    assert bench.rows("SELECT * FROM bronze.t ORDER BY id") == [("1", "x;y"), ("2", "z")]
    assert bench.rows(
        "SELECT * FROM TABLE(bronze.t(type => 'text', fieldDelimiter => ';', extractHeader => true))"
    ) == [
        ("1", "x;y"),
        ("2", "z"),
    ]
    folder.promote(folder.put("a.json", b'{"id": 1, "tags": ["a"]}\n{"id": 2}\n'), kind="JSON")
    assert bench.rows("SELECT id, tags FROM bronze.t ORDER BY id") == [(1, ["a"]), (2, None)]


def test_postgres_tables(bench: Bench, platform_postgres: PostgresServer) -> None:
    dsn = platform_postgres.dsn("lakehouse")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS engine_test")
        connection.execute('DROP TABLE IF EXISTS engine_test."t\'1"')
        connection.execute(
            'CREATE TABLE engine_test."t\'1" (id int, big bigint, m numeric(12, 2), at timestamptz, ok boolean, s text)'
        )
        connection.execute(
            'INSERT INTO engine_test."t\'1" '
            "VALUES (1, 9007199254740993, 1.25, '2024-01-01 12:00:00.123456+02', true, 'ü')"
        )
    bench.catalog.add(PostgresTable(("ledger", "engine_test", "t'1"), dsn, "engine_test", "t'1"))
    query = 'SELECT * FROM ledger.engine_test."t\'1" WHERE id = 1'
    cut = datetime.datetime(2024, 1, 1, 10, 0, 0, 123000)  # noqa: DTZ001
    assert bench.rows(query) == [(1, 9007199254740993, Decimal("1.25"), cut, True, "ü")]
    bench.run('CREATE TABLE $ns.copy AS SELECT t.*, t.m / 3 AS third FROM ledger.engine_test."t\'1" AS t')
    assert bench.one("SELECT third FROM $ns.copy") == Decimal("0.4166666666667")
    password = psycopg.conninfo.conninfo_to_dict(dsn)["password"]
    plan = str(bench.rows(f"EXPLAIN PLAN FOR {query}"))
    assert str(password) not in plan
    bench.catalog.add(PostgresTable(("ledger", "engine_test", "nope"), dsn, "engine_test", "nope"))
    with pytest.raises(SqlError) as failure:
        bench.run("SELECT * FROM ledger.engine_test.nope")
    assert str(password) not in failure.value.message


def test_views_of_views_with_their_own_context(bench: Bench) -> None:
    bench.run("CREATE TABLE $ns.t AS SELECT 1 AS id, 'a' AS s")
    bench.catalog.add(View(("space", "one"), "SELECT * FROM t", ("lake", bench.namespace)))
    bench.catalog.add(
        View(("space", "two"), "WITH t AS (SELECT id AS n FROM one) SELECT n + 1 AS n FROM t", ("space",))
    )
    outcome = bench.run("WITH one AS (SELECT 5 AS n) SELECT two.n, one.n FROM space.two CROSS JOIN one")
    assert outcome.table.to_pylist() == [{"n": 2, "n0": 5}]
    assert outcome.scanned == [bench.table("t")]
    assert bench.engine.describe("SELECT * FROM two", ("space",)).names == ["n"]


def test_a_view_that_refers_to_itself_is_refused(bench: Bench) -> None:
    bench.catalog.add(View(("space", "a"), "SELECT * FROM space.b"))
    bench.catalog.add(View(("space", "b"), "SELECT * FROM space.a"))
    with pytest.raises(ValidationError, match="refers to itself"):
        bench.run("SELECT * FROM space.a")


def test_a_view_is_checked_when_it_is_made(bench: Bench) -> None:
    for sql, words in [
        ("CREATE VIEW a.v AS SELECT nope FROM (SELECT 1 AS x) t", "Column 'nope' not found"),
        ("CREATE VIEW a.v AS SELECT * FROM is_not.there", "not found"),
        ("CREATE VIEW a.v AS SELEC 1", "Failure parsing"),
        ("CREATE VIEW a.v AS SELECT 1 AS a, 2 AS A", "Duplicate column"),
        ("CREATE VIEW a.v (x, y) AS SELECT 1", "different counts"),
    ]:
        with pytest.raises(SqlError, match=words):
            bench.run(sql)
    bench.run("CREATE VIEW a.v (x) AS SELECT 1 AS one")
    assert bench.rows("SELECT x FROM a.v") == [(1,)]


def test_system_tables_and_describe(bench: Bench) -> None:
    data = pa.table({"SCHEMA_NAME": ["a", "b.c"]})
    bench.catalog.add(SystemTable(("INFORMATION_SCHEMA", "SCHEMATA"), data))
    assert bench.rows("SHOW SCHEMAS LIKE 'b%'") == [("b.c",)]
    assert bench.rows("select schema_name from information_schema.schemata where ilike(schema_name, 'B%')") == [
        ("b.c",)
    ]
    bench.run("CREATE TABLE $ns.t AS SELECT 1 AS id, CAST(1 AS DECIMAL(12, 2)) AS m, 'x' AS s, ARRAY[1] AS l")
    described = [("id", "INTEGER"), ("m", "DECIMAL"), ("s", "CHARACTER VARYING"), ("l", "ARRAY")]
    assert [row[:2] for row in bench.rows(f'DESCRIBE "lake.{bench.namespace}"."t"')] == described


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM TABLE(read_csv('/etc/passwd'))",
        "SELECT * FROM TABLE(read_parquet(type => 'parquet'))",
        "SELECT * FROM '/etc/passwd'",
        'SELECT * FROM "/etc/passwd"',
        'SELECT * FROM "s3://lakehouse/x.parquet"',
        "SELECT * FROM duckdb_secrets()",
        "SELECT * FROM duckdb_settings",
        "SELECT * FROM pragma_database_list()",
        "SELECT * FROM __job1_1",
        "SELECT * FROM sqlite_master",
        "SELECT read_text('/etc/passwd')",
        "SELECT getenv('HOME')",
        "SELECT current_setting('memory_limit')",
        "SELECT fn_divide(1, 2)",
        "SELECT fn_round_divide(1, 2)",
        "SELECT query('x')",
        "SELECT * FROM query('select 1')",
        "SELECT * FROM iceberg_scan('x')",
        "SELECT * FROM postgres_scan('a', 'b', 'c')",
        "SELECT * FROM range(5)",
        "SELECT COLUMNS(*) FROM (SELECT 1 AS a) t",
        "SELECT * EXCLUDE (a) FROM (SELECT 1 AS a) t",
        "SELECT 1::VARCHAR",
        "SELECT [x FOR x IN (1, 2)]",
        "SELECT list_transform([1], x -> x + 1)",
        "SELECT $1",
        "SELECT ?",
        "SELECT 1; SELECT 2",
        "SELECT * FROM (SELECT 1 AS a) t TABLESAMPLE (10)",
        "SELECT * FROM (SELECT 1 AS a) t POSITIONAL JOIN (SELECT 2 AS b) u",
        "SELECT * FROM (SELECT 1 AS a) t ASOF JOIN (SELECT 2 AS b) u ON t.a >= u.b",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT * FROM r",
        "SELECT 1 AS a GROUP BY ALL",
        "SELECT {'a': 1}",
        "SELECT DISTINCT ON (a) a FROM (SELECT 1 AS a) t",
        "(FROM (SELECT 1) t)",
        "SELECT * INTO x FROM (SELECT 1) t",
        "SELECT TRY_CAST('x' AS INTEGER)",
        "SELECT 1 WHERE x'ab",
    ],
)
def test_only_resolved_names_and_known_functions(bench: Bench, sql: str) -> None:
    with pytest.raises((ParseError, ValidationError, NotFound)):
        bench.run(sql)


@pytest.mark.parametrize(
    "sql", ["INSTALL httpfs", "SET memory_limit = '1TB'", "COPY x TO '/tmp/x'", "ATTACH '/tmp/x' AS y"]
)
def test_no_way_into_the_database_below(bench: Bench, sql: str) -> None:
    with pytest.raises(SqlError):
        bench.run(sql)


def test_the_database_below_cannot_read_this_machine(bench: Bench) -> None:
    """The second line of defence: SQL that passed by mistake."""
    from embedded.sql.engine.database import NeverSet

    with bench.engine.database.job("", NeverSet()) as job:
        for sql in (
            "SELECT * FROM read_csv('/etc/passwd')",
            "COPY (SELECT 1) TO '/tmp/should-not-be'",
            "ATTACH '/tmp/should-not-be.db' AS x",
            "LOAD '/tmp/x.duckdb_extension'",
            "SET GLOBAL enable_external_access = true",
        ):
            with pytest.raises(SqlError):
                job.execute(sql)
