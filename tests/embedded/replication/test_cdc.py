"""Change data capture into PostgreSQL: exact at the applied LSN, whatever was changed, and in what ways."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.embedded.replication.capture import Capture, own, stream
from tests.embedded.replication.harness import Lake


@pytest.fixture
def shop(capture: Capture) -> Capture:
    """Two tables, published, with a slot; `orders` may hold values out of line."""
    run = capture.source.run
    run("create table shop.orders (id int primary key, note text, amount numeric(12,2), at timestamptz default now())")
    run("alter table shop.orders replica identity full")
    run("create table shop.items (id bigint primary key, order_id int, qty smallint)")
    run("insert into shop.orders select i, 'n' || i, i * 1.5, now() from generate_series(1, 500) i")
    run("insert into shop.items select i, i, i % 7 from generate_series(1, 300) i")
    capture.publish("orders", "items")
    return capture


def connected(shop: Capture) -> Capture:
    shop.connect(stream("orders"), stream("items"))
    shop.sync()
    return shop


def test_a_snapshot_then_changes(shop: Capture) -> None:
    shop.connect(stream("orders"), stream("items"))
    job = shop.sync()
    shop.assert_exact("orders", "items")
    applied = shop.speed.applied()
    assert applied is not None
    assert (applied["epoch"], applied["job_id"], applied["connection"]) == (job["jobId"], job["jobId"], "shop_speed")
    markers = [row for row in shop.speed.log("orders") if row["id"] is None]
    assert [row["marker"] for row in markers] == ["SOURCE_SNAPSHOT"]
    assert markers[0]["_ab_cdc_commit_lsn"] == applied["snapshot_lsn"] <= applied["applied_lsn"]

    run = shop.source.run
    run("update shop.orders set amount = amount + 1 where id % 3 = 0")
    run("delete from shop.orders where id % 5 = 0")
    run("insert into shop.items values (1001, 1, 1), (1002, 2, null)")
    run("update shop.items set id = id + 5000 where id <= 10")
    job = shop.sync()
    shop.assert_exact("orders", "items")
    assert job["rowsSynced"] == 166 + 100 + 2 + 20, "a changed key is a deletion and an insertion"
    after = shop.speed.applied()
    assert after is not None
    assert after["applied_lsn"] > applied["applied_lsn"]
    assert after["epoch"] == applied["epoch"]
    assert shop.sync()["rowsSynced"] == 0


def test_tables_are_laid_out_as_airbytes(shop: Capture) -> None:
    connected(shop)
    columns = shop.speed.rows(
        "select attname as name, format_type(atttypid, atttypmod) as type, attnotnull as required from pg_attribute"
        " where attrelid = 'speed.orders'::regclass and attnum > 0 order by attnum"
    )
    assert [(c["name"], c["type"], c["required"]) for c in columns] == [
        ("_airbyte_raw_id", "character varying", True),
        ("_airbyte_extracted_at", "timestamp with time zone", True),
        ("_airbyte_meta", "jsonb", True),
        ("_airbyte_generation_id", "bigint", True),
        ("id", "bigint", False),
        ("note", "character varying", False),
        ("amount", "numeric(12,2)", False),
        ("at", "timestamp with time zone", False),
        ("_ab_cdc_lsn", "bigint", False),
        ("_ab_cdc_updated_at", "timestamp with time zone", False),
        ("_ab_cdc_deleted_at", "timestamp with time zone", False),
        ("_ab_cdc_commit_lsn", "bigint", False),
    ]
    indexes = shop.speed.rows(
        "select pg_get_indexdef(indexrelid) as text, indisunique as uniq from pg_index"
        " where indrelid = 'speed.orders'::regclass order by 1"
    )
    definitions = sorted(row["text"].split(" USING ")[1] for row in indexes)
    key = "(_airbyte_generation_id, _ab_cdc_commit_lsn, _ab_cdc_lsn, id) NULLS NOT DISTINCT"
    assert definitions == ["btree (_ab_cdc_lsn)", "btree (_airbyte_extracted_at)", f"btree {key}"]
    meta = shop.speed.rows("select _airbyte_meta as meta from speed.items limit 1 offset 5")[0]["meta"]
    assert meta["changes"] == []


def test_truncation_is_a_marker_between_the_changes(shop: Capture) -> None:
    connected(shop)
    with shop.source.db.transaction():
        shop.source.run("insert into shop.items values (2000, 1, 1)")
        shop.source.run("truncate shop.items, shop.orders")
        shop.source.run("insert into shop.items values (2001, 1, 1)")
    shop.sync()
    shop.assert_exact("orders", "items")
    log = [(row["id"], row["marker"]) for row in shop.speed.log("items")][-3:]
    assert log == [(2000, None), (None, "SOURCE_TRUNCATE"), (2001, None)]
    assert shop.truth("orders") == []


def test_long_values_that_did_not_change_are_kept(shop: Capture) -> None:
    connected(shop)
    shop.source.run(
        "update shop.orders set note = (select string_agg(md5(i::text), '') from generate_series(1, 900) i)"
    )
    shop.source.run("update shop.orders set amount = 7 where id = 3")
    shop.sync()
    shop.assert_exact("orders")
    assert len(shop.speed.table("orders")[2]["note"]) == 28_800


def test_transactions_come_in_the_order_of_their_commits(shop: Capture) -> None:
    connected(shop)
    info = shop.source.db.info
    with psycopg.connect(info.dsn, password=info.password) as slow:
        slow.execute("insert into shop.items values (3000, 1, 1)")
        shop.source.run("insert into shop.items values (3001, 1, 1)")
        shop.sync()
        assert [row["id"] for row in shop.speed.table("items")][-1] == 3001, "what is not committed is not there"
        before = shop.speed.applied()
        slow.commit()
    shop.sync()
    shop.assert_exact("items")
    assert before is not None
    late = next(row for row in shop.speed.log("items") if row["id"] == 3000)
    assert late["_ab_cdc_lsn"] < before["applied_lsn"] < late["_ab_cdc_commit_lsn"]


def test_a_column_that_appears_and_one_that_changes_its_type(shop: Capture) -> None:
    connected(shop)
    shop.source.run("update shop.items set qty = 3 where id = 1")
    shop.source.run("alter table shop.items add column colour text")
    shop.source.run("alter table shop.items replica identity full")
    shop.source.run("update shop.items set colour = 'red' where id = 2")
    shop.sync()
    shop.assert_exact("items")
    shop.source.run("update shop.items set qty = 4 where id = 3")
    shop.source.run("alter table shop.items alter column qty type text")
    message = shop.refuse()
    assert "qty" in message
    shop.source.run("alter table shop.items alter column qty type smallint using qty::smallint")
    shop.source.run("update shop.items set qty = 5 where id = 3")
    shop.sync()
    shop.assert_exact("items")


def test_a_table_that_changes_inside_a_transaction(shop: Capture) -> None:
    """The rows before the change belong to the same commit as those after it, whatever was committed before."""
    connected(shop)
    run, before = shop.source.run, shop.speed.applied()
    assert before is not None
    for column in ("width", "height"):
        with shop.source.db.transaction():
            run("update shop.orders set note = 'x' where id = 1")
            run("insert into shop.items select max(id) + 1, 1, 1 from shop.items")
            run(f"alter table shop.items add column {column} int")
            run(f"update shop.items set {column} = 7 where id = 1")
        shop.sync()
        shop.assert_exact("orders", "items")
        run("update shop.orders set note = 'y' where id = 1")
    commits = [{row["_ab_cdc_commit_lsn"] for row in shop.speed.log(table)} for table in ("orders", "items")]
    orders, items = ({lsn for lsn in found if lsn > before["applied_lsn"]} for found in commits)
    assert len(items) == 2
    assert items < orders, "two commits of both tables, and one of orders alone"


def test_a_stream_that_joins_begins_with_its_own_snapshot(shop: Capture) -> None:
    shop.connect(stream("orders"))
    shop.sync()
    first = shop.speed.applied()
    streams = [stream("orders"), stream("items")]
    shop.server.call("PATCH", f"/connections/{shop.connection}", json={"configurations": {"streams": streams}})
    shop.source.run("delete from shop.items where id < 50")
    shop.sync()
    shop.assert_exact("orders", "items")
    applied = shop.speed.applied()
    assert first is not None
    assert applied is not None
    assert applied["epoch"] == first["epoch"]
    assert applied["snapshot_lsn"] > first["snapshot_lsn"]


TYPES = [
    ("smallint", "int2", "7"),
    ("boolean", "bool", "true"),
    ("real", "float4", "0.1"),
    ("double precision", "float8", "-2.25"),
    ("numeric(30,10)", "num", "12345678901234567890.0123456789"),
    ("numeric", "free", "-0.00012300"),
    ("date", "day", "1999-12-31"),
    ("time", "clock", "23:59:59.123456"),
    ("timestamp", "naive", "2020-02-29 12:34:56.789"),
    ("timestamptz", "zoned", "2020-02-29 12:34:56.789+02"),
    ("uuid", "uid", "6b1fa10a-3c5d-4f4e-9d4c-0a1b2c3d4e5f"),
    ("jsonb", "doc", '{"a": [1, null, "ü"]}'),
    ("json", "raw", '{"b":1}'),
    ("varchar(20)", "word", "grün"),
    ("char(5)", "padded", "ab"),
]
TEXT_TYPES = [
    ("interval", "span", "1 day 02:03:04"),
    ("inet", "net", "10.0.0.1/8"),
    ("int[]", "ints", "{1,NULL,3}"),
    ("text[]", "words", '{"a b","c\\"d",NULL}'),
    ("bytea", "bytes", "\\x00ff10"),
    ("timetz", "tz", "10:00:00+02"),
    ("real[]", "reals", "{0.1,-1e20,NULL}"),
    ("int[][]", "squares", "{{1,2},{3,NULL}}"),
    ("int[][]", "none", "{}"),
    ("real[][]", "real_squares", "{{0.1,-1e20},{NaN,-Infinity}}"),
    ("numeric[][]", "num_squares", "{{1.10,-2},{NaN,NULL}}"),
    ("boolean[][]", "bool_squares", "{{t,f},{NULL,t}}"),
    ("oid[][]", "oid_squares", "{{1,2}}"),
    ("date[][]", "day_squares", "{{1999-12-31,infinity}}"),
    ("timestamp[][]", "naive_squares", '{{"2020-02-29 12:34:56.7","0044-03-15 12:00:00 BC"},{infinity,NULL}}'),
    ("timestamptz[][]", "zoned_squares", '{{"2020-02-29 12:34:56+02","0044-03-15 12:00:00+00 BC"}}'),
    ("jsonb[][]", "doc_squares", '{{"{\\"a\\": [1]}","null"}}'),
    ("text[][]", "word_squares", '{{"a \\"b\\" ü","\\\\,NULL"},{"NULL",NULL}}'),
    ("char(3)[][]", "padded_squares", "{{a,bc}}"),
]


@pytest.mark.parametrize("types", [TYPES, TYPES + TEXT_TYPES], ids=["binary", "text"])
def test_changes_have_the_values_of_a_snapshot(capture: Capture, types: list[tuple[str, str, str]]) -> None:
    """The same row, once read by query and once from the log, with and without values."""
    columns = ", ".join(f"{name} {type_}" for type_, name, _ in types)
    capture.source.run(f"create table shop.things (id int primary key, {columns})")
    capture.source.run("alter table shop.things replica identity full")
    values = [value for _, _, value in types]
    marks = ", ".join(["%s"] * len(types))
    capture.source.run(
        f"insert into shop.things values (1, {marks}), (2)".replace("(2)", f"(2{', null' * len(types)})"), *values
    )
    capture.publish("things")
    capture.connect(stream("things"))
    capture.sync()
    snapshot = capture.speed.table("things")
    capture.source.run("update shop.things set id = id + 10")
    capture.sync()
    captured = capture.speed.table("things")
    assert [{**row, "id": row["id"] + 10} for row in snapshot] == captured
    assert snapshot[0]["num"] == capture.source.run("select num from shop.things where id = 11").fetchone()[0]
    assert all(value is None for name, value in captured[1].items() if name != "id")


def test_a_numeric_that_was_wider_when_it_was_logged_is_refused(capture: Capture) -> None:
    """It would be cut off, or wrap around."""
    run = capture.source.run
    run("create table shop.sums (id int primary key, a numeric(12,2), b numeric(12,2)[])")
    run("alter table shop.sums replica identity full")
    run("insert into shop.sums values (1)")
    capture.publish("sums")
    capture.connect(stream("sums"))
    capture.sync()
    for column, now, before, value in (
        ("a", "numeric(12,2)", "numeric(8,1)", "1.5"),
        ("a", "numeric(12,2)", "numeric", "1.239"),
        ("a", "numeric(12,2)", "numeric(30,2)", "12345678901234567890"),
        ("a", "numeric(12,2)", "numeric(12,0)", "123456789012"),
        ("b", "numeric(12,2)[]", "numeric(30,2)[]", "{12345678901234567890}"),
    ):
        run(f"alter table shop.sums alter {column} type {before}")
        run(f"update shop.sums set {column} = '{value}'")
        run(f"update shop.sums set {column} = null")
        run(f"alter table shop.sums alter {column} type {now}")
        if value != "1.5":
            assert f"Column {column} of shop.sums had another type" in capture.refuse()
            capture.rebuild()
        capture.sync()
        capture.assert_exact("sums")


def test_what_no_type_can_carry_is_null_and_noted(capture: Capture) -> None:
    capture.source.run("create table shop.odd (id int primary key, n numeric(6,2), d date, f float8)")
    capture.publish("odd")
    capture.connect(stream("odd"))
    capture.sync()
    capture.source.run("insert into shop.odd values (1, 'NaN', 'infinity', 'NaN')")
    capture.sync()
    row = capture.speed.log("odd")[-1]
    assert (row["n"], row["d"], str(row["f"])) == (None, None, "nan")
    changes: list[dict[str, Any]] = row["_airbyte_meta"]["changes"]
    assert [change["field"] for change in changes] == ["n", "d"]


def test_partitions_that_come_and_go(capture: Capture) -> None:
    run = capture.source.run
    run("create table shop.parts (id int primary key, n int) partition by range (id)")
    run("create table shop.parts_0 partition of shop.parts for values from (0) to (100)")
    run("insert into shop.parts values (1), (2)")
    capture.publish("parts")
    run("alter publication speed set (publish_via_partition_root = true)")
    capture.connect(stream("parts"))
    capture.sync()

    def joined() -> list[str]:
        job = capture.sync()
        return [line for line in capture.server.log_lines(job["jobId"]) if "joined and has rows" in line]

    run("create table shop.parts_1 partition of shop.parts for values from (100) to (200)")
    assert joined() == []
    run("insert into shop.parts values (101)")
    assert joined() == []
    capture.assert_exact("parts")

    run("create table shop.filled (id int primary key, n int)")
    run("insert into shop.filled values (201)")
    run("alter table shop.parts attach partition shop.filled for values from (200) to (300)")
    (line,) = joined()
    assert "partition shop.filled joined" in line
    assert joined() == []
    run("alter table shop.parts detach partition shop.filled")
    assert "lost 1 of its partitions" in capture.refuse()
    capture.rebuild()
    capture.sync()
    capture.assert_exact("parts")


def test_generated_columns_are_captured_where_they_are_published(capture: Capture) -> None:
    run = capture.source.run
    kinds = "stored int generated always as (id * 2) stored, virtual int generated always as (id * 3) virtual"
    run(f"create table shop.made (id int primary key, {kinds})")
    run("insert into shop.made values (1)")
    capture.publish("made")
    capture.connect(stream("made"))
    message = capture.refuse()
    assert "leaves out the generated columns stored, virtual of shop.made: select other fields" in message
    assert 'ALTER PUBLICATION "speed" SET (publish_generated_columns = stored)' in message
    run("alter publication speed set (publish_generated_columns = stored)")
    assert "leaves out the generated columns virtual of shop.made" in capture.refuse()
    fields = [{"fieldPath": [name]} for name in ("id", "stored")]
    streams = {"streams": [stream("made", selectedFields=fields)]}
    capture.server.call("PATCH", f"/connections/{capture.connection}", json={"configurations": streams})
    capture.sync()
    run("insert into shop.made values (2)")
    capture.sync()
    assert capture.speed.table("made") == [{"id": 1, "stored": 2}, {"id": 2, "stored": 4}]


def test_a_huge_transaction_waits_on_disk(capture: Capture) -> None:
    capture.source.run("create table shop.big (id int primary key, pad varchar(400))")
    capture.publish("big")
    capture.connect(stream("big"))
    capture.sync()
    with capture.source.db.transaction():
        capture.source.run("insert into shop.big select i, repeat('x', 300) from generate_series(1, 60000) i")
        capture.source.run("update shop.big set pad = 'y' where id % 2 = 0")
    capture.source.run("delete from shop.big where id <= 10")
    job = capture.sync()
    assert job["rowsSynced"] == 90_010
    found = capture.speed.rows(
        "select count(*) as rows, count(distinct _ab_cdc_commit_lsn) as commits from speed.big where id is not null"
    )[0]
    assert (found["rows"], found["commits"]) == (90_010, 2)
    assert own(capture.speed.table("big")[0])["id"] == 11


def test_changes_reach_bronze_as_well(shop: Capture, object_store: Any) -> None:
    """destination-s3 appends the same columns; its state is recorded with the job's success."""
    lake = Lake(object_store)
    shop.connect(stream("items"), destination=lake.configuration(), namespaceDefinition="source")
    first = shop.sync()
    shop.source.run("update shop.items set qty = 9 where id = 1")
    shop.source.run("delete from shop.items where id = 2")
    second = shop.sync()
    assert second["rowsSynced"] == 2
    rows = lake.rows("shop/items", [first["jobId"], second["jobId"]])
    rows.sort(key=lambda row: (row["_ab_cdc_commit_lsn"], row["_ab_cdc_lsn"]))
    assert rows[0]["_airbyte_meta"]["changes"][0]["reason"] == "SOURCE_SNAPSHOT"
    assert [(row["id"], row["qty"], row["_ab_cdc_deleted_at"] is None) for row in rows[-2:]] == [
        (1, 9, True),
        (2, None, False),
    ]
    assert len(rows) == 1 + 300 + 2
