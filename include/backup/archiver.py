"""Ships a server's write-ahead log to the backup store as it is written: `pg_receivewal` receives, this sends on.

The replication slot keeps what was not received yet; the staging folder keeps what was received and not stored yet.
Both survive every crash, and shipping a file twice changes nothing. The file that is not full yet is stored over and
over, every few seconds in which it has grown, so what can be lost is seconds.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import psycopg

from include.backup import wal
from include.backup.errors import BackupError, ServerError
from include.backup.postgres import identity
from include.backup.programs import Programs, bound, check_version, last_lines
from include.backup.sealed import Key
from include.backup.settings import Instance
from include.backup.store import Store
from include.failpoints import reach

SLOT = "lakehouse_archive"
PARTIAL_SECONDS = 15.0
_POLL_SECONDS = 0.5
_log = logging.getLogger(__name__)


class Archiver:
    """One server's. `note` is told the LSN up to which everything lies in the store."""

    def __init__(
        self,
        instance: Instance,
        programs: Programs,
        store: Store,
        key: Key,
        staging: Path,
        note: Callable[[str, str], None] = lambda name, lsn: None,
        partial_seconds: float = PARTIAL_SECONDS,
    ) -> None:
        self._instance, self._programs, self._store, self._key = instance, programs, store, key
        self._staging, self._note, self._partial_seconds = staging / instance.name, note, partial_seconds
        self._system, self._shipped = "", dict[str, tuple[float, float]]()

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set. Whatever fails is said and tried again: the slot keeps the log meanwhile."""
        while not stop.is_set():
            try:
                self._receive(stop)
            except (BackupError, OSError) as error:
                _log.error("log of %s: %s", self._instance.name, error)
            except psycopg.Error as error:
                _log.error("log of %s: %s", self._instance.name, str(error).strip())
            stop.wait(5)

    def _receive(self, stop: threading.Event) -> None:
        server = identity(self._instance)
        check_version(self._programs, server.major, f"PostgreSQL server {self._instance.name!r}")
        self._system = server.system
        self._staging.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._claim()
        self._drop_short()
        self._mend_slot()
        # What it says is kept in memory: the disk may be what is full.
        with open(os.memfd_create("pg_receivewal"), "w+b") as said:
            process = self._start(said)
            try:
                while not stop.wait(_POLL_SECONDS):
                    self.ship()
                    if process.poll() is not None:
                        said.seek(0)
                        raise ServerError(f"pg_receivewal ended: {last_lines(said.read().decode(errors='replace'))}")
            finally:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(2)  # what it has received is on the disk: killing it loses nothing
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self.ship(final=True)

    def _start(self, said: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                *bound("TERM"),
                self._programs.path("pg_receivewal"),
                *("--directory", str(self._staging), "--slot", SLOT, "--synchronous", "--no-password", "--no-loop"),
                *("--dbname", self._instance.address(), "--status-interval", "5"),
            ],
            env=self._instance.environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )

    def _claim(self) -> None:
        """The staged files of another server, which was here before this one was restored, are of no use any more."""
        mark = self._staging.with_suffix(".system")
        if not mark.exists() or mark.read_text() != self._system:
            for file in self._staging.iterdir():
                file.unlink()
            mark.write_text(self._system)

    def _drop_short(self) -> None:
        """Where there was no room for a file, pg_receivewal leaves one that it refuses to go on with. It holds nothing
        that the slot does not have.
        """
        for file in self._staging.glob("*.partial"):
            if file.stat().st_size not in (0, wal.SIZE):
                file.unlink()

    def _mend_slot(self) -> None:
        """Makes the slot; makes it anew when the server gave it up, which leaves a gap that only a new set closes."""
        with psycopg.connect(self._instance.dsn(), autocommit=True) as session:
            row = session.execute(
                "select wal_status from pg_replication_slots where slot_name = %s and slot_type = 'physical'", [SLOT]
            ).fetchone()
            if row is not None and row[0] == "lost":
                _log.error(
                    "log of %s: the server gave up the slot %s, so its archive has a gap: make a full set now",
                    self._instance.name,
                    SLOT,
                )
                session.execute("select pg_drop_replication_slot(%s)", [SLOT])
                for file in self._staging.iterdir():
                    file.unlink()
                row = None
            if row is None:
                session.execute("select pg_create_physical_replication_slot(%s, true)", [SLOT])

    def ship(self, *, final: bool = False) -> None:
        """Stores every whole file and drops it here; stores the last one as far as it is, when that is due."""
        files = sorted(self._staging.iterdir())
        partial = [file for file in files if file.suffix == ".partial"]
        if not final and len(partial) == len(files) and not any(map(self._is_due, partial)):
            return
        received = self._received()
        for file in files:
            if file.suffix == ".partial":
                continue
            data = file.read_bytes()
            wal.ship(self._store, self._key, self._system, file.name, data)
            reach("wal.after_put")
            if len(file.name) == 24:
                self._store.delete(wal.key_of(self._system, file.name, partial=True))
            file.unlink()
            _log.info("stored %s of %s", file.name, self._instance.name)
        stored = [self._ship_partial(file) for file in partial]
        if received and all(stored):
            self._note(self._instance.name, received)

    def _is_due(self, file: Path) -> bool:
        """Whether it has changed since it was stored, and that is some seconds ago."""
        try:
            changed = file.stat().st_mtime
        except FileNotFoundError:  # it has become whole
            return False
        stored, at = self._shipped.get(file.stem, (0.0, 0.0))
        return changed != stored and time.monotonic() - at >= self._partial_seconds

    def _ship_partial(self, file: Path) -> bool:
        """Whether the store has all that was in the file a moment ago."""
        try:
            changed, data = file.stat().st_mtime, file.read_bytes()
        except FileNotFoundError:
            return False
        if self._shipped.get(file.stem, (0.0, 0.0))[0] != changed:
            wal.ship_partial(self._store, self._key, self._system, file.stem, data)
            self._shipped = {file.stem: (changed, time.monotonic())}
        return True

    def _received(self) -> str | None:
        """What the server knows to be safe here; None while nothing is connected."""
        with psycopg.connect(self._instance.dsn(), autocommit=True) as session:
            row = session.execute(
                "select flush_lsn::text from pg_stat_replication where application_name = 'lakehouse_backup' "
                "and state = 'streaming' and flush_lsn is not null and pid in "
                "(select active_pid from pg_replication_slots where slot_name = %s)",
                [SLOT],
            ).fetchone()
        return str(row[0]) if row else None
