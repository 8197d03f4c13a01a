"""Which backup sets may go: proof decides. Over a real ledger and a real store."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from include.retention.services import Services
from include.retention.targets.backups import Keep

NOW = dt.datetime(2026, 11, 26, 6, tzinfo=dt.UTC)
KEEP = Keep(dt.timedelta(days=30), verified=2, weeks=0, months=0)


def row(name: str, days: float, *, proven: bool = True, **changes: Any) -> dict[str, Any]:
    at = NOW - dt.timedelta(days=days)
    made = {"set_id": name, "kind": "full", "parent": None, "state": "complete", "completed_at": at, "held": None}
    return {**made, "started_at": at, "verified_at": at if proven else None, "bytes": 1, **changes}


def test_the_last_proven_sets_stay_for_ever() -> None:
    """31 days without a backup: age alone would delete all of them."""
    rows = [row("a", 90), row("b", 80), row("c", 70)]
    assert set(KEEP.reasons(rows, NOW)) == {"b", "c"}


def test_what_no_drill_has_proven_never_replaces_what_one_has() -> None:
    rows = [row("a", 90), row("b", 80), row("c", 40, proven=False), row("d", 35, proven=False)]
    assert set(KEEP.reasons(rows, NOW)) == {"a", "b", "c", "d"}


def test_without_any_proof_nothing_goes() -> None:
    from include.retention.model import BlockedError

    with pytest.raises(BlockedError, match="has passed a restore drill"):
        KEEP.reasons([row("a", 90, proven=False)], NOW)


def test_a_set_that_stays_keeps_what_it_builds_on() -> None:
    rows = [
        row("full", 40),
        row("one", 39, parent="full"),
        row("two", 20, parent="one"),
        row("lone", 38),
        row("x", 3),
        row("y", 2),
    ]
    assert set(KEEP.reasons(rows, NOW)) == {"full", "one", "two", "x", "y"}


def test_keepers_holds_and_running_sets_stay() -> None:
    rows = [row(f"s{day:03}", day) for day in range(1, 120)] + [
        row("held", 118.5, held="a court"),
        row("running", 100, state="running", completed_at=None, proven=False),
    ]
    kept = replace(KEEP, weeks=8, months=3).reasons(rows, NOW)
    assert {"held", "running", "s001", "s030"} <= set(kept)
    old = sorted(name for name in kept if name.startswith("s") and int(name[1:]) > 30)
    # One a week until 56 days ago, and the newest of each month until 93 days ago.
    assert len([name for name in old if kept[name] == "weekly keeper"]) in (3, 4)
    assert {kept[name] for name in old} == {"weekly keeper", "monthly keeper"}


@dataclass(frozen=True)
class Place:
    client: Any
    bucket: str
    prefix: str


@pytest.fixture
def stored(services: Services) -> Iterator[Services]:
    """Services whose backups lie under a prefix of their own."""
    prefix = f"backups-test-{uuid.uuid4().hex[:8]}/"
    yield replace(services, backups=Place(services.s3, services.bucket, prefix))
    for item in services.s3.list_objects_v2(Bucket=services.bucket, Prefix=prefix).get("Contents", ()):
        services.s3.delete_object(Bucket=services.bucket, Key=item["Key"])


def make(services: Services, set_id: str, days: float, *, proven: bool = True, wal: str = "") -> None:
    store = services.backups
    assert store is not None
    for name in ("begin.json", "data/base/0", "data/base/1", "parts/base.json"):
        store.client.put_object(Bucket=store.bucket, Key=f"{store.prefix}sets/{set_id}/{name}", Body=b"x" * 10)
    body = json.dumps({"body": {"parts": [{"facts": {"wal": [[wal, 1, "0"]]}}]}}).encode()
    store.client.put_object(Bucket=store.bucket, Key=f"{store.prefix}sets/{set_id}/manifest.json", Body=body)
    with services.ledger() as conn:
        conn.execute(
            "insert into lakehouse.backup_sets (set_id, kind, state, started_at, completed_at, bytes, verified_at) "
            "values (%(id)s, 'full', 'complete', now() - %(age)s, now() - %(age)s, 40, "
            "case when %(proven)s then now() end)",
            {"id": set_id, "age": dt.timedelta(days=days), "proven": proven},
        )


def names(services: Services, folder: str) -> set[str]:
    store = services.backups
    assert store is not None
    place = f"{store.prefix}{folder}/"
    found = store.client.list_objects_v2(Bucket=store.bucket, Prefix=place).get("Contents", ())
    return {item["Key"].removeprefix(place).split("/")[0] for item in found}


OLD, OLDER, NEW, OTHER = (f"2026{month:02}01T020000Z-{month:08x}" for month in (2, 1, 4, 3))
RULES = """
  sets:
    target: backup_sets
    with: {days: 30, keep_verified: 1, weekly: 0, monthly: 0}
    grace_hours: 0
    approve_fraction: 1.0
    approve_count: 100
  log:
    target: backup_log
    with: {days: 30}
    grace_hours: 0
    approve_fraction: 1.0
    approve_count: 100
"""


def test_old_sets_go_whole_and_the_ledger_says_so_first(stored: Services, keeper: Any, declare: Any) -> None:
    keeper.services = stored
    make(stored, OLDER, 60)
    make(stored, OLD, 50)
    make(stored, NEW, 1)
    store = stored.backups
    assert store is not None
    garbage, unknown = OTHER, OTHER.replace("T02", "T03")
    store.client.put_object(Bucket=store.bucket, Key=f"{store.prefix}sets/{garbage}/begin.json", Body=b"{}")
    store.client.put_object(Bucket=store.bucket, Key=f"{store.prefix}sets/{unknown}/manifest.json", Body=b"{}")
    rules = declare(RULES)
    first = keeper.plan(rules)["by_rule"]["sets"]
    assert [item["item"] for item in first["sample"]] == [OLDER, OLD]
    assert first["kept"]["unfinished, and perhaps going on"] == 1
    with stored.ledger() as conn:
        conn.execute("update lakehouse.backup_sets set held = 'a court' where set_id = %s", [OLD])
    outcome = keeper.apply(rules)["sets"]
    assert (outcome.deleted, outcome.spared) == (1, 1)
    assert names(stored, "sets") == {OLD, NEW, garbage, unknown}
    with stored.ledger() as conn:
        states = {r["set_id"]: r["state"] for r in conn.execute("select set_id, state from lakehouse.backup_sets")}
    assert states == {OLDER: "deleted", OLD: "complete", NEW: "complete"}

    keeper.plan(rules, days=5)
    keeper.apply(rules)
    assert names(stored, "sets") == {OLD, NEW, unknown}, "what was begun and never completed is garbage by then"


def test_log_stays_that_a_set_names_or_the_window_needs(stored: Services, keeper: Any, declare: Any) -> None:
    keeper.services = stored
    store = stored.backups
    assert store is not None
    for name in ("1", "2", "00000002.history"):
        store.client.put_object(Bucket=store.bucket, Key=f"{store.prefix}wal/7/whole/{name}", Body=b"x")
    rules = declare(RULES)
    make(stored, NEW, 1, wal="wal/7/whole/1")
    assert keeper.plan(rules)["by_rule"]["log"]["status"] == "nothing"
    old = keeper.plan(rules, days=90)["by_rule"]["log"]
    assert old["status"] == "blocked"
    assert "no backup set of the last 30 days" in old["findings"][0]["text"]
    with stored.ledger() as conn:
        conn.execute(
            "update lakehouse.backup_sets set completed_at = now() + interval '89 days', "
            "started_at = now() + interval '89 days'"
        )
    keeper.plan(rules, days=90)
    assert keeper.apply(rules)["log"].deleted == 1
    assert names(stored, "wal/7/whole") == {"1", "00000002.history"}
