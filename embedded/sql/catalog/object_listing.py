"""Listing objects completely, also from a store that ends its listings too early."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from embedded.sql.datasets import S3Access
from embedded.sql.errors import ResourceError


@dataclass(frozen=True)
class StoredObject:
    key: str
    size: int
    etag: str


def client(access: S3Access) -> BaseClient:
    """An S3 client with bounded waits; creating one costs 50 ms, so keep it."""
    scheme = "https" if access.secure else "http"
    return boto3.client(
        "s3",
        endpoint_url=f"{scheme}://{access.endpoint}",
        aws_access_key_id=access.access_key,
        aws_secret_access_key=access.secret_key,
        region_name=access.region,
        config=Config(
            connect_timeout=5,
            read_timeout=60,
            retries={"max_attempts": 4, "mode": "standard"},
            s3={"addressing_style": "path"},
            max_pool_connections=16,
        ),
    )


def explain(error: Exception, source: str) -> ResourceError:
    """A storage error in words that name the source."""
    if isinstance(error, ClientError):
        detail = error.response.get("Error", {})
        text = f"{detail.get('Code', 'error')}: {detail.get('Message', '')}".strip()
    else:
        text = str(error)
    return ResourceError(f"The source [{source}] is currently unavailable. {text}")


def objects(s3: Any, bucket: str, prefix: str) -> Iterator[StoredObject]:
    """Every object under a prefix.

    SeaweedFS 4.48 says "not truncated" when a page ends at a key that is also a folder, and drops the rest. So the end
    is believed only when a listing that starts after the last key is empty too: one cheap request more.
    """
    seen: set[str] = set()
    after = ""
    while True:
        new = 0
        for page in _pages(s3, bucket, prefix, after):
            for item in page.get("Contents", ()):
                after = item["Key"]
                if after not in seen:
                    seen.add(after)
                    new += 1
                    yield StoredObject(after, int(item["Size"]), str(item["ETag"]).strip('"'))
        if new == 0:
            return


def _pages(s3: Any, bucket: str, prefix: str, after: str) -> Iterator[dict[str, Any]]:
    arguments: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": 1000}
    if after:
        arguments["StartAfter"] = after
    while True:
        page = s3.list_objects_v2(**arguments)
        yield page
        token = page.get("NextContinuationToken")
        if not page.get("IsTruncated") or not token:
            return
        arguments["ContinuationToken"] = token


def level(s3: Any, bucket: str, prefix: str) -> tuple[list[str], list[StoredObject]]:
    """The folders and the files directly under a prefix (which ends in / or is empty)."""
    folders: set[str] = set()
    files: dict[str, StoredObject] = {}
    after = ""
    while True:
        before = len(folders) + len(files)
        arguments: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "Delimiter": "/"}
        if after:
            arguments["StartAfter"] = after
        for page in s3.get_paginator("list_objects_v2").paginate(**arguments):
            folders.update(item["Prefix"][len(prefix) :].rstrip("/") for item in page.get("CommonPrefixes", ()))
            for item in page.get("Contents", ()):
                name = item["Key"][len(prefix) :]
                if name:
                    files[name] = StoredObject(item["Key"], int(item["Size"]), str(item["ETag"]).strip('"'))
        if len(folders) + len(files) == before:
            return sorted(folders), [files[name] for name in sorted(files)]
        last = max([*folders, *files])
        after = prefix + (last + "/" + chr(0x10FFFF) if last in folders else last)


STORE_ERRORS = (BotoCoreError, ClientError)
