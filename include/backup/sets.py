"""Writes a set, part by part, so that a run that died goes on where it stopped; reads its files back."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any

from include.backup import manifest as manifests
from include.backup.errors import BackupError, DamagedError, ExistsError
from include.backup.manifest import FORMAT, NAME, File, Manifest, Part, Segment
from include.backup.sealed import SEGMENT, Key, Reader, seal
from include.backup.store import MissingError, Store
from include.failpoints import reach

# Segments being sealed and sent at once. With the one being filled, all that is held in memory.
IN_FLIGHT = 2


class IncompleteError(BackupError):
    """Parts of the set are missing; the message names them. No manifest was written."""


def new_id(at: dt.datetime | None = None) -> str:
    """Sorts by time; the random end keeps two of one second apart."""
    return f"{at or dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}-{os.urandom(4).hex()}"


class FileWriter:
    """Takes plain bytes, leaves sealed segments. `close` gives the file as the manifest lists it."""

    def __init__(self, store: Store, key: Key, prefix: str, place: str, name: str) -> None:
        self._store, self._key, self._prefix, self._place, self._name = store, key, prefix, place, name
        self._salt, self._size, self._number = os.urandom(16), 0, 0
        self._buffer, self._filled = bytearray(SEGMENT), 0
        self._spare: deque[bytearray] = deque()  # memory that was touched before costs nothing to fill again
        self._pool = ThreadPoolExecutor(IN_FLIGHT)
        self._sent: deque[Future[Segment]] = deque()
        self._segments: list[Segment] = []

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        while rest:
            self._flush()
            length = min(len(rest), SEGMENT - self._filled)
            self._buffer[self._filled : self._filled + length] = rest[:length]
            self._filled, rest = self._filled + length, rest[length:]
        return len(data)

    def fill(self, source: IO[bytes]) -> memoryview:
        """Takes what the program has to say now, without a copy; a view of that, empty at the end."""
        self._flush()
        with memoryview(self._buffer) as whole:
            length = source.readinto(whole[self._filled :])  # type: ignore[attr-defined]
            view = whole[self._filled : self._filled + length]
        self._filled += length
        return view

    def _flush(self) -> None:
        # The last segment says that it is the last: a full one waits for whether something follows.
        if self._filled == SEGMENT:
            self._send(self._buffer, final=False)
            self._buffer, self._filled = self._spare.popleft() if self._spare else bytearray(SEGMENT), 0

    def _send(self, data: bytes | bytearray, *, final: bool) -> None:
        while len(self._sent) >= IN_FLIGHT:
            self._segments.append(self._sent.popleft().result())
        number, self._number, self._size = self._number, self._number + 1, self._size + len(data)
        self._sent.append(self._pool.submit(self._put, number, data, final))
        reach("backup.between_segments")

    def _put(self, number: int, data: bytes | bytearray, final: bool) -> Segment:
        blob = seal(self._key, self._place, self._salt, number, data, final=final)
        if isinstance(data, bytearray):
            self._spare.append(data)
        key = f"{self._prefix}{self._salt.hex()[:8]}-{number:06d}"
        return Segment(key, len(blob), self._store.put(key, blob))

    def close(self) -> File:
        self._send(bytes(memoryview(self._buffer)[: self._filled]), final=True)
        self._segments += [future.result() for future in self._sent]
        self._pool.shutdown()
        return File(self._name, self._place, self._size, tuple(self._segments))

    def abandon(self) -> None:
        self._pool.shutdown(cancel_futures=True)


class SetWriter:
    """One set that is being made; several processes may each write a part of it."""

    def __init__(self, store: Store, key: Key, set_id: str) -> None:
        self.store, self.key, self.set_id = store, key, manifests.check_id(set_id)
        self._folder = f"sets/{set_id}/"

    def begin(self, kind: str, parent: Manifest | None) -> dict[str, Any]:
        """What the set is to be; a set that was begun before stays what it was."""
        body = {
            "set_id": self.set_id,
            "kind": kind,
            "parent": {"set_id": parent.set_id, "manifest_sha256": parent.sha256} if parent else None,
            "started_at": _now(),
        }
        try:
            self.store.put(f"{self._folder}begin.json", manifests.sign(self.key, "begin", body), once=True)
        except ExistsError:
            body = self.begun()
        reach("backup.after_begin")
        return body

    def begun(self) -> dict[str, Any]:
        place = f"{self._folder}begin.json"
        return manifests.read(self.key, "begin", self.store.get(place), place)

    @contextlib.contextmanager
    def file(self, part: str, name: str, files: list[File]) -> Iterator[FileWriter]:
        """Written and added to `files` when the block ends well."""
        for word in (part, name):
            if not NAME.fullmatch(word):
                raise ValueError(f"{word!r} cannot name a part or a file of one")
        writer = FileWriter(
            self.store, self.key, f"{self._folder}data/{part}/{name}/", f"{self.set_id}/{part}/{name}", name
        )
        try:
            yield writer
            files.append(writer.close())
        except BaseException:
            writer.abandon()
            raise

    def done(self, part: str) -> Part | None:
        """A part that an earlier try has finished."""
        place = f"{self._folder}parts/{part}.json"
        try:
            body = manifests.read(self.key, "part", self.store.get(place), place)
        except MissingError:
            return None
        if body.get("set_id") != self.set_id:
            raise DamagedError(f"{place} belongs to set {body.get('set_id')}")
        return Part.from_json(body["part"])

    def run(self, part: str, make: Callable[[SetWriter, list[File]], Mapping[str, Any]]) -> Part:
        """Makes a part unless it is done: its files, then the record that says so."""
        if found := self.done(part):
            return found
        files: list[File] = []
        facts = make(self, files)
        made = Part(part, tuple(files), {**facts, "finished_at": _now()})
        reach("backup.before_part")
        body = {"set_id": self.set_id, "part": made.as_json()}
        self.store.put(f"{self._folder}parts/{part}.json", manifests.sign(self.key, "part", body))
        reach("backup.after_part")
        return made

    def finish(self, expected: Sequence[str], skipped: Mapping[str, str], tools: Mapping[str, str]) -> Manifest:
        """Writes the manifest, once and for all. Raises IncompleteError when a part is missing."""
        try:
            return manifests.load(self.store, self.key, self.set_id)
        except DamagedError:
            if self._has_manifest():
                raise
        found = {name: self.done(name) for name in expected}
        missing = sorted(name for name, part in found.items() if part is None)
        if missing:
            raise IncompleteError(
                f"set {self.set_id} lacks {', '.join(missing)}: no manifest was written. Run the backup again, it goes "
                "on with what is missing"
            )
        parts = [part for part in found.values() if part]
        self._sweep(parts)
        body = {
            **self.begun(),
            "format": FORMAT,
            "completed_at": _now(),
            "encryption": {"algorithm": "AES-256-GCM", "key": self.key.fingerprint, "segment_bytes": SEGMENT},
            "tools": dict(tools),
            "parts": [part.as_json() for part in parts],
            "skipped": dict(skipped),
        }
        reach("backup.before_manifest")
        with contextlib.suppress(ExistsError):  # another try of this very run came first: its parts are ours
            self.store.put(manifests.manifest_key(self.set_id), manifests.sign(self.key, "manifest", body), once=True)
        reach("backup.after_manifest")
        return manifests.load(self.store, self.key, self.set_id)

    def _has_manifest(self) -> bool:
        try:
            return self.store.size(manifests.manifest_key(self.set_id)) >= 0
        except MissingError:
            return False

    def _sweep(self, parts: Sequence[Part]) -> None:
        """Removes what tries that died left behind, and sees that everything listed is there in its size."""
        listed = {one.key: one.size for part in parts for file in part.files for one in file.segments}
        there = dict(self.store.keys(f"{self._folder}data/"))
        for key in sorted(set(there) - set(listed)):
            self.store.delete(key)
        wrong = sorted(key for key, size in listed.items() if there.get(key) != size)
        if not wrong:
            return
        for part in parts:
            if any(one.key in wrong for file in part.files for one in file.segments):
                self.store.delete(f"{self._folder}parts/{part.name}.json")  # so that the next try makes it anew
        raise DamagedError(
            f"the store has acknowledged and lost, or shortened, {len(wrong)} objects of set {self.set_id}, the first: "
            f"{wrong[0]}. Run the backup again: it makes their parts anew; if that fails too, the store is broken"
        )


def unfinished(store: Store, key: Key, within: dt.timedelta = dt.timedelta(hours=24)) -> str | None:
    """The newest set that was begun in the last hours and has no manifest; None when there is none."""
    have = set(manifests.complete(store))
    begun_sets: list[str] = [name for name in store.folders("sets/") if manifests.SET_ID.fullmatch(name)]
    for set_id in reversed(begun_sets):
        if set_id in have:
            return None
        try:
            begun = SetWriter(store, key, set_id).begun()
        except (MissingError, DamagedError):
            continue
        if dt.datetime.fromisoformat(begun["started_at"]) > dt.datetime.now(dt.UTC) - within:
            return set_id
    return None


def open_file(store: Store, key: Key, file: File) -> Reader:
    """Reads the file's plain bytes; every object is checked against the manifest, then against its own seal."""

    def fetch(number: int) -> bytes:
        one = file.segments[number]
        try:
            return store.get(one.key, one.size, one.sha256)
        except MissingError:
            raise DamagedError(f"{one.key} is missing") from None

    return Reader(key, file.place, len(file.segments), fetch)


def verify(store: Store, key: Key, manifest: Manifest) -> int:
    """Reads every object of a set; gives the plain bytes. Raises DamagedError at the first that is not as written."""
    total = 0
    for part in manifest.parts.values():
        for file in part.files:
            reader, size = open_file(store, key, file), 0
            while data := reader.segment():
                size += len(data)
            if size != file.size:
                raise DamagedError(f"{file.place} has {size} bytes, its manifest says {file.size}")
            total += size
    return total


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
