"""Killed at any point, a backup, a drill and a restore end complete when they are run again, with nothing left over."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from include.backup import create, sets
from include.backup import manifest as manifests
from include.backup.failpoints import POINTS
from include.backup.programs import Programs
from include.backup.sealed import Key
from include.backup.settings import Backup, Instance, Login
from include.paths import PROJECT
from tests.include.backup.conftest import archiving, make_store

BACKUP = [point for point in POINTS if point.startswith("backup.")]
DRILL = [point for point in POINTS if point.startswith("drill.")]
RESTORE = ["restore.after_fetch", "restore.before_swap", "restore.after_swap"]


class Command:
    """`python -m include.backup`, as a process of its own that can be killed at a named point."""

    def __init__(self, backup: Backup, secret: str) -> None:
        store = backup.store
        login: Login = backup.instances["source"].login
        connections = {
            "backup_s3": {
                "login": store.access_key,
                "password": store.secret_key,
                "extra": {"endpoint_url": store.endpoint, "bucket": store.bucket},
            },
            "backup_key": {"password": secret},
            "backup_source": {
                "host": login.host,
                "port": login.port,
                "login": login.login,
                "password": login.password,
            },
        }
        self._environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            **{f"AIRFLOW_CONN_{name.upper()}": json.dumps(item) for name, item in connections.items()},
        }

    def run(self, file: Path, *arguments: str, dies_at: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "include.backup", *arguments],
            cwd=PROJECT,
            env=self._environment | {"LAKEHOUSE_BACKUP_FILE": str(file), "LAKEHOUSE_FAILPOINTS": f"{dies_at}=kill"},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )


@pytest.fixture(scope="module")
def secret() -> str:
    return Key.generate()


@pytest.fixture(scope="module")
def archived(object_store: Any, bucket: str, source: Instance, owner: Any, programs: Programs, secret: str) -> Any:
    store = make_store(object_store, bucket, f"kills-{random.randrange(10**9)}/")
    backup = Backup(store, Key.parse(secret, "the test"), {"source": source}, {}, None, 7)
    with archiving(source, programs, store, backup.key):
        yield backup


@pytest.fixture(scope="module")
def declared(archived: Backup, tmp_path_factory: Any) -> Path:
    """A backup.yaml for the source alone."""
    file = Path(tmp_path_factory.mktemp("declared")) / "backup.yaml"
    file.write_text(
        json.dumps(
            {
                "store": {
                    "connection": "backup_s3",
                    "bucket": archived.store.bucket,
                    "prefix": archived.store.prefix,
                },
                "key": {"connection": "backup_key"},
                "postgres": {"source": {"connection": "backup_source"}},
            }
        )
    )
    return file


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


def killed_restore_ends_complete(
    backup: Backup, command: Command, programs: Programs, declared: Path, point: str, folder: Path
) -> None:
    if not manifests.complete(backup.store):
        create.run(backup, programs, sets.new_id())
    folder.mkdir()
    target = folder / "data"
    target.mkdir()
    planned = command.run(declared, "plan", "source", "--into", str(target))
    assert planned.returncode == 0, planned.stderr
    plan_id = planned.stdout.split(":")[0].removeprefix("plan ")
    died = command.run(declared, "restore", plan_id, "--word", "replace data", dies_at=point)
    assert died.returncode == -signal.SIGKILL, died.stderr
    again = command.run(declared, "restore", plan_id, "--word", "replace data")
    assert again.returncode == 0, again.stderr
    assert (target / "PG_VERSION").exists()
    assert sorted(path.name for path in folder.iterdir()) == ["data", f"data.before-{plan_id}"]


@pytest.mark.faults
@pytest.mark.parametrize("point", RESTORE)
def test_a_restore_killed_anywhere_ends_complete(
    archived: Backup, secret: str, programs: Programs, declared: Path, point: str, services_home: Any
) -> None:
    folder = services_home.root / f"restore-{point}"
    killed_restore_ends_complete(archived, Command(archived, secret), programs, declared, point, folder)


@pytest.mark.faults
@pytest.mark.parametrize("point", DRILL)
def test_a_drill_killed_anywhere_proves_nothing_and_can_be_run_again(
    archived: Backup, secret: str, programs: Programs, declared: Path, point: str
) -> None:
    made = create.run(archived, programs, sets.new_id())
    command = Command(archived, secret)
    died = command.run(declared, "drill", made.set_id, dies_at=point)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert list(archived.store.keys(f"drills/{made.set_id}/")) == []
    again = command.run(declared, "drill", made.set_id)
    assert again.returncode == 0, again.stdout
    assert len(list(archived.store.keys(f"drills/{made.set_id}/"))) == 1
