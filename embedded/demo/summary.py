"""Prints a run's receipt the way a person asks: what came in, what stands where, does it add up, how long it took."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from embedded.demo.storage import Sizes

WIDTH = 120  # columns that every table fits into


def size(count: float) -> str:
    """Bytes in decimal units, as disks are sold: 1.2 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _rows(value: Any) -> str:
    return "" if value is None else f"{int(value):,}"


def _size(known: Mapping[str, int], name: str) -> str:
    return size(known[name]) if name in known else ""


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", show_edge=False, pad_edge=False, box=box.SIMPLE_HEAD
    )
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    return table


def streams(receipt: Mapping[str, Any], sizes: Sizes) -> Table:
    """Source, bronze and silver of every stream side by side, and whether they add up."""
    silver = (receipt.get("layers") or {}).get("silver", {})
    table = _table(
        "Streams (bad: rows in quarantine)", "stream", "source", "bronze", "", "silver", "", "bad", "adds up"
    )
    for line in receipt.get("streams") or []:
        name = line["stream"]
        kept = silver.get(name, {})
        expected = int(line["source_rows"]) + int(line.get("source_moved") or 0)
        equal = expected == int(line["bronze_keys"]) == int(kept.get("rows", -1)) + int(kept.get("quarantined", 0))
        table.add_row(
            name,
            _rows(line["source_rows"]),
            _rows(line["bronze_rows"]),
            _size(sizes.bronze, name),
            _rows(kept.get("rows")),
            _size(sizes.silver, name),
            _rows(kept.get("quarantined")),
            "yes" if equal else "NO",
        )
    return table


def syncs(receipt: Mapping[str, Any]) -> Table:
    table = _table("Syncs into bronze", "connection", "job", "rows", "bytes", "status")
    for sync in receipt.get("syncs") or []:
        table.add_row(
            sync["connection"],
            str(sync["job_id"]),
            _rows(sync["rows_committed"]),
            size(sync["bytes_committed"]),
            sync["status"],
        )
    return table


def gold(receipt: Mapping[str, Any], sizes: Sizes) -> Table:
    published = receipt.get("published") or {}
    table = _table("Gold, published", "table", "rows", "", "snapshot")
    for name, facts in sorted(((receipt.get("layers") or {}).get("gold") or {}).items()):
        snapshot = str(published.get(f"gold.{name}", ""))
        table.add_row(name, _rows(facts.get("rows")), _size(sizes.gold, name), snapshot)
    return table


def _seconds(first: str, last: str) -> float:
    return (dt.datetime.fromisoformat(last) - dt.datetime.fromisoformat(first)).total_seconds()


def steps(tasks: Iterable[Mapping[str, Any]]) -> Table:
    """One line a task or task group, in the order in which they began: its wall time from first start to last end."""
    spans: dict[str, list[Mapping[str, Any]]] = {}
    for task in tasks:
        if task.get("start_date") and task.get("end_date"):
            group = ".".join(str(task["task_id"]).split(".")[: 2 if str(task["task_id"]).startswith("ingest.") else 1])
            spans.setdefault(group, []).append(task)
    table = _table("Steps", "step", "tasks", "seconds")
    for group, members in sorted(spans.items(), key=lambda item: min(t["start_date"] for t in item[1])):
        first, last = min(t["start_date"] for t in members), max(t["end_date"] for t in members)
        table.add_row(group, str(len(members)), f"{_seconds(first, last):.1f}")
    return table


def _reflections(receipt: Mapping[str, Any]) -> str:
    found = receipt.get("reflections")
    if isinstance(found, Mapping):
        found = found.get("reflections", found)
    count = len(found) if isinstance(found, (Sequence, Mapping)) and not isinstance(found, str) else 0
    return f"{count} contain this run's data" if count else "none declared"


def show(console: Console, receipt: Mapping[str, Any], tasks: Iterable[Mapping[str, Any]], sizes: Sizes) -> None:
    """Prints everything that the receipt, the run's tasks and the storage tell.

    A narrow terminal wraps a line itself; it must not cost a digit of a count, so tables are laid out wide enough.
    """
    width = console.width
    console.width = max(width, WIDTH)
    try:
        _show(console, receipt, tasks, sizes)
    finally:
        console.width = width


def _show(console: Console, receipt: Mapping[str, Any], tasks: Iterable[Mapping[str, Any]], sizes: Sizes) -> None:
    for table in (syncs(receipt), streams(receipt, sizes), gold(receipt, sizes), steps(tasks)):
        if table.row_count:
            console.print()
            console.print(table)
    console.print()
    facts = Table.grid(padding=(0, 2))
    facts.add_row("Reflections", _reflections(receipt))
    for layer, where in sorted((receipt.get("locations") or {}).items()):
        facts.add_row(layer.capitalize(), str(where))
    console.print(facts)
