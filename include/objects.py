"""Listings of an object store that can be trusted, page by page, in constant memory.

SeaweedFS ends a listing early where a page fills exactly at a key that is also the folder of others (`x` beside `x/y`).
So every end is asked for what comes after it, and a key that is another's folder is refused by name.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
    # First, so that botocore's look for errors, which parses the whole body, finds only what is left of it.
    client.meta.events.register_first("before-parse.s3", _read_contents)
    return client


def _read_contents(
    operation_model: Any, response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any
) -> None:
    """Takes the objects out of the body, and leaves all else to botocore."""
    if operation_model.name != "ListObjectsV2":
        return
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
    """Every object under `prefix`; the next page is asked for while the caller goes through one.

    `s3` is a boto3 client. Raises ListingError, and botocore's errors.
    """
    with ThreadPoolExecutor(2) as pool:
        asked = pool.submit(_page, s3, bucket, prefix, page, "")
        while found := asked.result():  # nothing comes after the last key: the end is the end
            last = found[-1]["Key"]
            # The next page begins behind this key, and behind all that lies in it if it is a folder too.
            asked = pool.submit(_page, s3, bucket, prefix, page, last)
            inside = pool.submit(_page, s3, bucket, f"{last.rstrip('/')}/", 1, "")
            previous = ""
            for item in found:
                key = item["Key"]
                if previous and key.startswith(f"{previous.rstrip('/')}/"):
                    raise _twofold(bucket, previous)
                yield Object(key, item["Size"], item["ETag"].strip('"'), item["LastModified"])
                previous = key
            if inside.result():
                raise _twofold(bucket, last)


def _page(s3: Any, bucket: str, prefix: str, keys: int, after: str) -> list[dict[str, Any]]:
    start = {"StartAfter": after} if after else {}
    found: list[dict[str, Any]] = s3.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=keys, **start).get(
        "Contents", []
    )
    return found


def _twofold(bucket: str, key: str) -> ListingError:
    return ListingError(
        f"s3://{bucket}/{key} is an object and a folder at once: listings that pass it may end early. "
        "Move it to a key that no other key begins with"
    )
