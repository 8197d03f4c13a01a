"""The instant that a backup's proof compares with: what the snapshots hold belongs to the LSN exactly."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from include.backup import point
from include.backup.errors import ServerError
from include.backup.settings import Instance


@pytest.fixture
def table(source_postgres: Any, owner: psycopg.Connection[Any]) -> str:
    owner.execute("drop table if exists retail.moments; create table retail.moments (id int)")
    return str(source_postgres.dsn("retail"))


def test_an_older_transaction_that_ends_between_the_snapshots_and_the_lsn_is_seen(
    source: Instance, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commit lies below the LSN, and moves no counter: a newer transaction has ended before it."""
    with psycopg.connect(table) as older, psycopg.connect(table) as newer:
        older.execute("insert into retail.moments values (1)")
        newer.execute("insert into retail.moments values (2)")
        newer.commit()
        ask = point._one

        def end_the_older(session: point.Session, query: str) -> Any:
            if "pg_current_wal_insert_lsn" in query:
                older.commit()
            return ask(session, query)

        monkeypatch.setattr(point, "_one", end_the_older)
        with point.quiescent(source) as found:
            rows = found.sessions["retail"].execute("select id from retail.moments order by id").fetchall()
    assert rows == [(1,), (2,)]


def test_a_transaction_that_stays_open_is_named(source: Instance, table: str) -> None:
    with psycopg.connect(table) as writer:
        writer.execute("insert into retail.moments values (1)")
        with pytest.raises(ServerError, match=r"'source' was never without a writing transaction for 0 s"):  # noqa: SIM117
            with point.quiescent(source, timeout=0.2):
                pass
