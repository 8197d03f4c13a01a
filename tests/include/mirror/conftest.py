"""Two real object stores with a bucket each of their own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from include import ledger, upkeep
from include.mirror import run, spec
from include.mirror.run import Sites
from include.retention.services import connector, s3_client


@dataclass
class Site:
    """`run`: one run, as the DAG does it."""

    sites: Sites
    mirror: spec.Mirror
    bucket: str
    lake_store: Any
    offsite_store: Any

    def run(self, *, sites: Sites | None = None, **options: Any) -> run.Counts:
        with upkeep.turn(self.sites.ledger, "test", name=run.LEASE) as turn:
            return run.sync(sites or self.sites, self.mirror, "test", turn, **options)[self.bucket]

    def put(self, key: str, body: bytes) -> None:
        self.sites.lake.put_object(Bucket=self.bucket, Key=key, Body=body)

    def copies(self, folder: str = "current") -> dict[str, bytes]:
        """What the other site holds of this bucket, by key."""
        client, found = self.sites.offsite, {}
        for item in client.list_objects_v2(Bucket=self.mirror.bucket, Prefix=f"{folder}/").get("Contents", ()):
            marker = f"/{self.bucket}/"
            if marker in item["Key"]:
                body = client.get_object(Bucket=self.mirror.bucket, Key=item["Key"])["Body"].read()
                found[item["Key"].partition(marker)[2]] = body
        return found

    def ledger(self) -> dict[str, bool]:
        """Keys that the ledger says are copied, and whether each was read back."""
        with self.sites.ledger() as conn:
            rows = conn.execute(
                "select key, verified_at from lakehouse.mirror_objects where bucket = %s", [self.bucket]
            ).fetchall()
        return {row["key"]: row["verified_at"] is not None for row in rows}

    def last(self) -> dict[str, Any]:
        with self.sites.ledger() as conn:
            row = conn.execute(
                "select * from lakehouse.mirror_runs where bucket = %s order by run_id desc limit 1", [self.bucket]
            ).fetchone()
        assert row is not None
        return row

    def through(self, *, lake: str | None = None, offsite: str | None = None) -> Sites:
        """The same sites behind other addresses."""
        one, other = self.lake_store, self.offsite_store
        return replace(
            self.sites,
            lake=s3_client(lake, one.access_key, one.secret_key) if lake else self.sites.lake,
            offsite=s3_client(offsite, other.access_key, other.secret_key) if offsite else self.sites.offsite,
        )


@pytest.fixture
def site(conn: ledger.Connection, platform_postgres: Any, object_store: Any, offsite_store: Any) -> Iterator[Site]:
    conn.commit()
    lake = s3_client(object_store.endpoint_url, object_store.access_key, object_store.secret_key)
    offsite = s3_client(offsite_store.endpoint_url, offsite_store.access_key, offsite_store.secret_key)
    bucket = f"mirrored-{uuid.uuid4().hex[:12]}"
    lake.create_bucket(Bucket=bucket)
    mirror = replace(spec.load(), sources=(bucket,), delete_count=2, delete_fraction=0.0)
    sites = Sites(connector(platform_postgres.dsn("lakehouse", "lakehouse")), lake, offsite)
    yield Site(sites, mirror, bucket, object_store, offsite_store)
    for item in lake.list_objects_v2(Bucket=bucket).get("Contents", ()):
        lake.delete_object(Bucket=bucket, Key=item["Key"])
    lake.delete_bucket(Bucket=bucket)
