"""A backup store that throttles, or says 200 and means half: one message, nothing lost, and the next try completes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from include.backup import create, sets
from include.backup import manifest as manifests
from include.backup.errors import BackupError, DamagedError, StoreError
from include.backup.programs import Programs
from include.backup.settings import Backup
from tests.include.proxy import Proxy, proxied

PART = "configuration"


def spoiled(backup: Backup, proxy: Proxy, spoil: Callable[[str, str], str | None]) -> Backup:
    proxy.spoil = spoil
    return replace(backup, store=replace(backup.store, endpoint=proxy.url))


def begun(backup: Backup) -> str:
    set_id = sets.new_id()
    create.begin(backup, set_id)
    return set_id


def finished(backup: Backup, programs: Programs, set_id: str) -> manifests.Manifest:
    """What the DAG does with a set of one part."""
    create.make_part(backup, programs, set_id, PART)
    return sets.SetWriter(backup.store, backup.key, set_id).finish([PART], {}, {})


@pytest.fixture
def few(backup: Backup, programs: Programs) -> tuple[Backup, str]:
    """A complete set, and a second one that was begun."""
    finished(backup, programs, begun(backup))
    return backup, begun(backup)


def data(method: str, path: str, wanted: str) -> bool:
    return method == wanted and "/data/" in path


@pytest.mark.parametrize(
    ("what", "error", "says"),
    [
        ("throttle", StoreError, r"went on throttling at .* after 2 tries .* goes on where it stopped"),
        ("cut-request", DamagedError, r"acknowledged and lost, or shortened, \d+ objects .* makes their parts anew"),
    ],
)
def test_a_store_that_fails_while_a_set_is_made(
    few: tuple[Backup, str], programs: Programs, what: str, error: type[BackupError], says: str
) -> None:
    backup, set_id = few
    before = manifests.complete(backup.store)
    with proxied(backup.store.endpoint) as proxy:
        bad = spoiled(backup, proxy, lambda method, path: what if data(method, path, "PUT") else None)
        with pytest.raises(error, match=says):
            finished(bad, programs, set_id)
    assert manifests.complete(backup.store) == before, "the set is not complete, the older one is still there"
    made = finished(backup, programs, set_id)
    assert sets.verify(backup.store, backup.key, made) > 0


def test_a_store_that_fails_while_a_set_is_read(few: tuple[Backup, str], programs: Programs) -> None:
    backup, set_id = few
    made = finished(backup, programs, set_id)
    with proxied(backup.store.endpoint) as proxy:
        bad = spoiled(backup, proxy, lambda method, path: "cut-reply" if data(method, path, "GET") else None)
        with pytest.raises(DamagedError, match=r"has \d+ bytes, its manifest says"):
            sets.verify(bad.store, bad.key, made)
        proxy.spoil = lambda method, path: "cut-reply" if "manifest" in path else None
        with pytest.raises(DamagedError, match=r"the manifest of .* is no signed document"):
            manifests.load(bad.store, bad.key, set_id)
    assert sets.verify(backup.store, backup.key, made) > 0
