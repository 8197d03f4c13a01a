"""Plan, guard, approve, apply, report, over a real ledger and a real object store."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from include import ledger, upkeep
from include.retention import clock, document, holds, report
from include.retention.clock import Reading
from include.retention.model import RetentionError
from include.retention.services import Services

BUCKET = "lakehouse"


def rule(prefix: str, **changes: Any) -> str:
    values = {"grace_hours": 0, "approve_fraction": 1.0, "approve_count": 100, **changes}
    options = f"{{bucket: {BUCKET}, prefix: {prefix}, days: 30}}"
    return f"  old:\n    target: prefix\n    with: {options}\n" + "".join(
        f"    {name}: {value}\n" for name, value in values.items()
    )


def put(s3: Any, prefix: str, names: list[str]) -> None:
    for name in names:
        s3.put_object(Bucket=BUCKET, Key=f"{prefix}{name}", Body=name.encode())


def keys(s3: Any, prefix: str) -> list[str]:
    found = s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", ())
    return [item["Key"].removeprefix(prefix) for item in found]


def test_a_plan_is_shown_before_anything_goes_and_applied_once(
    services: Services, keeper: Any, declare: Any, prefix: str
) -> None:
    put(services.s3, prefix, ["a", "b", "c"])
    rules = declare(rule(prefix))
    young = keeper.plan(rules)
    assert young["by_rule"]["old"]["status"] == "nothing"
    assert young["by_rule"]["old"]["kept"] == {"younger than 30 days": 3}

    planned = keeper.plan(rules, days=31)
    section = planned["by_rule"]["old"]
    assert (section["status"], section["planned_count"], section["planned_bytes"]) == ("ready", 3, 3)
    assert keys(services.s3, prefix) == ["a", "b", "c"]
    listed = document.items(services, section["document_key"], section["digest"])
    assert [item.id.removeprefix(prefix) for item in listed] == ["a", "b", "c"]
    assert f"`{prefix}a`" in report.markdown(planned)

    freed = keeper.apply(rules)
    assert (freed["old"].deleted, freed["old"].bytes) == (3, 3)
    assert keys(services.s3, prefix) == []
    assert keeper.apply(rules) == {}
    done = keeper.read(planned["plan_id"])["by_rule"]["old"]
    assert (done["status"], done["deleted"], done["position"]) == ("done", 3, 3)


def test_what_was_replaced_or_held_since_the_plan_stays(
    services: Services, keeper: Any, declare: Any, prefix: str
) -> None:
    put(services.s3, prefix, ["changed", "gone", "held", "old"])
    rules = declare(rule(prefix))
    keeper.plan(rules, days=31)
    services.s3.put_object(Bucket=BUCKET, Key=f"{prefix}changed", Body=b"new")
    services.s3.delete_object(Bucket=BUCKET, Key=f"{prefix}gone")
    with services.ledger() as conn:
        holds.place(conn, "case-1", f"old/{prefix}held*", "a court asked for it", "legal")
    outcome = keeper.apply(rules)["old"]
    assert (outcome.deleted, outcome.gone, outcome.spared) == (1, 1, 2)
    assert keys(services.s3, prefix) == ["changed", "held"]


def test_a_hold_keeps_items_out_of_plans_until_it_is_lifted(
    services: Services, keeper: Any, declare: Any, prefix: str
) -> None:
    put(services.s3, prefix, ["a", "b"])
    rules = declare(rule(prefix))
    with services.ledger() as conn:
        holds.place(conn, "case-2", f"old/{prefix}a", "audit", "legal")
        with pytest.raises(RetentionError, match="exists already"):
            holds.place(conn, "case-2", "*", "again", "legal")
    first = keeper.plan(rules, days=31)
    assert first["by_rule"]["old"]["kept"] == {"under legal hold": 1}
    keeper.apply(rules)
    assert keys(services.s3, prefix) == ["a"]
    with services.ledger() as conn:
        holds.lift(conn, "case-2", "legal")
        with pytest.raises(RetentionError, match="no hold named"):
            holds.lift(conn, "case-2", "legal")
    assert keeper.plan(rules, days=31)["by_rule"]["old"]["planned_count"] == 1


@pytest.mark.parametrize(
    ("limits", "says"),
    [({"approve_count": 2}, "3 would go, more than 2"), ({"approve_fraction": 0.5}, "100% of 3 would go")],
)
def test_too_many_or_too_large_a_part_asks_and_goes_only_when_approved(
    services: Services, keeper: Any, declare: Any, prefix: str, limits: dict[str, Any], says: str
) -> None:
    put(services.s3, prefix, ["a", "b", "c"])
    rules = declare(rule(prefix, **limits))
    planned = keeper.plan(rules, days=31)
    assert planned["by_rule"]["old"]["status"] == "asks"
    assert says in planned["by_rule"]["old"]["findings"][0]["text"]
    assert keeper.apply(rules) == {}
    assert keeper.decide(planned["plan_id"], approve=False) == ["old"]
    assert keeper.apply(rules) == {}
    assert len(keys(services.s3, prefix)) == 3

    again = keeper.plan(rules, days=31)
    assert keeper.decide(again["plan_id"], approve=True) == ["old"]
    assert keeper.apply(rules)["old"].deleted == 3
    assert keeper.read(again["plan_id"])["by_rule"]["old"]["decided_by"] == "somebody"


def test_deleting_waits_for_the_grace_and_no_second_plan_is_made_meanwhile(
    services: Services, keeper: Any, declare: Any, prefix: str
) -> None:
    put(services.s3, prefix, ["a"])
    rules = declare(rule(prefix, grace_hours=20))
    first = keeper.plan(rules, days=31)
    assert keeper.apply(rules) == {}
    second = keeper.plan(rules, days=31)["by_rule"]["old"]
    assert second["status"] == "skipped"
    assert f"plan {first['plan_id']} is still to be applied" in second["findings"][0]["text"]
    with services.ledger() as conn:
        conn.execute("update lakehouse.retention_sections set due_at = due_at - interval '20 hours'")
    assert keeper.apply(rules)["old"].deleted == 1


def test_an_old_plan_is_never_applied(services: Services, keeper: Any, declare: Any, prefix: str) -> None:
    put(services.s3, prefix, ["a"])
    rules = declare(rule(prefix, approve_count=0))
    planned = keeper.plan(rules, days=31)
    with services.ledger() as conn:
        conn.execute("update lakehouse.retention_plans set created_at = created_at - interval '4 days'")
        conn.execute("update lakehouse.retention_sections set due_at = due_at - interval '4 days'")
    keeper.plan(rules, days=31)
    assert keeper.read(planned["plan_id"])["by_rule"]["old"]["status"] == "outdated"
    assert keeper.decide(planned["plan_id"], approve=True) == []


def test_a_document_that_was_changed_is_refused(services: Services, keeper: Any, declare: Any, prefix: str) -> None:
    put(services.s3, prefix, ["a"])
    rules = declare(rule(prefix))
    section = keeper.plan(rules, days=31)["by_rule"]["old"]
    whole = services.s3.get_object(Bucket=BUCKET, Key=section["document_key"])["Body"].read()
    services.s3.put_object(Bucket=BUCKET, Key=section["document_key"], Body=whole[:-9])
    with pytest.raises(RetentionError, match=r"damaged|not what was planned"):
        keeper.apply(rules)
    assert keys(services.s3, prefix) == ["a"]


def test_a_clock_that_jumped_asks_and_deletes_nothing_by_itself(
    services: Services, keeper: Any, declare: Any, prefix: str
) -> None:
    put(services.s3, prefix, ["a", "b"])
    rules = declare(rule(prefix), clock_jump_hours=72)
    keeper.plan(rules)
    jumped = keeper.plan(rules, days=31)["by_rule"]["old"]
    assert jumped["status"] == "asks"
    assert "31 days passed" in jumped["findings"][0]["text"]
    assert keeper.apply(rules) == {}
    assert keys(services.s3, prefix) == ["a", "b"]


@pytest.mark.parametrize("whose", ["own", "store"])
def test_a_clock_that_differs_from_the_ledgers_blocks(
    services: Services, keeper: Any, declare: Any, prefix: str, whose: str
) -> None:
    put(services.s3, prefix, ["a"])
    rules = declare(rule(prefix))

    def wrong(use: Services) -> Reading:
        now, ahead = clock.read(use), dt.timedelta(days=31)
        assert now.store is not None
        own, store = (now.own + ahead, now.store) if whose == "own" else (now.own, now.store + ahead)
        return Reading(own, now.ledger, store)

    planned = keeper.plan(rules, read_clock=wrong)
    assert planned["findings"][0]["level"] == "blocks"
    assert "they may differ by" in planned["findings"][0]["text"]
    with pytest.raises(RetentionError, match="the clock of"):
        keeper.apply(rules, read_clock=wrong)


def test_a_clock_that_went_back_blocks(services: Services, keeper: Any, declare: Any, prefix: str) -> None:
    rules = declare(rule(prefix))
    keeper.plan(rules, days=2)
    assert "went back" in keeper.plan(rules, days=0)["findings"][0]["text"]


def test_retention_waits_its_turn(services: Services, keeper: Any, declare: Any, prefix: str) -> None:
    rules = declare(rule(prefix))
    with upkeep.turn(services.ledger, "backup/run-1"):
        with pytest.raises(ledger.LeaseHeldError, match="held by backup/run-1"):
            keeper.plan(rules)
        with pytest.raises(ledger.LeaseHeldError, match="held by backup/run-1"):
            keeper.apply(rules)
    assert keeper.plan(rules)["by_rule"]["old"]["status"] == "nothing"


def test_a_lost_lease_stops_before_the_next_deletion(services: Services) -> None:
    with upkeep.turn(services.ledger, "retention/run-1", seconds=1) as turn:
        with services.ledger() as conn:
            conn.execute("update lakehouse.leases set holder = 'restore', expires_at = clock_timestamp() + '1 hour'")
        turn._ended.wait(0)
        while turn._thread.is_alive():
            turn._thread.join(0.1)
        with pytest.raises(upkeep.LeaseLostError, match="held by restore"):
            turn.check()
