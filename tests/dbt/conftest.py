"""A lake to run the dbt project against: PostgreSQL, SeaweedFS and the SQL server for real, bronze written row by row.

Bronze is written here, not by a sync: tests need versions, failed syncs and late rows that no healthy source gives.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import httpx
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]
DBT = PROJECT / ".venvs" / "dbt" / "bin" / "dbt"
DBT_PROJECT = PROJECT / "dbt" / "lakehouse"
PIPELINE = yaml.safe_load((PROJECT / "include" / "pipelines" / "retail.yaml").read_text(encoding="utf-8"))
STREAMS = {
    stream: {"connection": group["connection"], **declared}
    for group in PIPELINE["groups"].values()
    for stream, declared in group["streams"].items()
}
META = pa.struct(
    [
        pa.field("sync_id", pa.int64()),
        pa.field(
            "changes",
            pa.list_(pa.struct([("field", pa.string()), ("change", pa.string()), ("reason", pa.string())])),
        ),
    ]
)
LEDGER = """
create schema if not exists lakehouse;
create table if not exists lakehouse.sync_ledger (
    connection text not null, job_id bigint not null, status text not null, primary key (connection, job_id))
"""


class Dremio:
    """The SQL server as a client sees it."""

    def __init__(self, port: int, user: str, password: str) -> None:
        self.port, self.user, self.password = port, user, password
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        reply = self.http.post("/apiv2/login", json={"userName": user, "password": password})
        reply.raise_for_status()
        self.http.headers["Authorization"] = f"_dremio{reply.json()['token']}"

    def sql(self, statement: str) -> list[dict[str, Any]]:
        """Runs a statement and gives all of its rows; fails with Dremio's message."""
        job = self.http.post("/api/v3/sql", json={"sql": statement}).raise_for_status().json()["id"]
        while (state := self.http.get(f"/api/v3/job/{job}").json())["jobState"] not in (
            "COMPLETED",
            "FAILED",
            "CANCELED",
        ):
            pass
        assert state["jobState"] == "COMPLETED", f"{state.get('errorMessage')}\n{statement}"
        rows: list[dict[str, Any]] = []
        while True:
            page = self.http.get(f"/api/v3/job/{job}/results", params={"offset": len(rows), "limit": 500})
            page.raise_for_status()
            rows += page.json()["rows"]
            if len(rows) >= page.json()["rowCount"]:
                return rows

    def one(self, statement: str) -> Any:
        """The only value of the only row."""
        ((value,),) = (row.values() for row in self.sql(statement))
        return value

    def entity(self, body: dict[str, Any]) -> None:
        reply = self.http.post("/api/v3/catalog", json=body)
        assert reply.status_code in (200, 409), reply.text

    def content(self, path: str, order: str) -> list[dict[str, Any]]:
        """Every public column of every row: what a hash of the table would cover."""
        rows = self.sql(f"select * from {path} order by {order}")
        return [{name: value for name, value in row.items() if not name.startswith("_")} for row in rows]

    def snapshots(self, path: str) -> int:
        return int(self.one(f"select count(*) from table(table_snapshot('{path}'))"))


@dataclass
class Lake:
    """Everything the dbt project sees, and a hand on what it sees."""

    dremio: Dremio
    s3: Any
    ledger: str = field(repr=False)
    target: Path
    job: int = 100

    def sync(self, stream: str, rows: pa.Table, *, status: str = "succeeded", generation: int = 0) -> int:
        """One Airbyte job that writes `rows` of one stream into bronze; gives its id."""
        self.job += 1
        extracted = dt.datetime(2018, 1, 2, tzinfo=dt.UTC) + dt.timedelta(minutes=self.job)
        head = {
            "_airbyte_raw_id": pa.array([str(uuid.uuid4()) for _ in range(rows.num_rows)], pa.string()),
            "_airbyte_extracted_at": pa.array([extracted] * rows.num_rows, pa.timestamp("ms", "UTC")),
            "_airbyte_meta": pa.array([{"sync_id": self.job, "changes": []}] * rows.num_rows, META),
            "_airbyte_generation_id": pa.array([generation] * rows.num_rows, pa.int64()),
        }
        table = pa.table(head | {name: _as_airbyte(rows[name]) for name in rows.column_names})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        key = f"bronze/retail/{stream}/{extracted:%Y_%m_%d}_{self.job}_0.parquet"
        self.s3.put_object(Bucket="lakehouse", Key=key, Body=sink.getvalue().to_pybytes())
        with psycopg.connect(self.ledger, autocommit=True) as conn:
            conn.execute(
                "insert into lakehouse.sync_ledger (connection, job_id, status) values (%s, %s, %s)",
                [STREAMS[stream]["connection"], self.job, status],
            )
        return self.job

    def refresh(self, streams: Sequence[str] = tuple(STREAMS)) -> None:
        for stream in streams:
            self.dremio.sql(f'alter table bronze.retail."{stream}" refresh metadata auto promotion')

    def dbt(self, *arguments: str, ok: bool = True, **settings: str) -> dict[str, Any]:
        """Runs dbt with LAKEHOUSE_<SETTING> as a run does; gives {node: (status, message)} of what it ran."""
        environment = {
            **os.environ,
            "LAKEHOUSE_DREMIO_PORT": str(self.dremio.port),
            "LAKEHOUSE_DREMIO_USER": self.dremio.user,
            "LAKEHOUSE_DREMIO_PASSWORD": self.dremio.password,
            "DBT_TARGET_PATH": str(self.target),
            "DBT_LOG_PATH": str(self.target / "logs"),
            "DO_NOT_TRACK": "1",
            **{f"LAKEHOUSE_{name.upper()}": value for name, value in settings.items()},
        }
        command = [str(DBT), "--no-use-colors", *arguments]
        folders = ["--project-dir", str(DBT_PROJECT), "--profiles-dir", str(DBT_PROJECT)]
        done = subprocess.run(
            command + folders, env=environment, capture_output=True, text=True, check=False, timeout=480
        )
        assert (done.returncode == 0) == ok, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
        results = json.loads((self.target / "run_results.json").read_text(encoding="utf-8"))["results"]
        return {r["unique_id"].split(".", 2)[2]: (r["status"], r["message"]) for r in results} | {"": done.stdout}

    def build(self, *arguments: str, ok: bool = True, **settings: str) -> dict[str, Any]:
        # Serving views pin what a run has built: the DAG publishes them.
        kinds = ("--exclude-resource-type", "unit_test", "--exclude", "tag:serving")
        return self.dbt("build", *kinds, *arguments, ok=ok, **settings)


def _as_airbyte(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The types of Airbyte's Parquet: whole numbers are int64, times microseconds in UTC; decimals stay exact."""
    if pa.types.is_integer(column.type):
        return column.cast(pa.int64())
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us", "UTC"))
    return column


def _sources(lake_postgres: str, store: Any) -> Iterator[dict[str, Any]]:
    parts = psycopg.conninfo.conninfo_to_dict(lake_postgres)
    yield {
        "name": "bronze",
        "type": "S3",
        "config": {
            "credentialType": "ACCESS_KEY",
            "accessKey": store.access_key,
            "accessSecret": store.secret_key,
            "secure": False,
            "rootPath": "/lakehouse/bronze",
            "propertyList": [
                {"name": "fs.s3a.path.style.access", "value": "true"},
                {"name": "fs.s3a.endpoint", "value": store.endpoint},
            ],
        },
    }
    yield {
        "name": "lake",
        "type": "RESTCATALOG",
        "config": {
            "restEndpointUri": store.iceberg_uri,
            "propertyList": [
                {"name": "warehouse", "value": "s3://warehouse"},
                {"name": "fs.s3a.endpoint", "value": store.endpoint},
                {"name": "fs.s3a.path.style.access", "value": "true"},
                {"name": "fs.s3a.connection.ssl.enabled", "value": "false"},
                {"name": "fs.s3a.endpoint.region", "value": "us-east-1"},
            ],
            "secretPropertyList": [
                {"name": "fs.s3a.access.key", "value": store.access_key},
                {"name": "fs.s3a.secret.key", "value": store.secret_key},
                {"name": "credential", "value": f"{store.access_key}:{store.secret_key}"},
            ],
        },
    }
    yield {
        "name": "ledger",
        "type": "POSTGRES",
        "config": {
            "hostname": parts["host"],
            "port": str(parts["port"]),
            "databaseName": parts["dbname"],
            "username": parts["user"],
            "password": parts["password"],
            "authenticationType": "MASTER",
        },
    }


@pytest.fixture(scope="session")
def dremio(services_home, platform_postgres, object_store) -> Iterator[Dremio]:
    """A SQL server of our own with the sources `bronze`, `lake` and `ledger`."""
    from embedded.ports import assign
    from embedded.programs import Child, Program

    port = assign(["sql"]).ports["sql"]
    scratch = services_home.root / "sql-scratch"
    scratch.mkdir(exist_ok=True)
    program = Program(
        name="sql",
        argv=(sys.executable, "-m", "embedded.sql"),
        cwd=PROJECT,
        environment={
            "LAKEHOUSE_SQL_PORT": str(port),
            "LAKEHOUSE_SQL_FLIGHT_PORT": "off",
            "LAKEHOUSE_SQL_DATABASE_URL": platform_postgres.dsn("sqlserver"),
            "LAKEHOUSE_SQL_ADMIN_USER": "admin",
            "LAKEHOUSE_SQL_ADMIN_PASSWORD": "a-password-of-tests-1",
            "LAKEHOUSE_SQL_DIST": "s3://lakehouse-dist",
            "LAKEHOUSE_SQL_DIST_ENDPOINT": object_store.endpoint,
            "LAKEHOUSE_SQL_DIST_ACCESS_KEY": object_store.access_key,
            "LAKEHOUSE_SQL_DIST_SECRET_KEY": object_store.secret_key,
            "LAKEHOUSE_SQL_SCRATCH": str(scratch),
            "LAKEHOUSE_SQL_SECRET_KEY": "dGhlLWtleS1vZi10ZXN0cy1pcy0zMi1ieXRlcy1sbmc=",
        },
    )
    child = Child.start(program, services_home.log("sql"))
    try:
        child.wait_ready(lambda: _is_up(port))
        client = Dremio(port, "admin", "a-password-of-tests-1")
        client.entity({"entityType": "space", "name": "lakehouse"})
        for source in _sources(platform_postgres.dsn("lakehouse"), object_store):
            client.entity({"entityType": "source", **source})
        yield client
        client.http.close()
    finally:
        child.stop()


def _is_up(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/apiv2/server_status").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def empty_lake(dremio, platform_postgres, object_store, tmp_path_factory) -> Iterator[Lake]:
    """The lake before the first sync, one per test file; left empty again for the next."""
    if not DBT.exists():
        pytest.skip("the dbt venv is missing: make setup")
    ledger = platform_postgres.dsn("lakehouse")
    with psycopg.connect(ledger, autocommit=True) as conn:
        conn.execute(LEDGER)
    s3 = boto3.client(
        "s3",
        endpoint_url=object_store.endpoint_url,
        aws_access_key_id=object_store.access_key,
        aws_secret_access_key=object_store.secret_key,
        region_name="us-east-1",
    )
    yield Lake(dremio, s3, ledger, tmp_path_factory.mktemp("dbt-target"))
    for layer in ("silver", "gold"):
        for row in dremio.sql(
            f"select table_name as name from information_schema.\"tables\" where table_schema = 'lake.{layer}'"
        ):
            dremio.sql(f'drop table lake.{layer}."{row["name"]}"')
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket="lakehouse", Prefix="bronze/"):
        for item in page.get("Contents", []):
            s3.delete_object(Bucket="lakehouse", Key=item["Key"])
    for stream in STREAMS:
        dremio.sql(f'alter table bronze.retail."{stream}" forget metadata')
    with psycopg.connect(ledger, autocommit=True) as conn:
        conn.execute("truncate lakehouse.sync_ledger")
