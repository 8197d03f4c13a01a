"""The engine as the server uses it, so that the server can be tested with a small one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path as FilePath
from typing import Protocol

import pyarrow as pa

from embedded.sql.datasets import Catalog, Outcome, Path, Session
from embedded.sql.jobs.model import Job


class Flag(Protocol):
    """A threading.Event as far as the engine needs it."""

    def is_set(self) -> bool: ...


class Engine(Protocol):
    """Every method raises errors.SqlError subclasses with Dremio's words."""

    def execute(self, sql: str, session: Session, *, cancelled: Flag) -> Outcome: ...

    def describe(self, sql: str, context: Path) -> pa.Schema:
        """The columns of a query, without running it."""
        ...

    def interrupt(self, job_id: str) -> object: ...

    def close(self) -> None: ...


class Cancellation:
    """A job's wish to stop, as the flag that the engine looks at."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def is_set(self) -> bool:
        return self._job.cancelled()


MakeEngine = Callable[[Catalog, FilePath, str, int], Engine]
