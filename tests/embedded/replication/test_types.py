"""Every PostgreSQL type, through a sync, compared exactly with what Parquet then holds."""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from tests.embedded.replication.harness import Bench, append, overwrite

UTC = dt.UTC
TIMESTAMP = pa.timestamp("us", "UTC")

# type, value in SQL, Arrow type in the file, value read back. Each value stands beside a null in every column.
CASES: list[tuple[str, str, pa.DataType, Any]] = [
    ("boolean", "true", pa.bool_(), True),
    ("smallint", "-32768", pa.int64(), -32768),
    ("integer", "2147483647", pa.int64(), 2147483647),
    ("bigint", "-9223372036854775808", pa.int64(), -(2**63)),
    ("oid", "4294967295", pa.int64(), 4294967295),
    ("real", "0.1", pa.float64(), 0.10000000149011612),
    ("double precision", "'-Infinity'", pa.float64(), float("-inf")),
    ("numeric(12,2)", "-9999999999.99", pa.decimal128(12, 2), Decimal("-9999999999.99")),
    ("numeric(38,10)", "1234567890123456789012345678.0123456789", pa.decimal128(38, 10),
     Decimal("1234567890123456789012345678.0123456789")),
    ("numeric(5,0)", "12345", pa.decimal128(5, 0), Decimal(12345)),
    ("numeric(2,4)", "0.0099", pa.decimal128(4, 4), Decimal("0.0099")),
    ("numeric(3,-2)", "12345", pa.decimal128(5, 0), Decimal(12300)),
    ("numeric(50,3)", "12345678901234567890123456789012345678901.123", pa.string(),
     "12345678901234567890123456789012345678901.123"),
    ("numeric", "1.00000000000000000000000000000000000000000000001", pa.string(),
     "1.00000000000000000000000000000000000000000000001"),
    ("numeric", "'NaN'", pa.string(), "NaN"),
    ("money", "'$1234.56'", pa.string(), "1234.56"),
    ("text", "E'a\\tb''\"\\\\ \u20ac \U0001f600'", pa.string(), "a\tb'\"\\ € 😀"),
    ("varchar(10)", "''", pa.string(), ""),
    ("char(5)", "'ab'", pa.string(), "ab"),
    ("name", "'x'", pa.string(), "x"),
    ('"char"', "'c'", pa.string(), "c"),
    ("uuid", "'6BA7B810-9DAD-11D1-80B4-00C04FD430C8'", pa.string(), "6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
    ("bytea", "'\\x00ff'", pa.string(), "\\x00ff"),
    ("json", "'{\"a\":  1, \"a\": 2}'", pa.string(), '{"a":  1, "a": 2}'),
    ("jsonb", "'{\"b\": [1.10, null, \"€\"]}'", pa.string(), '{"b": [1.10, null, "€"]}'),
    ("date", "'0001-01-01'", pa.date32(), dt.date(1, 1, 1)),
    ("date", "'9999-12-31'", pa.date32(), dt.date(9999, 12, 31)),
    ("time", "'23:59:59.999999'", pa.time64("us"), dt.time(23, 59, 59, 999999)),
    ("timetz", "'01:00:00+02'", pa.time64("us"), dt.time(23, 0)),
    ("timestamp", "'2026-03-29 02:30:00.123456'", TIMESTAMP, dt.datetime(2026, 3, 29, 2, 30, 0, 123456, UTC)),
    ("timestamptz", "'2026-03-29 02:30:00.123456+05:30'", TIMESTAMP, dt.datetime(2026, 3, 28, 21, 0, 0, 123456, UTC)),
    ("timestamptz", "'1900-01-01 00:00:00+00'", TIMESTAMP, dt.datetime(1900, 1, 1, tzinfo=UTC)),
    ("interval", "'1 year 2 mons 3 days 04:05:06.7'", pa.string(), "1 year 2 mons 3 days 04:05:06.7"),
    ("inet", "'10.0.0.1/8'", pa.string(), "10.0.0.1/8"),
    ("macaddr", "'08:00:2b:01:02:03'", pa.string(), "08:00:2b:01:02:03"),
    ("bit(3)", "B'101'", pa.string(), "101"),
    ("int4range", "'[1,5)'", pa.string(), "[1,5)"),
    ("point", "'(1,2)'", pa.string(), "(1,2)"),
    ("tsvector", "'a b'", pa.string(), "'a' 'b'"),
    ("shop.mood", "'so so'", pa.string(), "so so"),
    ("shop.price", "12.5", pa.decimal128(10, 2), Decimal("12.50")),
    ("shop.pair", "row(1, 'x,y')", pa.string(), '(1,"x,y")'),
    ("integer[]", "'{1,null,3}'", pa.list_(pa.int64()), [1, None, 3]),
    ("integer[]", "'[0:1]={7,8}'", pa.list_(pa.int64()), [7, 8]),
    ("integer[]", "'{}'", pa.list_(pa.int64()), []),
    ("integer[][]", "'{{1,2},{3,4}}'", pa.string(), "[[1,2],[3,4]]"),
    ("text[]", "array['a', 'b,c', null, '\"']", pa.list_(pa.string()), ["a", "b,c", None, '"']),
    ("numeric(10,2)[]", "'{1.25,-2}'", pa.list_(pa.decimal128(10, 2)), [Decimal("1.25"), Decimal("-2.00")]),
    ("numeric[]", "'{1.1,NaN}'", pa.list_(pa.string()), ["1.1", "NaN"]),
    ("boolean[]", "'{t,f}'", pa.list_(pa.bool_()), [True, False]),
    ("double precision[]", "'{1.5,-Infinity}'", pa.list_(pa.float64()), [1.5, float("-inf")]),
    ("date[]", "'{2020-01-01}'", pa.list_(pa.date32()), [dt.date(2020, 1, 1)]),
    ("timestamptz[]", "'{2020-01-01 00:00:00+01}'", pa.list_(TIMESTAMP), [dt.datetime(2019, 12, 31, 23, tzinfo=UTC)]),
    ("timestamp[]", "'{2020-01-01 00:00:00}'", pa.list_(TIMESTAMP), [dt.datetime(2020, 1, 1, tzinfo=UTC)]),
    ("uuid[]", "'{6ba7b810-9dad-11d1-80b4-00c04fd430c8}'", pa.list_(pa.string()),
     ["6ba7b810-9dad-11d1-80b4-00c04fd430c8"]),
    ("jsonb[]", "array['{\"a\": 1}'::jsonb]", pa.list_(pa.string()), ['{"a": 1}']),
    ("bytea[]", "array['\\x01'::bytea]", pa.list_(pa.string()), ["\\x01"]),
    ("shop.mood[]", "'{\"so so\"}'", pa.list_(pa.string()), ["so so"]),
]  # fmt: skip

# Values that the type in the file cannot carry: null, and `_airbyte_meta.changes` says so.
LOST: list[tuple[str, str]] = [
    ("numeric(12,2)", "'NaN'"),
    ("date", "'infinity'"),
    ("date", "'-infinity'"),
    ("timestamp", "'infinity'"),
    ("timestamptz", "'-infinity'"),
    ("timestamptz", "'294276-12-31 23:59:59+00'"),
    ("time", "'24:00:00'"),
    ("integer[]", "'{{1,2},{3,4}}'"),
    ("numeric(5,2)[]", "'{1,NaN}'"),
    ("date[]", "'{2020-01-01,infinity}'"),
    ("timestamptz[]", "'{-infinity}'"),
    ("timestamptz[]", "'{294276-12-31 23:59:59+00}'"),
]


@pytest.fixture
def typed(bench: Bench) -> Bench:
    bench.source.run("create type shop.mood as enum ('good', 'so so')")
    bench.source.run("create domain shop.amount as numeric(10,2)")
    bench.source.run("create domain shop.price as shop.amount check (value > 0)")
    bench.source.run("create type shop.pair as (a int, b text)")
    return bench


def test_every_type_is_exact(typed: Bench) -> None:
    columns = ", ".join(f"c{i} {case[0]}" for i, case in enumerate(CASES))
    typed.source.run(f"create table shop.every (id int primary key, {columns})")
    values = ", ".join(f"({case[1]})::{case[0]}" for case in CASES)
    typed.source.run(f"insert into shop.every values (1, {values})")
    typed.source.run("insert into shop.every (id) values (2)")
    job = typed.server.sync(typed.connect(overwrite("every")))
    table = typed.lake.read().sort_by("id")
    assert job["rowsSynced"] == 2
    rows = table.to_pylist()
    assert rows[0]["_airbyte_meta"]["changes"] == []
    for index, (type_, value, arrow, expected) in enumerate(CASES):
        name = f"c{index}"
        assert table.schema.field(name).type == arrow, type_
        assert rows[0][name] == expected, (type_, value)
        assert rows[1][name] is None, type_


def test_values_that_cannot_be_carried_are_null_and_reported(typed: Bench) -> None:
    columns = ", ".join(f"c{i} {type_}" for i, (type_, _) in enumerate(LOST))
    typed.source.run(f"create table shop.lost (id int primary key, {columns})")
    typed.source.run("insert into shop.lost (id) select generate_series(2, 5000)")
    values = ", ".join(f"({value})::{type_}" for type_, value in LOST)
    typed.source.run(f"insert into shop.lost values (1, {values})")
    job = typed.server.sync(typed.connect(overwrite("lost")))
    rows = {row["id"]: row for row in typed.lake.read().to_pylist()}
    assert len(rows) == 5000
    assert [rows[1][f"c{i}"] for i in range(len(LOST))] == [None] * len(LOST)
    reason = "DESTINATION_SERIALIZATION_ERROR"
    expected = [{"field": f"c{i}", "change": "NULLED", "reason": reason} for i in range(len(LOST))]
    assert sorted(rows[1]["_airbyte_meta"]["changes"], key=lambda c: int(c["field"][1:])) == expected
    assert all(rows[i]["_airbyte_meta"]["changes"] == [] for i in range(2, 5001))
    assert job["streams"][0]["nulled"] == len(LOST)


def test_decimals_as_doubles_by_connection_or_destination(typed: Bench) -> None:
    typed.source.run("create table shop.money (id int primary key, a numeric(12,2), b numeric, c numeric(10,2)[])")
    typed.source.run(
        "insert into shop.money values (1, 1.25, 1e400, '{1.5}'), (2, 'NaN', 2.5, '{NaN}'), (3, 0, 'NaN', null)"
    )
    parquet = {"format_type": "Parquet", "decimalAsDouble": True}
    ways: list[dict[str, Any]] = [{"decimalAsDouble": True}, {"destination": {"format": parquet}}]
    for number, options in enumerate(ways):
        typed.lake.path = f"{typed.lake.path}-{number}"
        typed.server.sync(typed.connect(overwrite("money"), **options))
        table = typed.lake.read().sort_by("id")
        types = [table.schema.field(name).type for name in "abc"]
        assert types == [pa.float64(), pa.float64(), pa.list_(pa.float64())]
        assert table.column("a").to_pylist() == [1.25, None, 0.0]
        assert table.column("b").to_pylist() == [None, 2.5, None]
        assert table.column("c").to_pylist() == [[1.5], None, None]
        changes = [[c["field"] for c in row["_airbyte_meta"]["changes"]] for row in table.to_pylist()]
        assert changes == [["b"], ["a", "c"], ["b"]]


def test_names_of_every_kind(bench: Bench) -> None:
    tables = ['we"ird', "a.b", "a/b", "x y", "select", "Übung", "表", "..", "it's", "c\\d", "100%"]
    for table in tables:
        quoted = table.replace('"', '""')
        bench.source.run(f'create table shop."{quoted}" ("id" int primary key, "na""me" text, "select" int, "1st" int)')
        bench.source.run(f"""insert into shop."{quoted}" values (1, 'v', 2, 3)""")
    job = bench.server.sync(bench.connect(*(overwrite(name) for name in tables)))
    assert job["rowsSynced"] == len(tables)
    keys = bench.lake.objects()
    assert len(keys) == len(tables)
    assert {key.split("/")[1] for key in keys} == {"shop"}
    folders = sorted(key.split("/")[2] for key in keys)
    assert folders == sorted(["we_ird", "a.b", "a_b", "x_y", "select", "Ubung", "_", "__", "it's", "c_d", "100_"])
    for key in keys:
        row = bench.lake.file(key).read().to_pylist()[0]
        assert (row["id"], row["na_me"], row["select"], row["_1st"]) == (1, "v", 2, 3)


def test_columns_that_would_get_one_name_fail_with_both_names(bench: Bench) -> None:
    bench.source.run('create table shop.twins (id int primary key, "a.b" int, "A_b" int)')
    job = bench.server.sync(bench.connect(overwrite("twins")), expect="failed")
    assert job["failureReason"]["type"] == "config_error"
    assert "a.b and A_b" in job["failureReason"]["message"]
    selected = overwrite("twins", selectedFields=[{"fieldPath": ["id"]}, {"fieldPath": ["a.b"]}])
    bench.server.sync(bench.connect(selected))


def test_streams_that_would_share_a_folder_fail_with_both_names(bench: Bench) -> None:
    bench.source.run('create table shop."a b" (id int primary key)')
    bench.source.run("create table shop.a_b (id int primary key)")
    job = bench.server.sync(bench.connect(overwrite("a b"), overwrite("a_b")), expect="failed")
    assert "shop.a b and shop.a_b" in job["failureReason"]["message"]


def test_wide_rows_and_large_values(bench: Bench) -> None:
    columns = ", ".join(f"c{i} int default {i}" for i in range(500))
    bench.source.run(f"create table shop.wide (id int primary key, {columns})")
    bench.source.run("insert into shop.wide select generate_series(1, 3000)")
    bench.source.run("create table shop.large (id int primary key, body text)")
    bench.source.run("insert into shop.large select i, repeat(md5(i::text), 40000) from generate_series(1, 40) i")
    bench.server.sync(bench.connect(overwrite("wide"), overwrite("large")))
    assert bench.lake.read("shop/wide").column("c499").to_pylist() == [499] * 3000
    bodies = bench.source.run("select id, md5(body) from shop.large order by id").fetchall()
    read = [(r["id"], hashlib.md5(r["body"].encode()).hexdigest()) for r in bench.lake.rows("shop/large")]
    assert sorted(read) == [tuple(row) for row in bodies]


def test_tables_of_every_kind_and_no_columns_without_rights(bench: Bench) -> None:
    doubled = "doubled int generated always as (id * 2) stored"
    bench.source.run(f"create table shop.base (id int primary key, secret text, {doubled})")
    bench.source.run("insert into shop.base (id, secret) values (1, 'x')")
    bench.source.run("revoke select on shop.base from reader")
    bench.source.run("grant select (id, doubled) on shop.base to reader")
    bench.source.run("create view shop.seen as select id from shop.base")
    bench.source.run("create materialized view shop.kept as select id from shop.base")
    bench.source.run("create table shop.parts (id int) partition by range (id)")
    bench.source.run("create table shop.parts_1 partition of shop.parts for values from (0) to (10)")
    bench.source.run("insert into shop.parts values (5)")
    connection = bench.connect(append("base"), append("seen"), append("kept"), append("parts"))
    assert bench.server.sync(connection)["rowsSynced"] == 4
    (row,) = bench.lake.rows("shop/base")
    assert {key: value for key, value in row.items() if not key.startswith("_airbyte")} == {"id": 1, "doubled": 2}
    source = bench.server.call("GET", f"/connections/{connection}")["sourceId"]
    names = [stream["streamName"] for stream in bench.server.call("GET", "/streams", params={"sourceId": source})]
    assert names == ["base", "kept", "parts", "seen"], "partitions come with their table"


def test_raw_ids_are_unique_uuids(bench: Bench) -> None:
    bench.source.run("create table shop.many (id int)")
    bench.source.run("insert into shop.many select generate_series(1, 200000)")
    bench.server.sync(bench.connect(append("many")))
    ids = bench.lake.read().column("_airbyte_raw_id").to_pylist()
    assert len(set(ids)) == 200000
    assert {uuid.UUID(text).version for text in ids[::1000]} == {7}
    assert all(str(uuid.UUID(text)) == text for text in ids[::1000])
