"""A reflection, its materializations and its status in Dremio's words (dremio-oss 25.2 ReflectionStatusServiceImpl)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from embedded.sql import clock
from embedded.sql.datasets import Path

# States of a reflection's entry. NEW: stored, and the manager has not seen it yet.
NEW, REFRESH, REFRESHING, ACTIVE = "NEW", "REFRESH", "REFRESHING", "ACTIVE"
FAILED, UPDATE, REFRESH_PENDING = "FAILED", "UPDATE", "REFRESH_PENDING"

MAX_ATTEMPTS = 24  # layout.refresh.max.attempts
MAX_FAILING = timedelta(hours=72)
_BACKOFF = (1, 2, 5, 15, 30, 60, 120, 240)  # minutes after the n-th failure; the last one repeats


@dataclass(frozen=True)
class Reflection:
    """What the store has. A change is a new object, which takes the old one's place when it is durable."""

    dataset_id: str
    name: str
    type: Literal["RAW", "AGGREGATION"]
    definition: dict[str, Any]  # the field lists, as REST shows them
    enabled: bool = True
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    tag: str = field(default_factory=lambda: str(uuid.uuid4()))
    created_at: datetime = field(default_factory=clock.now)
    updated_at: datetime = field(default_factory=clock.now)
    state: str = NEW
    config_error: str = ""
    failure_count: int = 0
    last_failure_message: str | None = None
    last_failure_at: datetime | None = None
    failing_since: datetime | None = None
    last_submitted_at: datetime | None = None
    requested_at: datetime | None = None
    pending_since: datetime | None = None  # not stored

    def failed(self, message: str, now: datetime) -> Reflection:
        """One more failed or cancelled refresh; the last one that is tried gives up."""
        since = self.failing_since or now
        count = self.failure_count + 1
        return replace(
            self,
            state=FAILED if count >= MAX_ATTEMPTS or now - since >= MAX_FAILING else ACTIVE,
            failure_count=count,
            last_failure_message=message,
            last_failure_at=now,
            failing_since=since,
        )

    def healthy(self, state: str = ACTIVE) -> Reflection:
        """Nothing has failed (any more)."""
        return replace(
            self, state=state, failure_count=0, last_failure_message=None, last_failure_at=None, failing_since=None
        )

    def backoff_ends(self, unit: float) -> datetime | None:
        """When the next try may start by itself; `unit` is the length of Dremio's minute in seconds."""
        if not self.failure_count or self.last_failure_at is None:
            return None
        minutes = _BACKOFF[min(self.failure_count, len(_BACKOFF)) - 1]
        return self.last_failure_at + timedelta(seconds=minutes * unit)


@dataclass(frozen=True)
class Dependency:
    """A table that a refresh read, or a reflection that was read in place of tables."""

    path: Path
    entity_id: str | None  # None: a table that has no row (nobody has asked for its id yet)
    kind: Literal["DATASET", "REFLECTION"] = "DATASET"


@dataclass
class Refresh:
    """One materialization: what one refresh wrote, or is writing."""

    reflection_id: str
    definition_tag: str
    series_id: int
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    state: str = "RUNNING"
    created_at: datetime = field(default_factory=clock.now)
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    last_refresh_from_pds: datetime | None = None
    job_id: str | None = None
    series_ordinal: int = 0
    refresh_method: str = "FULL"
    failure_message: str | None = None
    row_count: int = 0
    size_bytes: int = 0
    folder: str = ""  # its own: everything that it writes
    metadata: str = ""  # of its Iceberg table; of an older refresh when nothing had changed
    files: list[str] = field(default_factory=list)  # data files; some may lie in folders of older refreshes
    stored_columns: list[list[str]] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)  # encoded lowered path -> version; {}: may answer nothing
    parents: list[str] = field(default_factory=list)
    dependencies: tuple[Dependency, ...] = ()  # stored with the reflection

    def folders(self) -> set[str]:
        """Folders of refreshes that hold something of this one."""
        depth = self.folder.count("/") + 1
        return {"/".join(uri.split("/")[:depth]) for uri in (self.metadata, *self.files) if uri}

    @property
    def duration_ms(self) -> int | None:
        if self.finished_at is None:
            return None
        return int((self.finished_at - self.created_at).total_seconds() * 1000)


@dataclass(frozen=True)
class Policy:
    """When reflections on a dataset refresh and expire."""

    refresh_period: timedelta | None = timedelta(hours=1)  # None: never by itself
    grace_period: timedelta | None = timedelta(hours=3)  # None: never expires
    on_data_changes: bool = False
    schedule: str = ""  # rules.parse_schedule


@dataclass(frozen=True)
class Status:
    config: str
    refresh: str
    availability: str
    combined: str
    last_data_fetch: datetime | None
    expires_at: datetime | None


def status(reflection: Reflection, policy: Policy, done: Refresh | None) -> Status:
    """The four words of a status; `done` is the newest materialization that may answer queries."""
    available = done is not None and reflection.enabled
    config = "INVALID" if reflection.config_error else "OK"
    refresh = _refresh_word(reflection, policy)
    return Status(
        config=config,
        refresh=refresh,
        availability="AVAILABLE" if available else "NONE",
        combined=_combined(reflection, config, refresh, available),
        last_data_fetch=done.last_refresh_from_pds if done else None,
        expires_at=done.expires_at if done else None,
    )


def _refresh_word(reflection: Reflection, policy: Policy) -> str:
    by_itself = policy.refresh_period is not None or policy.on_data_changes or bool(policy.schedule)
    words: Mapping[str, str] = {
        REFRESH_PENDING: "PENDING",
        REFRESH: "RUNNING",
        REFRESHING: "RUNNING",
        UPDATE: "RUNNING",
        FAILED: "GIVEN_UP",
    }
    if not reflection.enabled:
        return "MANUAL" if not by_itself else "SCHEDULED"
    return words.get(reflection.state, "SCHEDULED" if by_itself else "MANUAL")


def _combined(reflection: Reflection, config: str, refresh: str, available: bool) -> str:
    if not reflection.enabled:
        return "DISABLED"
    if config == "INVALID":
        return "INVALID"
    if refresh == "GIVEN_UP":
        return "FAILED"
    if refresh in ("PENDING", "RUNNING"):
        # So it can never be read from here that a refresh has finished.
        return "CAN_ACCELERATE" if available else "REFRESHING"
    if available:
        return "CAN_ACCELERATE_WITH_FAILURES" if reflection.failure_count else "CAN_ACCELERATE"
    return f"CANNOT_ACCELERATE_{refresh}"


def expiry(submitted: datetime, policy: Policy) -> datetime:
    """Dremio's "never" is a thousand years."""
    return submitted + (policy.grace_period or timedelta(days=365_000))
