"""The engine as the server uses it, so that the server can be tested with a small one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Protocol

import pyarrow as pa

from embedded.sql.datasets import Catalog, Materialization, Outcome, Path, Relationship, S3Access, Session
from embedded.sql.jobs.model import Job


class Flag(Protocol):
    """A threading.Event as far as the engine needs it."""

    def is_set(self) -> bool: ...


class Materialized(Protocol):
    """What a refresh wrote and read."""

    @property
    def metadata(self) -> str: ...

    @property
    def files(self) -> tuple[str, ...]: ...

    @property
    def rows(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def scanned(self) -> tuple[Path, ...]: ...

    @property
    def columns(self) -> tuple[tuple[str, str], ...]: ...

    @property
    def sources(self) -> Mapping[Path, str]: ...

    @property
    def method(self) -> str: ...

    @property
    def parents(self) -> tuple[str, ...]: ...


class Rows(Protocol):
    """A result that is read once, by one thread at a time; `close` may come from any thread."""

    schema: pa.Schema
    scanned: list[Path]
    reflections: list[Relationship]

    def next(self) -> pa.RecordBatch | None:
        """The next batch, None after the last."""
        ...

    def close(self) -> None: ...


class Engine(Protocol):
    """Every method raises errors.SqlError subclasses with Dremio's words."""

    def execute(self, sql: str, session: Session, *, cancelled: Flag) -> Outcome: ...

    def stream(self, sql: str, session: Session, *, cancelled: Flag) -> Rows:
        """The same statement, its rows to be read as they come."""
        ...

    def foresee(self, sql: str, session: Session) -> tuple[pa.Schema | None, bool]:
        """The columns of a statement's result, if they can be known before it runs, and whether it only reads."""
        ...

    def reads_only(self, sql: str) -> bool: ...

    def describe(self, sql: str, context: Path) -> pa.Schema:
        """The columns of a query, without running it."""
        ...

    def describe_files(
        self, files: tuple[str, ...], file_format: str, access: S3Access, options: Mapping[str, object] | None = None
    ) -> tuple[tuple[str, str], ...]:
        """Name and Dremio type of each column in these files."""
        ...

    def materialize(
        self,
        materialization: Materialization,
        folder: str,
        session: Session,
        *,
        order: Sequence[str] = (),
        partition: Sequence[tuple[str, str, int]] = (),
        base: tuple[str, Mapping[Path, str]] | None = None,
        cancelled: Flag | None = None,
    ) -> Materialized: ...

    def versions(self, dataset: Path) -> Mapping[Path, str]:
        """Of all that a dataset reads, by lowered path; empty when something has none."""
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
