"""The speed lane's state in a real PostgreSQL: what the view of a log shows, what is pruned, what readers are told."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest

from include import ledger, speed
from include.fold import Fold
from include.specs import pipeline as specs
from include.specs.pipeline import Pipeline

OBJECTIVE = dt.timedelta(seconds=75)
LOG = """
create table speed.orders (
    _airbyte_raw_id varchar, _airbyte_extracted_at timestamptz, _airbyte_meta jsonb, _airbyte_generation_id bigint,
    order_id bigint, note varchar, _ab_cdc_lsn bigint, _ab_cdc_updated_at timestamptz,
    _ab_cdc_deleted_at timestamptz, _ab_cdc_commit_lsn bigint)
"""


def declared(grace: int = 0) -> Pipeline:
    found = specs.load("retail")
    assert found.speed is not None
    return replace(found, speed=replace(found.speed, streams=("orders",), grace=dt.timedelta(seconds=grace)))


@pytest.fixture
def log(conn: ledger.Connection) -> ledger.Connection:
    conn.execute("drop schema speed cascade")
    conn.execute("create schema speed")
    conn.execute(LOG.encode())
    return conn


def change(conn: ledger.Connection, commit: int, lsn: int, key: int | None, note: str | None, epoch: int = 1) -> None:
    conn.execute(
        "insert into speed.orders (_airbyte_generation_id, order_id, note, _ab_cdc_lsn, _ab_cdc_commit_lsn, "
        "_ab_cdc_deleted_at) values (%s, %s, %s, %s, %s, %s)",
        [epoch, key, note, lsn, commit, None if note else "2018-01-01"],
    )


def move(conn: ledger.Connection, applied: int, epoch: int = 1, snapshot: int = 1) -> None:
    conn.execute(
        "insert into lakehouse.applied_lsn (connection_id, connection, epoch, snapshot_lsn, applied_lsn, job_id) "
        "values (gen_random_uuid(), 'retail_cdc', %s, %s, %s, 9) on conflict (connection) do update set "
        "epoch = excluded.epoch, snapshot_lsn = excluded.snapshot_lsn, applied_lsn = excluded.applied_lsn",
        [epoch, snapshot, applied],
    )


def shown(conn: ledger.Connection) -> list[tuple[Any, ...]]:
    rows = conn.execute(
        "select order_id, note, _lane_applied_lsn as s, _lane_truncated_lsn as cut from speed.orders_latest "
        "where not _is_marker order by order_id"
    )
    return [tuple(row.values()) for row in rows]


def test_the_view_of_a_log(log: ledger.Connection) -> None:
    assert speed.make_views(log, declared()) == ["orders_latest"]
    assert speed.make_views(log, declared()) == [], "made once"
    move(log, 0)
    assert log.execute("select order_id, _is_marker from speed.orders_latest").fetchall() == [
        {"order_id": None, "_is_marker": True}
    ], "the position is there even when nothing else is"
    change(log, 1, 0, None, None)
    change(log, 10, 5, 1, "written first, committed second")
    change(log, 9, 7, 1, "written second, committed first")
    change(log, 11, 8, 2, None)
    change(log, 12, 9, 3, "not yet")
    change(log, 8, 1, 4, "of a snapshot that never succeeded", epoch=2)
    move(log, 11)
    assert shown(log) == [(1, "written first, committed second", 11, 1), (2, None, 11, 1)]
    change(log, 13, 10, None, None)
    change(log, 13, 11, 5, "after the truncation")
    move(log, 13)
    assert shown(log) == [(5, "after the truncation", 13, 13)]


def test_a_new_column_is_in_the_view_of_the_next_run(log: ledger.Connection) -> None:
    speed.make_views(log, declared())
    log.execute("alter table speed.orders add column tier varchar")
    assert speed.make_views(log, declared()) == ["orders_latest"]
    assert "tier" in speed.columns(log, "orders_latest")


def fold(watermark: int, mode: str = "unified", reason: str = "", epoch: int = 1) -> Fold:
    return Fold("orders", mode, 0, watermark, watermark, epoch, 0, 7, read=watermark, reason=reason)


def test_pruned_after_the_grace_and_never_above_what_is_pinned(log: ledger.Connection) -> None:
    move(log, 30)
    for commit in (5, 10, 20, 30):
        change(log, commit, commit, commit, "x")
    speed.record(log, declared(grace=3600), fold(20), 11, "run")
    assert dict(speed.prune(log, declared())) == {}, "readers of the view before may still be at work"
    log.execute("update lakehouse.prune_queue set due_at = now() - interval '1 second'")
    log.execute("update lakehouse.watermarks set watermark = 10")
    assert dict(speed.prune(log, declared())) == {"orders": 2}
    left = log.execute("select order_id from speed.orders order by 1").fetchall()
    assert [row["order_id"] for row in left] == [20, 30]


def test_a_restored_source_begins_an_epoch_at_a_lower_position(log: ledger.Connection) -> None:
    """A grace that is over for a position of the epoch before says nothing of this one's."""
    move(log, 30)
    change(log, 30, 1, 1, "of the epoch before")
    speed.record(log, declared(grace=3600), fold(30), 11, "run")
    log.execute("update lakehouse.prune_queue set due_at = now() - interval '1 second'")
    for commit in (5, 10, 20):
        change(log, commit, 1, commit, "x", epoch=2)
    move(log, 20, epoch=2, snapshot=5)
    speed.record(log, declared(grace=3600), fold(10, epoch=2), 12, "run")
    assert dict(speed.prune(log, declared())) == {"orders": 1}, "readers of the publication before need all of epoch 2"
    log.execute("update lakehouse.prune_queue set due_at = now() - interval '1 second' where watermark = 10")
    speed.record(log, declared(grace=3600), fold(20, epoch=2), 13, "run")
    assert dict(speed.prune(log, declared())) == {"orders": 2}
    assert [row["order_id"] for row in log.execute("select order_id from speed.orders")] == [20]
    assert speed.pins(log, "retail")["orders"].watermark == 20


def test_status_says_how_a_view_stands(log: ledger.Connection) -> None:
    move(log, 30)
    speed.note_source(log, "retail_cdc", 30, OBJECTIVE)
    speed.record(log, declared(), fold(20), 11, "run")
    (row,) = speed.status(log, "retail")
    assert (row["entity"], row["mode"], row["watermark"], row["applied_lsn"]) == ("orders", "unified", 20, 30)
    speed.note_source(log, "retail_cdc", 90, OBJECTIVE)
    (row,) = speed.status(log, "retail")
    assert (row["mode"], row["lag_bytes"]) == ("unified", 60), "behind, as the lane always is while it works"
    log.execute("update lakehouse.applied_lsn set moved_at = moved_at - interval '76 seconds'")
    (row,) = speed.status(log, "retail")
    assert (row["mode"], row["lag_bytes"]) == ("lagging", 60)
    assert 76 <= row["lag_seconds"] < 136
    speed.note_source(log, "retail_cdc", 40, OBJECTIVE)
    (row,) = speed.status(log, "retail")
    assert row["lag_bytes"] == 10, "a restored source stands further back"
    speed.record(log, declared(), fold(20, "batch", "the log did not come"), 12, "run")
    (row,) = speed.status(log, "retail")
    assert (row["mode"], row["reason"]) == ("batch", "the log did not come")
    assert speed.pins(log, "retail")["orders"].mode == "batch"
    speed.record(log, declared(), fold(20, "batch"), 13, "a backfill")
    (row,) = speed.status(log, "retail")
    assert row["reason"] == "the log did not come", "what moves nothing gives no other reason"


def test_a_position_is_known_until_somebody_looked(log: ledger.Connection) -> None:
    """A lane that stands still reads no position: that it had reached the last one says less every second."""
    move(log, 30)
    speed.record(log, declared(), fold(20), 11, "run")
    (row,) = speed.status(log, "retail")
    assert row["mode"] == "lagging", "nobody has said yet what is promised"
    speed.note_source(log, "retail_cdc", 30, OBJECTIVE)
    (row,) = speed.status(log, "retail")
    assert row["mode"] == "unified"
    log.execute("update lakehouse.source_positions set read_at = read_at - interval '76 seconds'")
    (row,) = speed.status(log, "retail")
    assert (row["mode"], row["lag_bytes"]) == ("lagging", 0)
    assert 76 <= row["lag_seconds"] < 136
    speed.note_source(log, "retail_cdc", 30, OBJECTIVE * 10)
    log.execute("update lakehouse.source_positions set read_at = read_at - interval '76 seconds'")
    (row,) = speed.status(log, "retail")
    assert row["mode"] == "unified", "the promise is the lane's to make"
