"""The rules of the lake and the ledger, over our SQL server, a real object store and a real ledger."""

from __future__ import annotations

import datetime as dt
import io
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include import ledger
from include.retention.services import Services
from lakehouse_providers.dremio.client import DremioClient
from lakehouse_providers.dremio.endpoint import Endpoint

pytestmark = pytest.mark.faults

BUCKET, STREAM = "lakehouse", "coupon_redemptions"
FOLDER = f"bronze/retail/{STREAM}/"
CONNECTION = "8d1f6e3c-0000-4000-8000-000000000001"
META = pa.struct([("sync_id", pa.int64()), ("changes", pa.list_(pa.string()))])


def declared(target: str, options: str) -> str:
    limits = "    grace_hours: 0\n    approve_fraction: 1.0\n    approve_count: 1000\n"
    return f"  it:\n    target: {target}\n    with: {options}\n{limits}"


@pytest.fixture(scope="module")
def dremio(sql_server: Any, object_store: Any) -> Iterator[DremioClient]:
    with DremioClient(Endpoint(sql_server.url, user="admin", password="dremio123")) as client:
        properties = {
            "fs.s3a.path.style.access": "true",
            "fs.s3a.endpoint": object_store.endpoint,
            "dremio.s3.compat": "true",
        }
        config = {
            "credentialType": "ACCESS_KEY",
            "accessKey": object_store.access_key,
            "accessSecret": object_store.secret_key,
            "secure": False,
            "rootPath": "/lakehouse/bronze",
            "compatibilityMode": True,
            "propertyList": [{"name": name, "value": value} for name, value in properties.items()],
        }
        client.apply_source({"entityType": "source", "name": "bronze", "type": "S3", "config": config})
        yield client


@pytest.fixture
def lake(services: Services, dremio: DremioClient) -> Services:
    return replace(services, sql=lambda statement: dremio.query(statement, timeout=300))


@pytest.fixture
def bronze(lake: Services) -> Iterator[Services]:
    yield lake
    for item in lake.s3.list_objects_v2(Bucket=BUCKET, Prefix=FOLDER).get("Contents", ()):
        lake.s3.delete_object(Bucket=BUCKET, Key=item["Key"])


def sync(services: Services, job: int, keys: list[int], status: str = "succeeded") -> None:
    """One sync as Airbyte leaves it: an object and a row of the ledger."""
    now = dt.datetime.now(dt.UTC)
    rows = pa.table(
        {
            "redemption_id": pa.array(keys, pa.int64()),
            "updated_at": pa.array([now] * len(keys), pa.timestamp("us", tz="UTC")),
            "_airbyte_raw_id": pa.array([str(uuid.uuid4()) for _ in keys]),
            "_airbyte_extracted_at": pa.array([now] * len(keys), pa.timestamp("ms", tz="UTC")),
            "_airbyte_meta": pa.array([{"sync_id": job, "changes": []}] * len(keys), META),
            "_airbyte_generation_id": pa.array([0] * len(keys), pa.int64()),
        }
    )
    file = io.BytesIO()
    pq.write_table(rows, file)
    key = f"{FOLDER}2026_11_26_{job}_0.parquet"
    services.s3.put_object(Bucket=BUCKET, Key=key, Body=file.getvalue(), Metadata={"ab-sync-id": str(job)})
    with services.ledger() as conn:
        conn.execute(
            "insert into lakehouse.sync_ledger (connection_id, job_id, connection, pipeline, lane, status, "
            "dag_run, started_at, ended_at, rows_committed, bytes_committed) values "
            "(%s, %s, 'retail_sales', 'retail', 'batch', %s, 'r', %s, now(), %s, 1)",
            [CONNECTION, job, status, now, len(keys)],
        )


def left(services: Services) -> list[str]:
    found = services.s3.list_objects_v2(Bucket=BUCKET, Prefix=FOLDER).get("Contents", ())
    return [item["Key"].rsplit("_", 2)[1] for item in found]


def fold(services: Services, job: int) -> None:
    with services.ledger() as conn:
        conn.execute(
            "insert into lakehouse.watermarks (entity, pipeline, watermark, epoch, folded_job, snapshot_id, dag_run) "
            "values (%s, 'retail', 1, 1, %s, 1, 'r')",
            [STREAM, job],
        )


def test_bronze_goes_when_every_row_was_replaced_and_silver_has_it(bronze: Services, keeper: Any, declare: Any) -> None:
    keeper.services = bronze
    sync(bronze, 1, [1, 2])
    sync(bronze, 2, [9], status="failed")
    sync(bronze, 3, [1, 2])
    sync(bronze, 4, [1])
    assert bronze.sql is not None
    bronze.sql(f'ALTER TABLE bronze.retail."{STREAM}" REFRESH METADATA AUTO PROMOTION')
    rules = declare(declared("bronze", "{pipelines: [retail], keep_syncs: 1}"))
    assert keeper.plan(rules, days=399)["by_rule"]["it"]["planned_count"] == 0, "younger than 400 days"

    keeper.plan(rules, days=401)
    assert keeper.apply(rules)["it"].deleted == 1, "nothing is folded: the failed sync's rows alone count for nothing"
    assert left(bronze) == ["1", "3", "4"]

    fold(bronze, 4)
    with bronze.ledger() as conn:
        ledger.hold_lease(conn, "retail", "retail_batch/run", 60)
    keeper.plan(rules)
    assert keeper.apply(rules) == {}
    with bronze.ledger() as conn:
        ledger.release_lease(conn, "retail", "retail_batch/run")
    assert keeper.apply(rules)["it"].deleted == 1
    assert left(bronze) == ["3", "4"], "3 holds the only version of key 2"
    rows = bronze.sql(f'SELECT COUNT(*) AS n FROM bronze.retail."{STREAM}"')
    assert int(rows[0]["n"]) == 3, "the promoted folder knows which files are left"


@pytest.fixture
def table(lake: Services, dremio: DremioClient, lake_source: dict[str, Any]) -> Iterator[str]:
    dremio.apply_source({"entityType": "source", **lake_source})
    assert lake.sql is not None
    name = f"retention_{uuid.uuid4().hex[:8]}"
    lake.sql("CREATE FOLDER IF NOT EXISTS lake.silver")
    lake.sql(f"CREATE TABLE lake.silver.{name} AS SELECT 1 AS n")
    yield name
    lake.sql(f"DROP TABLE lake.silver.{name}")


def snapshots(services: Services, name: str) -> list[int]:
    assert services.sql is not None
    rows = services.sql(f"SELECT snapshot_id FROM TABLE(table_snapshot('lake.silver.{name}')) ORDER BY committed_at")
    return [int(row["snapshot_id"]) for row in rows]


def test_a_pinned_snapshot_and_what_follows_it_stays(lake: Services, table: str, keeper: Any, declare: Any) -> None:
    keeper.services = lake
    assert lake.sql is not None
    for n in (2, 3, 4):
        lake.sql(f"INSERT INTO lake.silver.{table} VALUES ({n})")
    _, *rest = snapshots(lake, table)
    with lake.ledger() as conn:
        ledger.record_publication(
            conn,
            pipeline="t",
            dataset=f"silver.{table}",
            view_path="v",
            snapshot_id=rest[0],
            dag_run="r",
            fence_token=1,
        )
    rules = declare(declared("iceberg_snapshots", "{source: lake, days: 7, keep_last: 1}"))
    planned = keeper.plan(rules, days=8)["by_rule"]["it"]
    assert {"item": f"lake.silver.{table}", "count": 1}.items() <= next(
        one for one in planned["sample"] if one["item"].endswith(table)
    ).items()
    keeper.apply(rules)
    assert snapshots(lake, table) == rest
    assert len(lake.sql(f"SELECT n FROM lake.silver.{table} AT SNAPSHOT '{rest[0]}'")) == 2


def test_orphan_files_go_and_the_tables_own_stay(lake: Services, table: str, keeper: Any, declare: Any) -> None:
    keeper.services = lake
    pages = lake.s3.get_paginator("list_objects_v2").paginate(Bucket="warehouse")
    own = [item["Key"] for page in pages for item in page.get("Contents", ()) if table in item["Key"]]
    stray = f"{own[0].rsplit('/', 2)[0]}/data/stray.parquet"
    lake.s3.put_object(Bucket="warehouse", Key=stray, Body=b"left by a killed writer")
    rules = declare(declared("iceberg_orphans", "{source: lake, days: 3}"))
    planned = keeper.plan(rules, days=4)
    assert planned["by_rule"]["it"]["status"] == "ready", planned["by_rule"]["it"]["findings"]
    keeper.apply(rules)
    assert "Contents" not in lake.s3.list_objects_v2(Bucket="warehouse", Prefix=stray)
    assert lake.sql is not None
    assert len(lake.sql(f"SELECT n FROM lake.silver.{table}")) == 1


def test_log_rows_go_below_the_smallest_pinned_watermark_only(services: Services, keeper: Any, declare: Any) -> None:
    with services.ledger() as conn:
        conn.execute("drop schema if exists speed cascade; create schema speed")
        conn.execute(
            "create table speed.orders (order_id int, _ab_cdc_commit_lsn bigint, _ab_cdc_lsn bigint, "
            "_ab_cdc_deleted_at text, _airbyte_generation_id bigint)"
        )
        conn.execute("insert into speed.orders select n, n, n, null, 1 from generate_series(1, 10) as n")
        conn.execute(
            "insert into lakehouse.watermarks (entity, pipeline, watermark, epoch, folded_job, snapshot_id, dag_run) "
            "values ('orders', 'retail', 6, 1, 1, 1, 'r')"
        )
        conn.execute(
            "insert into lakehouse.prune_queue (entity, epoch, watermark, due_at) "
            "values ('orders', 1, 8, now() - interval '1 minute'), ('orders', 1, 10, now() + interval '1 hour')"
        )
    rules = declare(declared("change_log", "{pipelines: [retail]}"))
    planned = keeper.plan(rules)["by_rule"]["it"]
    assert (planned["total_count"], planned["planned_count"]) == (10, 6)
    assert keeper.apply(rules)["it"].deleted == 6
    with services.ledger() as conn:
        assert conn.execute("select min(_ab_cdc_lsn) as lsn from speed.orders").fetchone() == {"lsn": 7}


def test_the_ledger_keeps_what_views_and_bronze_need(services: Services, keeper: Any, declare: Any) -> None:
    sync_rows = [(1, "succeeded"), (2, "failed"), (3, "failed")]
    with services.ledger() as conn:
        for job, status in sync_rows:
            conn.execute(
                "insert into lakehouse.sync_ledger (connection_id, job_id, connection, pipeline, lane, status, "
                "dag_run, started_at, rows_committed, bytes_committed) "
                "values (%s, %s, 'c', 'p', 'batch', %s, 'r', now(), 1, 1)",
                [CONNECTION, job, status],
            )
        for snapshot in (1, 2):
            ledger.record_publication(
                conn, pipeline="p", dataset="gold.x", view_path="v", snapshot_id=snapshot, dag_run="r", fence_token=1
            )
        for run in range(25):
            ledger.write_receipt(conn, "d", f"r{run}", {})
            conn.commit()
    rules = declare(declared("ledger_rows", "{days: 400, receipts_days: 180, plans_days: 180}"))
    assert keeper.plan(rules, days=100)["by_rule"]["it"]["planned_count"] == 0
    keeper.plan(rules, days=401)
    assert keeper.apply(rules)["it"].deleted == 1 + 1 + 5 + 1, "a failed sync, a publication, receipts, the first plan"
    with services.ledger() as conn:
        jobs = [row["job_id"] for row in conn.execute("select job_id from lakehouse.sync_ledger order by 1")]
        assert ledger.published(conn, "p") == {"gold.x": 2}
    assert jobs == [1, 3], "succeeded syncs, and the newest of a connection"
