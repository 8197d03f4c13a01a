"""What a sync writes, mode by mode: keys, columns, generations, cursors."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from psycopg.conninfo import make_conninfo

from tests.embedded.replication.harness import Bench, append, incremental, overwrite, until

UTC = dt.UTC


@pytest.fixture
def orders(bench: Bench) -> Bench:
    bench.source.run(
        "create table shop.orders (id int primary key, total numeric(12,2), updated_at timestamptz not null)"
    )
    bench.source.run(
        "insert into shop.orders select i, i * 1.01, '2026-01-01'::timestamptz + make_interval(hours => i)"
        " from generate_series(1, 100) i"
    )
    return bench


def ids(bench: Bench, prefix: str, jobs: list[int] | None = None) -> list[int]:
    return sorted(row["id"] for row in bench.lake.rows(prefix, jobs))


def test_layout_is_airbytes(orders: Bench) -> None:
    before = dt.datetime.now(UTC)
    job = orders.server.sync(orders.connect(overwrite("orders")))
    (key,) = orders.lake.objects()
    day = rf"{before:%Y_%m_%d}|{dt.datetime.now(UTC):%Y_%m_%d}"
    match = re.fullmatch(rf"{orders.lake.path}/shop/orders/({day})_(\d{{13}})_0\.parquet", key)
    assert match
    assert before.timestamp() * 1000 <= int(match[2]) <= dt.datetime.now(UTC).timestamp() * 1000
    head = orders.lake.s3.head_object(Bucket="lakehouse", Key=key)
    assert head["Metadata"]["ab-generation-id"] == "1"
    file = orders.lake.file(key)
    change = pa.struct([("field", pa.string()), ("change", pa.string()), ("reason", pa.string())])
    meta = pa.struct([("sync_id", pa.int64()), ("changes", pa.list_(pa.field("element", change)))])
    assert file.schema_arrow == pa.schema(
        [
            pa.field("_airbyte_raw_id", pa.string(), nullable=False),
            pa.field("_airbyte_extracted_at", pa.timestamp("ms", "UTC"), nullable=False),
            pa.field("_airbyte_meta", meta, nullable=False),
            pa.field("_airbyte_generation_id", pa.int64(), nullable=False),
            pa.field("id", pa.int64()),
            pa.field("total", pa.decimal128(12, 2)),
            pa.field("updated_at", pa.timestamp("us", "UTC")),
        ]
    )
    assert file.metadata.row_group(0).column(4).compression == "ZSTD"
    assert head["ContentLength"] == job["bytesSynced"] == job["streams"][0]["bytes"]
    rows = file.read().to_pylist()
    assert {row["_airbyte_meta"]["sync_id"] for row in rows} == {job["jobId"]}
    assert {row["_airbyte_generation_id"] for row in rows} == {1}
    assert all(before <= row["_airbyte_extracted_at"] + dt.timedelta(milliseconds=1) for row in rows)
    source = orders.source.run("select id, total, updated_at from shop.orders order by id").fetchall()
    read = sorted((row["id"], row["total"], row["updated_at"]) for row in rows)
    assert read == [(i, t, u.astimezone(UTC)) for i, t, u in source]


def test_path_variables_and_file_patterns(orders: Bench) -> None:
    destination = {
        "s3_path_format": "y=${YEAR}/m=${MONTH}/${NAMESPACE}-${STREAM_NAME}/${HOUR}${MINUTE}${SECOND}_${MILLISECOND}_",
        "file_name_pattern": "{date:yyyy_MM}_{sync_id}_{timestamp:micros}_{part_number}{format_extension}",
    }
    job = orders.server.sync(orders.connect(append("orders"), destination=destination, prefix="p_"))
    (key,) = orders.lake.objects()
    folder = r"y=\d{4}/m=\d\d/shop-p_orders"
    pattern = rf"{orders.lake.path}/{folder}/\d{{6}}_0\d{{3}}_\d{{4}}_\d\d_{job['jobId']}_\d{{16}}_0\.parquet"
    assert re.fullmatch(pattern, key), key


@pytest.mark.parametrize(
    ("options", "folder"),
    [
        ({"namespaceDefinition": "destination"}, "orders"),
        ({"namespaceDefinition": "custom_format", "namespaceFormat": "x_${SOURCE_NAMESPACE}"}, "x_shop/orders"),
        ({"namespaceDefinition": "custom_format"}, "orders"),
        ({"namespaceDefinition": "source", "prefix": "raw_"}, "shop/raw_orders"),
    ],
)
def test_namespaces(orders: Bench, options: dict[str, Any], folder: str) -> None:
    orders.server.sync(orders.connect(overwrite("orders"), **options))
    (key,) = orders.lake.objects()
    assert key.rpartition("/")[0] == f"{orders.lake.path}/{folder}"


def test_overwrite_starts_a_generation_and_keeps_the_old_files(orders: Bench) -> None:
    connection = orders.connect(overwrite("orders"))
    first = orders.server.sync(connection)
    orders.source.run("delete from shop.orders where id > 60")
    second = orders.server.sync(connection)
    assert [job["streams"][0]["generationId"] for job in (first, second)] == [1, 2]
    assert second["streams"][0]["minimumGenerationId"] == 2
    assert ids(orders, "shop/orders", [first["jobId"]]) == list(range(1, 101))
    assert ids(orders, "shop/orders", [second["jobId"]]) == list(range(1, 61))
    rows = orders.lake.rows("shop/orders")
    newest = max(row["_airbyte_generation_id"] for row in rows)
    assert sorted(row["id"] for row in rows if row["_airbyte_generation_id"] == newest) == list(range(1, 61))
    assert all(key.endswith("_0.parquet") for key in orders.lake.objects()), "each generation counts its parts from 0"


def test_append_adds_a_copy_and_counts_parts_on(orders: Bench) -> None:
    connection = orders.connect(append("orders"))
    jobs = [orders.server.sync(connection) for _ in range(3)]
    assert [job["streams"][0]["generationId"] for job in jobs] == [1, 2, 3]
    assert {job["streams"][0]["minimumGenerationId"] for job in jobs} == {0}
    assert [key.rpartition("_")[2] for key in sorted(orders.lake.objects())] == ["0.parquet", "1.parquet", "2.parquet"]
    assert len(orders.lake.rows("shop/orders")) == 300


def test_incremental_reads_what_is_new_and_the_boundary(orders: Bench) -> None:
    connection = orders.connect(incremental("orders"))
    first = orders.server.sync(connection)
    assert first["rowsSynced"] == 100
    assert first["streams"][0]["generationId"] == 0
    assert first["streams"][0]["cursorMin"] == "2026-01-01 01:00:00+00"
    assert first["streams"][0]["cursorMax"] == "2026-01-05 04:00:00+00"
    orders.source.run("insert into shop.orders values (101, 1, '2026-02-01')")
    orders.source.run("update shop.orders set total = 0, updated_at = '2026-02-02' where id = 5")
    second = orders.server.sync(connection)
    assert ids(orders, "shop/orders", [second["jobId"]]) == [5, 100, 101], "what is new, and the row at the boundary"
    assert second["streams"][0]["sourceRowCount"] == 101
    assert orders.server.state(connection)["orders"]["cursor"]["value"] == "2026-02-02 00:00:00+00"
    third = orders.server.sync(connection)
    assert ids(orders, "shop/orders", [third["jobId"]]) == [5]


def test_a_row_with_the_last_cursor_value_is_found(orders: Bench) -> None:
    connection = orders.connect(incremental("orders"))
    orders.server.sync(connection)
    orders.source.run("insert into shop.orders select 200, 1, max(updated_at) from shop.orders")
    second = orders.server.sync(connection)
    assert 200 in ids(orders, "shop/orders", [second["jobId"]])


def test_a_row_committed_late_is_found(orders: Bench) -> None:
    """Stamped with the start of a transaction that was open during the sync, it lies behind rows already read."""
    orders.source.run("grant pg_read_all_stats to reader")
    connection = orders.connect(incremental("orders"))
    late = psycopg.connect(orders.source.db.info.dsn, password=orders.source.db.info.password)
    late.execute("insert into shop.orders values (201, 1, now())")
    orders.source.run("insert into shop.orders values (202, 1, clock_timestamp())")
    first = orders.server.sync(connection)
    assert 202 in ids(orders, "shop/orders", [first["jobId"]])
    late.commit()
    late.close()
    second = orders.server.sync(connection)
    assert 201 in ids(orders, "shop/orders", [second["jobId"]])


@pytest.mark.parametrize(("type_", "stamp"), [("timestamp", "now()"), ("date", "now()::date - 1")])
@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Pacific/Kiritimati"])
def test_a_row_committed_late_is_found_in_any_zone(bench: Bench, type_: str, stamp: str, zone: str) -> None:
    """A value without a zone is the writer's local time, hours off ours; a transaction may begin before midnight."""
    bench.source.run("grant pg_read_all_stats to reader")
    bench.source.run(f"create table shop.t (id int primary key, c {type_})")
    connection = bench.connect(incremental("t", "c"))
    info = bench.source.db.info
    dsn = make_conninfo(info.dsn, password=info.password, options=f"-c timezone={zone}")
    with psycopg.connect(dsn) as late, psycopg.connect(dsn, autocommit=True) as other:
        late.execute(f"insert into shop.t values (1, {stamp})")
        other.execute(f"insert into shop.t values (2, clock_timestamp()::{type_})")
        first = bench.server.sync(connection)
        assert ids(bench, "shop/t", [first["jobId"]]) == [2]
        late.commit()
        second = bench.server.sync(connection)
        assert 1 in ids(bench, "shop/t", [second["jobId"]])
        third = bench.server.sync(connection)
        assert len(ids(bench, "shop/t", [third["jobId"]])) <= 2


def test_a_cursor_without_time_says_what_it_cannot_know(bench: Bench) -> None:
    bench.source.run("create table shop.t (id int primary key)")
    connection = bench.connect(incremental("t", "id"))
    info = bench.source.db.info
    with psycopg.connect(info.dsn, password=info.password) as late:
        late.execute("insert into shop.t values (1)")
        bench.source.run("insert into shop.t values (2)")
        job = bench.server.sync(connection)
    assert any("with a smaller id are missed" in line for line in bench.server.log_lines(job["jobId"]))


def test_hidden_transactions_are_reported(orders: Bench) -> None:
    orders.source.run("revoke pg_read_all_stats from reader")
    job = orders.server.sync(orders.connect(incremental("orders")))
    assert any("Grant pg_read_all_stats to reader" in line for line in orders.server.log_lines(job["jobId"]))


@pytest.mark.parametrize(
    ("type_", "values", "later"),
    [
        ("int", ["1", "9", "10"], "11"),
        ("numeric", ["1.5", "9.00000000000000000001", "10"], "10.00000000000000000001"),
        ("date", ["'2026-01-01'", "'infinity'", "'2026-01-02'"], "'2026-01-03'"),
        ("timestamp", ["'2026-01-01 00:00:00.000001'", "'-infinity'", "'2026-01-02'"], "'2026-01-02 00:00:00.000001'"),
        ("text", ["'a''b'", "'Z'", "'é'"], "'ê'"),
    ],
)
def test_cursors_of_other_types(bench: Bench, type_: str, values: list[str], later: str) -> None:
    bench.source.run(f"create table shop.t (id int primary key, c {type_})")
    for number, value in enumerate(values):
        bench.source.run(f"insert into shop.t values ({number}, {value})")
    connection = bench.connect(incremental("t", "c"))
    assert bench.server.sync(connection)["rowsSynced"] == len(values)
    bench.source.run(f"insert into shop.t values (100, {later})")
    second = bench.server.sync(connection)
    found = ids(bench, "shop/t", [second["jobId"]])
    assert 100 in found
    assert len(found) <= 3


def test_rows_without_a_cursor_value_are_read_every_time(bench: Bench) -> None:
    bench.source.run("create table shop.t (id int primary key, c int)")
    bench.source.run("insert into shop.t values (1, null), (2, 5)")
    connection = bench.connect(incremental("t", "c"))
    bench.server.sync(connection)
    bench.source.run("insert into shop.t values (3, null)")
    second = bench.server.sync(connection)
    assert ids(bench, "shop/t", [second["jobId"]]) == [1, 2, 3]


def test_another_cursor_field_starts_over(orders: Bench) -> None:
    connection = orders.connect(incremental("orders"))
    orders.server.sync(connection)
    streams = {"streams": [incremental("orders", "id")]}
    orders.server.call("PATCH", f"/connections/{connection}", json={"configurations": streams})
    assert orders.server.sync(connection)["rowsSynced"] == 100


def test_empty_tables(bench: Bench) -> None:
    bench.source.run("create table shop.t (id int primary key, name text, updated_at timestamptz)")
    connection = bench.connect(incremental("t"))
    job = bench.server.sync(connection)
    assert (job["rowsSynced"], job["streams"][0]["files"]) == (0, 1)
    (key,) = bench.lake.objects()
    table = bench.lake.file(key).read()
    assert table.num_rows == 0
    assert table.schema.names[-3:] == ["id", "name", "updated_at"], "the folder has a schema before its first row"
    assert bench.server.sync(connection)["streams"][0]["files"] == 0, "once is enough"
    assert bench.server.state(connection)["t"]["cursor"]["value"] is None
    bench.source.run("insert into shop.t values (1, 'x', '2026-01-01')")
    assert bench.server.sync(connection)["rowsSynced"] == 1
    assert len(bench.lake.objects()) == 2


def test_selected_fields(orders: Bench) -> None:
    stream = incremental("orders", selectedFields=[{"fieldPath": ["id"]}, {"fieldPath": ["updated_at"]}])
    orders.server.sync(orders.connect(stream))
    assert orders.lake.read().schema.names[4:] == ["id", "updated_at"]


def test_all_streams_of_a_job_are_read_in_one_snapshot(orders: Bench, tmp_path: Any) -> None:
    orders.source.run("create table shop.items (id int primary key, order_id int)")
    orders.source.run("insert into shop.items select id, id from shop.orders")
    go = tmp_path / "go"
    orders.server.faults(sync=[{"point": "after_snapshot", "action": "wait", "path": str(go)}])
    job_id = orders.server.submit(orders.connect(overwrite("orders"), overwrite("items")))
    until(lambda: any("snapshot" in line for line in orders.server.log_lines(job_id)), "the snapshot")
    orders.source.run("insert into shop.orders values (500, 1, now())")
    orders.source.run("insert into shop.items values (500, 500)")
    orders.source.run("delete from shop.items where id = 1")
    go.touch()
    job = orders.server.wait(job_id)
    assert job["status"] == "succeeded", job
    assert ids(orders, "shop/orders") == list(range(1, 101))
    assert ids(orders, "shop/items") == list(range(1, 101))
    assert re.fullmatch(r"[0-9A-F]+/[0-9A-F]+", job["attempts"][0]["snapshot"]["lsn"])


def test_objects_are_cut_by_size_and_appear_together(own_bench: Bench) -> None:
    bench = own_bench
    bench.server.start(object_mb="1")
    bench.source.run("create table shop.big (id int primary key, noise text)")
    bench.source.run("insert into shop.big select i, md5(i::text) || md5((-i)::text) from generate_series(1, 500000) i")
    seen: set[int] = set()
    job_id = bench.server.submit(bench.connect(append("big")))
    while bench.server.job(job_id)["status"] in ("pending", "running"):
        seen.add(len(bench.lake.objects()))
    job = bench.server.job(job_id)
    assert job["status"] == "succeeded", job
    keys = bench.lake.objects()
    assert len(keys) == job["streams"][0]["files"] >= 3
    assert sorted(int(key.rpartition("_")[2].removesuffix(".parquet")) for key in keys) == list(range(len(keys)))
    assert ids(bench, "shop/big") == list(range(1, 500001))
    manifest = bench.server.files(job_id)
    assert sorted(item["key"] for item in manifest) == sorted(keys)
    assert sum(item["records"] for item in manifest) == 500000
    assert 0 in seen, "while it ran there was nothing to see"


def test_a_key_that_somebody_else_wrote_is_never_overwritten(orders: Bench) -> None:
    destination = {"s3_path_format": "${NAMESPACE}/${STREAM_NAME}/", "file_name_pattern": "f{format_extension}"}
    taken = f"{orders.lake.path}/shop/orders/f.parquet"
    orders.lake.s3.put_object(Bucket="lakehouse", Key=taken, Body=b"not ours")
    job = orders.server.sync(orders.connect(append("orders"), destination=destination))
    keys = sorted(item["key"] for item in orders.server.files(job["jobId"]))
    assert keys == [f"{orders.lake.path}/shop/orders/f-1.parquet"]
    assert orders.lake.s3.get_object(Bucket="lakehouse", Key=taken)["Body"].read() == b"not ours"


def test_reset_forgets_the_cursor_and_raises_the_generation_but_deletes_nothing(orders: Bench) -> None:
    connection = orders.connect(incremental("orders"))
    orders.server.sync(connection)
    body = {"connectionId": connection, "jobType": "clear"}
    job = orders.server.wait(orders.server.call("POST", "/jobs", json=body)["jobId"])
    assert (job["status"], job["jobType"]) == ("succeeded", "reset")
    state = orders.server.state(connection)["orders"]
    assert (state["cursor"], state["generationId"], state["minimumGenerationId"]) == (None, 1, 1)
    assert len(orders.lake.objects()) == 1
    again = orders.server.sync(connection)
    assert again["rowsSynced"] == 100
    assert again["streams"][0]["generationId"] == 1
