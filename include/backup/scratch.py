"""Builds a PostgreSQL data folder out of a set and the archived log, and runs it where it can do no harm."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import psycopg

from include.backup import wal
from include.backup.errors import DamagedError, NotVerifiedError, ServerError
from include.backup.manifest import Manifest, Part
from include.backup.postgres import BASE
from include.backup.programs import Confined, Programs, check_version, confine, last_lines
from include.backup.sealed import Key
from include.backup.sets import open_file
from include.backup.store import MissingError, Store
from include.failpoints import reach

SUPERUSER = "postgres"
START_SECONDS = 300.0
_FOLDER = "lakehouse-restore-"
# What the log says the server had at least: a standby with less of them refuses to replay it.
_CONTROL = {
    "max_connections": "max_connections setting",
    "max_worker_processes": "max_worker_processes setting",
    "max_wal_senders": "max_wal_senders setting",
    "max_prepared_transactions": "max_prepared_xacts setting",
    "max_locks_per_transaction": "max_locks_per_xact setting",
}


@dataclass(frozen=True)
class Target:
    """Where recovery stops: before the record at `lsn`, or after the last transaction committed by `time`.

    Neither: at the end of the archived log.
    """

    lsn: str | None = None
    time: str | None = None

    def settings(self) -> dict[str, str]:
        if self.lsn:
            return {"recovery_target_lsn": self.lsn, "recovery_target_inclusive": "off"}
        return {"recovery_target_time": self.time} if self.time else {}


def fetch_base(
    store: Store, key: Key, manifests: Sequence[Manifest], part: str, folder: Path, programs: Programs
) -> Path:
    """The data folder of the chain's last set, checked file by file. Raises DamagedError, and ServerError for another
    major version than the programs'.
    """
    for manifest in manifests:
        major = int(manifest.parts[part].facts["major"])
        check_version(programs, major, f"the backup of {part} in set {manifest.set_id}")
    folders = [folder / f"base-{manifest.set_id}" for manifest in manifests]
    for manifest, place in zip(manifests, folders, strict=True):
        with _room(folder):
            _unpack(store, key, manifest.parts[part], place)
        _verify(programs, place)
    data = folder / "data"
    if len(folders) == 1:
        folders[0].rename(data)
    else:
        programs.run("pg_combinebackup", "--output", str(data), *map(str, folders))
        _verify(programs, data)
        for place in folders:
            shutil.rmtree(place)
    data.chmod(0o700)
    reach("restore.after_fetch")
    return data


@contextmanager
def _room(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ServerError(
            f"no room to restore in {folder}: {error.strerror}. Set TMPDIR, or the restore's folder, to a "
            "larger file system"
        ) from error


def _unpack(store: Store, key: Key, part: Part, folder: Path) -> None:
    folder.mkdir(mode=0o700)
    reader = open_file(store, key, part.file(BASE))
    try:
        with tarfile.open(fileobj=cast(Any, reader), mode="r|", bufsize=1 << 20) as archive:
            archive.extractall(folder, filter="data")
    except tarfile.TarError as error:
        raise DamagedError(f"the base backup of {part.name} is no whole archive: {error}") from error
    while reader.segment():  # what follows the archive's end must be authentic, too
        pass


def _verify(programs: Programs, folder: Path) -> None:
    try:
        programs.run("pg_verifybackup", "--no-parse-wal", "--quiet", "--exit-on-error", str(folder))
    except ServerError as error:
        raise DamagedError(f"the base backup is not what the server sent: {error}") from error


def fetch_wal(store: Store, key: Key, part: Part, folder: Path, until: int | None) -> int:
    """Puts the log from the base backup's start into `folder`; gives the LSN that it reaches.

    `until`: the LSN that is wanted, None for all there is. Raises DamagedError when a file of the set's own is missing
    or changed, or the log ends before `until`.
    """
    system, timeline = str(part.facts["system"]), int(part.facts["timeline"])
    start = wal.number(str(part.facts["start_lsn"]))
    folder.mkdir(mode=0o700, exist_ok=True)
    listed = {key_.rpartition("/")[2]: (key_, size, sha256) for key_, size, sha256 in part.facts["wal"]}
    for place, size, sha256 in listed.values():
        try:
            store.get(place, size, sha256)
        except MissingError:
            raise DamagedError(f"{place}, the log of the set itself, is missing") from None
    archive = wal.Archive.read(store, system)
    lsn = start // wal.SIZE * wal.SIZE
    while until is None or lsn <= until:
        name = wal.segment_name(timeline, lsn)
        if name not in archive.whole:
            break
        with _room(folder):
            (folder / name).write_bytes(wal.fetch(store, key, system, name))
        lsn += wal.SIZE
    name = wal.segment_name(timeline, lsn)
    if (until is None or lsn <= until) and name in archive.partial:
        data = wal.fetch(store, key, system, name, partial=True)
        (folder / name).write_bytes(data.ljust(wal.SIZE, b"\0"))
    elif later := [one for one in archive.whole if len(one) == 24 and one[:8] == name[:8] and one > name]:
        raise DamagedError(
            f"the archived log of {part.name} has a gap: {name} is missing, {later[0]} is there. What was committed "
            f"after {wal.text(lsn)} cannot be restored from this set; name a position before it, or a newer set"
        )
    elif until is not None and lsn <= until:
        raise DamagedError(
            f"the archived log of {part.name} ends at {wal.text(lsn)}, before {wal.text(until)}: {name} is missing"
        )
    for name in archive.whole:
        if name.endswith(".history"):
            (folder / name).write_bytes(wal.fetch(store, key, system, name))
    return lsn


@dataclass
class Scratch:
    """A PostgreSQL server in a folder of its own: no network, a socket that only its account and root can reach."""

    folder: Path
    programs: Programs
    way: Confined
    data: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def dsn(self, database: str = "postgres") -> str:
        return psycopg.conninfo.make_conninfo(
            host=str(self.folder / "socket"), port=5432, user=SUPERUSER, dbname=database, connect_timeout=10
        )

    def configure(self, settings: dict[str, str]) -> None:
        """The backup's own configuration is not used: it speaks of the machine that it came from."""
        (self.folder / "socket").mkdir(mode=0o700, exist_ok=True)
        (self.folder / "hba.conf").write_text("local all all trust\n")
        (self.folder / "ident.conf").write_text("")
        quoted = {name: value.replace("'", "''") for name, value in settings.items()}
        (self.folder / "server.conf").write_text("".join(f"{name} = '{value}'\n" for name, value in quoted.items()))
        # Settings made with ALTER SYSTEM would win over these.
        (self.data / "postgresql.auto.conf").write_text("")

    def start(self) -> None:
        """Raises ServerError when it does not accept connections."""
        self.log.unlink(missing_ok=True)
        self.way.own(self.folder)
        argv = [
            self.programs.path("postgres"),
            *("-D", str(self.data), "-c", f"config_file={self.folder / 'server.conf'}"),
        ]
        self.process = self.way.start(argv, self.log)
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > end:
                said = last_lines(self.log.read_text(errors="replace"), 12)
                self.stop()
                raise ServerError(f"the restored server did not start:\n{said}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.dsn()):
                return True
        except psycopg.OperationalError:
            return False

    def segments(self) -> list[str]:
        """The names of the log's files that were fetched."""
        return sorted(path.name for path in (self.folder / "wal").iterdir() if path.suffix != ".history")

    def run(self, program: str, *arguments: str) -> None:
        """Runs a client as confined as the server. Raises ServerError when it fails."""
        log = self.folder / f"{program}.log"
        log.unlink(missing_ok=True)
        self.way.own(self.folder)
        if self.way.start([self.programs.path(program), *arguments], log).wait():
            raise ServerError(f"{program} failed: {last_lines(log.read_text(errors='replace'))}")

    def stop(self) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def recover(self, target: Target, action: str, changes: Mapping[str, str] = MappingProxyType({})) -> str:
        """Replays the log up to the target; gives the LSN that was reached. `action`: pause or promote. `changes`: to
        the server's settings.

        Raises NotVerifiedError when the target was not reached.
        """
        settings = self.base_settings() | {
            "restore_command": f'cp "{self.folder}/wal/%f" "%p"',
            "recovery_target_action": action,
            "recovery_target_timeline": "current",
            "archive_mode": "off",
            **target.settings(),
            **changes,
        }
        self.configure(settings)
        (self.data / "recovery.signal").touch()
        try:
            self.start()
        except ServerError as error:
            raise NotVerifiedError(f"recovery to {target.lsn or target.time or 'the end'} failed: {error}") from error
        query = (
            "select pg_is_in_recovery() and pg_get_wal_replay_pause_state() = 'paused', pg_last_wal_replay_lsn()::text"
            if action == "pause"
            else "select not pg_is_in_recovery(), pg_last_wal_replay_lsn()::text"
        )
        end = time.monotonic() + 3600
        with psycopg.connect(self.dsn(), autocommit=True) as session:
            while True:
                row = session.execute(query.encode()).fetchone()
                assert row is not None
                if row[0]:
                    return str(row[1])
                if self.process is None or self.process.poll() is not None or time.monotonic() > end:
                    raise NotVerifiedError(f"recovery stopped: {last_lines(self.log.read_text(errors='replace'))}")
                time.sleep(0.05)

    def base_settings(self) -> dict[str, str]:
        """Its own, and what the log that it replays demands."""
        told = self.programs.run("pg_controldata", str(self.data))
        demanded = {
            name: found[1]
            for name, label in _CONTROL.items()
            if (found := re.search(rf"^{label}:\s+(\d+)", told, re.MULTILINE))
        }
        return demanded | {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder / "socket"),
            "unix_socket_permissions": "0700",
            "hba_file": str(self.folder / "hba.conf"),
            "ident_file": str(self.folder / "ident.conf"),
            "hot_standby": "on",
            "fsync": "off",  # it lives for minutes, and is made anew after a crash
            "full_page_writes": "off",
            "shared_buffers": "64MB",
            "autovacuum": "off",
            "max_logical_replication_workers": "0",  # a restored subscription must not begin to work
            "jit": "off",
        }


@contextmanager
def instance(
    store: Store, key: Key, manifests: Sequence[Manifest], part: str, programs: Programs, until: int | None
) -> Iterator[Scratch]:
    """A scratch server's folder with data and log in it, removed at the end. `until`: as for `fetch_wal`."""
    with folder() as place:
        data = fetch_base(store, key, manifests, part, place, programs)
        fetch_wal(store, key, manifests[-1].parts[part], place / "wal", until)
        reach("drill.after_fetch")
        scratch = Scratch(place, programs, confine(programs, place), data)
        try:
            yield scratch
        finally:
            scratch.stop()


@contextmanager
def empty(programs: Programs) -> Iterator[Scratch]:
    """A fresh scratch server, for dumps to be loaded into; running, removed at the end."""
    with folder() as place:
        way = confine(programs, place)
        data = place / "data"
        data.mkdir(mode=0o700)
        way.own(place)
        log = place / "initdb.log"
        argv = [
            programs.path("initdb"),
            *("--pgdata", str(data), "--username", SUPERUSER, "--auth", "trust", "--no-sync", "--encoding", "UTF8"),
            *("--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--no-instructions"),
        ]
        if way.start(argv, log).wait():
            raise ServerError(f"initdb failed: {last_lines(log.read_text(errors='replace'))}")
        scratch = Scratch(place, programs, way, data)
        scratch.configure(scratch.base_settings() | {"max_wal_size": "4GB"})
        scratch.start()
        try:
            yield scratch
        finally:
            scratch.stop()


@contextmanager
def folder() -> Iterator[Path]:
    """A private folder below the temporary one, which the scratch server's account may pass through.

    What a process that was killed has left there, plain copies of people's data, is removed first.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        with _held(left) as held:
            if held:
                shutil.rmtree(left, ignore_errors=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{_FOLDER}"))
    with _held(fresh):  # before it has the name by which others look for what was left
        place = fresh.rename(fresh.with_name(fresh.name.removeprefix(".")))
        try:
            place.chmod(0o711)
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Whether the folder is ours now; it is until the block, or this process, ends."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # gone, or somebody else's
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)
