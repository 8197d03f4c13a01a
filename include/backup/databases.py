"""Copies of restored databases beside the live ones, which take their names at once; the live ones stay, renamed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from include.backup.errors import ConfigurationError, NotVerifiedError, RefusedError, ServerError
from include.backup.point import hashes, prepare
from include.backup.programs import Programs
from include.backup.scratch import Scratch
from include.backup.settings import Backup, Login
from include.failpoints import reach

Session = psycopg.Connection[Any]

_GRANTS = """
select a.grantee::regrole::text, a.privilege_type from pg_database as d, aclexplode(d.datacl) as a
where d.datname = %s and a.grantee <> 0 and a.grantee <> d.datdba
"""

_SETTINGS = """
select r.rolname, split_part(one, '=', 1), substr(one, strpos(one, '=') + 1)
from pg_db_role_setting as s join pg_database as d on d.oid = s.setdatabase
left join pg_roles as r on r.oid = s.setrole, unnest(s.setconfig) as one
where d.datname = %s
"""
# Their stored text is a list of quoted names already.
_LISTS = {"search_path", "local_preload_libraries", "session_preload_libraries", "temp_tablespaces"}


@dataclass(frozen=True)
class Swap:
    """One plan's databases. What is done already is read from the server, so that a try after a crash goes on.

    A copy that was compared carries a comment that names the plan, and keeps it when it takes the database's name.
    """

    admin: Login
    plan_id: str
    names: tuple[str, ...]
    replaces: tuple[str, ...]

    @property
    def _mark(self) -> str:
        return f"restored by plan {self.plan_id}"

    def _copy_of(self, name: str) -> str:
        return f"{name}_restored_{self.plan_id[:8]}"

    def _before(self, name: str) -> str:
        return f"{name}_before_{self.plan_id[:8]}"

    def kept(self) -> list[str]:
        """The names that replaced databases have now."""
        return [self._before(name) for name in self.replaces]

    def missing(self) -> list[str]:
        """Databases whose copy has yet to be made. Raises RefusedError when one appeared since the plan was made."""
        done, there = self._done(), existing(self.admin)
        for name in self._waiting(done):
            if name in there and name not in self.replaces:
                raise RefusedError(f"database {name!r} was not there when the restore was planned: plan it again")
        return [name for name in self._waiting(done) if self._copy_of(name) not in done]

    def _waiting(self, done: set[str]) -> list[str]:
        return [name for name in self.names if name not in done]

    def _done(self) -> set[str]:
        """Databases, under whatever name, that this plan has copied and compared."""
        with connect(self.admin) as session:
            rows = session.execute(
                "select datname from pg_database where shobj_description(oid, 'pg_database') = %s", [self._mark]
            ).fetchall()
        return {str(row[0]) for row in rows}

    def copy(self, scratch: Scratch, programs: Programs, name: str) -> None:
        """Loads one database of the scratch server beside the live ones, and compares every table."""
        dump, copy = scratch.folder / "copy", self._copy_of(name)
        scratch.run(
            "pg_dump", "--format", "custom", "--compress", "0", "--file", str(dump), "--dbname", scratch.dsn(name)
        )
        with psycopg.connect(scratch.dsn(name)) as session:
            prepare(session)
            expected = hashes(session)
            row = session.execute(
                "select pg_get_userbyid(datdba) from pg_database where datname = current_database()"
            ).fetchone()
            assert row is not None
        self._create(copy, str(row[0]))
        _load(programs, self.admin, dump, copy)
        with connect(self.admin, copy) as session:
            prepare(session)
            if hashes(session) != expected:
                raise NotVerifiedError(f"the copy of {name} does not hold the rows that were restored")
        with connect(self.admin) as session:
            session.execute(sql.SQL("comment on database {} is {}").format(sql.Identifier(copy), self._mark))

    def _create(self, copy: str, owner: str) -> None:
        with connect(self.admin) as session:
            session.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(copy)))
            try:
                session.execute(
                    sql.SQL("create database {} owner {} template template0").format(
                        sql.Identifier(copy), sql.Identifier(owner)
                    )
                )
            except psycopg.errors.UndefinedObject as error:
                raise ServerError(f"the server has no role {owner!r}, which owns {copy}: create it first") from error

    def run(self) -> None:
        """All databases take their names at once, or none does. Raises ServerError when somebody holds on to one."""
        waiting = self._waiting(self._done())
        replaced = [name for name in waiting if name in existing(self.admin)]
        with connect(self.admin) as session:
            for name in replaced:
                _take_over(session, name, self._copy_of(name))
            with _closed(session, replaced), session.transaction():
                for name in replaced:
                    _rename(session, name, self._before(name))
                for name in waiting:
                    _rename(session, self._copy_of(name), name)
            reach("restore.after_swap")
            for name in self.replaces:
                # A reader of changes must not go on from the old rows' positions: it takes a new snapshot.
                session.execute(
                    "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = %s "
                    "and not active",
                    [self._before(name)],
                )


@contextmanager
def _closed(session: Session, names: Sequence[str]) -> Iterator[None]:
    """Nobody is connected to these databases, nor can be, so that they can be renamed; live again if that fails."""
    for name in names:
        _allow(session, name, False)
    try:
        for name in names:
            session.execute("select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = %s", [name])
        yield
    except BaseException as error:
        for name in names:
            _allow(session, name, True)
        if isinstance(error, psycopg.errors.ObjectInUse):
            raise ServerError(f"somebody holds on to a database that is to be replaced: {error}") from error
        raise


def _allow(session: Session, name: str, yes: bool) -> None:
    session.execute(sql.SQL("alter database {} allow_connections {}").format(sql.Identifier(name), sql.Literal(yes)))


def _take_over(session: Session, name: str, copy: str) -> None:
    """What belongs to a database and lies outside of it: rights to it, and its settings."""
    session.execute(sql.SQL("revoke connect, temporary on database {} from public").format(sql.Identifier(copy)))
    for grantee, privilege in session.execute(_GRANTS, [name]).fetchall():
        session.execute(
            sql.SQL("grant {} on database {} to {}").format(
                sql.SQL(privilege), sql.Identifier(copy), sql.Identifier(grantee.strip('"'))
            )
        )
    for role, setting, value in session.execute(_SETTINGS, [name]).fetchall():
        database = sql.SQL("database {}").format(sql.Identifier(copy))
        whose = sql.SQL("role {} in {}").format(sql.Identifier(role), database) if role else database
        session.execute(
            sql.SQL("alter {} set {} to {}").format(
                whose,
                sql.SQL(".").join(map(sql.Identifier, setting.split("."))),
                sql.SQL(value) if setting in _LISTS else sql.Literal(value),
            )
        )


def _load(programs: Programs, admin: Login, dump: Path, database: str) -> None:
    programs.run(
        "pg_restore",
        *("--exit-on-error", "--no-password", "--host", admin.host, "--port", str(admin.port or 5432)),
        *("--username", admin.login, "--dbname", database, str(dump)),
        environment={"PGPASSWORD": admin.password, "PATH": "/usr/bin:/bin", "LC_ALL": "C"},
        into=database,
    )


def _rename(session: Session, name: str, new: str) -> None:
    session.execute(sql.SQL("alter database {} rename to {}").format(sql.Identifier(name), sql.Identifier(new)))


def existing(admin: Login) -> set[str]:
    """Also those that refuse connections, as replaced ones do."""
    with connect(admin) as session:
        return {str(row[0]) for row in session.execute("select datname from pg_database").fetchall()}


def admin(backup: Backup, server: str) -> Login:
    """The server's superuser. Raises ConfigurationError when none is declared."""
    found = backup.admins.get(server)
    if found is None:
        raise ConfigurationError(
            f"restoring databases needs a superuser of {server!r}: name its connection in include/backup.yaml, "
            f"postgres.{server}.admin"
        )
    return found


def connect(admin: Login, database: str = "postgres") -> Session:
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
