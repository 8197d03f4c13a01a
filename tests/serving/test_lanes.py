"""The lanes' promises one by one: exactness, one scan, new columns, changed types, falling back, backfills."""

from __future__ import annotations

from typing import Any

import pytest

from include import serving, speed
from include.fold import FoldError
from tests.serving.history import History
from tests.serving.lanes import DECLARED, Killed, Lanes


@pytest.fixture
def unified(lanes) -> Lanes:
    """Six transactions, a snapshot, a first unified run, ten more transactions that are captured."""
    history = History(lanes, seed=1)
    lanes.traffic = history
    history.begin()
    for _ in range(6):
        history.transact()
    lanes.snapshot()
    assert {fold.mode for fold in lanes.batch().values()} == {"unified"}
    for _ in range(10):
        history.transact()
    lanes.capture()
    return lanes


@pytest.mark.faults
def test_a_day_of_both_lanes(unified):
    lanes, history = unified, unified.traffic
    lanes.check_silver()
    assert len(lanes.check()) == 3

    # Each scan of the log is one node of the plan, which names the table.
    plan = str(lanes.dremio.sql("explain plan for select * from lakehouse.serving.households"))
    assert plan.lower().count("households_latest") == 1, plan
    assert serving.template("households", "unified").count("households_latest") == 1, "two scans see two values of S"

    # The log does not come: cursor rows, and W stays. Then it does: unified again, without a new snapshot.
    history.transact()
    folds = lanes.batch(patient=False)
    assert {fold.mode for fold in folds.values()} == {"batch"}
    assert all(fold.reason for fold in folds.values())
    assert lanes.check() == []
    assert {fold.mode for fold in lanes.batch().values()} == {"unified"}
    lanes.check_silver()
    assert len(lanes.check()) == 3

    # A backfill of an interval moves nothing and lets nothing old come back.
    history.transact()
    lanes.capture()
    folds = lanes.batch(backfill=True)
    assert {fold.mode for fold in folds.values()} == {"unified"}
    lanes.check_silver()
    assert len(lanes.check()) == 3


def _after_falling_back(lanes: Lanes) -> list[dict[str, Any]]:
    """What readers see of the households after databases were restored."""
    with lanes.connect() as conn:
        pin = speed.pins(conn, lanes.pipeline.name)["households"]
    serving.fall_back(lanes.dremio.sql, "households", pin, DECLARED["households"], "restored")
    return lanes.dremio.sql("select * from lakehouse.serving.households order by 1")


def test_a_new_column_appears_and_a_changed_type_stops_the_stream(unified):
    lanes, history = unified, unified.traffic
    with lanes.source() as conn:
        conn.execute("alter table retail.households add column loyalty_tier text")
        history.extra = ["loyalty_tier"]
        lanes.remember(conn)
    for _ in range(6):
        history.transact()
    lanes.capture()

    # Falling back shows what is pinned, also when a run has died that had given silver the new column.
    lanes.kill_at = "after silver"
    with pytest.raises(Killed):
        lanes.batch()
    assert "loyalty_tier" not in _after_falling_back(lanes)[0]

    assert lanes.batch()["households"].extra == ("loyalty_tier",)
    lanes.check_silver()
    assert "households" in lanes.check()

    # Readers keep the column while the log cannot be trusted, or does not come.
    tiers = [
        row["loyalty_tier"] for row in lanes.dremio.sql("select * from lakehouse.serving.households_batch order by 1")
    ]
    assert any(tiers)
    assert [row["loyalty_tier"] for row in _after_falling_back(lanes)] == tiers
    assert lanes.batch(patient=False)["households"].extra == ("loyalty_tier",)
    assert any(row["loyalty_tier"] for row in lanes.dremio.sql("select * from lakehouse.serving.households"))

    with lanes.connect() as conn:
        conn.execute("drop view speed.households_latest")
        conn.execute("alter table speed.households alter column loyalty_tier type bigint using null")
    with pytest.raises(FoldError, match=r"stream households is stopped: the source changed loyalty_tier from VARCHAR"):
        lanes.batch()


def test_what_a_dead_run_built_is_not_published_by_the_next(unified):
    """The next run rolls silver back, and has nothing to commit itself: the newest snapshot is the dead run's."""
    lanes, history = unified, unified.traffic
    for _ in range(3):
        history.transact()
    lanes.capture()
    lanes.kill_at = "after silver"
    with pytest.raises(Killed):
        lanes.batch()
    assert {fold.mode for fold in lanes.batch(backfill=True).values()} == {"unified"}
    lanes.check_silver()
    assert len(lanes.check()) == 3
    lanes.batch()
    lanes.check_silver()


def test_a_run_is_repeated_after_a_new_snapshot(unified):
    """Silver stands at the snapshot then, above what the run itself has read: nothing was set back."""
    lanes = unified
    lanes.snapshot()
    lanes.batch()
    for _ in range(2):
        lanes.batch(reads=lanes.reads[0])
        lanes.check_silver()
        assert len(lanes.check()) == 3


def _keys(lanes: Lanes, stream: str) -> set[Any]:
    """The first key column of what readers see."""
    key = next(s.key for s in lanes.streams if s.name == stream)[0]
    return {row[key] for row in lanes.dremio.sql(f"select {key} from lakehouse.serving.{stream}")}


def test_mode_batch_has_what_changed_while_the_run_before_synced(unified):
    """The newest folded sync read the source later than silver's W, and no later sync delivers its rows again."""
    lanes, history = unified, unified.traffic
    lanes.incremental = True

    def before_the_sync() -> None:
        history.write("households", (90,))
        history.write("households", (91,))
        history.write("orders", (92,))

    def after_the_sync() -> None:
        history.delete("households", (91,))
        history.truncate("orders")

    lanes.meanwhile = {"after lsn_before": before_the_sync, "after the sync": after_the_sync}
    lanes.batch()
    lanes.check_silver()

    history.write("households", (93,))
    assert {fold.mode for fold in lanes.batch(patient=False).values()} == {"batch"}
    assert {90, 93} <= _keys(lanes, "households")
    assert 91 not in _keys(lanes, "households"), "the log knew that it was deleted"
    assert 92 not in _keys(lanes, "orders"), "the log knew of the truncation"

    # What is written anew after that is there: only the folded sync's own rows are held against the log.
    history.write("households", (91,))
    lanes.batch(patient=False)
    assert {90, 91, 93} <= _keys(lanes, "households")

    lanes.batch()
    lanes.check_silver()
    assert len(lanes.check()) == 3


def test_a_backfill_in_mode_batch_moves_nothing_and_a_full_rebuild_is_refused(unified):
    """Cursor rows know no interval and no whole of what the log has folded: nothing of bronze has expired."""
    lanes, history = unified, unified.traffic
    history.write("orders", (90,))
    lanes.batch(patient=False)
    before = lanes.dremio.content("lake.silver.orders", "order_id")
    assert len(before) > 1

    assert {fold.mode for fold in lanes.batch(backfill=True).values()} == {"batch"}
    assert lanes.dremio.content("lake.silver.orders", "order_id") == before

    history.write("orders", (91,))
    folds = lanes.batch(patient=False)
    before = lanes.dremio.content("lake.silver.orders", "order_id")
    shrink = ("--vars", "{allow_shrink: true}")
    done = lanes.build("run", "--select", "orders", *shrink, fold=folds, ok=False, full_rebuild="true")
    assert "orders: a full rebuild needs the change log" in done["messages"]["model.lakehouse.orders"][1]
    assert lanes.dremio.content("lake.silver.orders", "order_id") == before

    lanes.batch()
    lanes.check_silver()
