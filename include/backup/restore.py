"""Restores a server as it was at one position: planned, approved by a word, applied; a dead run is simply run again.

Two targets. A *folder*: a data folder that a stopped server is started on. *Databases*: copies beside the live ones on
the running server, which take their names in one transaction; the live ones stay, renamed.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from include.backup import manifest as manifests
from include.backup import wal
from include.backup.errors import ConfigurationError, NotVerifiedError, RefusedError, ServerError
from include.backup.failpoints import reach
from include.backup.point import hashes, prepare
from include.backup.programs import Programs, confine
from include.backup.scratch import Scratch, Target, fetch_base, fetch_wal, instance
from include.backup.sets import verify
from include.backup.settings import Backup, Login

PREFIX = "postgres-"


@dataclass(frozen=True)
class Plan:
    """`into`: an absolute folder, or empty when `databases` are restored. `word`: what must be said before apply
    replaces something that exists; empty when nothing does.
    """

    plan_id: str
    set_id: str
    chain: tuple[str, ...]
    instance: str
    lsn: str | None
    time: str | None
    into: str
    databases: tuple[str, ...]
    replaces: tuple[str, ...]
    bytes: int
    word: str
    made_at: str

    def __str__(self) -> str:
        where = f"the folder {self.into}" if self.into else f"databases {', '.join(self.databases)} of {self.instance}"
        lines = [
            f"plan {self.plan_id}: restore {self.instance} from set {self.set_id} into {where}",
            f"  position: {self.lsn or self.time or 'the end of the archived log'}",
            f"  reads {self.bytes / 1e6:.1f} MB of {len(self.chain)} sets, and the log since",
            *(f"  replaces {name}, which is kept under another name" for name in self.replaces),
        ]
        return "\n".join([*lines, f"  to apply it say: {self.word}"] if self.word else lines)


def newest_before(backup: Backup, target: Target) -> str:
    """The newest set from which the target can be reached. Raises ConfigurationError when there is none."""
    for set_id in reversed(manifests.complete(backup.store)):
        manifest = manifests.load(backup.store, backup.key, set_id)
        if not target.time or _moment(target.time) > _moment(str(manifest.body["completed_at"])):
            return set_id
    raise ConfigurationError(f"no complete set is older than {target.time or 'that'}: `python -m include.backup list`")


def plan(
    backup: Backup, server: str, set_id: str, target: Target, into: Path | None = None, names: Sequence[str] = ()
) -> Plan:
    """Reads manifests and looks at the target; changes nothing but to store the plan. Raises BackupError."""
    if (into is None) == (not names):
        raise ConfigurationError("restore into a folder, or restore databases: say one of both")
    chain = manifests.chain(backup.store, backup.key, set_id)
    part = chain[-1].parts.get(PREFIX + server)
    if part is None:
        raise ConfigurationError(f"set {set_id} holds no PostgreSQL server {server!r}")
    _check_target(target, part.facts, set_id)
    unknown = set(names) - set(part.facts["point"]["databases"])
    if unknown:
        raise ConfigurationError(f"set {set_id} holds no database {', '.join(sorted(unknown))} of {server}")
    place = str(into.absolute()) if into else ""
    replaces: tuple[str, ...] = (place,) if place and Path(place).exists() else ()
    if names:
        replaces = tuple(sorted(set(names) & _existing(_admin(backup, server))))
    made = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
    facts = [set_id, server, target.lsn, target.time, place, list(names), made]
    plan_id = hashlib.sha256(manifests.canonical(facts)).hexdigest()[:12]
    word = f"replace {' '.join(Path(one).name for one in replaces)}" if replaces else ""
    planned = Plan(
        plan_id,
        set_id,
        tuple(one.set_id for one in chain),
        server,
        target.lsn,
        target.time,
        place,
        tuple(names),
        replaces,
        sum(one.bytes for one in chain),
        word,
        made,
    )
    backup.store.put(_key(plan_id), manifests.sign(backup.key, "plan", asdict(planned)), once=True)
    reach("restore.after_plan")
    return planned


def load(backup: Backup, plan_id: str) -> Plan:
    """Raises StoreError for an unknown plan, DamagedError for one that was changed."""
    if not plan_id.isalnum():
        raise ConfigurationError(f"{plan_id!r} is no plan's id")
    body = manifests.read(backup.key, "plan", backup.store.get(_key(plan_id)), f"plan {plan_id}")
    lists = {name: tuple(body[name]) for name in ("chain", "databases", "replaces")}
    return Plan(**{**body, **lists})


def apply(backup: Backup, programs: Programs, plan_id: str, word: str = "") -> dict[str, Any]:
    """Carries a plan out, from where an earlier try stopped; gives what came of it.

    Raises RefusedError without the plan's word, and BackupError, before anything is touched, when the set is damaged.
    """
    planned = load(backup, plan_id)
    if planned.word and word != planned.word:
        raise RefusedError(f"{planned}\nNothing was done: the word is {planned.word!r}")
    if planned.into:
        return _apply_folder(backup, programs, planned)
    return _apply_databases(backup, programs, planned)


def _check_target(target: Target, facts: Any, set_id: str) -> None:
    if target.lsn:
        try:
            wanted = wal.number(target.lsn)
        except ValueError:
            raise ConfigurationError(f"{target.lsn!r} is no LSN, such as 0/16B3748") from None
        if wanted < wal.number(facts["end_lsn"]):
            raise ConfigurationError(
                f"set {set_id} begins at {facts['end_lsn']}, after {target.lsn}: choose an older set"
            )
    if target.time:
        _moment(target.time)


def _moment(text: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{text!r} is no time, such as 2026-11-26T02:00:00+00:00") from None
    if moment.tzinfo is None:
        raise ConfigurationError(f"{text!r} has no time zone: add +00:00 for UTC")
    return moment


def _key(plan_id: str) -> str:
    return f"restores/{plan_id}.json"


def _read_everything(backup: Backup, planned: Plan) -> list[manifests.Manifest]:
    """Nothing is written anywhere before every object of the chain was read and found as it was written."""
    chain = manifests.chain(backup.store, backup.key, planned.set_id)
    for one in chain:
        verify(backup.store, backup.key, one)
    return chain


def _apply_folder(backup: Backup, programs: Programs, planned: Plan) -> dict[str, Any]:
    target = Path(planned.into)
    building = target.with_name(f".{target.name}.{planned.plan_id}")
    old = target.with_name(f"{target.name}.before-{planned.plan_id}")
    ready = building / "ready"
    if building.exists() and ready.exists() and not (building / "data").exists():
        shutil.rmtree(building)  # the last try died after the swap
        return {"folder": str(target), "kept": str(old) if old.exists() else None}
    if not ready.exists():
        _refuse_running(target)
        shutil.rmtree(building, ignore_errors=True)
        chain = _read_everything(backup, planned)
        building.mkdir(mode=0o711, parents=True)
        _build(backup, programs, planned, chain, building)
        ready.touch()
    reach("restore.before_swap")
    if target.exists():
        if str(target) not in planned.replaces:
            raise RefusedError(f"{target} was not there when the restore was planned: plan it again")
        _refuse_running(target)
        target.rename(old)
    (building / "data").rename(target)
    reach("restore.after_swap")
    shutil.rmtree(building)
    return {"folder": str(target), "kept": str(old) if old.exists() else None}


def _build(backup: Backup, programs: Programs, planned: Plan, chain: list[manifests.Manifest], building: Path) -> None:
    part = PREFIX + planned.instance
    data = fetch_base(backup.store, backup.key, chain, part, building, programs)
    fetch_wal(backup.store, backup.key, chain[-1].parts[part], building / "wal", None)
    own = (data / "postgresql.auto.conf").read_bytes()
    scratch = Scratch(building, programs, confine(programs, building), data)
    try:
        scratch.recover(Target(planned.lsn, planned.time), "promote", {"fsync": "on", "full_page_writes": "on"})
    finally:
        scratch.stop()
    (data / "postgresql.auto.conf").write_bytes(own)
    os.sync()


def _refuse_running(folder: Path) -> None:
    try:
        pid = int((folder / "postmaster.pid").read_text().split("\n", 1)[0])
        os.kill(pid, 0)
    except (OSError, ValueError):
        return
    raise RefusedError(f"a server runs on {folder} (process {pid}): stop it first, then apply the plan again")


def _apply_databases(backup: Backup, programs: Programs, planned: Plan) -> dict[str, Any]:
    admin = _admin(backup, planned.instance)
    mark = planned.plan_id[:8]
    there = _existing(admin)
    todo = [name for name in planned.databases if f"{name}_before_{mark}" not in there]
    fresh = [name for name in todo if name not in planned.replaces]
    if todo:
        chain = _read_everything(backup, planned)
        with instance(backup.store, backup.key, chain, PREFIX + planned.instance, programs, None) as scratch:
            scratch.recover(Target(planned.lsn, planned.time), "promote")
            for name in todo:
                _copy(scratch, programs, admin, name, f"{name}_restored_{mark}")
        reach("restore.before_swap")
        _swap(admin, [name for name in todo if name not in fresh], fresh, mark)
        reach("restore.after_swap")
    return {"databases": list(planned.databases), "kept": [f"{name}_before_{mark}" for name in planned.replaces]}


def _copy(scratch: Scratch, programs: Programs, admin: Login, name: str, copy: str) -> None:
    """Loads one database of the scratch server beside the live ones, and compares every table."""
    dump = scratch.folder / "copy"
    scratch.run("pg_dump", "--format", "custom", "--compress", "0", "--file", str(dump), "--dbname", scratch.dsn(name))
    with psycopg.connect(scratch.dsn(name)) as session:
        prepare(session)
        expected = hashes(session)
        row = session.execute(
            "select pg_get_userbyid(datdba) from pg_database where datname = current_database()"
        ).fetchone()
        assert row is not None
    with _connect(admin) as session:
        session.execute(sql.SQL("drop database if exists {}").format(sql.Identifier(copy)))
        owner = sql.Identifier(str(row[0]))
        try:
            session.execute(
                sql.SQL("create database {} owner {} template template0").format(sql.Identifier(copy), owner)
            )
        except psycopg.errors.UndefinedObject as error:
            raise ServerError(f"the server has no role {row[0]!r}, which owns {name}: create it first") from error
    _load(programs, admin, dump, copy)
    with _connect(admin, copy) as session:
        prepare(session)
        if hashes(session) != expected:
            raise NotVerifiedError(f"the copy of {name} does not hold the rows that were restored")


def _load(programs: Programs, admin: Login, dump: Path, database: str) -> None:
    programs.run(
        "pg_restore",
        *("--exit-on-error", "--no-password", "--host", admin.host, "--port", str(admin.port or 5432)),
        *("--username", admin.login, "--dbname", database, str(dump)),
        environment={"PGPASSWORD": admin.password, "PATH": "/usr/bin:/bin", "LC_ALL": "C"},
        into=database,
    )


_GRANTS = """
select a.grantee::regrole::text, a.privilege_type from pg_database as d, aclexplode(d.datacl) as a
where d.datname = %s and a.grantee <> 0 and a.grantee <> d.datdba
"""


def _swap(admin: Login, replaced: Sequence[str], fresh: Sequence[str], mark: str) -> None:
    """All databases take their names at once, or none does."""
    with _connect(admin) as session:
        for name in replaced:
            _take_over_rights(session, name, f"{name}_restored_{mark}")
        with session.transaction():
            for name in replaced:
                session.execute(
                    "select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = %s", [name]
                )
                _rename(session, name, f"{name}_before_{mark}")
            for name in (*replaced, *fresh):
                _rename(session, f"{name}_restored_{mark}", name)
        for name in replaced:
            # A reader of changes must not go on from the old rows' positions: it takes a new snapshot.
            session.execute(
                "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = %s "
                "and not active",
                [f"{name}_before_{mark}"],
            )
            # Nor does anybody go on writing into what was replaced.
            session.execute(
                sql.SQL("alter database {} allow_connections false").format(sql.Identifier(f"{name}_before_{mark}"))
            )


def _take_over_rights(session: psycopg.Connection[Any], name: str, copy: str) -> None:
    session.execute(sql.SQL("revoke connect, temporary on database {} from public").format(sql.Identifier(copy)))
    for grantee, privilege in session.execute(_GRANTS, [name]).fetchall():
        session.execute(
            sql.SQL("grant {} on database {} to {}").format(
                sql.SQL(privilege), sql.Identifier(copy), sql.Identifier(grantee.strip('"'))
            )
        )


def _rename(session: psycopg.Connection[Any], name: str, new: str) -> None:
    session.execute(sql.SQL("alter database {} rename to {}").format(sql.Identifier(name), sql.Identifier(new)))


def _existing(admin: Login) -> set[str]:
    """Also those that refuse connections, as replaced ones do."""
    with _connect(admin) as session:
        return {str(row[0]) for row in session.execute("select datname from pg_database").fetchall()}


def _admin(backup: Backup, server: str) -> Login:
    found = backup.admins.get(server)
    if found is None:
        raise ConfigurationError(
            f"restoring databases needs a superuser of {server!r}: name its connection in include/backup.yaml, "
            f"postgres.{server}.admin"
        )
    return found


def _connect(admin: Login, database: str = "postgres") -> psycopg.Connection[Any]:
    return psycopg.connect(
        host=admin.host,
        port=admin.port or 5432,
        user=admin.login,
        password=admin.password,
        dbname=database,
        connect_timeout=10,
        application_name="lakehouse_restore",
        autocommit=True,
    )
