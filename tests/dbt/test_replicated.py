"""The whole way without Airflow: PostgreSQL, the replication server, bronze, silver, gold; compared with the source.

LAKEHOUSE_TEST_SCALE=default (or full) runs the same on more data.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from decimal import Decimal

import httpx
import psycopg
import pytest
import yaml

from embedded.demo import source

SCALE = os.environ.get("LAKEHOUSE_TEST_SCALE", "tiny")


def _groups() -> dict:
    """The stream groups that include/pipelines declares."""
    from embedded.home import PROJECT

    return yaml.safe_load((PROJECT / "include" / "pipelines" / "retail.yaml").read_text(encoding="utf-8"))["groups"]


@pytest.fixture(scope="module")
def airbyte(services_home, platform_postgres) -> Iterator[httpx.Client]:
    """A client of a replication server of our own."""
    from embedded.home import PROJECT
    from embedded.ports import assign
    from embedded.programs import Child, Program

    port = assign(["replication"]).ports["replication"]
    base = f"http://127.0.0.1:{port}/api/public/v1"
    environment = {
        "LAKEHOUSE_REPLICATION_PORT": str(port),
        "LAKEHOUSE_REPLICATION_DATABASE_URL": platform_postgres.dsn("replication"),
        "LAKEHOUSE_REPLICATION_CLIENT_ID": "tests",
        "LAKEHOUSE_REPLICATION_CLIENT_SECRET": "a-secret-of-tests-1",
    }
    program = Program("replication", (sys.executable, "-m", "embedded.replication"), PROJECT, environment)
    child = Child.start(program, services_home.log("replication"))

    def is_up() -> bool:
        try:
            return httpx.get(f"{base}/health").status_code == 200
        except httpx.HTTPError:
            return False

    try:
        child.wait_ready(is_up)
        credentials = {"client_id": "tests", "client_secret": "a-secret-of-tests-1"}
        token = httpx.post(f"{base}/applications/token", data=credentials).json()["access_token"]
        with httpx.Client(base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
            yield client
    finally:
        child.stop()


def post(client: httpx.Client, path: str, body: dict) -> dict:
    reply = client.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def connect(airbyte: httpx.Client, postgres: str, store) -> dict[str, str]:
    """Declares source, destination and one connection per group, as the platform does; gives their ids by name."""
    parts = psycopg.conninfo.conninfo_to_dict(postgres)
    origin = {
        "sourceType": "postgres",
        "host": parts["host"],
        "port": int(str(parts["port"])),
        "database": parts["dbname"],
        "username": parts["user"],
        "password": parts["password"],
        "schemas": ["retail"],
        "ssl_mode": {"mode": "disable"},
        "replication_method": {"method": "Standard"},
    }
    goal = {
        "destinationType": "s3",
        "s3_bucket_name": "lakehouse",
        "s3_bucket_path": "bronze",
        "s3_bucket_region": "us-east-1",
        "s3_endpoint": store.endpoint_url,
        "access_key_id": store.access_key,
        "secret_access_key": store.secret_key,
        "format": {"format_type": "Parquet", "compression_codec": "ZSTD"},
    }
    workspace = airbyte.get("/workspaces").json()["data"][0]["workspaceId"]
    made = post(airbyte, "/sources", {"name": "retail", "workspaceId": workspace, "configuration": origin})
    there = post(airbyte, "/destinations", {"name": "lake_bronze", "workspaceId": workspace, "configuration": goal})
    ids = {}
    for group in _groups().values():
        streams = [
            {
                "name": name,
                "namespace": "retail",
                "syncMode": stream.get("mode", "incremental_append"),
                "cursorField": [stream["cursor"]],
                "primaryKey": [[column] for column in stream["key"]],
            }
            for name, stream in group["streams"].items()
        ]
        body = {
            "name": group["connection"],
            "sourceId": made["sourceId"],
            "destinationId": there["destinationId"],
            "namespaceDefinition": "source",
            "configurations": {"streams": streams},
        }
        ids[group["connection"]] = post(airbyte, "/connections", body)["connectionId"]
    return ids


def sync(airbyte: httpx.Client, lake, connections: dict[str, str]) -> None:
    """Runs every connection and writes what the DAG would write into the ledger."""
    for name, connection in connections.items():
        begun = time.monotonic()
        job = post(airbyte, "/jobs", {"connectionId": connection, "jobType": "sync"})
        while (job := airbyte.get(f"/jobs/{job['jobId']}").json())["status"] in ("pending", "running", "incomplete"):
            pass
        assert job["status"] == "succeeded", job
        print(f"{name}: {job.get('rowsSynced')} rows, {job.get('bytesSynced')} bytes, {time.monotonic() - begun:.1f} s")
        with psycopg.connect(lake.ledger, autocommit=True) as conn:
            conn.execute(
                "insert into lakehouse.sync_ledger (connection, job_id, status) values (%s, %s, 'succeeded')",
                [name, job["jobId"]],
            )
    lake.refresh()


def differences(dremio, dsn: str) -> list[str]:
    found = []
    for table, wanted in source.summary(dsn).items():
        rows = dremio.one(f"select count(*) from lake.silver.{table}")
        if rows != wanted.rows:
            found.append(f"{table}: source {wanted.rows}, silver {rows}")
        for column, amount in wanted.money.items():
            total = Decimal(str(dremio.one(f"select cast(sum({column}) as varchar) from lake.silver.{table}")))
            if total != amount:
                found.append(f"{table}.{column}: source {amount}, silver {total}")
    return found


def timed(label: str, build) -> dict:
    begun = time.monotonic()
    done = build()
    print(f"{label}: {time.monotonic() - begun:.1f} s")
    return dict(done)


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_source_equals_silver_through_the_replication_server(
    airbyte, empty_lake, dremio, source_postgres, object_store
):
    lake, dsn = empty_lake, source_postgres.dsn("retail")
    with psycopg.connect(dsn, autocommit=True) as conn:
        # Traffic of other tests would have moved the cursors past the correction below.
        conn.execute("comment on schema retail is null")
    source.load(dsn, SCALE, print)
    connections = connect(airbyte, source_postgres.dsn("retail", "airbyte"), object_store)
    sync(airbyte, lake, connections)
    timed("silver", lambda: lake.build("--select", "tag:bronze", "tag:silver"))
    timed("gold", lambda: lake.build("--select", "tag:gold"))
    assert differences(dremio, dsn) == []

    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(
            "update retail.order_items set sales_value = sales_value + 0.01, updated_at = '2018-01-01 00:00:00+00' "
            "where order_item_id in (select order_item_id from retail.order_items "
            "where ordered_at::date = date '2017-03-05' and quantity > 0 order by 1 limit 7)"
        )
    sync(airbyte, lake, connections)
    done = timed(
        "second silver", lambda: lake.build("--resource-type", "model", "--select", "tag:bronze", "tag:silver")
    )
    assert done["order_items"] == ("success", "MERGE 7")
    done = timed("second gold", lambda: lake.build("--select", "sales_lines", "daily_revenue"))
    assert done["daily_revenue"] == ("success", "PERIODS 1")
    assert differences(dremio, dsn) == []
