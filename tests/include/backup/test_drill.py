"""A set is made, verified, drilled; an increment on it, too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psycopg
import pytest
from cryptography.fernet import Fernet

from include.backup import create, sets
from include.backup import manifest as manifests
from include.backup.drill import Drill, read_report
from include.backup.errors import DamagedError
from include.backup.manifest import Manifest
from include.backup.programs import Programs
from include.backup.sealed import Key
from include.backup.settings import Backup, Canary

FERNET = Fernet.generate_key().decode()


@pytest.fixture
def made(backup: Backup, programs: Programs, owner: Any, source_postgres: Any) -> tuple[Backup, Manifest, Manifest]:
    """A full set and an increment of a server that holds an Airflow's encrypted connection, too."""
    secret = Fernet(FERNET.encode()).encrypt(b"a password").decode()
    with psycopg.connect(source_postgres.superuser_dsn("retail"), autocommit=True) as connection:
        connection.execute("drop table if exists public.connection")
        connection.execute("create table public.connection (conn_id text, password text, is_encrypted bool)")
        connection.execute("insert into public.connection values ('lakehouse', %s, true)", [secret])
    whole = replace(backup, fernet_key=FERNET, canary=Canary("source", "retail", "lakehouse"))
    full = create.run(whole, programs, sets.new_id())
    owner.execute("update retail.customers set name = 'changed' where id % 7 = 0")
    owner.execute("insert into retail.orders values (1, 9.99, now()) on conflict do nothing")
    return whole, full, create.run(whole, programs, sets.new_id())


def test_a_set_and_an_increment_of_it_are_proven_by_restoring_them(
    made: tuple[Backup, Manifest, Manifest], programs: Programs
) -> None:
    backup, full, increment = made
    assert (full.kind, increment.kind, increment.parent) == ("full", "incremental", full.set_id)
    assert increment.bytes < full.bytes / 2
    assert manifests.complete(backup.store) == [full.set_id, increment.set_id]
    report = Drill(backup, programs).run(increment.set_id)
    assert report.passed, report.reason
    assert report.facts["canary"] == "lakehouse"
    assert report.manifest_sha256 == increment.sha256
    assert report.rto_seconds is not None
    assert report.rpo_seconds is not None
    ((place, _),) = backup.store.keys(f"drills/{increment.set_id}/")
    assert read_report(backup.key, backup.store.get(place), place).levels == report.levels
    with pytest.raises(DamagedError, match="give the key that made"):
        read_report(Key.parse(Key.generate(), "a stranger"), backup.store.get(place), place)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fernet_key": ""}, "no Fernet key is given"),
        ({"fernet_key": Fernet.generate_key().decode()}, "is not the one that was in use"),
        ({"canary": Canary("source", "retail", "nobody")}, "no encrypted connection 'nobody'"),
        ({"canary": Canary("platform", "airflow", "lakehouse")}, "no Airflow database was found"),
    ],
)
def test_what_could_not_be_proven_is_not_verified(
    made: tuple[Backup, Manifest, Manifest], programs: Programs, changes: dict[str, Any], reason: str
) -> None:
    backup, _, increment = made
    report = Drill(replace(backup, **changes), programs).run(increment.set_id)
    assert not report.passed
    assert reason in report.reason


def test_a_set_that_is_not_there_is_not_proven(backup: Backup, programs: Programs) -> None:
    report = Drill(backup, programs).run("20261126T020000Z-0123abcd")
    assert not report.passed
    assert "has no manifest" in report.reason
