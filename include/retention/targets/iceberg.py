"""Iceberg snapshots and orphan files, through Dremio's own VACUUM: the engine knows what running queries read."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from include.paths import PIPELINES
from include.publication import LAYERS, quote
from include.retention.model import BlockedError, Item, Outcome, Survey
from include.retention.services import Services
from include.retention.targets.stored import days
from include.specs import pipeline as pipelines
from include.specs.reader import Node

_STAMP = "%Y-%m-%d %H:%M:%S.%f"


def _tables(services: Services, source: str) -> list[tuple[str, ...]]:
    assert services.sql is not None
    rows = services.sql(
        'SELECT table_schema, table_name FROM INFORMATION_SCHEMA."TABLES" '
        f"WHERE table_schema LIKE '{source}.%' AND table_type = 'TABLE' ORDER BY 1, 2"
    )
    return [(*row["table_schema"].split("."), row["table_name"]) for row in rows]


def _snapshots(services: Services, table: tuple[str, ...]) -> list[tuple[dt.datetime, int]]:
    """When each was committed, and its id; oldest first."""
    assert services.sql is not None
    name = quote(table).replace("'", "''")
    rows = services.sql(f"SELECT committed_at, snapshot_id FROM TABLE(table_snapshot('{name}'))")
    return sorted((_moment(row["committed_at"]), int(row["snapshot_id"])) for row in rows)


def _moment(value: Any) -> dt.datetime:
    moment = value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(str(value).strip().replace("Z", ""))
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment


def pinned(services: Services) -> set[int]:
    """Snapshots that published views pin, and those that the next fold starts from."""
    with services.ledger() as conn:
        rows = conn.execute(
            "select snapshot_id from (select distinct on (dataset) snapshot_id from lakehouse.publications "
            "order by dataset, publication_id desc) as newest union select snapshot_id from lakehouse.watermarks"
        ).fetchall()
    return {int(row["snapshot_id"]) for row in rows}


def _path(one: Item) -> tuple[str, ...]:
    return tuple(str(part) for part in one.facts["path"])


@dataclass(frozen=True)
class Snapshots:
    """Snapshots older than `age`, never one of the newest `keep_last`, nor one at or after a table's oldest pin."""

    kind: ClassVar[str] = "iceberg_snapshots"
    needs: ClassVar[tuple[str, ...]] = ("sql",)
    source: str
    age: dt.timedelta
    keep_last: int

    @classmethod
    def read(cls, node: Node) -> Self:
        keep = node.get("keep_last", int)
        if keep < 1:
            raise node.fail("keep_last", f"must be 1 or more, found {keep}")
        return cls(node.name("source"), days(node), keep)

    def find(self, services: Services, now: dt.datetime, survey: Survey) -> Iterator[Item]:
        pins = pinned(services)
        for table in _tables(services, self.source):
            found = _snapshots(services, table)
            survey.saw(len(found), 0)
            limit = self._limit(found, pins, now)
            doomed = sum(1 for committed, _ in found if committed < limit)
            survey.keep("younger, pinned or among the newest", len(found) - doomed)
            if doomed:
                facts = {"path": list(table), "limit": limit.isoformat()}
                yield Item(".".join(table), 0, limit.isoformat(), doomed, facts)

    def _limit(self, found: list[tuple[dt.datetime, int]], pins: set[int], now: dt.datetime) -> dt.datetime:
        newest = [committed for committed, _ in found[-self.keep_last :]]
        return min(now - self.age, *newest[:1], *(committed for committed, number in found if number in pins))

    def delete(self, services: Services, items: Sequence[Item]) -> Outcome:
        """Pins are read again: a view published since the plan may pin an older snapshot (a rollback does)."""
        assert services.sql is not None
        done, pins = Outcome(), pinned(services)
        for one in items:
            table = _path(one)
            before = _snapshots(services, table)
            limit = self._limit(before, pins, dt.datetime.fromisoformat(one.facts["limit"]) + self.age)
            services.sql(
                f"VACUUM TABLE {quote(table)} EXPIRE SNAPSHOTS "
                f"OLDER_THAN = '{limit.astimezone(dt.UTC).strftime(_STAMP)[:-3]}' RETAIN_LAST = {self.keep_last}"
            )
            went = len(before) - len(_snapshots(services, table))
            done += Outcome(deleted=went, spared=max(0, one.count - went))
        return done


@dataclass(frozen=True)
class Orphans:
    """Files that no snapshot knows, older than the longest writer: what killed statements left behind."""

    kind: ClassVar[str] = "iceberg_orphans"
    needs: ClassVar[tuple[str, ...]] = ("sql",)
    source: str
    age: dt.timedelta

    @classmethod
    def read(cls, node: Node) -> Self:
        return cls(node.name("source"), days(node))

    def find(self, services: Services, now: dt.datetime, survey: Survey) -> Iterator[Item]:
        longest = max((declared.timeout for declared in _declared()), default=dt.timedelta())
        if self.age <= longest:
            raise BlockedError(f"orphans of {self.age} could belong to a run that takes up to {longest}; raise `days`")
        limit = (now - self.age).isoformat()
        for table in _tables(services, self.source):
            if table[1] in (*LAYERS, "bronze"):
                survey.saw(1, 0)
                yield Item(".".join(table), 0, limit, facts={"path": list(table), "limit": limit})

    def delete(self, services: Services, items: Sequence[Item]) -> Outcome:
        assert services.sql is not None
        done = Outcome()
        for one in items:
            limit = dt.datetime.fromisoformat(one.facts["limit"]).astimezone(dt.UTC)
            rows = services.sql(
                f"VACUUM TABLE {quote(_path(one))} REMOVE ORPHAN FILES OLDER_THAN = '{limit.strftime(_STAMP)[:-3]}'"
            )
            files = int(rows[0].get("deleted_files_count") or 0) if rows else 0
            size = int(rows[0].get("deleted_files_size_mb") or 0) * 2**20 if rows else 0
            done += Outcome(deleted=files, bytes=size)
        return done


def _declared() -> list[pipelines.Pipeline]:
    return [pipelines.load(path.stem) for path in sorted(PIPELINES.glob("*.yaml"))]
