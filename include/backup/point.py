"""A moment at which the content of every table belongs to one LSN exactly, and what the tables held then."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from include.backup.errors import ServerError
from include.backup.settings import Instance

Session = psycopg.Connection[tuple[Any, ...]]

# Rows are hashed as text, so that what shapes their text must not depend on anybody's settings.
_SETTINGS = {
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "search_path": "",
    "row_security": "off",
    "jit": "off",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}

_DATABASES = "select datname from pg_database where datallowconn and not datistemplate order by datname"

_TABLES = """
select n.nspname, c.relname from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
where c.relkind in ('r', 'm') and c.relpersistence = 'p' and c.relispopulated
  and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
order by 1, 2
"""

# The first id that is not visible; empty while one below it is in progress: when that one ends, this number stays.
_SNAPSHOT = """
select case when pg_snapshot_xmin(seen) = pg_snapshot_xmax(seen) then pg_snapshot_xmax(seen)::text else '' end
from pg_current_snapshot() as seen
"""

# A transaction with an id that has not ended: it may have written its commit already, and not be visible yet.
_WRITING = """
select count(*) from pg_stat_activity where backend_xid is not null and pid <> pg_backend_pid()
"""

# Of a row's text two independent 64-bit hashes; summed, so that order does not count and duplicates do.
_HASH = """
select count(*), coalesce(sum(hashtextextended(x, 0)::numeric), 0), coalesce(sum(hashtextextended(x, 1)::numeric), 0)
from (select t::text collate "C" as x from only {} as t) as rows
"""


@dataclass(frozen=True)
class Point:
    """`lsn`: every transaction committed below it, and none above, is visible in `sessions` (one a database)."""

    lsn: str
    sessions: Mapping[str, Session]


def databases(session: Session) -> list[str]:
    return [str(row[0]) for row in session.execute(_DATABASES)]


def prepare(session: Session) -> None:
    """Sets what row hashes depend on, for the rest of the session."""
    for name, value in _SETTINGS.items():
        session.execute("select set_config(%s, %s, false)", [name, value])


@contextmanager
def quiescent(instance: Instance, timeout: float = 60) -> Iterator[Point]:
    """Waits for an instant without a writing transaction anywhere on the server, and holds its snapshots.

    Nothing is locked and nobody waits. The instant was quiet when no snapshot saw a transaction in progress, and when
    after the LSN was taken none had an id and none had begun and ended since: then nothing between the snapshots and
    the LSN has committed.
    Raises ServerError when there was none in `timeout` seconds.
    """
    with ExitStack() as stack:
        watch = stack.enter_context(_connect(instance, "postgres"))
        watch.autocommit = True
        sessions = {name: stack.enter_context(_connect(instance, name)) for name in databases(watch)}
        for session in sessions.values():
            prepare(session)
            session.commit()
        end = time.monotonic() + timeout
        while (lsn := _try(watch, sessions)) is None:
            if time.monotonic() > end:
                raise ServerError(
                    f"PostgreSQL server {instance.name!r} was never without a writing transaction for {timeout:.0f} s: "
                    "look for one that stays open (select * from pg_stat_activity where backend_xid is not null)"
                )
            time.sleep(0.01)
        yield Point(lsn, sessions)


def _try(watch: Session, sessions: Mapping[str, Session]) -> str | None:
    seen = set()
    for session in sessions.values():
        session.rollback()
        session.execute("set transaction isolation level repeatable read, read only")
        seen.add(_one(session, _SNAPSHOT))
    lsn = _one(watch, "select pg_current_wal_insert_lsn()::text")
    writing = _one(watch, _WRITING)
    seen.add(_one(watch, _SNAPSHOT))
    prepared = _one(watch, "select count(*) from pg_prepared_xacts")
    quiet = len(seen) == 1 and "" not in seen
    return str(lsn) if quiet and writing == 0 and prepared == 0 else None


def _one(session: Session, query: str) -> Any:
    row = session.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def _connect(instance: Instance, database: str) -> Session:
    try:
        return psycopg.connect(instance.dsn(database))
    except psycopg.OperationalError as error:
        raise ServerError(
            f"PostgreSQL server {instance.name!r} (connection {instance.login.conn_id!r}) cannot be reached: {error}"
        ) from error


def hashes(session: Session) -> dict[str, list[str | int]]:
    """By table: how many rows, and the hash of all of them. Call `prepare` first."""
    tables: Sequence[tuple[Any, ...]] = session.execute(_TABLES).fetchall()
    found: dict[str, list[str | int]] = {}
    for schema, name in tables:
        row = session.execute(sql.SQL(_HASH).format(sql.Identifier(schema, name))).fetchone()
        assert row is not None
        found[f"{schema}.{name}"] = [int(row[0]), f"{int(row[1]) % 2**128:032x}{int(row[2]) % 2**128:032x}"]
    return found


def differences(expected: Mapping[str, Sequence[Any]], found: Mapping[str, Sequence[Any]]) -> list[str]:
    """One line for each table that is missing, not expected, or holds other rows."""
    lines = [f"{name} is missing" for name in sorted(set(expected) - set(found))]
    lines += [f"{name} was not there" for name in sorted(set(found) - set(expected))]
    for name in sorted(set(found) & set(expected)):
        if list(expected[name]) != list(found[name]):
            lines.append(f"{name} has {found[name][0]} rows instead of {expected[name][0]}, or other ones")
    return lines
