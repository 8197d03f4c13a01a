"""Whatever happens to an object of a set is found before anything is restored, for every kind of file."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from include.backup import create, restore, scratch, sets, wal
from include.backup import manifest as manifests
from include.backup.errors import BackupError, DamagedError
from include.backup.manifest import Manifest
from include.backup.programs import Programs
from include.backup.scratch import Target
from include.backup.sealed import Key
from include.backup.settings import Backup, Instance
from include.backup.store import Store
from tests.include.backup.conftest import archiving, make_store

KINDS = ("base.tar", "backup_manifest", "dump", "globals.sql", "declared.json", "wal", "manifest.json")


@dataclass
class Made:
    """Two sets of one server, the second an increment, and every object of them as it was written."""

    backup: Backup
    full: Manifest
    increment: Manifest
    objects: dict[str, bytes]

    def keys(self, kind: str) -> list[str]:
        """Objects of the increment's chain, by the kind of file that they belong to."""
        if kind == "manifest.json":
            return [manifests.manifest_key(one.set_id) for one in (self.full, self.increment)]
        if kind == "wal":
            part = self.increment.parts["postgres-source"]
            return [item[0] for item in part.facts["wal"]]
        found = [
            segment.key
            for one in (self.full, self.increment)
            for part in one.parts.values()
            for file in part.files
            for segment in file.segments
            if file.name.startswith(kind)
        ]
        assert found, kind
        return found

    def refuses(self) -> None:
        """Raises what a restore raises, which reads everything before it writes anything."""
        store, key = self.backup.store, self.backup.key
        chain = manifests.chain(store, key, self.increment.set_id)
        if chain[-1].sha256 != self.increment.sha256:
            raise DamagedError("the ledger knows another manifest of this set")
        for one in chain:
            sets.verify(store, key, one)
        for place, size, sha256 in chain[-1].parts["postgres-source"].facts["wal"]:
            store.get(place, size, sha256)


@pytest.fixture(scope="module")
def made(object_store: Any, bucket: str, source: Instance, owner: Any, programs: Programs, key: Key) -> Made:
    store = make_store(object_store, bucket, f"corruption-{random.randrange(10**9)}/")
    backup = Backup(store, key, {"source": source}, {}, None, 7)
    with archiving(source, programs, store, key):
        full = create.run(backup, programs, sets.new_id())
        owner.execute(
            "insert into retail.orders select i, i, now() from generate_series(100, 200) i on conflict do nothing"
        )
        increment = create.run(backup, programs, sets.new_id())
    objects = {name: store.get(name) for name, _ in store.keys("")}
    return Made(backup, full, increment, objects)


def flip(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def harm(made: Made, kind: str, change: Callable[[Store, str, random.Random], None], times: int, seed: int) -> int:
    """Does it, sees it found, undoes it; gives how often it was found."""
    store, chance, found = made.backup.store, random.Random(seed), 0
    for _ in range(times):
        key = chance.choice(made.keys(kind))
        others = dict(made.objects)
        change(store, key, chance)
        try:
            made.refuses()
        except BackupError:
            found += 1
        finally:
            store.put(key, others[key])
    return found


def check(made: Made, kind: str, flips: int, few: int) -> None:
    objects = made.objects

    def swapped(store: Store, key: str, chance: random.Random) -> None:
        others = [name for name in objects if name != key and objects[name] != objects[key]]
        same_kind = [name for name in made.keys(kind) if name in others]
        store.put(key, objects[chance.choice(same_kind or others)])

    assert harm(made, kind, lambda s, k, c: void(s.put(k, flip(objects[k], c))), flips, 1) == flips
    assert harm(made, kind, lambda s, k, c: void(s.put(k, cut(objects[k], c))), flips, 2) == flips
    assert harm(made, kind, lambda s, k, c: s.delete(k), few, 3) == few
    assert harm(made, kind, swapped, few, 4) == few
    made.refuses()  # undamaged, it is not


def void(value: object) -> None:
    del value


@pytest.mark.parametrize("kind", KINDS)
def test_harm_is_found(made: Made, kind: str) -> None:
    check(made, kind, 1, 1)


@pytest.mark.faults
@pytest.mark.parametrize("kind", KINDS)
def test_harm_is_found_every_time(made: Made, kind: str) -> None:
    """40 flipped bits, 40 truncations, 20 missing and 20 exchanged objects of each kind of file."""
    check(made, kind, 40, 20)


def test_forged_and_stale_manifests_are_found(made: Made) -> None:
    store, key = made.backup.store, made.backup.key
    place = manifests.manifest_key(made.increment.set_id)
    stranger = Key.parse(Key.generate(), "a stranger")
    older = {**made.full.body}
    lies = {
        "signed by a stranger": manifests.sign(stranger, "manifest", made.increment.body),
        "the one of the older set": made.objects[manifests.manifest_key(made.full.set_id)],
        "another kind of document": manifests.sign(key, "part", made.increment.body),
        "another set's, signed by us": manifests.sign(key, "manifest", older),
        "without signature": manifests.canonical({"body": dict(made.increment.body)}),
        "of a later format": manifests.sign(key, "manifest", {**made.increment.body, "format": 2}),
        "on another parent": manifests.sign(
            key,
            "manifest",
            {**made.increment.body, "parent": {"set_id": made.full.set_id, "manifest_sha256": "0" * 64}},
        ),
        "reformatted": made.objects[place].replace(b'"body":', b'"body": '),
    }
    for name, data in lies.items():
        store.put(place, data)
        try:
            with pytest.raises(DamagedError):
                print(name, manifests.chain(store, key, made.increment.set_id))
        finally:
            store.put(place, made.objects[place])


def test_a_damaged_set_is_refused_before_anything_is_built(made: Made, programs: Programs, tmp_path: Any) -> None:
    store = made.backup.store
    planned = restore.plan(made.backup, "source", made.increment.set_id, Target(), tmp_path / "restored")
    damaged = made.keys("dump")[0]
    store.put(damaged, flip(made.objects[damaged], random.Random(5)))
    try:
        with pytest.raises(DamagedError, match="SHA-256"):
            restore.apply(made.backup, programs, planned.plan_id)
    finally:
        store.put(damaged, made.objects[damaged])
    assert list(tmp_path.iterdir()) == []


def test_log_that_was_changed_or_has_a_gap_stops_a_restore(made: Made, tmp_path: Any) -> None:
    part, store, key = made.full.parts["postgres-source"], made.backup.store, made.backup.key
    names = [place for place, _, _ in part.facts["wal"]] + [
        place for place, _, _ in made.increment.parts[part.name].facts["wal"]
    ]
    later = names[-2]
    assert later not in [place for place, _, _ in part.facts["wal"]]
    store.delete(later)
    try:
        with pytest.raises(DamagedError, match="gap"):
            scratch.fetch_wal(store, key, part, tmp_path / "wal", None)
        store.put(later, flip(made.objects[later], random.Random(1)))
        with pytest.raises(DamagedError):
            scratch.fetch_wal(store, key, part, tmp_path / "wal", None)
    finally:
        store.put(later, made.objects[later])
    assert scratch.fetch_wal(store, key, part, tmp_path / "wal", None) > wal.number(part.facts["point"]["lsn"])
