"""The walk over the declared databases, each in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql

from include import connections
from include.reconcile.plan import ApplyError, Change
from include.reconcile.postgres import grants, roles, rows
from include.reconcile.postgres.session import Connection, Session
from include.specs import policy as spec
from include.specs import postgres
from include.specs.policy import Policy
from include.specs.postgres import DatabaseSpec


def run(
    *,
    apply: bool,
    prune: bool = False,
    policy: Policy | None = None,
    databases: tuple[DatabaseSpec, ...] | None = None,
    connect: Callable[..., psycopg.Connection[dict[str, Any]]] = connections.connect,
) -> list[Change]:
    """What differs, and with `apply` is made so. Raises SpecError, ApplyError.

    `prune`: also drops roles and row policies that were made from declarations that are gone. Databases never.
    """
    declared = policy or spec.load()
    changes: list[Change] = []
    for database in databases or postgres.load():
        changes += _database(declared, database, connect, apply=apply, prune=prune)
    return changes


def _database(policy: Policy, database: DatabaseSpec, connect: Any, *, apply: bool, prune: bool) -> list[Change]:
    made = _create(database, connect, apply=apply)
    if made and not apply:
        return made
    with connect(database.administrator, dbname=database.name) as conn:
        # Two applies at once would make a role twice: the second waits, and finds it there.
        conn.execute("select pg_advisory_xact_lock(hashtext('lakehouse.policy'))")
        session = Session(conn, apply, made)
        roles.run(session, policy)
        ours = roles.ours(session, policy)
        grants.run(session, policy, database, ours if prune else roles.names(policy))
        if database.name == "lakehouse":
            rows.run(session, policy, prune=prune)
        if prune:
            roles.prune(session, policy)
    return session.changes


def _create(database: DatabaseSpec, connect: Any, *, apply: bool) -> list[Change]:
    """CREATE DATABASE runs in no transaction: it is there or not, and the next apply finds it."""
    conn: Connection = connect(database.administrator, dbname="postgres")
    try:
        conn.autocommit = True
        row = conn.execute("select 1 from pg_database where datname = %s", [database.name]).fetchone()
        if row is not None:
            return []
        change = Change("create", "database", database.name)
        if apply:
            name, owner = sql.Identifier(database.name), sql.Identifier(database.owner)
            conn.execute(sql.SQL("create database {} owner {}").format(name, owner))
            conn.execute(sql.SQL("revoke connect, temporary on database {} from public").format(name))
        return [change]
    except psycopg.Error as error:
        raise ApplyError(f"create database {database.name}: {error}") from error
    finally:
        conn.close()
