"""Airbyte's job as a value. Statuses stay plain text: a status that is new to us must not break a wait."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SUCCEEDED = "succeeded"
FAILED = "failed"
CANCELLED = "cancelled"
FINAL = frozenset({SUCCEEDED, FAILED, CANCELLED})  # all others wait or run: pending, queued, running, incomplete

_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")


def seconds(duration: object) -> float | None:
    """Of an ISO 8601 duration such as PT1M5S; None where there is none yet."""
    match = _DURATION.fullmatch(duration) if isinstance(duration, str) else None
    if match is None or not any(match.groups()):
        return None
    days, hours, minutes, rest = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


@dataclass(frozen=True)
class SyncJob:
    """`rows` and `bytes` are what was committed, over all attempts."""

    id: int
    status: str
    connection_id: str
    started_at: str
    updated_at: str | None
    seconds: float | None
    rows: int
    bytes: int
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def final(self) -> bool:
        return self.status in FINAL

    @staticmethod
    def parse(body: Mapping[str, Any]) -> SyncJob:
        return SyncJob(
            id=int(body["jobId"]),
            status=str(body["status"]),
            connection_id=str(body.get("connectionId") or ""),
            started_at=str(body.get("startTime") or ""),
            updated_at=body.get("lastUpdatedAt"),
            seconds=seconds(body.get("duration")),
            rows=int(body.get("rowsSynced") or 0),
            bytes=int(body.get("bytesSynced") or 0),
            raw=body,
        )
