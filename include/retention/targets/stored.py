"""Objects of a bucket: those under a prefix, and uploads that nobody finished."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from botocore.exceptions import ClientError

from include.objects import Object, listing
from include.retention.model import Item, Outcome, RetentionError, Survey
from include.retention.services import Services
from include.specs.reader import Node

BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{2,62}")
_THREADS = 8


def item(found: Object, bucket: str) -> Item:
    """An object as a plan names it."""
    facts = {"bucket": bucket, "etag": found.etag}
    return Item(found.key, found.size, found.modified.isoformat(), facts=facts)


def _is_same(s3: Any, one: Item) -> bool | None:
    """None: it is gone. False: another object has its key by now."""
    try:
        head = s3.head_object(Bucket=one.facts["bucket"], Key=one.id)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return None
        raise
    written: dt.datetime = head["LastModified"]  # in whole seconds
    same_time = abs(written - dt.datetime.fromisoformat(one.since)) < dt.timedelta(seconds=2)
    return bool(head["ETag"].strip('"') == one.facts["etag"]) and same_time


def delete_unchanged(s3: Any, items: Sequence[Item]) -> Outcome:
    """Deletes the objects that are still those of the plan. Raises RetentionError when the store refuses one."""
    with ThreadPoolExecutor(_THREADS) as pool:
        same = list(pool.map(lambda one: _is_same(s3, one), items))
    chosen = [one for one, is_same in zip(items, same, strict=True) if is_same]
    for bucket in {one.facts["bucket"] for one in chosen}:
        keys = [{"Key": one.id} for one in chosen if one.facts["bucket"] == bucket]
        for start in range(0, len(keys), 1000):
            part = {"Objects": keys[start : start + 1000], "Quiet": True}
            refused = s3.delete_objects(Bucket=bucket, Delete=part).get("Errors", ())
            if refused:
                first = refused[0]
                raise RetentionError(
                    f"s3://{bucket}/{first['Key']} and {len(refused) - 1} others were not deleted: {first.get('Code')} "
                    f"{first.get('Message', '')}; give retention the right to delete there"
                )
    return Outcome(len(chosen), sum(one.bytes for one in chosen), same.count(None), same.count(False))


def bucket_name(node: Node, key: str, value: Any) -> str:
    if not isinstance(value, str) or not BUCKET.fullmatch(value):
        raise node.fail(key, f"must be a bucket's name (lower case, digits, - and .), found {value!r}")
    return value


def days(node: Node, key: str = "days", least: int = 1) -> dt.timedelta:
    value = node.get(key, int)
    if value < least:
        raise node.fail(key, f"must be {least} or more, found {value}")
    return dt.timedelta(days=value)


@dataclass(frozen=True)
class Prefix:
    """Everything under a prefix that is older than `age`; `store`: s3 or offsite."""

    kind: ClassVar[str] = "prefix"
    store: str
    bucket: str
    prefix: str
    age: dt.timedelta

    @classmethod
    def read(cls, node: Node) -> Self:
        prefix = node.get("prefix", str)
        if not prefix.endswith("/") or prefix.startswith("/") or ".." in prefix:
            raise node.fail("prefix", f"must be a folder as `name/`, never a whole bucket, found {prefix!r}")
        return cls(
            node.one_of("store", ("s3", "offsite"), "s3"),
            bucket_name(node, "bucket", node.get("bucket", str)),
            prefix,
            days(node),
        )

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.store,)

    def _client(self, services: Services) -> Any:
        return getattr(services, self.store)

    def find(self, services: Services, now: dt.datetime, survey: Survey) -> Iterator[Item]:
        for found in listing(self._client(services), self.bucket, self.prefix):
            survey.saw(1, found.size)
            if found.modified < now - self.age:
                yield item(found, self.bucket)
            else:
                survey.keep(f"younger than {self.age.days} days")

    def delete(self, services: Services, items: Sequence[Item]) -> Outcome:
        return delete_unchanged(self._client(services), items)


@dataclass(frozen=True)
class Uploads:
    """Multipart uploads that were begun and never finished: invisible, but paid for."""

    kind: ClassVar[str] = "uploads"
    needs: ClassVar[tuple[str, ...]] = ("s3",)
    buckets: tuple[str, ...]
    age: dt.timedelta

    @classmethod
    def read(cls, node: Node) -> Self:
        return cls(tuple(bucket_name(node, "buckets", name) for name in node.get("buckets", list)), days(node))

    def find(self, services: Services, now: dt.datetime, survey: Survey) -> Iterator[Item]:
        for bucket in self.buckets:
            for page in services.s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
                for upload in page.get("Uploads", ()):
                    survey.saw(1, 0)
                    if upload["Initiated"] < now - self.age:
                        facts = {"bucket": bucket, "key": upload["Key"], "upload": upload["UploadId"]}
                        since = upload["Initiated"].isoformat()
                        yield Item(f"{bucket}/{upload['Key']}?uploadId={upload['UploadId']}", 0, since, facts=facts)
                    else:
                        survey.keep(f"younger than {self.age.days} days")

    def delete(self, services: Services, items: Sequence[Item]) -> Outcome:
        done = Outcome()
        for one in items:
            try:
                services.s3.abort_multipart_upload(
                    Bucket=one.facts["bucket"], Key=one.facts["key"], UploadId=one.facts["upload"]
                )
                done += Outcome(deleted=1)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                    raise
                done += Outcome(gone=1)
        return done
