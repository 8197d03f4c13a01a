"""Reconciliation finds what is missing, too many or worth another amount, and names it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from include.reconciliation import Bronze, ReconciliationError, bronze_differences, check, silver_differences
from include.source import Totals
from include.specs import pipeline

RETAIL = pipeline.load("retail")
ITEMS = next(stream for stream in RETAIL.streams if stream.name == "order_items")


def totals(rows: int, moved: int = 0, **money: str) -> Totals:
    amounts = {column: Decimal(money.get(column, "0.00")) for column in ITEMS.money}
    return Totals(rows=rows, moved=moved, money=amounts)


def bronze(keys: int) -> Bronze:
    return Bronze(rows=keys + 3, keys=keys, cursor_max="2017-11-01 00:00:00", generation=0)


def test_equal_counts_pass_whatever_bronze_holds_twice() -> None:
    assert bronze_differences(ITEMS, totals(10), bronze(10)) == []


def test_rows_that_moved_above_the_position_still_count_as_present() -> None:
    assert bronze_differences(ITEMS, totals(8, moved=2), bronze(10)) == []


@pytest.mark.parametrize(("keys", "words"), [(7, "bronze 7: 3 missing"), (12, "bronze 12: 2 too many")])
def test_a_gap_says_stream_and_size(keys: int, words: str) -> None:
    (line,) = bronze_differences(ITEMS, totals(10), bronze(keys))
    assert line.startswith("order_items: source has 10 rows up to 2017-11-01")
    assert line.endswith(words)


def test_silver_must_hold_every_key_and_every_cent() -> None:
    row = {"row_count": 9, "good_count": 9, **{f"money_{column}": 0 for column in ITEMS.money}}
    found = silver_differences(ITEMS, totals(10, sales_value="0.01"), 10, row)
    assert found == [
        "order_items: bronze has 10 keys, silver with quarantine 9",
        "order_items.sales_value: source sums to 0.01, silver to 0",
    ]


def test_money_is_not_compared_with_a_source_that_went_on() -> None:
    row = {"row_count": 10, "good_count": 9, **{f"money_{column}": 0 for column in ITEMS.money}}
    assert silver_differences(ITEMS, totals(9, moved=1, sales_value="5.00"), 10, row) == []


def test_check_lists_every_difference() -> None:
    check([], "nowhere")
    with pytest.raises(ReconciliationError, match="source and bronze differ: a; b"):
        check(["a", "b"], "source and bronze differ")
