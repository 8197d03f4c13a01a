"""The log's archiver killed, and without room: whatever happens to it, the log has no gap."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from include.backup import wal
from include.backup.postgres import identity
from include.backup.programs import Programs
from include.backup.sealed import Key
from include.backup.settings import Backup, Instance, Login
from include.backup.store import Store
from tests.include.backup.command import Command, declare
from tests.include.backup.conftest import archiving


def assert_whole(store: Store, key: Key, system: str) -> None:
    have = wal.Archive.read(store, system).whole
    start, end = wal.segment_start(have[0]), wal.segment_start(have[-1]) + wal.SIZE
    assert list(have) == list(wal.names(int(have[0][:8], 16), start, end)), "no gap"
    assert {len(wal.fetch(store, key, system, name)) for name in have} == {wal.SIZE}


@pytest.mark.faults
def test_log_has_no_gap_when_its_archiver_was_killed_after_storing_a_file(
    store: Store, source: Instance, admin: Login, owner: Any, tmp_path: Path
) -> None:
    secret = Key.generate()
    backup = Backup(store, Key.parse(secret, "the test"), {"source": source}, {}, None, 7, admins={"source": admin})
    command, file, staging = Command(backup, secret), declare(backup, tmp_path), str(tmp_path / "staging")
    closed = 0
    with command.start(file, "archive", "--staging", staging, dies_at="wal.after_put") as archiver:
        while archiver.poll() is None:
            wal.close(source)
            closed += 1
            time.sleep(0.5)
    assert archiver.returncode == -signal.SIGKILL
    system = identity(source).system
    assert len(wal.Archive.read(store, system).whole) == 1
    with command.start(file, "archive", "--staging", staging) as archiver:
        while len(wal.Archive.read(store, system).whole) <= closed:
            assert archiver.poll() is None
            wal.close(source)
            time.sleep(0.5)
        archiver.send_signal(signal.SIGTERM)
    assert_whole(store, backup.key, system)


@pytest.mark.faults
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small file system")
def test_log_waits_on_its_server_while_the_archiver_has_no_room(
    store: Store, key: Key, source: Instance, owner: Any, programs: Programs, tmp_path: Path, caplog: Any
) -> None:
    small, system = tmp_path / "small", identity(source).system
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(small)], check=True)
    try:
        with archiving(source, programs, store, key, small), caplog.at_level(logging.ERROR):
            while "No space left on device" not in caplog.text:
                wal.close(source)
                time.sleep(0.5)
            assert wal.Archive.read(store, system).whole == ()
            subprocess.run(["mount", "-o", "remount,size=256m", str(small)], check=True)
            while len(wal.Archive.read(store, system).whole) < 3:
                wal.close(source)
                time.sleep(0.5)
        assert_whole(store, key, system)
    finally:
        subprocess.run(["umount", str(small)], check=True)
