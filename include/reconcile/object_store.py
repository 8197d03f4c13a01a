"""Buckets as declared state, over the S3 API."""

from __future__ import annotations

from typing import Any

from include.paths import PLATFORM
from include.reconcile.plan import Change, declared


def run(client: Any, *, apply: bool) -> list[Change]:
    """`client` is a boto3 S3 client. Creates missing buckets; never deletes one."""
    there = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    missing = [name for name in declared(PLATFORM / "s3" / "buckets.yaml") if name not in there]
    if apply:
        for name in missing:
            client.create_bucket(Bucket=name)
    return [Change("create", "bucket", name) for name in missing]
