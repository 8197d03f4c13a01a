"""Killed at every named point, cut off, set back: the log stays exact, or the sync says why it cannot be."""

from __future__ import annotations

import os
import random
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from embedded.credentials import Secrets
from embedded.home import Home
from embedded.ports import assign
from embedded.postgres import SOURCE, PostgresServer, source_server
from embedded.programs import Child
from tests.embedded.replication.capture import Capture, capturing, stream
from tests.embedded.replication.harness import Server, new_database, new_source, until

# The points of most interest by default, all of them with `make verify`.
SNAPSHOT_POINTS = [
    ["mid_range", "before_state"],
    pytest.param(
        ["after_snapshot", "mid_append", "before_progress", "mid_range", "mid_snapshot", "before_commit"],
        marks=pytest.mark.faults,
    ),
]
CHANGE_POINTS = [
    ["mid_append", "before_state"],
    pytest.param(["after_read", "before_commit"], marks=pytest.mark.faults),
]


class History:
    """Random transactions on two tables; the same seed gives the same history."""

    def __init__(self, capture: Capture, seed: int) -> None:
        self._capture = capture
        self._random = random.Random(seed)
        self._next = 100_000

    def write(self, transactions: int) -> None:
        for _ in range(transactions):
            with self._capture.source.db.transaction():
                for _ in range(self._random.randint(1, 4)):
                    self._change(self._random.choice(["orders", "items"]))

    def _change(self, table: str) -> None:
        run, pick = self._capture.source.run, self._random
        mixed = f"order by md5(id::text || '{pick.random()}') limit {pick.randint(1, 9)}"
        some = f"id in (select id from shop.{table} {mixed})"
        match pick.choice("iiiuuuddkt" if pick.random() < 0.3 else "iiiuuudd"):
            case "i":
                self._next += 10
                run(
                    f"insert into shop.{table} select i, i::text from generate_series({self._next}, {self._next + 4}) i"
                )
            case "u":
                run(f"update shop.{table} set note = '{pick.random()}' where {some}")
            case "d":
                run(f"delete from shop.{table} where {some}")
            case "k":
                run(f"update shop.{table} set id = -id where {some}")
            case "t":
                run(f"truncate shop.{table}")


@pytest.fixture
def shop(own_capture: Capture) -> Capture:
    """Two tables of several ranges each, one of them partitioned; a job that fails is not tried again."""
    run = own_capture.source.run
    run("create table shop.orders (id bigint primary key, note varchar(300))")
    run("create table shop.items (id bigint primary key, note varchar(300)) partition by range (id)")
    run("create table shop.items_a partition of shop.items for values from (0) to (5000)")
    run("create table shop.items_b partition of shop.items default")
    run("insert into shop.orders select i, repeat('x', 250) from generate_series(1, 8000) i")
    run("insert into shop.items select i, repeat('y', 10) from generate_series(1, 9000) i")
    own_capture.publish("orders", "items")
    run("alter publication speed set (publish_via_partition_root = true)")
    own_capture.options = {"snapshot_range_mb": 1}
    own_capture.server.start(max_attempts="1")
    own_capture.connect(stream("orders"), stream("items"))
    return own_capture


def crash(shop: Capture, point: str) -> None:
    """A sync that is killed at a point; if it had got on, also the attempt that follows at once, before it does."""
    again = {"point": "after_snapshot", "action": "crash", "attempt": 2}
    shop.server.faults(sync=[{"point": point, "action": "crash"}, again])
    job = shop.sync("failed")
    assert "SIGKILL" in job["failureReason"]["message"], f"{point} was not reached: {job}"
    shop.server.faults()


@pytest.mark.parametrize("points", SNAPSHOT_POINTS, ids=["short", "all"])
def test_a_snapshot_that_is_killed_goes_on(shop: Capture, points: list[str]) -> None:
    history = History(shop, len(points))
    for point in points:
        crash(shop, point)
        history.write(5)
        job = shop.sync()
        shop.assert_exact("orders", "items")
        went_on = [line for line in shop.server.log_lines(job["jobId"]) if "the snapshot goes on" in line]
        assert bool(went_on) == (point in ("mid_range",)), (point, went_on)
        applied = shop.speed.applied()
        assert applied is not None
        assert applied["snapshot_lsn"] <= applied["applied_lsn"]
        history.write(2)
        shop.sync()
        shop.assert_exact("orders", "items")
        shop.rebuild()


def test_a_snapshot_that_gets_on_is_not_given_up(shop: Capture) -> None:
    """Killed after each range: every attempt has moved, so none waits and they do not count as failures in a row."""
    shop.server.stop()
    shop.server.start({"sync": [{"point": "mid_range", "action": "crash"}]}, max_attempts="2", retry_seconds="1000")
    job = shop.sync()
    assert len(job["attempts"]) > 3, job
    shop.assert_exact("orders", "items")


@pytest.mark.parametrize("points", CHANGE_POINTS, ids=["short", "all"])
def test_changes_that_are_killed_come_again_and_count_once(shop: Capture, points: list[str]) -> None:
    shop.sync()
    history = History(shop, len(points))
    for point in points:
        history.write(10)
        before = shop.speed.applied()
        crash(shop, point)
        after = shop.speed.applied()
        assert (after == before) == (point != "before_state"), "the position moves with the last rows, or not at all"
        history.write(5)
        shop.sync()
        shop.assert_exact("orders", "items")
        for table in ("orders", "items"):
            twice = shop.speed.rows(
                f"select 1 as one from speed.{table} group by _airbyte_generation_id, _ab_cdc_commit_lsn,"
                " _ab_cdc_lsn, id having count(*) > 1"
            )
            assert not twice


def test_a_server_that_dies_goes_on(shop: Capture) -> None:
    shop.sync()
    History(shop, 1).write(5)
    shop.server.faults(sync=[{"point": "before_commit", "action": "crash_server"}])
    job_id = shop.server.submit(shop.connection)
    assert shop.server.process is not None
    shop.server.process.wait(timeout=120)
    shop.server.start()
    assert shop.server.wait(job_id)["status"] == "succeeded"
    shop.assert_exact("orders", "items")


@pytest.mark.parametrize("ends", ["cancelled", "killed"])
def test_a_worker_that_waits_for_its_snapshot_leaves_no_slot(shop: Capture, ends: str) -> None:
    """An open transaction keeps the source from making the temporary slot; whoever asked for it is gone meanwhile."""
    waiting = "select active_pid from pg_replication_slots where temporary and active_pid is not null"

    def walsenders() -> set[int]:
        return {row[0] for row in shop.source.run(waiting).fetchall()}

    shop.server.stop()
    shop.server.start()
    with psycopg.connect(shop.source.db.info.dsn, password=shop.source.db.info.password) as other:
        other.execute("select pg_current_xact_id()")
        job_id = shop.server.submit(shop.connection)
        (first,) = until(walsenders, "the temporary slot")
        if ends == "cancelled":
            shop.server.call("DELETE", f"/jobs/{job_id}")
            until(lambda: not walsenders(), "the slot to be dropped", 30)
            return
        started = re.findall(rf"job {job_id}: attempt 1 runs as process (\d+)", shop.server.log.read_text())
        os.kill(int(started[-1]), signal.SIGKILL)
        until(lambda: len(shop.server.job(job_id)["attempts"]) == 2, "the next attempt")
        until(lambda: walsenders() - {first}, "its slot", 30)
        assert first not in walsenders()
    assert shop.server.wait(job_id)["status"] == "succeeded"
    shop.assert_exact("orders", "items")


def test_connections_that_break_are_made_again(shop: Capture, tmp_path: Path) -> None:
    shop.sync()
    shop.server.stop()
    go = tmp_path / "go"
    rule = {"point": "mid_append", "action": "wait", "path": str(go), "attempt": 1}
    shop.server.start({"sync": [rule]})
    History(shop, 2).write(5)
    job_id = shop.server.submit(shop.connection)
    sessions = f"from pg_stat_activity where application_name like '%% job {job_id}'"
    until(lambda: shop.speed.rows(f"select 1 as one {sessions}"), "the destination's session")
    until(lambda: shop.source.run(f"select pid {sessions} and backend_type = 'walsender'").fetchall(), "the walsender")
    shop.source.run(f"select pg_terminate_backend(pid) {sessions}")
    shop.speed.rows(f"select pg_terminate_backend(pid) {sessions}")
    go.touch()
    job = shop.server.wait(job_id)
    assert job["status"] == "succeeded"
    assert job["attempts"][0]["failureReason"]["type"] == "transient_error"
    shop.assert_exact("orders", "items")


def test_rewritten_tables_are_read_anew(shop: Capture) -> None:
    crash(shop, "mid_range")
    shop.source.run("vacuum full shop.orders")
    shop.source.run("vacuum full shop.items")
    shop.sync()
    shop.assert_exact("orders", "items")


def test_a_partition_that_joins_in_the_middle_of_a_snapshot_is_read(shop: Capture) -> None:
    """Also one that is older than those which were read already; and one that was read must stay."""
    run = shop.source.run
    run("create table shop.items_low (id bigint primary key, note varchar(300))")
    run("insert into shop.items_low values (-1, 'low')")
    run("drop table shop.items_a")
    run("create table shop.items_a partition of shop.items for values from (0) to (5000)")
    run("drop table shop.items_b")
    run("create table shop.items_b partition of shop.items default")
    run("insert into shop.items values (1, 'a'), (9000, 'b')")
    shop.connect(stream("items"))
    crash(shop, "mid_range")
    run("alter table shop.items attach partition shop.items_low for values from (-1000) to (0)")
    shop.sync()
    shop.assert_exact("items")
    shop.rebuild()
    crash(shop, "mid_range")
    run("drop table shop.items_low")
    assert "lost 1 of its partitions" in shop.refuse()


def test_a_lost_position_is_never_passed_over(shop: Capture) -> None:
    first = shop.sync()
    shop.drop_slot()
    shop.source.run("delete from shop.orders where id < 100")
    assert "does not exist" in shop.refuse()
    shop.source.run(f"select pg_create_logical_replication_slot('{shop.slot}', 'pgoutput')")
    message = shop.refuse()
    assert "has advanced" in message
    assert "rebuild" in message
    shop.drop_slot()
    shop.rebuild()
    job = shop.sync()
    shop.assert_exact("orders", "items")
    applied = shop.speed.applied()
    assert applied is not None
    assert applied["epoch"] == job["jobId"] > first["jobId"]
    assert len({row["_airbyte_generation_id"] for row in shop.speed.log("orders")}) == 1


def test_a_rebuild_leaves_the_slots_of_others_alone(shop: Capture) -> None:
    shop.sync()
    shop.drop_slot()
    there = f"select slot_type, database from pg_replication_slots where slot_name = '{shop.slot}'"
    run = shop.source.run
    run(f"select pg_create_physical_replication_slot('{shop.slot}')")
    shop.rebuild()
    assert "is not a logical slot" in shop.refuse()
    assert run(there).fetchall() == [("physical", None)]
    shop.drop_slot()
    info = shop.source.db.info
    with psycopg.connect(info.dsn, password=info.password, dbname="postgres", autocommit=True) as other:
        other.execute(f"select pg_create_logical_replication_slot('{shop.slot}', 'pgoutput')".encode())
        try:
            assert "belongs to database postgres" in shop.refuse()
            assert run(there).fetchall() == [("logical", "postgres")]
        finally:
            other.execute(f"select pg_drop_replication_slot('{shop.slot}')".encode())
    shop.sync()
    shop.assert_exact("orders", "items")


def test_a_stream_that_may_have_missed_changes_is_refused(shop: Capture) -> None:
    shop.sync()
    shop.source.run("alter publication speed drop table shop.orders")
    assert "ADD TABLE" in shop.refuse()
    shop.source.run("delete from shop.orders where id < 100")
    shop.source.run("alter publication speed add table shop.orders")
    assert "left the publication" in shop.refuse()
    shop.rebuild()
    shop.sync()
    shop.assert_exact("orders", "items")


def test_an_idle_source_moves_the_slot_on(shop: Capture) -> None:
    """Nothing is written to what is captured, but to other tables: the source must not keep that log for us."""
    shop.sync()
    shop.source.run("create table shop.other as select i, repeat('z', 500) as z from generate_series(1, 9000) i")
    written = shop.source.run("select pg_current_wal_lsn()::text").fetchone()[0]
    before = shop.state()
    for _ in range(3):
        shop.source.run("checkpoint")  # the source notes there which transactions run; it does so by itself as well
        assert shop.sync()["rowsSynced"] == 0
    after = shop.state()
    assert after["state"]["lsn"] > before["state"]["lsn"]
    passed = "select %s::pg_lsn < %s::pg_lsn and %s::pg_lsn >= %s::pg_lsn"
    values = [before["restartLsn"], written, after["restartLsn"], written]
    assert shop.source.run(passed, *values).fetchone()[0], (before, written, after)


@pytest.mark.faults
def test_a_slot_that_the_source_threw_away(platform_postgres: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A source with hardly any room for slots: it drops the slot of a reader that stays away, and that is said."""
    with own_stand(platform_postgres, tmp_path_factory, max_slot_wal_keep_size="1MB") as capture:
        _lose_and_rebuild(capture)


@contextmanager
def own_stand(platform_postgres: Any, tmp_path_factory: pytest.TempPathFactory, **settings: str) -> Iterator[Capture]:
    """A source server of its own, as the platform starts it but for `settings`, and a server that captures it."""
    with (
        own_source(tmp_path_factory.mktemp("source"), **settings) as made,
        new_source(made.superuser_dsn, "127.0.0.1", made.port) as source,
        new_database(platform_postgres.superuser_dsn) as state,
        new_database(platform_postgres.superuser_dsn) as url,
    ):
        server = Server(state, tmp_path_factory.mktemp("server") / "server.log").start()
        try:
            with capturing(server, source, url) as capture:
                yield capture
        finally:
            server.stop()


@contextmanager
def own_source(folder: Path, **settings: str) -> Iterator[PostgresServer]:
    folder.chmod(0o711)
    for parent in list(folder.parents)[:2]:
        parent.chmod(0o711)
    home = Home(folder / "home")
    home.create()
    made = source_server(home, Secrets.load_or_create(home.secrets), assign([SOURCE]).ports[SOURCE])
    server = replace(made, settings={**made.settings, **settings})
    child = Child.start(server.program(), home.log(SOURCE))
    try:
        child.wait_ready(server.is_ready)
        server.provision()
        yield server
    finally:
        child.stop()


def _lose_and_rebuild(capture: Capture) -> None:
    run = capture.source.run
    run("create table shop.orders (id int primary key)")
    run("insert into shop.orders values (1)")
    capture.publish("orders")
    capture.connect(stream("orders"))
    capture.sync()
    lost = f"select 1 from pg_replication_slots where slot_name = '{capture.slot}' and wal_status = 'lost'"

    def write() -> bool:
        run("insert into shop.orders select max(id) + 1 from shop.orders")
        run("select pg_switch_wal()")
        run("checkpoint")
        return run(lost).fetchone() is not None

    until(write, "the slot to be lost")
    assert "not valid" in capture.refuse()
    url = f"{capture.server.extension}/connections/{capture.connection}/slot"
    assert "not valid" in str(capture.server.call("GET", url, expect=422))
    capture.rebuild()
    capture.sync()
    capture.assert_exact("orders")
