"""Bronze objects whose every row a newer sync has replaced.

Bronze is what silver is a pure function of, and source = bronze = silver is checked in every run. So age alone deletes
nothing: an object goes only when it is old enough and no row of its sync is the newest of its key.
"""

from __future__ import annotations

import bisect
import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from include import ledger
from include.objects import Object, listing
from include.publication import quote
from include.retention.model import BlockedError, Item, Outcome, Survey
from include.retention.services import Services
from include.retention.targets.stored import delete_unchanged, item
from include.specs import pipeline as pipelines
from include.specs.pipeline import Group, Pipeline, Stream
from include.specs.reader import Node

HOLDER = "retention"
LEASE_SECONDS = 900
# Between the store's clock and that of whoever wrote a sync's start and end.
_SLACK = dt.timedelta(minutes=1)


@dataclass(frozen=True)
class _Sync:
    job: int
    status: str
    start: dt.datetime
    end: dt.datetime


class _Windows:
    """Which syncs may have written an object, by when it appeared. Syncs of one connection never run together."""

    def __init__(self, syncs: Sequence[_Sync]) -> None:
        self._syncs = sorted(syncs, key=lambda sync: sync.start)
        self._starts = [sync.start - _SLACK for sync in self._syncs]

    def at(self, moment: dt.datetime) -> list[_Sync]:
        found = []
        # Windows overlap by their slack only; the eighth before is far outside.
        last = bisect.bisect_right(self._starts, moment)
        for sync in self._syncs[max(0, last - 8) : last]:
            if moment <= sync.end + _SLACK:
                found.append(sync)
        return found


@dataclass(frozen=True)
class Bronze:
    kind: ClassVar[str] = "bronze"
    needs: ClassVar[tuple[str, ...]] = ("s3", "sql")
    pipelines: tuple[str, ...]
    keep_syncs: int

    @classmethod
    def read(cls, node: Node) -> Self:
        keep = node.get("keep_syncs", int)
        if keep < 1:
            raise node.fail("keep_syncs", f"must be 1 or more, found {keep}")
        return cls(node.names("pipelines"), keep)

    def find(self, services: Services, now: dt.datetime, survey: Survey) -> Iterator[Item]:
        for name in self.pipelines:
            declared = pipelines.load(name)
            for group in declared.groups:
                syncs = _syncs(services, declared, group)
                for stream in group.streams:
                    yield from self._stream(services, declared, stream, syncs, now, survey)

    def _stream(
        self,
        services: Services,
        declared: Pipeline,
        stream: Stream,
        syncs: Sequence[_Sync],
        now: dt.datetime,
        survey: Survey,
    ) -> Iterator[Item]:
        before = now - dt.timedelta(days=declared.bronze_retention_days)
        windows, replaced = _Windows(syncs), set[int]()
        asked = False
        for found in listing(services.s3, services.bucket, _prefix(declared, stream)):
            survey.saw(1, found.size)
            if found.modified < before and not asked:  # a scan of all keys: only when something is old enough
                asked, replaced = True, self._replaced(services, declared, stream, syncs, before)
            reason = _kept(services, found, windows, replaced, before)
            if reason:
                survey.keep(reason)
            else:
                made = item(found, services.bucket)
                yield Item(made.id, made.bytes, made.since, facts={**made.facts, **_place(declared, stream)})

    def _replaced(
        self, services: Services, declared: Pipeline, stream: Stream, syncs: Sequence[_Sync], before: dt.datetime
    ) -> set[int]:
        """Jobs of which no row counts any more."""
        succeeded = sorted(sync.job for sync in syncs if sync.status == "succeeded")
        newest = set(succeeded[-self.keep_syncs :])
        folded = _folded(services, declared, stream)
        old = {sync.job for sync in syncs if sync.end < before and sync.job not in newest}
        counted = {job for job in old if job in set(succeeded) and (folded is None or job <= folded)}
        if counted:
            assert services.sql is not None
            needed = {int(row["job_id"]) for row in services.sql(_needed_sql(declared, stream, succeeded))}
            counted -= needed
        return counted | {sync.job for sync in syncs if sync.job in old and sync.status != "succeeded"}

    def delete(self, services: Services, items: Sequence[Item]) -> Outcome:
        """Holds each pipeline's lease meanwhile: nothing is built from files that go. Raises BlockedError."""
        done = Outcome()
        for name in sorted({str(one.facts["pipeline"]) for one in items}):
            with services.ledger() as conn:
                _hold(conn, name)
            try:
                done += self._delete(services, [one for one in items if one.facts["pipeline"] == name])
            finally:
                with services.ledger() as conn:
                    ledger.release_lease(conn, name, HOLDER)
        return done

    def _delete(self, services: Services, items: Sequence[Item]) -> Outcome:
        done = delete_unchanged(services.s3, items)
        assert services.sql is not None
        for table in sorted({str(one.facts["table"]) for one in items}):
            # Promoted folders know their files by name: a query over one that is gone would fail.
            services.sql(f"ALTER TABLE {table} REFRESH METADATA")
        return done


def _hold(conn: ledger.Connection, pipeline: str) -> None:
    try:
        ledger.hold_lease(conn, pipeline, HOLDER, LEASE_SECONDS)
    except ledger.LeaseHeldError as error:
        raise BlockedError(f"pipeline {pipeline} is being built: {error}; the next run goes on") from None


def _prefix(declared: Pipeline, stream: Stream) -> str:
    return "/".join(declared.bronze_path(stream)) + "/"


def _place(declared: Pipeline, stream: Stream) -> dict[str, str]:
    return {"pipeline": declared.name, "table": quote(declared.bronze_path(stream))}


def _syncs(services: Services, declared: Pipeline, group: Group) -> list[_Sync]:
    with services.ledger() as conn:
        rows = conn.execute(
            "select job_id, status, started_at, coalesce(ended_at, recorded_at) as ended_at "
            "from lakehouse.sync_ledger where pipeline = %s and connection = %s",
            [declared.name, group.connection],
        ).fetchall()
    return [_Sync(row["job_id"], row["status"], row["started_at"], row["ended_at"]) for row in rows]


def _folded(services: Services, declared: Pipeline, stream: Stream) -> int | None:
    """The last job that published silver contains; None where nothing says so."""
    if stream not in declared.cdc_streams:
        return None
    with services.ledger() as conn:
        row = conn.execute("select folded_job from lakehouse.watermarks where entity = %s", [stream.name]).fetchone()
    return int(row["folded_job"]) if row else 0


def _needed_sql(declared: Pipeline, stream: Stream, jobs: Sequence[int]) -> str:
    """Jobs with a row that is the newest of its key, by cursor or by job; of a full refresh: with its newest rows."""
    job = "\"_airbyte_meta\"['sync_id']"
    rows = f"FROM {quote(declared.bronze_path(stream))} WHERE {job} IN ({', '.join(str(int(one)) for one in jobs)})"
    if not stream.incremental:
        return (
            f'SELECT DISTINCT {job} AS job_id {rows} AND "_airbyte_generation_id" = '
            f'(SELECT MAX("_airbyte_generation_id") {rows})'
        )
    keys = ", ".join(quote([column]) for column in stream.key)
    cursor = quote([stream.cursor])
    return (
        f"SELECT DISTINCT job_id FROM (SELECT {job} AS job_id, "
        f"ROW_NUMBER() OVER (PARTITION BY {keys} ORDER BY {cursor} DESC, {job} DESC) AS by_cursor, "
        f"ROW_NUMBER() OVER (PARTITION BY {keys} ORDER BY {job} DESC, {cursor} DESC) AS by_job {rows}) AS versions "
        "WHERE by_cursor = 1 OR by_job = 1"
    )


def _kept(services: Services, found: Object, windows: _Windows, replaced: set[int], before: dt.datetime) -> str | None:
    """Why an object stays; None when it may go."""
    if found.modified >= before:
        return "younger than the stream's retention"
    writers = windows.at(found.modified)
    if not writers:
        return "written by no sync of the ledger"
    if len(writers) > 1:
        writers = _writer(services, found, writers)
    if any(sync.job not in replaced for sync in writers):
        return "holds rows that nothing newer replaces, or a sync that must stay"
    return None


def _writer(services: Services, found: Object, writers: list[_Sync]) -> list[_Sync]:
    """Where windows overlap, the object's own metadata decides, if it has any."""
    head: Any = services.s3.head_object(Bucket=services.bucket, Key=found.key)
    job = head.get("Metadata", {}).get("ab-sync-id")
    return [sync for sync in writers if str(sync.job) == job] or writers
