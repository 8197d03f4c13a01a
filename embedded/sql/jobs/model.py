"""A job and its states, in Dremio's words."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from embedded.sql import clock
from embedded.sql.datasets import Outcome

NOT_SUBMITTED = "NOT_SUBMITTED"
PENDING = "PENDING"
METADATA_RETRIEVAL = "METADATA_RETRIEVAL"
PLANNING = "PLANNING"
QUEUED = "QUEUED"
STARTING = "STARTING"
RUNNING = "RUNNING"
COMPLETED = "COMPLETED"
CANCELED = "CANCELED"
FAILED = "FAILED"
CANCELLATION_REQUESTED = "CANCELLATION_REQUESTED"

FINAL = frozenset({COMPLETED, CANCELED, FAILED})
WALK = (NOT_SUBMITTED, PENDING, METADATA_RETRIEVAL, PLANNING, QUEUED, STARTING, RUNNING)


@dataclass
class Job:
    """`state` moves only forward; whoever moves it holds `guard`."""

    sql: str
    user: str
    context: tuple[str, ...] = ()
    query_type: str = "REST"
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    state: str = NOT_SUBMITTED
    submitted_at: datetime = field(default_factory=clock.now)
    started_at: datetime | None = None
    ended_at: datetime | None = None
    row_count: int | None = None
    error: str = ""
    cancellation_reason: str = ""
    details: dict[str, Any] = field(default_factory=dict)  # reflections, scanned datasets, how it was accelerated
    run: Callable[[Job], Outcome] | None = field(default=None, repr=False)
    on_end: Callable[[Job], None] | None = field(default=None, repr=False)
    deadline: float | None = None  # on the monotonic clock
    timed_out: bool = False
    guard: threading.RLock = field(default_factory=threading.RLock, repr=False)
    done: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def final(self) -> bool:
        return self.state in FINAL

    def advance(self, state: str) -> None:
        """Go on to a later state of the normal walk; a request to cancel is not overwritten."""
        with self.guard:
            if self.state in WALK and WALK.index(state) > WALK.index(self.state):
                self.state = state

    def cancelled(self) -> bool:
        """What a running statement asks: should I stop?"""
        return self.state == CANCELLATION_REQUESTED or self.timed_out

    def check_deadline(self) -> bool:
        """True once, when the time limit has passed."""
        if self.deadline is None or self.timed_out or self.final or time.monotonic() < self.deadline:
            return False
        self.timed_out = True
        return True
