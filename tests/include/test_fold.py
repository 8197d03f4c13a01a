"""What a run folds: from positions alone, and by the rule."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from include.fold import FoldError, Pin, Position, Read, as_environment, decide, from_xcom

READ = Read(before=100, after=120, job=7)
LOG = Position(epoch=3, snapshot=50, applied=130, job_id=40)
PIN = Pin(watermark=80, epoch=3, job=5, snapshot_id=11, mode="unified", read=90)


def test_a_complete_log_is_folded_to_the_position_before_the_sync():
    fold = decide("orders", READ, LOG, PIN, "")
    assert (fold.mode, fold.watermark, fold.before, fold.after) == ("unified", 80, 100, 120)
    assert fold.published_watermark == 100
    assert (fold.from_job, fold.job, fold.pinned_snapshot) == (5, 7, 11)


def test_never_below_the_newest_snapshot():
    """Below it the log may have a gap: the slot may have been lost while the run waited."""
    fold = decide("orders", READ, Position(3, 125, 130, 40), PIN, "")
    assert (fold.before, fold.after) == (125, 125)


def test_another_epoch_is_folded_whole():
    fold = decide("orders", READ, Position(4, 90, 130, 41), PIN, "")
    assert (fold.watermark, fold.epoch, fold.before) == (0, 4, 100)


@pytest.mark.parametrize(("log", "waited"), [(None, ""), (LOG, "the log was not complete after 600 s")])
def test_without_the_log_cursor_rows_and_a_reason(log, waited):
    fold = decide("orders", READ, log, PIN, waited)
    assert (fold.mode, fold.published_watermark, fold.epoch) == ("batch", 80, 3)
    assert fold.reason


def test_a_backfill_moves_nothing():
    fold = decide("orders", None, LOG, PIN, "")
    assert (fold.mode, fold.watermark, fold.before, fold.published_watermark) == ("unified", 80, 80, 80)
    assert decide("orders", None, LOG, None, "").mode == "batch"


def test_never_below_the_cursor_rows_of_a_batch_publication():
    """The run that published them is repeated once the log has come."""
    pin = replace(PIN, mode="batch", job=7, read=120)
    fold = decide("orders", READ, LOG, pin, "")
    assert (fold.mode, fold.watermark, fold.before, fold.after) == ("unified", 80, 120, 120)


@pytest.mark.parametrize("mode", ["unified", "batch"])
def test_a_run_older_than_the_published_one_moves_nothing(mode):
    pin = replace(PIN, watermark=200, job=9, read=220, mode=mode)
    fold = decide("orders", READ, replace(LOG, applied=250), pin, "")
    assert (fold.mode, fold.published_watermark, fold.job, fold.read) == (mode, 200, 9, 220)


def test_a_run_that_is_published_moves_nothing_when_it_is_repeated():
    """W may lie above what the run has read: it was raised to a snapshot, or to a batch publication's cursor rows."""
    pin = replace(PIN, watermark=125, job=7, read=120)
    fold = decide("orders", READ, replace(LOG, snapshot=125), pin, "")
    assert (fold.mode, fold.published_watermark, fold.reason) == ("unified", 125, "")


@pytest.mark.parametrize("read", [Read(60, 120, 7), Read(85, 89, 7), Read(100, 95, 7)])
def test_a_source_that_was_set_back_is_refused(read):
    """Its positions are those of other changes now, until a new snapshot begins another epoch."""
    with pytest.raises(FoldError, match="set back, by a restore perhaps"):
        decide("orders", read, LOG, PIN, "")
    assert decide("orders", read, replace(LOG, epoch=4), PIN, "").watermark == 0


def test_a_log_behind_the_run_is_refused():
    with pytest.raises(FoldError, match="the run needs 200"):
        decide("orders", Read(100, 200, 7), LOG, PIN, "")


def test_it_survives_xcom__as_it_was():
    fold = decide("orders", READ, LOG, PIN, "")
    assert from_xcom(json.loads(as_environment({"orders": fold}))) == {"orders": fold}
