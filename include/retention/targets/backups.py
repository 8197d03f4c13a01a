"""Backup sets and the log they need. Proof decides, not age alone: the last verified sets stay for ever.

The seam: `lakehouse.backup_sets`, and in the backup store `sets/<set id>/...` with `manifest.json`, `wal/<system>/...`.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from botocore.exceptions import ClientError

from include.objects import Object, listing
from include.retention.model import BlockedError, Item, Outcome, RetentionError, Survey
from include.retention.services import BackupStore, Services
from include.retention.targets.stored import days, delete_unchanged, item
from include.specs.reader import Node

_SET_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")
# A set that was begun and has no manifest may be going on: never younger than the longest backup.
_UNFINISHED = dt.timedelta(days=2)

Row = Mapping[str, Any]


def _store(services: Services) -> BackupStore:
    assert services.backups is not None
    return services.backups


def _rows(services: Services) -> list[dict[str, Any]]:
    with services.ledger() as conn:
        return conn.execute("select * from lakehouse.backup_sets order by started_at, set_id").fetchall()


@dataclass(frozen=True)
class Keep:
    """Which sets stay: all younger than `age`, the newest `verified` proven ones, the newest proven one of each of the
    last `weeks` and `months`, what is held, and everything that a set which stays builds on.
    """

    age: dt.timedelta
    verified: int
    weeks: int
    months: int

    @classmethod
    def read(cls, node: Node) -> Self:
        def number(key: str, least: int) -> int:
            value: int = node.get(key, int)
            if value < least:
                raise node.fail(key, f"must be {least} or more, found {value}")
            return value

        return cls(days(node), number("keep_verified", 1), number("weekly", 0), number("monthly", 0))

    def reasons(self, rows: Sequence[Row], now: dt.datetime) -> dict[str, str]:
        """Why each set that stays does. Raises BlockedError when one is old and none was proven."""
        complete = [row for row in rows if row["state"] == "complete"]
        proven = sorted((row for row in complete if row["verified_at"]), key=lambda row: row["completed_at"])
        if not proven and not all(self._is_young(row, now) for row in complete):
            raise BlockedError("no backup set has passed a restore drill: nothing may go before one has")
        kept = {row["set_id"]: "running" for row in rows if row["state"] == "running"}
        kept |= {row["set_id"]: f"younger than {self.age.days} days" for row in complete if self._is_young(row, now)}
        kept |= {row["set_id"]: "under legal hold" for row in rows if row["held"]}
        kept |= _newest_each(proven, now, "%G-%V", self.weeks * 7, "weekly keeper")
        kept |= _newest_each(proven, now, "%Y-%m", self.months * 31, "monthly keeper")
        kept |= {row["set_id"]: "newer than all that is proven" for row in complete if not _is_older(row, proven)}
        kept |= {row["set_id"]: f"one of the last {self.verified} proven" for row in proven[-self.verified :]}
        return _with_parents(rows, kept)

    def _is_young(self, row: Row, now: dt.datetime) -> bool:
        return bool(row["completed_at"] >= now - self.age)


def _is_older(row: Row, proven: Sequence[Row]) -> bool:
    return bool(proven and row["completed_at"] <= proven[-1]["completed_at"])


def _newest_each(proven: Sequence[Row], now: dt.datetime, period: str, within: int, reason: str) -> dict[str, str]:
    newest = {
        row["completed_at"].astimezone(dt.UTC).strftime(period): row["set_id"]
        for row in proven
        if row["completed_at"] >= now - dt.timedelta(days=within)
    }
    return dict.fromkeys(newest.values(), reason)


def _with_parents(rows: Sequence[Row], kept: Mapping[str, str]) -> dict[str, str]:
    """An incremental set is worth nothing without those that it builds on."""
    parents = {row["set_id"]: row["parent"] for row in rows}
    found = dict(kept)
    for set_id in kept:
        above = parents.get(set_id)
        while above is not None and above not in found:
            found[above] = f"{set_id} builds on it"
            above = parents.get(above)
    return found


@dataclass(frozen=True)
class BackupSets:
    kind: ClassVar[str] = "backup_sets"
    needs: ClassVar[tuple[str, ...]] = ("backups",)
    keep: Keep

    @classmethod
    def read(cls, node: Node) -> Self:
        return cls(Keep.read(node))

    def find(self, services: Services, now: dt.datetime, survey: Survey) -> Iterator[Item]:
        rows = _rows(services)
        kept = self.keep.reasons(rows, now)
        yield from self._known(rows, kept, survey)
        yield from self._unknown(services, {row["set_id"] for row in rows}, now, survey)

    def _known(self, rows: Sequence[Row], kept: Mapping[str, str], survey: Survey) -> Iterator[Item]:
        for row in rows:
            if row["state"] == "deleted":
                continue
            survey.saw(1, row["bytes"])
            reason = kept.get(row["set_id"])
            if reason:
                survey.keep(reason)
            else:
                since = (row["completed_at"] or row["started_at"]).isoformat()
                yield Item(row["set_id"], row["bytes"], since, facts={"known": True})

    @staticmethod
    def _unknown(services: Services, known: set[str], now: dt.datetime, survey: Survey) -> Iterator[Item]:
        """Sets of the store that the ledger lacks. One with a manifest stays: the ledger may be a restored one."""
        store = _store(services)
        for set_id, found in _grouped(listing(store.client, store.bucket, f"{store.prefix}sets/"), store.prefix):
            if set_id in known:
                continue
            size = sum(one.size for one in found)
            survey.saw(1, size)
            newest = max(one.modified for one in found)
            if any(one.key.endswith(f"/{set_id}/manifest.json") for one in found):
                survey.keep("complete, and not in the ledger")
            elif newest >= now - _UNFINISHED:
                survey.keep("unfinished, and perhaps going on")
            else:
                yield Item(set_id, size, newest.isoformat(), facts={"known": False})

    def delete(self, services: Services, items: Sequence[Item]) -> Outcome:
        """The ledger says `deleted` first, then the manifest goes, then the rest: half a set is never taken for one."""
        done = Outcome()
        now = _now(services)
        for one in items:
            rows = _rows(services)
            if one.id in self.keep.reasons(rows, now):
                done += Outcome(spared=1)
                continue
            if not _SET_ID.fullmatch(one.id):
                raise RetentionError(f"{one.id!r} is no set id: the plan's document was changed")
            with services.ledger() as conn:
                # The hold is asked for in the very statement that marks: one placed this moment still counts.
                marked = conn.execute(
                    "update lakehouse.backup_sets set state = 'deleted' where set_id = %s and held is null", [one.id]
                ).rowcount
            if marked == 0 and one.facts["known"]:
                done += Outcome(spared=1)
                continue
            size = _remove(_store(services), one.id)
            done += Outcome(deleted=1, bytes=size) if size else Outcome(gone=1)
        return done


def _now(services: Services) -> dt.datetime:
    with services.ledger() as conn:
        row = conn.execute("select clock_timestamp() as at").fetchone()
    assert row is not None
    now: dt.datetime = row["at"]
    return now


def _remove(store: BackupStore, set_id: str) -> int:
    """Gives the bytes freed; 0 when nothing was there."""
    folder = f"{store.prefix}sets/{set_id}/"
    found = list(listing(store.client, store.bucket, folder))
    found.sort(key=lambda one: one.key != f"{folder}manifest.json")
    size = 0
    for start in range(0, len(found), 1000):
        batch = found[start : start + 1000]
        if start == 0 and batch[0].key.endswith("manifest.json"):
            store.client.delete_object(Bucket=store.bucket, Key=batch[0].key)
            size += batch[0].size
            batch = batch[1:]
        if batch:
            size += delete_unchanged(store.client, [item(one, store.bucket) for one in batch]).bytes
    return size


def _grouped(found: Iterator[Object], prefix: str) -> Iterator[tuple[str, list[Object]]]:
    """Objects by their set. Stores list a folder's keys one after the other."""
    groups: dict[str, list[Object]] = {}
    for one in found:
        set_id = one.key.removeprefix(f"{prefix}sets/").split("/", 1)[0]
        if _SET_ID.fullmatch(set_id):
            groups.setdefault(set_id, []).append(one)
    yield from sorted(groups.items())


@dataclass(frozen=True)
class BackupLog:
    """Archived write-ahead log older than `age` that no set which stays names in its manifest."""

    kind: ClassVar[str] = "backup_log"
    needs: ClassVar[tuple[str, ...]] = ("backups",)
    age: dt.timedelta

    @classmethod
    def read(cls, node: Node) -> Self:
        return cls(days(node))

    def find(self, services: Services, now: dt.datetime, survey: Survey) -> Iterator[Item]:
        store, needed = _store(services), self._needed(services)
        rows = [row for row in _rows(services) if row["state"] in ("complete", "running")]
        # Everything since the oldest set within the age: any moment from then on can be restored.
        window = now - self.age
        starts = [row["started_at"] for row in rows if (row["completed_at"] or now) >= window]
        limit = min([window, *starts]) - dt.timedelta(days=1)
        for found in listing(store.client, store.bucket, f"{store.prefix}wal/"):
            survey.saw(1, found.size)
            if found.modified < limit and not starts:
                raise BlockedError(f"there is no backup set of the last {self.age.days} days to begin a recovery from")
            if found.modified >= limit:
                survey.keep("needed to restore any moment since the oldest set of the window")
            elif found.key.removeprefix(store.prefix) in needed or found.key.endswith(".history"):
                survey.keep("named by a set, or a timeline's history")
            else:
                yield item(found, store.bucket)

    @staticmethod
    def _needed(services: Services) -> set[str]:
        """Keys of log that the manifests in the store name. Raises BlockedError for one that cannot be read."""
        store, needed = _store(services), set[str]()
        for row in _rows(services):
            if row["state"] == "complete":
                key = f"{store.prefix}sets/{row['set_id']}/manifest.json"
                try:
                    document = json.loads(store.client.get_object(Bucket=store.bucket, Key=key)["Body"].read())
                except (ClientError, ValueError) as error:
                    raise BlockedError(f"the manifest of {row['set_id']} cannot be read ({error})") from None
                needed |= set(_texts(document, "wal/"))
        return needed

    def delete(self, services: Services, items: Sequence[Item]) -> Outcome:
        """A set that was completed since the plan may name older log."""
        store, needed = _store(services), self._needed(services)
        free = [one for one in items if one.id.removeprefix(store.prefix) not in needed]
        return Outcome(spared=len(items) - len(free)) + delete_unchanged(store.client, free)


def _texts(value: Any, beginning: str) -> Iterator[str]:
    """Every string in a document that begins so."""
    if isinstance(value, str):
        if value.startswith(beginning):
            yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner, beginning)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, beginning)
