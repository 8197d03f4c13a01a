"""The summary says whether the layers add up; it must not say so when they do not."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from embedded.demo import summary
from embedded.demo.storage import Sizes

RECEIPT: dict[str, Any] = {
    "syncs": [
        {
            "connection": "retail_sales",
            "job_id": 7,
            "rows_committed": 12,
            "bytes_committed": 1_234_567,
            "status": "succeeded",
        }
    ],
    "streams": [
        {"stream": "orders", "source_rows": 9, "source_moved": 1, "bronze_rows": 12, "bronze_keys": 10},
        {"stream": "stores", "source_rows": 3, "source_moved": 0, "bronze_rows": 3, "bronze_keys": 3},
    ],
    "layers": {
        "silver": {"orders": {"rows": 8, "quarantined": 2}, "stores": {"rows": 2, "quarantined": 0}},
        "gold": {"daily_revenue": {"rows": 365}},
    },
    "published": {"gold.daily_revenue": 4711},
    "reflections": {"reflections": [{"id": "a"}, {"id": "b"}]},
    "locations": {"bronze": "s3://lakehouse/bronze/retail/"},
}
TASKS: list[dict[str, Any]] = [
    {
        "task_id": "ingest.sales.sync",
        "start_date": "2017-01-01T02:00:01+00:00",
        "end_date": "2017-01-01T02:00:04+00:00",
    },
    {
        "task_id": "ingest.sales.record",
        "start_date": "2017-01-01T02:00:05+00:00",
        "end_date": "2017-01-01T02:00:06+00:00",
    },
    {
        "task_id": "silver.orders.run",
        "start_date": "2017-01-01T02:00:07+00:00",
        "end_date": "2017-01-01T02:00:09+00:00",
    },
    {"task_id": "mark_stale", "start_date": None, "end_date": None},
]

SIZES = Sizes(bronze={"orders": 2_500_000}, silver={"orders": 1_900}, gold={"daily_revenue": 42})


def _print(receipt: dict[str, Any]) -> list[str]:
    console = Console(width=120, no_color=True)
    with console.capture() as captured:
        summary.show(console, receipt, TASKS, SIZES)
    return captured.get().splitlines()


def _line(lines: list[str], word: str) -> str:
    return next(line for line in lines if line.strip().startswith(word))


def test_a_stream_is_reconciled_only_if_every_layer_agrees() -> None:
    lines = _print(RECEIPT)
    assert _line(lines, "orders").split() == ["orders", *"9 12 2.5 MB 8 1.9 kB 2 yes".split()]
    assert _line(lines, "stores").rstrip().endswith("NO")


def test_a_narrow_terminal_costs_no_digit() -> None:
    console = Console(width=40, no_color=True)
    counts = {"source_rows": 20_940_529, "source_moved": 0, "bronze_rows": 20_940_529, "bronze_keys": 20_940_529}
    receipt = {**RECEIPT, "streams": [{"stream": "orders", **counts}]}
    with console.capture() as captured:
        summary.show(console, receipt, TASKS, SIZES)
    assert captured.get().count("20,940,529") == 2


def test_everything_of_the_receipt_is_told() -> None:
    text = "\n".join(_print(RECEIPT))
    for expected in (
        "1.2 MB",
        "succeeded",
        "4711",
        "365",
        "42 B",
        "2 contain this run's data",
        "s3://lakehouse/bronze/retail/",
    ):
        assert expected in text


def test_steps_are_groups_with_their_wall_time() -> None:
    lines = _print(RECEIPT)
    assert _line(lines, "ingest.sales").split()[-2:] == ["2", "5.0"]
    assert _line(lines, "silver").split()[-2:] == ["1", "2.0"]


def test_a_receipt_of_a_backfill_without_syncs_is_shown_too() -> None:
    lines = _print({**RECEIPT, "syncs": [], "reflections": None})
    assert not [line for line in lines if "Syncs" in line]
    assert _line(lines, "Reflections").rstrip().endswith("none declared")


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2.5e9, "2.5 GB"), (3e13, "30.0 TB")]
)
def test_sizes_are_readable(count: float, text: str) -> None:
    assert summary.size(count) == text
