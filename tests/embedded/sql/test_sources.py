"""Sources: checked when they are created, their secrets kept inside; promotion, and metadata that goes stale."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.embedded.sql.process import Client, JobError, postgres_source, rest_source, s3_source

if TYPE_CHECKING:
    from embedded.object_store import ObjectStore
    from embedded.postgres import PostgresServer

Put = Callable[[str, pa.Table], str]


@pytest.fixture(scope="module")
def put(object_store: ObjectStore, bronze: str) -> Put:
    """Write a Parquet file under the source's root; returns its key."""
    s3 = object_store.client("s3")

    def write(name: str, table: pa.Table) -> str:
        sink = io.BytesIO()
        pq.write_table(table, sink)
        key = f"{bronze}/{name}"
        s3.put_object(Bucket="lakehouse", Key=key, Body=sink.getvalue())
        return key

    return write


def rows(*ids: int, **more: Any) -> pa.Table:
    return pa.table({"id": pa.array(ids, pa.int64()), **{k: pa.array(v) for k, v in more.items()}})


def test_secrets_never_come_back(client: Client, object_store: ObjectStore, lake: str, bronze: str) -> None:
    for name in ("lake", "bronze"):
        answer = client.http.get(f"/api/v3/catalog/by-path/{name}")
        assert object_store.secret_key not in answer.text
        assert "$DREMIO_EXISTING_VALUE$" in answer.text
        assert answer.json()["state"]["status"] == "good"


def test_put_keeps_existing_secrets(client: Client, bronze: str) -> None:
    source = client.entity("bronze")
    source["metadataPolicy"] = {"namesRefreshMs": 60000, "deleteUnavailableDatasets": True}
    answer = client.http.put(f"/api/v3/catalog/{source['id']}", json=source)
    assert answer.status_code == 200, answer.text
    assert answer.json()["state"]["status"] == "good"
    assert client.http.put(f"/api/v3/catalog/{source['id']}", json=source).status_code == 409  # the tag is old
    current = client.entity("bronze")
    current["config"]["accessSecret"] = "wrong"
    answer = client.http.put(f"/api/v3/catalog/{source['id']}", json=current)
    assert (answer.status_code, client.entity("bronze")["state"]["status"]) == (400, "good")


def test_a_source_that_does_not_answer_is_refused(client: Client, object_store: ObjectStore) -> None:
    bad_key = s3_source(object_store, "bad", "/lakehouse")
    bad_key["config"]["accessSecret"] = "wrong"
    bad_bucket = s3_source(object_store, "bad", "/no-such-bucket")
    bad_port = rest_source(object_store, "bad")
    bad_port["config"]["restEndpointUri"] = "http://127.0.0.1:9"
    unknown_field = s3_source(object_store, "bad", "/lakehouse")
    unknown_field["config"]["colour"] = "red"
    for body in (bad_key, bad_bucket, bad_port, unknown_field, {**bad_key, "type": "ORACLE"}):
        answer = client.http.post("/api/v3/catalog", json=body)
        assert answer.status_code == 400, answer.text
    assert client.http.get("/api/v3/catalog/by-path/bad").status_code == 404


def test_folders_of_a_source_cannot_be_created(client: Client, bronze: str) -> None:
    answer = client.http.post("/api/v3/catalog", json={"entityType": "folder", "path": ["bronze", "x"]})
    assert (answer.status_code, answer.json()["errorMessage"]) == (400, "Can not create a folder inside a [SOURCE]")


def test_new_files_are_invisible_until_the_metadata_is_refreshed(client: Client, put: Put) -> None:
    put("shop/orders/a.parquet", rows(1, 2))
    folder = client.entity("bronze", "shop", "orders")
    assert (folder["entityType"], folder["id"]) == ("folder", "dremio:/bronze/shop/orders")
    with pytest.raises(JobError, match="not found"):
        client.run("select * from bronze.shop.orders")
    table = client.promote("bronze", "shop", "orders")
    assert (table["type"], table["format"]["type"]) == ("PHYSICAL_DATASET", "Parquet")
    count = "select count(*) from bronze.shop.orders"
    assert client.value(count) == 2
    put("shop/orders/b.parquet", rows(3))
    put("shop/orders/_SUCCESS", rows(9))
    put("shop/orders/.hidden.parquet", rows(9))
    assert client.value(count) == 2
    client.run("alter pds bronze.shop.orders refresh metadata")
    assert client.value(count) == 3
    summary = client.rows("alter table bronze.shop.orders refresh metadata lazy update")[0]["summary"]
    assert summary.endswith("no refresh occurred.")


def test_a_refresh_of_named_files_or_partitions_leaves_the_rest_as_it_was(client: Client, put: Put) -> None:
    put("shop/parts/year=2025/north/a.parquet", rows(1))
    client.promote("bronze", "shop", "parts")
    for key, number in (("year=2025/north/b", 2), ("year=2025/south/c", 3), ("year=2026/north/d", 4)):
        put(f"shop/parts/{key}.parquet", rows(number))

    def seen_after(clause: str) -> list[int]:
        client.run(f"alter table bronze.shop.parts refresh metadata for {clause}")
        return [row["id"] for row in client.rows("select id from bronze.shop.parts order by id")]

    assert seen_after("partitions (\"year\" = '2026', dir1 = 'south')") == [1]
    assert seen_after("partitions (\"YEAR\" = '2025', dir1 = 'south')") == [1, 3]
    assert seen_after("files ('north/d.parquet')") == [1, 3, 4]
    assert seen_after("partitions (dir0 = 'year=2025')") == [1, 2, 3, 4]
    with pytest.raises(JobError, match=r"Table 'bronze\.shop\.parts' has no partition column 'month'"):
        client.run("alter table bronze.shop.parts refresh metadata for partitions (\"month\" = '1')")


def test_new_columns_arrive_with_the_refresh(client: Client, put: Put) -> None:
    put("shop/wide/a.parquet", rows(1))
    client.promote("bronze", "shop", "wide")
    put("shop/wide/b.parquet", rows(2, note=["x"], amount=[Decimal("1.50")]))
    assert list(client.rows("select * from bronze.shop.wide")[0]) == ["id"]
    client.run("alter pds bronze.shop.wide refresh metadata")
    assert client.rows("select * from bronze.shop.wide order by id") == [
        {"id": 1, "note": None, "amount": None},
        {"id": 2, "note": "x", "amount": 1.5},
    ]


def test_conflicting_types_are_an_error_that_names_column_and_files(client: Client, put: Put) -> None:
    put("shop/mixed/a.parquet", rows(1, v=[1]))
    client.promote("bronze", "shop", "mixed")
    put("shop/mixed/b.parquet", rows(2, v=["text"]))
    with pytest.raises(JobError, match=r"disagree on column 'v': BIGINT in .*, VARCHAR in s3://.*/b\.parquet"):
        client.run("alter pds bronze.shop.mixed refresh metadata")
    assert client.value("select sum(v) from bronze.shop.mixed") == 1  # the old metadata still holds


def test_numbers_widen(client: Client, put: Put) -> None:
    put("shop/wider/a.parquet", pa.table({"v": pa.array([1], pa.int32()), "f": pa.array([1.5], pa.float32())}))
    client.promote("bronze", "shop", "wider")
    put("shop/wider/b.parquet", pa.table({"v": pa.array([2**40], pa.int64()), "f": pa.array([0.25], pa.float64())}))
    client.run("alter pds bronze.shop.wider refresh metadata")
    assert client.rows("select sum(v) as v, sum(f) as f from bronze.shop.wider") == [{"v": 2**40 + 1, "f": 1.75}]


def test_a_file_that_is_no_parquet_is_named(client: Client, put: Put, object_store: ObjectStore, bronze: str) -> None:
    put("shop/broken/a.parquet", rows(1))
    key = f"{bronze}/shop/broken/b.parquet"
    object_store.client("s3").put_object(Bucket="lakehouse", Key=key, Body=b"not parquet at all")
    answer = client.http.post(
        "/api/v3/catalog/dremio%3A%2Fbronze%2Fshop%2Fbroken",
        json={"entityType": "dataset", "type": "PHYSICAL_DATASET", "path": [], "format": {"type": "Parquet"}},
    )
    assert answer.status_code == 500
    assert key in answer.json()["errorMessage"]


def test_removed_files(client: Client, put: Put, object_store: ObjectStore) -> None:
    first, second = put("shop/gone/a.parquet", rows(1)), put("shop/gone/b.parquet", rows(2))
    client.promote("bronze", "shop", "gone")
    s3 = object_store.client("s3")
    s3.delete_object(Bucket="lakehouse", Key=first)
    with pytest.raises(JobError):
        client.run("select sum(id) from bronze.shop.gone")  # the metadata still lists it
    client.run("alter pds bronze.shop.gone refresh metadata")
    assert client.value("select sum(id) from bronze.shop.gone") == 2
    s3.delete_object(Bucket="lakehouse", Key=second)
    client.run("alter pds bronze.shop.gone refresh metadata maintain when missing")
    assert client.entity("bronze", "shop", "gone")["type"] == "PHYSICAL_DATASET"
    summary = client.rows("alter pds bronze.shop.gone refresh metadata delete when missing")[0]["summary"]
    assert "no longer exists" in summary
    with pytest.raises(JobError, match="not found"):
        client.run("select * from bronze.shop.gone")


def test_automatic_promotion_only_when_asked(client: Client, put: Put) -> None:
    put("shop/auto/a.parquet", rows(1))
    with pytest.raises(JobError, match="not found"):
        client.run("alter pds bronze.shop.auto refresh metadata avoid promotion")
    client.run("alter pds bronze.shop.auto refresh metadata auto promotion force update delete when missing")
    assert client.value("select count(*) from bronze.shop.auto") == 1


def test_deleting_a_promoted_table_leaves_its_files(client: Client, put: Put) -> None:
    put("shop/back/a.parquet", rows(1))
    table = client.promote("bronze", "shop", "back")
    assert client.http.delete(f"/api/v3/catalog/{table['id']}?tag={table['tag']}").status_code == 204
    assert client.entity("bronze", "shop", "back")["entityType"] == "folder"
    assert client.promote("bronze", "shop", "back")["id"] != table["id"]


def test_a_folder_of_many_files_is_listed_completely(client: Client, bronze: str, object_store: ObjectStore) -> None:
    s3 = object_store.client("s3")
    sink = io.BytesIO()
    pq.write_table(rows(1), sink)
    for number in range(1100):  # more than one page
        s3.put_object(Bucket="lakehouse", Key=f"{bronze}/shop/many/{number:05d}.parquet", Body=sink.getvalue())
    client.promote("bronze", "shop", "many")
    assert client.value("select count(*) from bronze.shop.many") == 1100


def test_iceberg_tables_are_found_when_asked_for(client: Client, lake: str) -> None:
    namespace = lake.split(".")[1]
    client.run(f"create table {lake}.orders as select 1 as id")  # the namespace appears with it
    table = client.entity("lake", namespace, "orders")
    assert (table["type"], table["format"]) == ("PHYSICAL_DATASET", {"type": "Iceberg"})
    assert client.entity("lake", namespace.upper(), "ORDERS")["id"] == table["id"]
    assert ["lake", namespace, "orders"] in [child["path"] for child in client.entity("lake", namespace)["children"]]
    client.run(f"drop table {lake}.orders")
    assert client.http.get(f"/api/v3/catalog/{table['id']}").status_code == 404
    client.run(f"create table {lake}.orders as select 2 as id")
    assert client.entity("lake", namespace, "orders")["id"] != table["id"]
    with pytest.raises(JobError, match="already exists"):
        client.run(f"create table {lake}.orders as select 3 as id")


def test_several_statements_may_make_a_folder_at_once(client: Client, lake: str) -> None:
    for number in range(5):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(client.run, [f"create table {lake}_{number}.t{n} as select {n} as a" for n in range(4)]))


def test_a_name_that_the_catalog_does_not_take_is_named_and_is_no_outage(client: Client, lake: str) -> None:
    with pytest.raises(JobError, match=r"not found"):
        client.rows(f'select * from {lake}."with.dots"')
    with pytest.raises(JobError, match=r"with\.dots\] cannot be created: .*invalid table name"):
        client.run(f'create table {lake}."with.dots" as select 1 as a')


def test_tables_made_or_dropped_by_others_are_seen(client: Client, lake: str, object_store: ObjectStore) -> None:
    from pyiceberg.catalog import load_catalog
    from pyiceberg.schema import Schema
    from pyiceberg.types import LongType, NestedField

    catalog = load_catalog(
        "other",
        type="rest",
        uri=object_store.iceberg_uri,
        warehouse=object_store.warehouse,
        credential=f"{object_store.access_key}:{object_store.secret_key}",
        **{"oauth2-server-uri": f"{object_store.iceberg_uri}/v1/oauth/tokens"},
    )
    name = (lake.split(".")[1], "foreign_table")
    catalog.create_table(name, Schema(NestedField(1, "id", LongType())))
    assert client.rows(f"select * from {lake}.FOREIGN_TABLE") == []
    assert client.rows(f"select * from {lake}.foreign_table") == []
    table = client.entity("lake", *name)
    catalog.drop_table(name)
    assert client.http.get(f"/api/v3/catalog/{table['id']}").status_code == 404
    with pytest.raises(JobError, match="not found"):
        client.run(f"select * from {lake}.foreign_table")


def test_postgres_tables(client: Client, platform_postgres: PostgresServer) -> None:
    with psycopg.connect(platform_postgres.dsn("lakehouse"), autocommit=True) as connection:
        connection.execute("create schema if not exists test_sql")
        connection.execute("drop table if exists test_sql.sync")
        connection.execute("create table test_sql.sync (id bigint primary key, at timestamptz, n numeric(12, 2))")
        connection.execute("insert into test_sql.sync values (1, '2026-01-31 12:00:00.123456+01', 1.50)")
    client.create(postgres_source(platform_postgres, "ledger", "lakehouse"))
    assert client.rows("select * from ledger.test_sql.sync") == [{"id": 1, "at": "2026-01-31 11:00:00.123", "n": 1.5}]
    fields = client.entity("ledger", "test_sql", "sync")["fields"]
    assert [field["type"]["name"] for field in fields] == ["BIGINT", "TIMESTAMP", "DECIMAL"]
    with psycopg.connect(platform_postgres.dsn("lakehouse"), autocommit=True) as connection:
        connection.execute("create table if not exists test_sql.later (id int)")
    assert client.rows("select * from ledger.test_sql.later") == []


def test_the_v2_form_of_sources(client: Client, object_store: ObjectStore, put: Put, bronze: str) -> None:
    put("v2/t/a.parquet", rows(1, 2, 3))
    body = {k: v for k, v in s3_source(object_store, "x", f"/lakehouse/{bronze}").items() if k in ("type", "config")}
    body["metadataPolicy"] = {"updateMode": "PREFETCH", "autoPromoteDatasets": False}
    assert client.http.put("/apiv2/source/second", json=body).status_code == 200
    assert client.http.put("/apiv2/source/second/folder_format/v2/t", json={"type": "Parquet"}).status_code == 200
    assert client.value("select count(*) from second.v2.t") == 3


def test_a_deleted_source_takes_its_tables_along(
    client: Client, object_store: ObjectStore, put: Put, bronze: str
) -> None:
    put("short/t/a.parquet", rows(1))
    source = client.create(s3_source(object_store, "short", f"/lakehouse/{bronze}"))
    client.promote("short", "short", "t")
    assert client.http.delete(f"/api/v3/catalog/{source['id']}").status_code == 204
    with pytest.raises(JobError, match="not found"):
        client.run("select * from short.short.t")
    assert client.http.get("/api/v3/catalog/by-path/short/short/t").status_code == 404
