"""A lake to run the dbt project against: PostgreSQL, SeaweedFS and the SQL server for real, bronze written row by row.

Bronze is written here, not by a sync: tests need versions, failed syncs and late rows that no healthy source gives.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.sql_server import Dremio

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
        # Serving views pin what a run has built: the DAG publishes them. Bronze here holds the retailer's data alone.
        kinds = ("--exclude-resource-type", "unit_test", "--exclude", "tag:serving", "tag:marketing")
        return self.dbt("build", *kinds, *arguments, ok=ok, **settings)


def _as_airbyte(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The types of Airbyte's Parquet: whole numbers are int64, times microseconds in UTC; decimals stay exact."""
    if pa.types.is_integer(column.type):
        return column.cast(pa.int64())
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us", "UTC"))
    return column


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
