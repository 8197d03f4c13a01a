"""The PostgreSQL part of a set: a base backup, the log up to a known point, every table's hash there, dumps of it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

import psycopg

from include.backup import wal
from include.backup.errors import ServerError
from include.backup.manifest import File, Part
from include.backup.point import Point, hashes, quiescent
from include.backup.programs import Programs, check_version, last_lines
from include.backup.sets import FileWriter, SetWriter, open_file
from include.backup.settings import Instance

BASE, MANIFEST, GLOBALS = "base.tar", "backup_manifest", "globals.sql"
_PIPE = 1 << 20


@dataclass(frozen=True)
class Identity:
    """Of one server, whatever its address: what must be the same in every set of a chain."""

    system: str
    version: str
    major: int


def identity(instance: Instance) -> Identity:
    """Raises ServerError when the server does not answer, or refuses the role."""
    try:
        with psycopg.connect(instance.dsn(), autocommit=True) as session:
            row = session.execute(
                "select (select system_identifier::text from pg_control_system()), current_setting('server_version'), "
                "current_setting('server_version_num')::int / 10000"
            ).fetchone()
    except psycopg.OperationalError as error:
        raise ServerError(
            f"PostgreSQL server {instance.name!r} (connection {instance.login.conn_id!r}) cannot be reached: {error}"
        ) from error
    assert row is not None
    return Identity(*row)


class _Members:
    """Follows a tar stream from header to header as it passes, and keeps the one small file that is wanted.

    `tarfile` would copy everything it skips; a base backup is all of what is to be skipped.
    """

    def __init__(self, wanted: str) -> None:
        self._wanted, self._head, self._skip, self._take = wanted.encode(), b"", 0, 0
        self._found, self._ended = bytearray(), False

    def feed(self, data: memoryview) -> None:
        at = 0
        while at < len(data) and not self._ended:
            if self._take or self._skip:
                length = min(len(data) - at, self._take or self._skip)
                if self._take:
                    self._found += data[at : at + length]
                    self._take -= length
                else:
                    self._skip -= length
            else:
                length = min(len(data) - at, tarfile.BLOCKSIZE - len(self._head))
                self._head += data[at : at + length]
                if len(self._head) == tarfile.BLOCKSIZE:
                    self._header(self._head)
                    self._head = b""
            at += length

    def _header(self, head: bytes) -> None:
        if not any(head):
            self._ended = True
            return
        member = tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
        padded = -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE if member.isreg() else 0
        if head[:100].rstrip(b"\0") == self._wanted:
            self._take, self._skip = member.size, padded - member.size
        else:
            self._skip = padded

    def result(self) -> bytes:
        """Raises tarfile.TarError when the archive did not end, or did not hold the file."""
        if not self._ended or not self._found:
            raise tarfile.ReadError(f"the archive ended early, or holds no {self._wanted.decode()}")
        return bytes(self._found)


def part(
    writer: SetWriter, files: list[File], instance: Instance, programs: Programs, parent: Part | None
) -> Mapping[str, Any]:
    """Makes the part's files; gives its facts. `parent`: of the set before, for an incremental base backup.

    Raises ServerError for a server that is another one than the parent's, or of another version than the programs.
    """
    name, server = f"postgres-{instance.name}", identity(instance)
    check_version(programs, server.major, f"PostgreSQL server {instance.name!r}")
    if parent is not None and parent.facts["system"] != server.system:
        raise ServerError(
            f"PostgreSQL server {instance.name!r} is not the one of the last set (system identifier {server.system}, "
            f"was {parent.facts['system']}): restored or exchanged; make a full set (`create --full`)"
        )
    with writer.file(name, BASE, files) as base:
        listed = base_backup(instance, programs, base, _parent_manifest(writer, parent))
    with writer.file(name, MANIFEST, files) as copy:
        copy.write(listed)
    span = json.loads(listed)["WAL-Ranges"][-1]
    point = _at_point(writer, files, name, instance, programs)
    archived = wal.wait(
        writer.store, writer.key, instance, server.system, span["Timeline"], span["Start-LSN"], point["lsn"]
    )
    return {
        "system": server.system,
        "version": server.version,
        "major": server.major,
        "timeline": span["Timeline"],
        "start_lsn": span["Start-LSN"],
        "end_lsn": span["End-LSN"],
        "incremental": parent is not None,
        "point": point,
        "wal": [[one.key, one.size, one.sha256] for one in archived],
    }


def _parent_manifest(writer: SetWriter, parent: Part | None) -> bytes | None:
    return open_file(writer.store, writer.key, parent.file(MANIFEST)).read() if parent else None


def base_backup(instance: Instance, programs: Programs, writer: FileWriter, parent: bytes | None) -> bytes:
    """Streams the backup into the set; gives its own manifest, the last file in it."""
    argv = [
        programs.path("pg_basebackup"),
        *("--dbname", instance.address(), "--pgdata", "-", "--format", "tar", "--wal-method", "none"),
        *("--checkpoint", "fast", "--no-password", "--label", "lakehouse backup"),
    ]
    with tempfile.NamedTemporaryFile(prefix="lakehouse-") as given:
        if parent is not None:
            given.write(parent)
            given.flush()
            argv += ["--incremental", given.name]
        return _stream(argv, instance, lambda source: _watch(source, writer))


def _watch(source: IO[bytes], writer: FileWriter) -> bytes:
    """Hands everything on to the set; gives the server's own manifest, the last file of the archive."""
    members = _Members(MANIFEST)
    while view := writer.fill(source):
        members.feed(view)
        view.release()
    return members.result()


def _stream(argv: list[str], instance: Instance, consume: Callable[[IO[bytes]], bytes]) -> bytes:
    """Runs a program whose output is consumed as it comes. Raises ServerError when it fails."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            argv,
            env=instance.environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            bufsize=0,
        )
        assert process.stdout is not None
        with contextlib.suppress(OSError):  # more than root's limit for others
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, _PIPE)
        failed: Exception | None = None
        result = b""
        try:
            result = consume(process.stdout)
        except tarfile.TarError as error:
            failed = error
        except BaseException:
            process.kill()
            raise
        finally:
            process.stdout.close()
            code = process.wait()
        if code or failed:
            errors.seek(0)
            said = last_lines(errors.read().decode(errors="replace"))
            raise ServerError(f"{argv[0].rpartition('/')[2]} of server {instance.name!r} failed: {said}") from failed
        return result


def _at_point(
    writer: SetWriter, files: list[File], part_name: str, instance: Instance, programs: Programs
) -> dict[str, Any]:
    with quiescent(instance) as point:
        found = {name: hashes(session) for name, session in point.sessions.items()}
        for name in point.sessions:
            dump(writer, files, part_name, instance, programs, point, name)
    with writer.file(part_name, GLOBALS, files) as file:
        # Without the roles' password hashes: a dump is what people pass around.
        file.write(
            programs.run(
                "pg_dumpall",
                *("--globals-only", "--no-role-passwords", "--no-password", "--dbname", instance.address()),
                environment=instance.environment(),
            ).encode()
        )
    return {"lsn": point.lsn, "databases": found}


def dump(
    writer: SetWriter,
    files: list[File],
    part_name: str,
    instance: Instance,
    programs: Programs,
    point: Point,
    database: str,
) -> None:
    """A portable copy of one database, of the very rows that were hashed."""
    row = point.sessions[database].execute("select pg_export_snapshot()").fetchone()
    assert row is not None
    argv = [
        programs.path("pg_dump"),
        # Compressed by us, at a fraction of what zlib costs.
        *("--format", "custom", "--compress", "0", "--no-password", "--snapshot", str(row[0])),
        *("--dbname", instance.address(database)),
    ]

    def copy(source: IO[bytes]) -> bytes:
        with writer.file(part_name, dump_name(database), files) as file:
            while view := file.fill(source):
                view.release()
        return b""

    _stream(argv, instance, copy)


def dump_name(database: str) -> str:
    """As a file's name in a set: whatever the database's own name holds."""
    return "dump-" + "".join(c if c.isascii() and c.isalnum() else f"@{ord(c):x}@" for c in database)
