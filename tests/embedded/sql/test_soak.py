"""Minutes of mixed load with kill -9 in between. SOAK_MINUTES=60 make soak-sql for the whole hour."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import boto3
import pytest
from pyiceberg.catalog import load_catalog

from tests.embedded.sql.process import SqlProcess, rest_source
from tests.embedded.sql.soak import Soak

if TYPE_CHECKING:
    from embedded.object_store import ObjectStore

MINUTES = float(os.environ.get("SOAK_MINUTES", "1.25"))
KILL_EVERY = float(os.environ.get("SOAK_KILL_EVERY", "60" if MINUTES > 5 else "15"))

FILES_OF_A_CHANGE = 8  # data and delete files, manifests and their list


def orphans(store: ObjectStore, tables: list[str]) -> list[str]:
    """Objects below the tables' locations that no snapshot and no metadata log entry names."""
    catalog = load_catalog(
        "soak",
        type="rest",
        uri=store.iceberg_uri,
        warehouse=store.warehouse,
        credential=f"{store.access_key}:{store.secret_key}",
        **{
            "oauth2-server-uri": f"{store.iceberg_uri}/v1/oauth/tokens",
            "s3.endpoint": f"http://{store.endpoint}",
            "s3.access-key-id": store.access_key,
            "s3.secret-access-key": store.secret_key,
        },
    )
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://{store.endpoint}",
        aws_access_key_id=store.access_key,
        aws_secret_access_key=store.secret_key,
        region_name="us-east-1",
    )
    found: list[str] = []
    for name in tables:
        table = catalog.load_table(tuple(name.split(".")[1:]))
        known = {table.metadata_location, *(entry.metadata_file for entry in table.metadata.metadata_log)}
        for snapshot in table.snapshots():
            known.add(snapshot.manifest_list)
            for manifest in snapshot.manifests(table.io):
                known.add(manifest.manifest_path)
                known |= {entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io)}
        bucket, _, prefix = table.location().removeprefix("s3://").partition("/")
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix.rstrip("/") + "/"):
            keys = [f"s3://{bucket}/{item['Key']}" for item in page.get("Contents", ())]
            found += [key for key in keys if key not in known and not key.endswith("/")]
    return found


@pytest.mark.faults
@pytest.mark.timeout(0)
def test_nothing_acknowledged_is_lost(
    make_server: Callable[..., SqlProcess], object_store: ObjectStore, prefix: str
) -> None:
    server = make_server(FAULTS='{"backoff_unit": 0.2}').start()
    server.client().create(rest_source(object_store, "lake"))
    seed = int(os.environ.get("SOAK_SEED", str(time.time_ns() % 10**6)))
    soak = Soak(server, f"lake.{prefix}", tables=3, seed=seed)
    soak.go(MINUTES * 60, KILL_EVERY)
    print(f"seed {seed}: {soak.tally}")
    soak.check()
    assert soak.tally.commits > 0
    tables = [table.name for table in soak.tables if table.exists]
    client = server.client()
    for name in tables:
        moment = time.strftime("%Y-%m-%d %H:%M:%S.000", time.gmtime(time.time() + 1))
        client.run(f"vacuum table {name} expire snapshots older_than '{moment}' retain_last 1")
    # What a killed statement had written lies there, and nothing else: the number does not grow with the commits.
    left = [key for key in orphans(object_store, tables) if not re.search(r"/metadata/.*\.metadata\.json$", key)]
    print(f"{len(left)} orphans of {soak.tally.unknown} interrupted changes")
    assert len(left) <= soak.tally.unknown * FILES_OF_A_CHANGE
    soak.check()
