"""One lakehouse for the session, in the embedded venv: PostgreSQL twice, SeaweedFS, the SQL server, one dbt process."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import psycopg
import pytest

from tests.dbt.conftest import DBT, PROJECT
from tests.serving.lanes import Dbt, Lanes, migrate


@pytest.fixture(scope="session")
def dbt(dremio, tmp_path_factory) -> Iterator[Dbt]:
    if not DBT.exists():
        pytest.skip("the dbt venv is missing: make setup")
    process = Dbt(dremio, tmp_path_factory.mktemp("dbt-target"))
    yield process
    process.kill()


@pytest.fixture
def lanes(dremio, dbt, platform_postgres, source_postgres, object_store) -> Iterator[Lanes]:
    """An empty lakehouse over an empty retail schema."""
    ledger = platform_postgres.dsn("lakehouse")
    with psycopg.connect(ledger, autocommit=True) as conn:
        # Tests of dbt keep a small ledger of their own in this database.
        conn.execute("drop schema if exists lakehouse cascade; drop schema if exists speed cascade")
    migrate(ledger)
    s3 = boto3.client(
        "s3",
        endpoint_url=object_store.endpoint_url,
        aws_access_key_id=object_store.access_key,
        aws_secret_access_key=object_store.secret_key,
        region_name="us-east-1",
    )
    dremio.sql('create folder if not exists lakehouse."serving"')
    dsn = source_postgres.dsn("retail")
    _empty_source(dsn)
    yield Lanes(dremio, dbt, s3, dsn, ledger)
    _clear(dremio, s3)


def _empty_source(dsn: str) -> None:
    schema = PROJECT / "embedded" / "demo" / "source_schema.sql"
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("drop schema if exists retail cascade; create schema retail")
        conn.execute(schema.read_bytes())
        for table, key in (
            ("households", "household_id"),
            ("campaign_households", "campaign_id, household_id"),
            ("orders", "order_id"),
        ):
            conn.execute(f"alter table retail.{table} add primary key ({key})".encode())


def _clear(dremio, s3) -> None:
    for folder in ("silver", "bronze"):
        for row in dremio.sql(
            f"select table_name as name from information_schema.\"tables\" where table_schema = 'lake.{folder}'"
        ):
            dremio.sql(f'drop table lake.{folder}."{row["name"]}"')
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket="lakehouse", Prefix="bronze/"):
        for item in page.get("Contents", []):
            s3.delete_object(Bucket="lakehouse", Key=item["Key"])
