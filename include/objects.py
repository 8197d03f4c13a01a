"""Listings of an object store that can be trusted, page by page, in constant memory.

SeaweedFS ends a listing early where a page fills exactly at a key that is also the folder of others (`x` beside `x/y`).
So every end is asked for what comes after it, and a key that is another's folder is refused by name.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any, NamedTuple
from xml.etree import ElementTree

PAGE = 1000


class ListingError(Exception):
    """A listing cannot be trusted; the message names bucket and key."""


class Object(NamedTuple):
    """One object as listed. `etag` without its quotes; `modified` is the store's clock."""

    key: str
    size: int
    etag: str
    modified: dt.datetime


def read_quickly(client: Any) -> Any:
    """Makes a boto3 client read listings an order of magnitude faster: its own parser takes most of their time."""
    client.meta.events.register("before-parse.s3.ListObjectsV2", _read_contents)
    return client


def _read_contents(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Takes the objects out of the body, and leaves all else to botocore."""
    body: bytes = response_dict["body"]
    first, end = body.find(b"<Contents>"), body.rfind(b"</Contents>") + len(b"</Contents>")
    if response_dict["status_code"] != 200 or first < 0:
        return
    found = []
    for element in ElementTree.fromstring(b"<a>" + body[first:end] + b"</a>"):
        values = {child.tag: child.text or "" for child in element}
        found.append(
            {
                "Key": values["Key"],
                "Size": int(values["Size"]),
                "ETag": values["ETag"],
                "LastModified": dt.datetime.fromisoformat(values["LastModified"]),
            }
        )
    customized_response_dict["Contents"] = found
    response_dict["body"] = body[:first] + body[end:]


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
