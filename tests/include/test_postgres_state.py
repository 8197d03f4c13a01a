"""The policy in two real PostgreSQL servers: applied once, drifted by hand, put back, killed half-way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from include.paths import PROJECT
from include.reconcile import postgres
from include.reconcile.plan import ApplyError
from include.specs import policy as spec
from include.specs.policy import Policy

MEMBERS = {"administrator": "admin", "engineer": "data_engineer", "analyst": "analyst", "viewer": "viewer"}


@pytest.fixture
def servers(platform_postgres: Any, source_postgres: Any, conn: Any, monkeypatch: Any) -> Iterator[dict[str, Any]]:
    """Both servers with a ledger, a log and a source table; the Airflow connections that apply needs."""
    conn.commit()
    found = {"lakehouse": platform_postgres, "retail": source_postgres}
    for name, server in found.items():
        fields = {
            "conn_type": "postgres",
            "host": "127.0.0.1",
            "port": server.port,
            "login": "lakehouse_admin",
            "password": server.layout.roles["lakehouse_admin"].password,
            "schema": name,
        }
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}_ADMIN", json.dumps(fields))
    logins = {name: f"password-of-{name}" for name in MEMBERS}
    monkeypatch.setenv("AIRFLOW_CONN_LOGINS", json.dumps({"conn_type": "generic", "extra": logins}))
    with psycopg.connect(platform_postgres.dsn("lakehouse"), autocommit=True) as owner:
        owner.execute("create schema if not exists speed")
        owner.execute("create table if not exists speed.orders (order_id int)")
    with psycopg.connect(source_postgres.dsn("retail"), autocommit=True) as owner:
        owner.execute("create table if not exists retail.orders (order_id int)")
    yield found
    for name, server in found.items():
        with psycopg.connect(server.superuser_dsn(name), autocommit=True) as root:
            for role in [*MEMBERS, *(f"policy_{role}" for role in MEMBERS.values())]:
                if root.execute("select 1 from pg_roles where rolname = %s", [role]).fetchone():
                    root.execute(sql.SQL("drop owned by {0} cascade; drop role {0}").format(sql.Identifier(role)))
            root.execute("drop table if exists retail.orders, speed.orders")


def lines(*, apply: bool = True, prune: bool = False, policy: Policy | None = None) -> list[str]:
    return [str(change) for change in postgres.run(apply=apply, prune=prune, policy=policy)]


def login(server: Any, database: str, member: str) -> psycopg.Connection[Any]:
    return psycopg.connect(
        host="127.0.0.1", port=server.port, dbname=database, user=member, password=f"password-of-{member}"
    )


def test_a_plan_changes_nothing_an_apply_is_done_once_and_roles_hold(servers: dict[str, Any]) -> None:
    planned = lines(apply=False)
    assert "create role policy_analyst" in planned
    assert lines() == planned
    assert lines() == []
    assert lines(apply=False, prune=True) == []
    with login(servers["lakehouse"], "lakehouse", "analyst") as analyst:
        assert analyst.execute("select count(*) from lakehouse.sync_ledger").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            analyst.execute("select * from speed.orders")
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        login(servers["lakehouse"], "lakehouse", "viewer")
    with psycopg.connect(servers["lakehouse"].dsn("lakehouse"), autocommit=True) as owner:  # a table of tomorrow
        owner.execute("create table speed.later (n int)")
        with login(servers["lakehouse"], "lakehouse", "engineer") as engineer:
            engineer.execute("select * from speed.later")
        assert lines(apply=False) == []
        owner.execute("drop table speed.later")


def test_what_was_changed_by_hand_is_named_and_put_back(servers: dict[str, Any]) -> None:
    lines()
    with psycopg.connect(servers["lakehouse"].superuser_dsn("lakehouse"), autocommit=True) as root:
        root.execute("grant policy_admin to viewer")
        root.execute("grant select on speed.orders to policy_viewer")
        root.execute("grant select (order_id) on speed.orders to analyst")
        root.execute("revoke select on lakehouse.receipts from policy_analyst")
        root.execute("alter policy policy_finished_syncs on lakehouse.sync_ledger using (true)")
        root.execute("alter role analyst bypassrls")
        drift = lines(apply=False, prune=True)
        assert drift == [
            "update login analyst\n    nobypassrls: is not so",
            "update login viewer\n    - member of policy_admin",
            "update grants policy_analyst in lakehouse\n    + SELECT on table lakehouse.receipts",
            "update grants policy_viewer in lakehouse\n    - SELECT on table speed.orders",
            "update grants analyst in lakehouse\n    - SELECT on column speed.orders.order_id",
            "update row policy policy_finished_syncs on lakehouse.sync_ledger\n"
            "    condition: 'true' -> \"(status = 'succeeded'::text)\"",
        ]
        with pytest.raises(ApplyError, match="update login analyst: permission denied"):
            lines()  # only a superuser may take it away; the message says from whom
        root.execute("alter role analyst nobypassrls")
        root.execute("revoke policy_admin from viewer")
        root.execute("revoke select on speed.orders from policy_viewer")
        root.execute("revoke select (order_id) on speed.orders from analyst")
    assert lines() == [drift[2], drift[5]]
    assert lines(apply=False, prune=True) == []


def test_an_analyst_sees_only_the_rows_of_the_rule(servers: dict[str, Any]) -> None:
    lines()
    with psycopg.connect(servers["lakehouse"].dsn("lakehouse")) as owner:
        for job, status in ((1, "succeeded"), (2, "failed")):
            owner.execute(
                "insert into lakehouse.sync_ledger (connection_id, job_id, connection, pipeline, lane, status, dag_run,"
                " started_at, rows_committed, bytes_committed)"
                " values (gen_random_uuid(), %s, 'c', 'p', 'batch', %s, 'r', now(), 0, 0)",
                [job, status],
            )
    query = "select job_id from lakehouse.sync_ledger order by 1"
    with login(servers["lakehouse"], "lakehouse", "analyst") as analyst:
        assert analyst.execute(query).fetchall() == [(1,)]
    with login(servers["lakehouse"], "lakehouse", "engineer") as engineer:
        assert engineer.execute(query).fetchall() == [(1,), (2,)]
    with psycopg.connect(servers["lakehouse"].dsn("lakehouse")) as owner:
        assert owner.execute(query).fetchall() == [(1,), (2,)]


def test_a_member_who_is_gone_is_pruned_and_others_are_left_alone(servers: dict[str, Any]) -> None:
    lines()
    with psycopg.connect(servers["lakehouse"].superuser_dsn("lakehouse"), autocommit=True) as root:
        root.execute("create role somebody_else")
        whole = spec.load()
        fewer = Policy(whole.roles, tuple(m for m in whole.members if m.name != "viewer"), whole.allowed, whole.rows)
        assert lines(apply=False, policy=fewer) == []
        assert lines(prune=True, policy=fewer) == ["delete role viewer"] * 2  # on each server
        assert root.execute("select 1 from pg_roles where rolname = 'viewer'").fetchone() is None
        assert root.execute("select 1 from pg_roles where rolname = 'somebody_else'").fetchone() == (1,)
        root.execute("drop role somebody_else")


KILLED = """
import os, signal
from include.reconcile import postgres
from include.reconcile.postgres import session
made, count = session.Session.make, 0
def make(self, change, statements):
    global count
    made(self, change, statements)
    count += 1
    if count == int(os.environ["KILL_AFTER"]):
        os.kill(os.getpid(), signal.SIGKILL)
session.Session.make = make
postgres.run(apply=True)
"""


@pytest.mark.parametrize("changes", [3, 17])
def test_an_apply_that_is_killed_is_finished_by_the_next(servers: dict[str, Any], changes: int) -> None:
    """3: inside the first database; 17: the first is committed, the second is not."""
    environment = {**os.environ, "KILL_AFTER": str(changes), "PYTHONPATH": f"{PROJECT}:{PROJECT / 'plugins'}"}
    killed = subprocess.run([sys.executable, "-c", KILLED], env=environment, cwd=PROJECT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert lines() != []
    assert lines() == []
