"""Point-in-time recovery under live traffic, into a folder and beside live databases; what is refused, and how."""

from __future__ import annotations

import os
import random
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.backup import create, restore, scratch, sets
from include.backup import manifest as manifests
from include.backup.errors import ConfigurationError, DamagedError, RefusedError, ServerError, StoreError
from include.backup.manifest import Manifest
from include.backup.point import differences, hashes, prepare, quiescent
from include.backup.postgres import identity
from include.backup.programs import Programs, check_version
from include.backup.scratch import Scratch, Target
from include.backup.sealed import Key
from include.backup.settings import Backup, Instance, Login
from include.backup.store import Store
from tests.include.backup.conftest import archiving, make_store

Tables = Mapping[str, Mapping[str, Any]]


@contextmanager
def traffic(server: Any) -> Iterator[None]:
    """Transactions of several rows, some of them rolled back, from two clients at once."""
    stop = threading.Event()

    def work(seed: int) -> None:
        chance = random.Random(seed)
        with psycopg.connect(server.dsn("retail")) as connection:
            while not stop.wait(0.002):
                for _ in range(chance.randrange(1, 4)):
                    connection.execute(
                        'insert into retail.orders values (%s, %s, now()) on conflict ("order id") '
                        "do update set total = excluded.total",
                        [chance.randrange(10**6), chance.randrange(10**4)],
                    )
                connection.execute('delete from retail.orders where "order id" %% 97 = %s', [chance.randrange(97)])
                (connection.rollback if chance.random() < 0.2 else connection.commit)()

    threads = [threading.Thread(target=work, args=[seed]) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def observe(instance: Instance) -> tuple[str, Tables]:
    with quiescent(instance) as point:
        return point.lsn, {name: hashes(session) for name, session in point.sessions.items()}


def restored(server: Scratch, expected: Tables) -> list[str]:
    lines = []
    for name, tables in expected.items():
        with psycopg.connect(server.dsn(name)) as session:
            prepare(session)
            lines += differences(tables, hashes(session))
    return lines


def recover_to_points(backup: Backup, programs: Programs, server: Any, count: int) -> None:
    with traffic(server):
        made = create.run(backup, programs, sets.new_id(), full=True)
        seen = [observe(backup.instances["source"]) for _ in range(count)]
        # The log that holds the last of them, read back from the store.
        beyond = create.run(backup, programs, sets.new_id())
    assert beyond.parent == made.set_id
    assert len({lsn for lsn, _ in seen}) == count
    for lsn, expected in seen:
        with scratch.instance(backup.store, backup.key, [made], "postgres-source", programs, None) as server_:
            server_.recover(Target(lsn=lsn), "pause")
            assert restored(server_, expected) == [], f"at {lsn}"


def test_a_restored_server_equals_the_source_at_any_position(
    backup: Backup, programs: Programs, source_postgres: Any
) -> None:
    recover_to_points(backup, programs, source_postgres, 1)


@pytest.mark.faults
def test_a_restored_server_equals_the_source_at_twenty_positions(
    backup: Backup, programs: Programs, source_postgres: Any
) -> None:
    recover_to_points(backup, programs, source_postgres, 20)


@pytest.fixture(scope="module")
def kept(
    object_store: Any, bucket: str, source_postgres: Any, source: Instance, admin: Login, programs: Programs, key: Key
) -> tuple[Backup, Manifest]:
    """One set that the tests below restore from; the row that they look for is in it."""
    store = make_store(object_store, bucket, f"kept-{random.randrange(10**9)}/")
    backup = Backup(store, key, {"source": source}, {}, None, 7, admins={"source": admin})
    with psycopg.connect(source_postgres.dsn("retail"), autocommit=True) as connection:
        connection.execute("create table if not exists retail.ledger (id int primary key)")
        connection.execute("insert into retail.ledger select generate_series(1, 100) on conflict do nothing")
    with archiving(source, programs, store, key):
        return backup, create.run(backup, programs, sets.new_id())


def test_a_database_is_replaced_only_by_its_word_and_the_old_one_is_kept(
    kept: tuple[Backup, Manifest], programs: Programs, source_postgres: Any
) -> None:
    backup, made = kept
    with psycopg.connect(source_postgres.dsn("retail"), autocommit=True) as connection:
        connection.execute("delete from retail.ledger")
    target = Target(lsn=made.parts["postgres-source"].facts["point"]["lsn"])
    planned = restore.plan(backup, "source", made.set_id, target, names=["retail"])
    assert planned.word == "replace retail"
    for wrong in ("", "replace", "yes"):
        with pytest.raises(RefusedError, match="the word is 'replace retail'"):
            restore.apply(backup, programs, planned.plan_id, wrong)
    done = restore.apply(backup, programs, planned.plan_id, planned.word)
    assert restore.apply(backup, programs, planned.plan_id, planned.word) == done, "applied twice is applied once"
    with psycopg.connect(source_postgres.dsn("retail", "airbyte")) as connection:
        assert connection.execute("select count(*) from retail.ledger").fetchone() == (100,)
    with psycopg.connect(source_postgres.superuser_dsn(), autocommit=True) as connection:
        names = {row[0] for row in connection.execute("select datname from pg_database")}
        assert set(done["kept"]) <= names
        assert not [name for name in names if "_restored_" in name]
        connection.execute(f"drop database {done['kept'][0]}")


def test_a_folder_is_built_beside_the_live_one_and_starts_as_a_server(
    kept: tuple[Backup, Manifest], programs: Programs
) -> None:
    backup, made = kept
    with scratch.folder() as place:
        live = place / "data"
        live.mkdir()
        (live / "precious").touch()
        planned = restore.plan(backup, "source", made.set_id, Target(), live)
        with pytest.raises(RefusedError, match="the word is 'replace data'"):
            restore.apply(backup, programs, planned.plan_id)
        assert [path.name for path in place.iterdir()] == ["data"]
        done = restore.apply(backup, programs, planned.plan_id, planned.word)
        assert (Path(done["kept"]) / "precious").exists()
        assert not (live / "recovery.signal").exists()
        assert "in production" not in programs.run("pg_controldata", str(live)), "it was stopped cleanly"
        assert sorted(path.name for path in place.iterdir()) == ["data", Path(done["kept"]).name]


def test_a_running_server_is_never_replaced(
    kept: tuple[Backup, Manifest], programs: Programs, source_postgres: Any
) -> None:
    backup, made = kept
    planned = restore.plan(backup, "source", made.set_id, Target(), source_postgres.data)
    with pytest.raises(RefusedError, match="stop it first"):
        restore.apply(backup, programs, planned.plan_id, planned.word)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Target(lsn="nonsense"), "is no LSN"),
        (Target(lsn="0/1"), "choose an older set"),
        (Target(time="yesterday"), "is no time"),
        (Target(time="2026-11-26T02:00:00"), "no time zone"),
    ],
)
def test_a_position_that_cannot_be_reached_is_refused(
    kept: tuple[Backup, Manifest], target: Target, message: str, tmp_path: Path
) -> None:
    backup, made = kept
    with pytest.raises(ConfigurationError, match=message):
        restore.plan(backup, "source", made.set_id, target, tmp_path / "new")


def test_a_plan_that_was_changed_is_refused(kept: tuple[Backup, Manifest], programs: Programs, tmp_path: Path) -> None:
    backup, made = kept
    planned = restore.plan(backup, "source", made.set_id, Target(), tmp_path / "new")
    place = f"restores/{planned.plan_id}.json"
    text = backup.store.get(place)
    backup.store.put(place, text.replace(b"/new", b"/etc"))
    with pytest.raises(DamagedError, match="forged or changed"):
        restore.apply(backup, programs, planned.plan_id)


def test_wrong_key_credentials_and_places_are_told_in_one_message(
    kept: tuple[Backup, Manifest], object_store: Any, bucket: str
) -> None:
    backup, made = kept
    stranger = replace(backup, key=Key.parse(Key.generate(), "another"))
    with pytest.raises(DamagedError, match=r"signed with the backup key .*, this one is"):
        manifests.load(stranger.store, stranger.key, made.set_id)
    wrong = make_store(object_store, bucket, backup.store.prefix, secret_key="wrong")
    with pytest.raises(StoreError, match="refuses the credentials"):
        wrong.get("sets/x")
    gone = make_store(object_store, "no-such-bucket", "")
    with pytest.raises(StoreError, match="no-such-bucket"):
        list(gone.keys("sets/"))
    nobody: Store = make_store(object_store, bucket, "", endpoint="http://127.0.0.1:9", attempts=1)
    with pytest.raises(StoreError, match="does not answer"):
        nobody.get("sets/x")


def test_a_server_that_is_away_or_of_another_version_is_named(source: Instance, programs: Programs) -> None:
    away = Instance("source", replace(source.login, port=9))
    with pytest.raises(ServerError, match=r"'source' \(connection 'backup_postgres-source'\) cannot be reached"):
        identity(away)
    stranger = Instance("source", replace(source.login, password="wrong"))
    with pytest.raises(ServerError, match="password authentication failed"):
        identity(stranger)
    for other in (programs.major - 1, programs.major + 1):
        with pytest.raises(ServerError, match=f"is PostgreSQL {other}, the programs .* are {programs.major}"):
            check_version(programs, other, "the server")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small file system")
def test_a_full_disk_is_told_and_nothing_is_left_half_restored(
    kept: tuple[Backup, Manifest], programs: Programs, tmp_path: Path
) -> None:
    backup, made = kept
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)], check=True)
    try:
        planned = restore.plan(backup, "source", made.set_id, Target(), small / "data")
        with pytest.raises(ServerError, match=r"no room to restore in .* Set TMPDIR"):
            restore.apply(backup, programs, planned.plan_id)
        assert not (small / "data").exists()
    finally:
        subprocess.run(["umount", str(small)], check=True)
