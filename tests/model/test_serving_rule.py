"""The serving rule holds over random histories, and each way to break it is caught.

The adjacent swaps of steps that are missing from the mutants are harmless:

- `read_before` and `sync` (swap_read_before): once the log is whole, it alone decides. A cursor row that the sync read
  before `lsn_before` is either unchanged until then, so the row is right, or its change lies in `(W, lsn_before]` and
  wins over it. `test_harmless_changes_break_nothing` runs this one too. It is kept in this order because mode batch has
  nothing but cursor rows, and they must not be older than the position that the ledger calls `lsn_before`.
- `log_alone`: for the same reason a fold that ignores cursor rows gives the same silver.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.model.serving_rule import ACTIONS, Lakehouse, ViolationError, run

MUTANTS = (
    # Those of the given model.
    "no_wait", "no_tombstones", "prune_before_publish", "w_is_lsn_after", "unpinned_silver", "no_grace",
    "read_beyond_s", "bronze_wins", "s_before_rows",
    # What it leaves out.
    "change_lsn_is_the_clock", "two_scans", "two_replacements", "prune_at_once", "fold_drops_new_column",
    "backfill_moves_w", "backfill_from_cursor_rows",
    "snapshot_without_truncation", "slot_without_snapshot", "epoch_of_rows_ignored", "fold_over_gap",
    "no_roll_back", "folded_sync_left_out",
    # Every adjacent swap of steps but the harmless one.
    "swap_sync", "swap_read_after", "swap_wait", "swap_slice", "swap_fold", "swap_publish",
)  # fmt: skip
# What only shows where the source is restored from a backup, so that its positions are those of other changes, or where
# a run is repeated. Cursor rows, which the rule above allows beside the log, are a mistake there.
MUTANTS_OF_HARDSHIP = (
    "position_never_falls", "epoch_not_pinned", "prune_by_position", "set_back_unnoticed", "fold_below_cursor_rows",
    "cursor_rows_too",
)  # fmt: skip
HARMLESS = ("swap_read_before", "log_alone")
HISTORIES = int(os.environ.get("LAKEHOUSE_MODEL_HISTORIES", "500"))
UNTIL_CAUGHT = 3000

# A set of histories that never does one of these proves nothing about it.
MUST_BE_SEEN = (
    "commit", "snapshot", "slot lost", "cdc crash", "position moved", "pruned", "read unified",
    "published unified", "published batch",
    *(f"batch crash before {step}" for step in ("sync", "read_after", "wait", "slice", "fold", "publish", "record")),
)  # fmt: skip


def _hold(seeds: range, mutant: str | None = None, hardships: bool = False) -> Counter[str]:
    seen: Counter[str] = Counter()
    for seed in seeds:
        try:
            seen.update(run(seed, mutant, hardships).seen)
        except ViolationError as error:
            raise AssertionError(f"seed {seed}, mutant {mutant}: {error}") from error
    return seen


def test_every_read_is_the_source_at_the_position_it_names():
    seen = _hold(range(HISTORIES))
    assert [what for what in MUST_BE_SEEN if not seen[what]] == []


def test_every_read_is_the_source_through_restores_and_repeated_runs():
    seen = _hold(range(HISTORIES), hardships=True)
    assert [what for what in (*MUST_BE_SEEN, "source restored", "run again", "refused") if not seen[what]] == []


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_every_read_is_the_source_over_ten_thousand_histories():
    seen = _hold(range(100_000, 110_000))
    assert seen["read unified"] > 10_000


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_every_read_is_the_source_over_ten_thousand_histories_with_hardships():
    seen = _hold(range(200_000, 210_000), hardships=True)
    assert seen["read unified"] > 10_000


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutant_is_caught(mutant):
    _catch(mutant, hardships=False)


@pytest.mark.parametrize("mutant", MUTANTS_OF_HARDSHIP)
def test_mutant_of_hardship_is_caught(mutant):
    _catch(mutant, hardships=True)


def _catch(mutant: str, hardships: bool) -> None:
    for seed in range(UNTIL_CAUGHT):
        try:
            run(seed, mutant, hardships)
        except ViolationError:
            return
    pytest.fail(f"{UNTIL_CAUGHT} histories did not notice {mutant}")


@pytest.mark.parametrize("change", HARMLESS)
def test_harmless_changes_break_nothing(change):
    _hold(range(HISTORIES // 2), change)


class _Drawn:
    """Choices that Hypothesis makes, and so can shrink."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data

    def below(self, n: int) -> int:
        return int(self.data.draw(st.integers(0, n - 1)))


class Histories(RuleBasedStateMachine):
    """The same actions as rules; a violation is shrunk to the fewest actions that show it."""

    hardships = False

    @initialize(data=st.data())
    def start(self, data: st.DataObject) -> None:
        self.house = Lakehouse(_Drawn(data), entities=1, keys=2, hardships=self.hardships)

    def act(self, name: str, times: int, data: st.DataObject) -> None:
        self.house.choices = _Drawn(data)
        for _ in range(times):
            getattr(self.house, name)()
            self.house.tick()


def _rule(name: str) -> None:
    @rule(times=st.integers(1, 8 if name.startswith("continue") else 2), data=st.data())
    def step(self: Histories, times: int, data: st.DataObject) -> None:
        self.act(name, times, data)

    step.__name__ = name
    setattr(Histories, name, step)


for _name in ACTIONS:
    _rule(_name)


class HardHistories(Histories):
    """Those in which the source is restored and runs are repeated."""

    hardships = True


Histories.TestCase.settings = HardHistories.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
)
TestHistories = Histories.TestCase
TestHardHistories = HardHistories.TestCase
