"""Proves a set by restoring all of it: what was not compared counts as not proven."""

from __future__ import annotations

import datetime as dt
import hashlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg
from cryptography.fernet import Fernet, InvalidToken
from psycopg import sql

from include.backup import manifest as manifests
from include.backup import wal
from include.backup.errors import NotVerifiedError, ServerError
from include.backup.manifest import Manifest, Part
from include.backup.point import databases, differences, hashes, prepare
from include.backup.postgres import GLOBALS, dump_name
from include.backup.programs import Programs
from include.backup.scratch import Scratch, Target, empty, instance
from include.backup.sealed import Key
from include.backup.sets import open_file, verify
from include.backup.settings import Backup, Canary
from include.backup.store import Store
from include.failpoints import reach

PREFIX = "postgres-"


@dataclass
class Report:
    """`seconds`: by stage. `rpo_seconds`: age of the newest transaction that could be recovered when the drill began.

    `levels`: what was compared, in words; `passed` only when every level was.
    """

    set_id: str
    manifest_sha256: str
    started_at: str
    passed: bool = False
    reason: str = ""
    finished_at: str = ""
    levels: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    rto_seconds: float | None = None
    rpo_seconds: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class Drill:
    """One drill of one set."""

    def __init__(self, backup: Backup, programs: Programs, chance: random.Random | None = None) -> None:
        self._backup, self._programs, self._chance = backup, programs, chance or random.Random()
        self._store: Store = backup.store
        self._key: Key = backup.key

    def run(self, set_id: str) -> Report:
        """Never raises for what is wrong with the set: the report says so, is signed and stored, and has not passed."""
        begun = time.monotonic()
        report = Report(set_id, "", _now())
        try:
            chain = manifests.chain(self._store, self._key, set_id)
            report.manifest_sha256 = chain[-1].sha256
            report.levels.append("signatures of the set and of all it builds on")
            self._timed(report, "verify", lambda: self._read_all(chain, report))
            parts = [name for name in chain[-1].parts if name.startswith(PREFIX)]
            if not parts:
                raise NotVerifiedError("the set holds no PostgreSQL server: there is nothing to restore")
            for name in parts:
                self._postgres(chain, name, report)
            if self._backup.canary and "canary" not in report.facts:
                raise NotVerifiedError(f"no Airflow database was found in {self._backup.canary.instance}")
            report.passed = True
        except Exception as error:  # whatever it was, it could not be verified
            report.reason = f"{type(error).__name__}: {error}"
        report.finished_at = _now()
        report.rto_seconds = round(sum(s for name, s in report.seconds.items() if name.startswith("restore ")), 3)
        report.seconds["all"] = round(time.monotonic() - begun, 3)
        reach("drill.before_report")
        self._write(report)
        return report

    def _read_all(self, chain: list[Manifest], report: Report) -> None:
        report.facts["bytes"] = sum(verify(self._store, self._key, one) for one in chain)
        report.levels.append("every object read back, its SHA-256 and its seal")

    def _postgres(self, chain: list[Manifest], name: str, report: Report) -> None:
        part = chain[-1].parts[name]
        begun = time.monotonic()
        # One segment more: recovery stops before the first record at or above the target, so it must see that record.
        with instance(self._store, self._key, chain, name, self._programs, None) as scratch:
            scratch.recover(Target(lsn=part.facts["point"]["lsn"]), "pause")
            report.seconds[f"restore {name}"] = round(time.monotonic() - begun, 3)
            reach("drill.while_serving")
            self._timed(report, f"compare {name}", lambda: self._compare(scratch, part, report))
            scratch.stop()
            self._timed(report, f"later {name}", lambda: self._later(scratch, part, report))
            if self._backup.canary and name == PREFIX + self._backup.canary.instance:
                self._canary(scratch, self._backup.canary, chain[-1], report)
            report.facts.setdefault("network", {})[name] = scratch.way.network
        reach("drill.after_recovery")
        self._timed(report, f"dumps {name}", lambda: self._dumps(part, report))

    def _compare(self, scratch: Scratch, part: Part, report: Report) -> None:
        expected = part.facts["point"]["databases"]
        lines = []
        with psycopg.connect(scratch.dsn(), autocommit=True) as session:
            found = databases(session)
        lines += [f"database {name} is missing" for name in sorted(set(expected) - set(found))]
        for name in sorted(set(expected) & set(found)):
            with psycopg.connect(scratch.dsn(name)) as session:
                prepare(session)
                lines += [f"{name}: {line}" for line in differences(expected[name], hashes(session))]
        if lines:
            raise NotVerifiedError(f"{part.name} restored to {part.facts['point']['lsn']}: {'; '.join(lines[:20])}")
        tables = sum(len(one) for one in expected.values())
        report.levels.append(f"{part.name}: {tables} tables of {len(expected)} databases, row for row, at one LSN")

    def _later(self, scratch: Scratch, part: Part, report: Report) -> None:
        """Goes on to a random position of what was archived since, then to the end; every table must be readable."""
        low = wal.number(part.facts["point"]["lsn"])
        high = max(low + 1, *(wal.segment_start(name) for name in scratch.segments()))
        lsn = wal.text(self._chance.randrange(low, high))
        reached = scratch.recover(Target(lsn=lsn), "pause")
        scratch.stop()
        end = scratch.recover(Target(), "promote")
        tables = 0
        with psycopg.connect(scratch.dsn(), autocommit=True) as session:
            names = databases(session)
            row = session.execute(
                "select extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp())::float"
            ).fetchone()
        for name in names:
            with psycopg.connect(scratch.dsn(name)) as session:
                prepare(session)
                tables += len(hashes(session))
        # An idle server commits nothing: then what counts is when its log was stored last.
        stored = wal.age(self._store, str(part.facts["system"]))
        lost = min(stored, float(row[0])) if row and row[0] is not None else stored
        report.rpo_seconds = round(max(report.rpo_seconds or 0.0, lost), 1)
        report.facts.setdefault("later", {})[part.name] = {"lsn": lsn, "reached": reached, "end": end}
        report.levels.append(
            f"{part.name}: recovered to {lsn} and to the archive's end {end}, {tables} tables readable"
        )

    def _canary(self, scratch: Scratch, canary: Canary, manifest: Manifest, report: Report) -> None:
        """The restored Airflow's secrets must open with the key that is kept elsewhere."""
        key = self._backup.fernet_key
        if not key:
            raise NotVerifiedError(
                "no Fernet key is given (AIRFLOW__CORE__FERNET_KEY or LAKEHOUSE_BACKUP_FERNET_KEY): the restored "
                "Airflow's connections could not be read"
            )
        recorded = manifest.parts["configuration"].facts["fingerprints"].get("fernet_key")
        if recorded != fingerprint(key.split(",")[0]):
            raise NotVerifiedError("the Fernet key given is not the one that was in use when the set was made")
        with psycopg.connect(scratch.dsn(canary.database)) as session:
            row = session.execute(
                "select password, is_encrypted from connection where conn_id = %s", [canary.connection]
            ).fetchone()
        if row is None or row[0] is None or not row[1]:
            raise NotVerifiedError(f"the restored Airflow has no encrypted connection {canary.connection!r}")
        try:
            Fernet(key.split(",")[0].encode()).decrypt(row[0].encode())
        except (InvalidToken, ValueError):
            raise NotVerifiedError(f"the connection {canary.connection!r} does not open with the Fernet key") from None
        report.facts["canary"] = canary.connection
        report.levels.append(f"connection {canary.connection} of the restored Airflow decrypted")

    def _dumps(self, part: Part, report: Report) -> None:
        """The portable copies hold the same rows, and load."""
        expected = part.facts["point"]["databases"]
        with empty(self._programs) as scratch:
            file = scratch.folder / GLOBALS
            file.write_bytes(open_file(self._store, self._key, part.file(GLOBALS)).read())
            # Not every statement can succeed: the superuser exists already.
            scratch.run("psql", "--no-psqlrc", "--quiet", "--dbname", scratch.dsn(), "--file", str(file))
            for name, tables in expected.items():
                self._load(scratch, part, name)
                with psycopg.connect(scratch.dsn(name)) as session:
                    prepare(session)
                    lines = differences(tables, hashes(session))
                if lines:
                    raise NotVerifiedError(f"the dump of {name} in {part.name}: {'; '.join(lines[:20])}")
        report.levels.append(f"{part.name}: dumps of {len(expected)} databases loaded and equal to it")

    def _load(self, scratch: Scratch, part: Part, database: str) -> None:
        if database != "postgres":
            with psycopg.connect(scratch.dsn(), autocommit=True) as session:
                name = sql.Identifier(database)
                session.execute(sql.SQL("create database {} template template0").format(name))
        dump, reader = scratch.folder / "dump", open_file(self._store, self._key, part.file(dump_name(database)))
        with dump.open("wb") as output:
            while data := reader.segment():
                output.write(data)
        try:
            scratch.run("pg_restore", "--exit-on-error", "--dbname", scratch.dsn(database), str(dump))
        except ServerError as error:
            raise NotVerifiedError(f"the dump of {database} in {part.name} does not load: {error}") from error

    def _timed(self, report: Report, stage: str, action: Callable[[], None]) -> None:
        begun = time.monotonic()
        try:
            action()
        finally:
            report.seconds[stage] = round(time.monotonic() - begun, 3)

    def _write(self, report: Report) -> None:
        stamp = report.started_at.replace(":", "").replace("-", "").split(".")[0]
        body = manifests.sign(self._key, "report", dict(report.__dict__))
        self._store.put(f"drills/{report.set_id}/{stamp}-{hashlib.sha256(body).hexdigest()[:8]}.json", body)


def read_report(key: Key, data: bytes, place: str) -> Report:
    """Raises DamagedError for a report that was not written by a drill with this key."""
    return Report(**manifests.read(key, "report", data, place))


def fingerprint(secret: str) -> str:
    """Tells two secrets apart without telling either; the secrets are long and random."""
    return hashlib.sha256(b"open-lakehouse fingerprint " + secret.encode()).hexdigest()[:32]


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
