"""include/platform/s3/buckets.yaml as checked values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from include.paths import PLATFORM
from include.specs.reader import Node, read

FILE = PLATFORM / "s3" / "buckets.yaml"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True)
class Rule:
    """A lifecycle rule of the keys under `prefix`; days since they were written, or since an upload began."""

    id: str
    prefix: str
    expire_days: int | None
    abort_uploads_days: int | None


@dataclass(frozen=True)
class Bucket:
    """None: not managed. `lifecycle` of an entry that has the key is the whole of it. `policy` None: must have none."""

    name: str
    encryption: str | None
    versioning: str | None
    lifecycle: tuple[Rule, ...] | None
    policy: Mapping[str, Any] | None
    tables: bool


def load(file: Path = FILE) -> tuple[Bucket, ...]:
    """Raises SpecError naming the file, the field and the fix."""
    root = read(file)
    return tuple(_bucket(str(name), _node(root, str(name))) for name in root.raw)


def _node(root: Node, name: str) -> Node:
    if not _BUCKET.fullmatch(name):
        raise root.fail(name, "is no name of a bucket; use 3 to 63 lower-case letters, digits, dots and hyphens")
    return root.child(name)


def _bucket(name: str, node: Node) -> Bucket:
    node.get("purpose", str)
    bucket = Bucket(
        name,
        node.one_of("encryption", ("AES256",)) if "encryption" in node.raw else None,
        node.one_of("versioning", ("Enabled", "Suspended")) if "versioning" in node.raw else None,
        tuple(_rules(node.child("lifecycle"))) if "lifecycle" in node.raw else None,
        node.get("policy", Mapping, None),
        node.get("tables", bool, False),
    )
    if bucket.tables and (bucket.encryption or bucket.versioning or bucket.lifecycle is not None):
        raise node.fail("tables", "is true: the catalog manages the bucket; take out encryption, versioning, lifecycle")
    node.done()
    return bucket


def _rules(root: Node) -> Iterator[Rule]:
    for name in root.raw:
        node = root.child(str(name))
        expire, abort = (node.get(key, int, None) for key in ("expire_days", "abort_uploads_days"))
        if not (expire or abort) or min(expire or 1, abort or 1) < 1:
            raise node.fail("expire_days", "must be at least 1, or abort_uploads_days")
        yield Rule(str(name), node.get("prefix", str), expire, abort)
        node.done()
