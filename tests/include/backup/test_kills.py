"""Killed at any point, a backup, a drill and a restore end complete when they are run again, with nothing left over."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from include import ledger, upkeep
from include.backup import create, databases, sets
from include.backup import manifest as manifests
from include.backup.programs import Programs
from include.backup.sealed import Key
from include.backup.settings import Backup, Instance, Login
from tests.include.backup.command import Command, declare
from tests.include.backup.conftest import archiving, make_store

BACKUP = [
    "backup.after_begin",
    "backup.between_segments",
    "backup.before_part",
    "backup.after_part",
    "backup.before_manifest",
    "backup.after_manifest",
]
DRILL = ["drill.after_fetch", "drill.while_serving", "drill.after_recovery", "drill.before_report"]
FOLDER = ["restore.after_fetch", "restore.before_swap", "restore.after_swap"]
DATABASES = [*FOLDER, "restore.after_copy"]


@pytest.fixture(scope="module")
def secret() -> str:
    return Key.generate()


@pytest.fixture(scope="module")
def archived(
    object_store: Any, bucket: str, source: Instance, admin: Login, owner: Any, programs: Programs, secret: str
) -> Any:
    store = make_store(object_store, bucket, f"kills-{random.randrange(10**9)}/")
    backup = Backup(store, Key.parse(secret, "the test"), {"source": source}, {}, None, 7, admins={"source": admin})
    with archiving(source, programs, store, backup.key):
        yield backup


@pytest.fixture(scope="module")
def declared(archived: Backup, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return declare(archived, tmp_path_factory.mktemp("declared"))


def killed_backup_ends_complete(backup: Backup, command: Command, declared: Path, point: str) -> None:
    before = set(manifests.complete(backup.store))
    died = command.run(declared, "create", dies_at=point)
    assert died.returncode == -signal.SIGKILL, died.stderr
    after = set(manifests.complete(backup.store))
    assert after == before or point == "backup.after_manifest", "no set is complete before its manifest"
    if point == "backup.after_manifest":
        assert len(after) == len(before) + 1
        return
    again = command.run(declared, "create")
    assert again.returncode == 0, again.stderr
    (made,) = set(manifests.complete(backup.store)) - before
    assert sets.unfinished(backup.store, backup.key) is None, "the set that was begun was completed, not a second one"
    manifest = manifests.load(backup.store, backup.key, made)
    sets.verify(backup.store, backup.key, manifest)
    listed = {one.key for part in manifest.parts.values() for file in part.files for one in file.segments}
    assert {key for key, _ in backup.store.keys(f"sets/{made}/data/")} == listed, "nothing unlisted is left"


def test_a_killed_backup_ends_complete(archived: Backup, secret: str, declared: Path) -> None:
    killed_backup_ends_complete(archived, Command(archived, secret), declared, "backup.before_manifest")


@pytest.mark.faults
@pytest.mark.parametrize("point", BACKUP)
def test_a_backup_killed_anywhere_ends_complete(archived: Backup, secret: str, declared: Path, point: str) -> None:
    killed_backup_ends_complete(archived, Command(archived, secret), declared, point)


def test_a_command_beside_other_upkeep_begins_nothing(
    conn: ledger.Connection, platform_postgres: Any, archived: Backup, secret: str, declared: Path
) -> None:
    dsn = platform_postgres.dsn("lakehouse", "lakehouse")
    found = psycopg.conninfo.conninfo_to_dict(dsn)
    names = {"host": "host", "port": "port", "schema": "dbname", "login": "user", "password": "password"}
    login = {theirs: found[ours] for theirs, ours in names.items() if ours in found}
    command = Command(archived, secret, AIRFLOW_CONN_LAKEHOUSE=json.dumps(login | {"port": int(str(login["port"]))}))
    before = archived.store.folders("sets/")
    ledger.hold_lease(conn, upkeep.LEASE, "retention", 600)
    conn.commit()
    refused = command.run(declared, "create")
    assert refused.returncode == 1
    assert "'upkeep' is held by retention until" in refused.stderr
    assert archived.store.folders("sets/") == before
    ledger.release_lease(conn, upkeep.LEASE, "retention")
    conn.commit()
    done = command.run(declared, "create")
    assert done.returncode == 0, done.stderr
    assert conn.execute("select count(*) as complete from lakehouse.backup_sets").fetchone() == {"complete": 1}
    ledger.hold_lease(conn, upkeep.LEASE, "retention", 600)  # the command has let go of it


def plan(command: Command, declared: Path, *arguments: str) -> str:
    """Makes a plan; gives its id."""
    planned = command.run(declared, "plan", "source", *arguments)
    assert planned.returncode == 0, planned.stderr
    return planned.stdout.split(":")[0].removeprefix("plan ")


def kill_and_repeat(command: Command, declared: Path, plan_id: str, word: str, point: str) -> None:
    died = command.run(declared, "restore", plan_id, "--word", word, dies_at=point)
    assert died.returncode == -signal.SIGKILL, died.stderr
    again = command.run(declared, "restore", plan_id, "--word", word)
    assert again.returncode == 0, again.stderr


@pytest.fixture(scope="module")
def one_set(archived: Backup, programs: Programs) -> Iterator[manifests.Manifest]:
    """What is restored below: the sample and a database besides."""
    admin = databases.admin(archived, "source")
    with databases.connect(admin) as session:
        session.execute("create database spare template template0")
    with databases.connect(admin, "spare") as session:
        session.execute("create table kept as select generate_series(1, 3) as n")
    yield create.run(archived, programs, sets.new_id(), full=True)
    with databases.connect(admin) as session:
        session.execute("drop database if exists spare with (force)")


@pytest.mark.faults
@pytest.mark.parametrize("point", FOLDER)
def test_a_restored_folder_is_whole_wherever_the_restore_was_killed(
    archived: Backup, secret: str, one_set: Any, declared: Path, point: str, services_home: Any
) -> None:
    folder = services_home.root / f"restore-{point}"
    target = folder / "data"
    target.mkdir(parents=True)
    command = Command(archived, secret)
    plan_id = plan(command, declared, "--into", str(target))
    kill_and_repeat(command, declared, plan_id, "replace data", point)
    assert (target / "PG_VERSION").exists()
    assert sorted(path.name for path in folder.iterdir()) == ["data", f"data.before-{plan_id}"]


@pytest.mark.faults
@pytest.mark.parametrize("point", DATABASES)
def test_databases_take_their_names_together_wherever_the_restore_was_killed(
    archived: Backup, secret: str, one_set: manifests.Manifest, declared: Path, source_postgres: Any, point: str
) -> None:
    """One that is there and is replaced, one that is gone and comes back."""
    admin = databases.admin(archived, "source")
    with psycopg.connect(source_postgres.dsn("retail"), autocommit=True) as session:
        session.execute("delete from retail.customers where id > 10")
    with databases.connect(admin) as session:
        session.execute("drop database spare")
    point_lsn = one_set.parts["postgres-source"].facts["point"]["lsn"]
    command = Command(archived, secret)
    wanted = ("--database", "retail", "--database", "spare")
    plan_id = plan(command, declared, *wanted, "--lsn", point_lsn, "--set", one_set.set_id)
    kill_and_repeat(command, declared, plan_id, "replace retail", point)
    kept = f"retail_before_{plan_id[:8]}"
    for name, query, count in (
        ("retail", "select count(*) from retail.customers", 5000),
        ("spare", "select count(*) from kept", 3),
    ):
        with databases.connect(admin, name) as session:
            assert session.execute(query.encode()).fetchone() == (count,), name
    mine = {name for name in databases.existing(admin) if plan_id[:8] in name}
    assert mine == {kept}, "no copy is left over"
    with databases.connect(admin) as session:
        row = session.execute("select datallowconn from pg_database where datname = %s", [kept]).fetchone()
        assert row == (False,), "nobody goes on writing into what was replaced"
        session.execute(f"drop database {kept}".encode())


@pytest.mark.faults
def test_a_plan_whose_maker_was_killed_replaces_nothing_and_can_be_applied(
    archived: Backup, secret: str, one_set: manifests.Manifest, declared: Path, services_home: Any
) -> None:
    command, target = Command(archived, secret), services_home.root / "restore-planned" / "data"
    before = {key for key, _ in archived.store.keys("restores/")}
    died = command.run(declared, "plan", "source", "--into", str(target), dies_at="restore.after_plan")
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert not target.parent.exists()
    (left,) = {key for key, _ in archived.store.keys("restores/")} - before
    done = command.run(declared, "restore", left.removeprefix("restores/").removesuffix(".json"))
    assert done.returncode == 0, done.stderr
    assert (target / "PG_VERSION").exists()


def serving(folder: Path) -> list[psutil.Process]:
    """Servers that run on data below a folder."""
    return [
        one
        for one in psutil.process_iter(["cmdline"])
        if any(str(folder) in word for word in one.info["cmdline"] or ())
    ]


@pytest.mark.faults
@pytest.mark.parametrize("point", DRILL)
def test_a_drill_killed_anywhere_proves_nothing_leaves_nothing_and_can_be_run_again(
    archived: Backup, secret: str, one_set: manifests.Manifest, declared: Path, point: str, services_home: Any
) -> None:
    folder: Path = services_home.root / f"d{DRILL.index(point)}"  # short, for the path of a socket
    folder.mkdir(mode=0o711)
    command = Command(archived, secret, TMPDIR=str(folder))
    before = len(list(archived.store.keys(f"drills/{one_set.set_id}/")))
    died = command.run(declared, "drill", one_set.set_id, dies_at=point)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert len(list(archived.store.keys(f"drills/{one_set.set_id}/"))) == before
    psutil.wait_procs(serving(folder), timeout=60)
    assert serving(folder) == [], "no server lives on with a copy of the data"
    again = command.run(declared, "drill", one_set.set_id)
    assert again.returncode == 0, again.stdout
    assert len(list(archived.store.keys(f"drills/{one_set.set_id}/"))) == before + 1
    assert list(folder.iterdir()) == [], "what the killed one had unpacked is gone"
