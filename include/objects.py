"""Listings of an object store that can be trusted, page by page, in constant memory.

SeaweedFS ends a listing early where a page fills exactly at a key that is also the folder of others (`x` beside `x/y`).
So every end is asked for what comes after it, and a key that is another's folder is refused by name.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any, NamedTuple

PAGE = 1000


class ListingError(Exception):
    """A listing cannot be trusted; the message names bucket and key."""


class Object(NamedTuple):
    """One object as listed. `etag` without its quotes; `modified` is the store's clock."""

    key: str
    size: int
    etag: str
    modified: dt.datetime


def listing(s3: Any, bucket: str, prefix: str = "", page: int = PAGE) -> Iterator[Object]:
    """Every object under `prefix`. `s3` is a boto3 client. Raises ListingError, and botocore's errors."""
    after, previous = "", ""
    while True:
        reply = s3.list_objects_v2(
            Bucket=bucket, Prefix=prefix, MaxKeys=page, **({"StartAfter": after} if after else {})
        )
        found = reply.get("Contents", ())
        for item in found:
            key = item["Key"]
            if previous and key.startswith(f"{previous.rstrip('/')}/"):
                raise _twofold(bucket, previous)
            yield Object(key, item["Size"], item["ETag"].strip('"'), item["LastModified"])
            previous = key
        if not found:  # nothing comes after the last key: the end is the end
            return
        # The next page begins behind this key, and behind all that lies in it if it is a folder too.
        if s3.list_objects_v2(Bucket=bucket, Prefix=f"{previous.rstrip('/')}/", MaxKeys=1).get("Contents"):
            raise _twofold(bucket, previous)
        after = previous


def _twofold(bucket: str, key: str) -> ListingError:
    return ListingError(
        f"s3://{bucket}/{key} is an object and a folder at once: listings that pass it may end early. "
        "Move it to a key that no other key begins with"
    )
