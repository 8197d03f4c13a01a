"""`include/mirror.yaml`, checked."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from pathlib import Path

from include.paths import INCLUDE
from include.specs.reader import Node, read

FILE = INCLUDE / "mirror.yaml"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{2,62}")


@dataclass(frozen=True)
class Mirror:
    """bucket: off-site. sources: buckets of the lake. Deletes above both limits are refused. read_back: every copy is
    read back in full within this time. every: how often a run starts.
    """

    bucket: str
    sources: tuple[str, ...]
    threads: int
    delete_count: int
    delete_fraction: float
    read_back: dt.timedelta
    every: dt.timedelta


def _bucket(node: Node, key: str, value: object) -> str:
    if not isinstance(value, str) or not _BUCKET.fullmatch(value):
        raise node.fail(key, f"must be a bucket's name (lower case, digits, - and .), found {value!r}")
    return value


def _least(node: Node, key: str, least: int) -> int:
    value: int = node.get(key, int)
    if value < least:
        raise node.fail(key, f"must be {least} or more, found {value}")
    return value


def load(file: Path = FILE) -> Mirror:
    """Raises SpecError naming file, field and fix."""
    node = read(file)
    fraction: float = node.get("delete_fraction", float)
    if not 0 <= fraction <= 1:
        raise node.fail("delete_fraction", f"must be between 0.0 and 1.0, found {fraction}")
    sources = tuple(_bucket(node, "sources", name) for name in node.get("sources", list))
    if not sources:
        raise node.fail("sources", "is empty; name the buckets to copy")
    mirror = Mirror(
        bucket=_bucket(node, "bucket", node.get("bucket", str)),
        sources=sources,
        threads=_least(node, "threads", 1),
        delete_count=_least(node, "delete_count", 0),
        delete_fraction=fraction,
        read_back=dt.timedelta(days=_least(node, "read_back_days", 1)),
        every=dt.timedelta(minutes=_least(node, "every_minutes", 1)),
    )
    node.done()
    return mirror
