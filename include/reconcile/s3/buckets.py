"""Buckets: there, encrypted, versioned, with their lifecycle, and open to nobody but whom a declared policy names."""

from __future__ import annotations

import json
from typing import Any

from include.reconcile.plan import Change
from include.reconcile.s3.session import Session, canonical, or_none
from include.specs.s3 import Bucket, Rule


def run(session: Session, buckets: tuple[Bucket, ...]) -> None:
    there = {bucket["Name"] for bucket in session.s3.list_buckets()["Buckets"]}
    for bucket in buckets:
        _one(session, bucket, there=bucket.name in there)


def _one(session: Session, bucket: Bucket, *, there: bool) -> None:
    if not there and not bucket.tables:
        session.make(Change("create", "bucket", bucket.name), lambda: session.s3.create_bucket(Bucket=bucket.name))
    known = there or bucket.tables or session.apply
    if bucket.encryption:
        _encryption(session, bucket, known=known)
    if bucket.versioning:
        _versioning(session, bucket, known=known)
    if bucket.lifecycle is not None:
        _lifecycle(session, bucket, known=known)
    _policy(session, bucket, known=known)


def _encryption(session: Session, bucket: Bucket, *, known: bool) -> None:
    read = lambda: session.s3.get_bucket_encryption(Bucket=bucket.name)  # noqa: E731
    there = or_none(read, ["ServerSideEncryptionConfigurationNotFoundError"]) if known else None
    rules = there["ServerSideEncryptionConfiguration"]["Rules"] if there else []
    actual = rules[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] if rules else None
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": bucket.encryption}}
    if actual != bucket.encryption:
        session.make(
            Change("update", "bucket encryption", bucket.name, (f"{actual or 'none'} -> {bucket.encryption}",)),
            lambda: session.s3.put_bucket_encryption(
                Bucket=bucket.name, ServerSideEncryptionConfiguration={"Rules": [rule]}
            ),
        )


def _versioning(session: Session, bucket: Bucket, *, known: bool) -> None:
    actual = session.s3.get_bucket_versioning(Bucket=bucket.name).get("Status") if known else None
    if actual != bucket.versioning and (actual or bucket.versioning != "Suspended"):
        session.make(
            Change("update", "bucket versioning", bucket.name, (f"{actual or 'none'} -> {bucket.versioning}",)),
            lambda: session.s3.put_bucket_versioning(
                Bucket=bucket.name, VersioningConfiguration={"Status": bucket.versioning}
            ),
        )


def _lifecycle(session: Session, bucket: Bucket, *, known: bool) -> None:
    read = lambda: session.s3.get_bucket_lifecycle_configuration(Bucket=bucket.name)  # noqa: E731
    there = or_none(read, ["NoSuchLifecycleConfiguration"]) if known else None
    actual = {rule.get("ID", ""): _shape(rule) for rule in (there or {}).get("Rules", [])}
    rules = [_body(rule) for rule in bucket.lifecycle or ()]
    wanted = {rule["ID"]: _shape(rule) for rule in rules}
    names = sorted({*wanted, *actual})
    lines = tuple(f"{n}: {actual.get(n)} -> {wanted.get(n)}" for n in names if actual.get(n) != wanted.get(n))
    if lines:
        configuration = {"LifecycleConfiguration": {"Rules": rules}}
        session.make(
            Change("update", "bucket lifecycle", bucket.name, lines),
            lambda: (
                session.s3.put_bucket_lifecycle_configuration(Bucket=bucket.name, **configuration)
                if rules
                else session.s3.delete_bucket_lifecycle(Bucket=bucket.name)
            ),
        )


def _body(rule: Rule) -> dict[str, Any]:
    body: dict[str, Any] = {"ID": rule.id, "Status": "Enabled", "Filter": {"Prefix": rule.prefix}}
    if rule.expire_days:
        body["Expiration"] = {"Days": rule.expire_days}
    if rule.abort_uploads_days:
        body["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": rule.abort_uploads_days}
    return body


def _shape(rule: dict[str, Any]) -> dict[str, Any]:
    prefix = (rule.get("Filter") or {}).get("Prefix", rule.get("Prefix", ""))
    kept = ("Status", "Expiration", "AbortIncompleteMultipartUpload", "NoncurrentVersionExpiration", "Transitions")
    return {"Prefix": prefix, **{key: rule[key] for key in kept if rule.get(key)}}


def _policy(session: Session, bucket: Bucket, *, known: bool) -> None:
    """A policy that nobody declared may have opened the bucket to the world: it is taken off."""
    read = lambda: session.s3.get_bucket_policy(Bucket=bucket.name)  # noqa: E731
    there = or_none(read, ["NoSuchBucketPolicy", "NoSuchBucket"]) if known else None
    actual = canonical(json.loads(there["Policy"])) if there else None
    wanted = canonical(dict(bucket.policy)) if bucket.policy is not None else None
    if actual == wanted:
        return
    change = Change("update", "bucket policy", bucket.name, (f"{_text(actual)} -> {_text(wanted)}",))
    if bucket.policy is None:
        session.make(change, lambda: session.s3.delete_bucket_policy(Bucket=bucket.name))
    else:
        text = json.dumps(dict(bucket.policy))
        session.make(change, lambda: session.s3.put_bucket_policy(Bucket=bucket.name, Policy=text))


def _text(document: Any) -> str:
    return "none" if document is None else json.dumps(document, sort_keys=True)
