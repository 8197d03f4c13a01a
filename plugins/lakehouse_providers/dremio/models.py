"""Dremio's replies as values; every other key of the reply is kept in `raw`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]

COMPLETED = "COMPLETED"
# The server says CANCELED; one client waits for CANCELLED for ever, so both spellings end a wait here.
CANCELED = frozenset({"CANCELED", "CANCELLED"})
FAILED = frozenset({"FAILED", "INVALID_STATE"})
FINAL = CANCELED | FAILED | {COMPLETED}


def instant(value: object) -> dt.datetime | None:
    """A timestamp of REST or SQL, in UTC. None for absent; -1 arrives as the last millisecond of 1969: never."""
    if not isinstance(value, str) or not value.strip():
        return None
    moment = dt.datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
    moment = moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
    return None if moment.year < 1970 else moment


@dataclass(frozen=True)
class Job:
    id: str
    state: str
    row_count: int
    error: str
    started_at: dt.datetime | None
    ended_at: dt.datetime | None
    chosen: tuple[str, ...]
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def final(self) -> bool:
        return self.state in FINAL

    @property
    def seconds(self) -> float | None:
        if self.started_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.started_at).total_seconds()

    @staticmethod
    def parse(job_id: str, body: Mapping[str, Any]) -> Job:
        relations = (body.get("acceleration") or {}).get("reflectionRelationships") or []
        return Job(
            id=job_id,
            state=str(body.get("jobState", "")),
            row_count=int(body.get("rowCount") or 0),
            error=str(body.get("errorMessage") or body.get("cancellationReason") or ""),
            started_at=instant(body.get("startedAt")),
            ended_at=instant(body.get("endedAt")),
            chosen=tuple(r["reflectionId"] for r in relations if r.get("relationship") == "CHOSEN"),
            raw=body,
        )


@dataclass(frozen=True)
class Reflection:
    id: str
    name: str
    type: str
    dataset_id: str
    enabled: bool
    config: str
    refresh: str
    availability: str
    failure_count: int
    last_failure: str
    last_data_fetch: dt.datetime | None
    method: str
    bytes: int
    raw: Mapping[str, Any] = field(repr=False)

    @staticmethod
    def parse(body: Mapping[str, Any]) -> Reflection:
        status = body.get("status") or {}
        return Reflection(
            id=body["id"],
            name=body.get("name", ""),
            type=body.get("type", ""),
            dataset_id=body.get("datasetId", ""),
            enabled=bool(body.get("enabled", True)),
            config=status.get("config", "OK"),
            refresh=status.get("refresh", ""),
            availability=status.get("availability", "NONE"),
            failure_count=int(status.get("failureCount") or 0),
            last_failure=_failure_text(status.get("lastFailureMessage")),
            last_data_fetch=instant(status.get("lastDataFetch")),
            method=status.get("refreshMethod", ""),
            bytes=int(body.get("currentSizeBytes") or 0),
            raw=body,
        )


def _failure_text(value: object) -> str:
    return str(value.get("message", value)) if isinstance(value, Mapping) else str(value or "")


@dataclass(frozen=True)
class Materialization:
    """A row of sys.materializations."""

    id: str
    reflection_id: str
    state: str
    created: dt.datetime | None
    data_fetched: dt.datetime | None
    failure: str
    job_id: str
    bytes: int
    milliseconds: int | None

    @staticmethod
    def parse(row: Mapping[str, Any]) -> Materialization:
        took = row.get("last_refresh_duration_millis")
        return Materialization(
            id=str(row["materialization_id"]),
            reflection_id=str(row["reflection_id"]),
            state=str(row.get("state") or ""),
            created=instant(row.get("created")),
            data_fetched=instant(row.get("last_refresh_from_pds")),
            failure=str(row.get("failure_msg") or ""),
            job_id=str(row.get("init_refresh_job_id") or ""),
            bytes=int(row.get("size_bytes") or 0),
            milliseconds=None if took is None else int(took),
        )
