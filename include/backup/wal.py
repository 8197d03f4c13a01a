"""The write-ahead log in the backup store: what is shipped there, what a restore finds there."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg

from include.backup.errors import DamagedError, ExistsError, ServerError
from include.backup.manifest import Segment
from include.backup.sealed import Key, seal, unseal
from include.backup.settings import Instance
from include.backup.store import MissingError, Store

SIZE = 16 << 20  # of a segment; servers made with another size are refused
_NAME = re.compile(r"[0-9A-F]{24}|[0-9A-F]{8}\.history")


def number(lsn: str) -> int:
    """PostgreSQL's text form of an LSN as a number. Raises ValueError."""
    high, _, low = lsn.partition("/")
    return (int(high, 16) << 32) | int(low, 16)


def text(lsn: int) -> str:
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def segment_name(timeline: int, lsn: int) -> str:
    """The file that holds the byte at `lsn`."""
    index = lsn // SIZE
    per_log = (1 << 32) // SIZE
    return f"{timeline:08X}{index // per_log:08X}{index % per_log:08X}"


def segment_start(name: str) -> int:
    return (int(name[8:16], 16) << 32) + int(name[16:24], 16) * SIZE


def names(timeline: int, start: int, end: int) -> Iterator[str]:
    """The segments that hold the bytes from `start` up to, not including, `end`."""
    for index in range(start // SIZE, max(start, end - 1) // SIZE + 1):
        yield segment_name(timeline, index * SIZE)


def key_of(system: str, name: str, *, partial: bool = False) -> str:
    """Raises ValueError for what names no WAL file."""
    if not _NAME.fullmatch(name) or not system.isdigit():
        raise ValueError(f"{name!r} of {system!r} is no WAL file")
    return f"wal/{system}/{'partial' if partial else 'whole'}/{name}"


def ship(store: Store, key: Key, system: str, name: str, data: bytes) -> bool:
    """Stores a whole file, once; False when it was there. Raises DamagedError when there is another one of its name."""
    place = key_of(system, name)
    blob = seal(key, place, _salt(key, place), 0, data, final=True)
    try:
        store.put(place, blob, once=True)
    except ExistsError:
        if fetch(store, key, system, name) != data:
            raise DamagedError(
                f"the store holds another {name} of server {system}: two servers archive to one place, or one was "
                "restored without a new timeline"
            ) from None
        return False
    return True


def ship_partial(store: Store, key: Key, system: str, name: str, data: bytes) -> None:
    """Stores what there is of a file that is not full yet, over what was there of it before."""
    place = key_of(system, name, partial=True)
    store.put(place, seal(key, place, os.urandom(16), 0, data, final=True))


def _salt(key: Key, place: str) -> bytes:
    # A file is written once, so its place may well choose the salt: a second try leaves the same bytes.
    return key.derive(f"salt of {place}")[:16]


def fetch(store: Store, key: Key, system: str, name: str, *, partial: bool = False) -> bytes:
    """Raises MissingError and DamagedError."""
    place = key_of(system, name, partial=partial)
    _, data, final = unseal(key, place, 0, store.get(place))
    if not final:
        raise DamagedError(f"{place} is not whole")
    return data


@dataclass(frozen=True)
class Archive:
    """What the store holds of one server's log: whole files, and the newest that is not full yet."""

    system: str
    whole: tuple[str, ...]
    partial: tuple[str, ...]

    @classmethod
    def read(cls, store: Store, system: str) -> Archive:
        def listed(kind: str) -> tuple[str, ...]:
            prefix = f"wal/{system}/{kind}/"
            return tuple(sorted(key.removeprefix(prefix) for key, _ in store.keys(prefix)))

        return cls(system, listed("whole"), listed("partial"))

    def end(self, timeline: int, start: int) -> int:
        """The LSN up to which whole files follow each other without a gap."""
        have, lsn = set(self.whole), start // SIZE * SIZE
        while segment_name(timeline, lsn) in have:
            lsn += SIZE
        return max(lsn, start)


def age(store: Store, system: str) -> float:
    """Seconds since something of the server's log was stored, by the store's own clock; infinite when nothing is."""
    keys = [key for key, _ in store.keys(f"wal/{system}/")]
    newest = sorted(keys, key=lambda key: key.rpartition("/")[2])[-2:]  # the newest whole file, and the partial one
    return min((store.age(key) for key in newest), default=float("inf"))


def wait(
    store: Store, key: Key, instance: Instance, system: str, timeline: int, start: str, end: str, timeout: float = 180
) -> list[Segment]:
    """Waits until the log from `start` to beyond `end` is in the store, and reads it back from there.

    Raises ServerError when it does not come: a set without its log could not be restored.
    """
    wanted = list(names(timeline, number(start), number(end) + 1))
    close(instance)
    limit = time.monotonic() + timeout
    missing = wanted
    while missing := [name for name in missing if not _is_there(store, system, name)]:
        if time.monotonic() > limit:
            raise ServerError(
                f"the log of server {instance.name!r} has not reached the backup store after {timeout:.0f} s: "
                f"{missing[0]} is missing. Does `python -m include.backup archive` run?"
            )
        time.sleep(0.2)
    found = []
    for name in wanted:
        place = key_of(system, name)
        blob = store.get(place)
        if len(unseal(key, place, 0, blob)[1]) != SIZE:
            raise DamagedError(f"{place} is no whole segment of {SIZE >> 20} MB; other sizes are not supported")
        found.append(Segment(place, len(blob), hashlib.sha256(blob).hexdigest()))
    return found


def close(instance: Instance) -> str:
    """Writes a record beyond what is there and begins a new segment, so that the one before becomes whole."""
    try:
        with psycopg.connect(instance.dsn(), autocommit=True) as session:
            session.execute("select pg_logical_emit_message(false, 'lakehouse_backup', 'end')")
            row = session.execute("select pg_switch_wal()::text").fetchone()
            session.execute("select pg_logical_emit_message(false, 'lakehouse_backup', 'after')")
    except psycopg.errors.InsufficientPrivilege as error:
        raise ServerError(
            f"the role {instance.login.login!r} may not switch the log of server {instance.name!r}: as its superuser, "
            f'grant execute on function pg_switch_wal() to "{instance.login.login}"'
        ) from error
    assert row is not None
    return str(row[0])


def _is_there(store: Store, system: str, name: str) -> bool:
    try:
        return store.size(key_of(system, name)) > 0
    except MissingError:
        return False
