"""Deletes what was planned and is due, batch by batch; goes on where a killed run stopped.

A batch is deleted before its position is written down. Dying in between costs one repeated batch, in which every target
recognises what is gone, or is another by now, and lets it be.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

from include import failpoints, upkeep
from include.retention import clock, document, holds
from include.retention.model import BlockedError, Finding, Item, Outcome, RetentionError
from include.retention.rules import Rule, Rules
from include.retention.services import Services

BATCH = 1000

Section = Mapping[str, Any]


def due(services: Services, rules: Rules, only: Sequence[str] = ()) -> Sequence[Section]:
    """The sections that may be applied now, oldest plan first."""
    with services.ledger() as conn:
        return conn.execute(
            "select * from lakehouse.retention_sections where status = 'ready' and due_at <= clock_timestamp() "
            "and (%s or rule = any(%s)) order by plan_id, rule",
            [not only, list(only)],
        ).fetchall()


def run(
    services: Services,
    rules: Rules,
    turn: upkeep.Turn,
    *,
    only: Sequence[str] = (),
    read_clock: clock.Clock = clock.read,
) -> list[tuple[str, Outcome]]:
    """Applies what is due; gives what each rule has freed. The caller holds the lease.

    Raises RetentionError when a clock is wrong: then nothing is due; and, after all rules were tried, when one failed.
    """
    with services.ledger() as conn:
        wrong = [one for one in clock.findings(conn, read_clock(services), rules.limits) if one.level == "blocks"]
    if wrong:
        raise RetentionError("; ".join(one.text for one in wrong))
    declared = {rule.name: rule for rule in rules.rules}
    done: list[tuple[str, Outcome]] = []
    failed: list[str] = []
    for section in due(services, rules, only):
        rule = declared.get(section["rule"])
        if rule is None or rule.target.kind != section["kind"] or services.missing(rule.target.needs):
            _end(services, section, "outdated", "its rule or its service is gone since it was planned")
            continue
        try:
            done.append((rule.name, _section(services, rule, section, turn)))
        except BlockedError as error:
            _note(services, section, Finding("blocks", rule.target.kind, str(error)))
        except upkeep.LeaseLostError:
            raise
        except Exception as error:  # what one service refuses says nothing about the others
            failed.append(f"{rule.name}: {type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}")
    if failed:
        raise RetentionError("; ".join(failed))
    return done


def _section(services: Services, rule: Rule, section: Section, turn: upkeep.Turn) -> Outcome:
    total, position = Outcome(), int(section["position"])
    planned = document.items(services, section["document_key"], section["digest"])
    for batch in _batches(islice(planned, position, None)):
        turn.check()
        failpoints.reach("retention.before_batch")
        outcome = _batch(services, rule, batch)
        failpoints.reach("retention.after_delete")
        position += len(batch)
        _advance(services, section, position, len(batch), outcome)
        failpoints.reach("retention.after_position")
        total += outcome
    _end(services, section, "done")
    return total


def _batches(items: Iterator[Item]) -> Iterator[tuple[Item, ...]]:
    while batch := tuple(islice(items, BATCH)):
        yield batch


def _batch(services: Services, rule: Rule, batch: Sequence[Item]) -> Outcome:
    """A hold that was placed since the plan counts."""
    with services.ledger() as conn:
        held = holds.current(conn)
    free = [item for item in batch if not held.hold(rule.name, item.id)]
    spared = Outcome(spared=len(batch) - len(free))
    return spared + rule.target.delete(services, free) if free else spared


def _advance(services: Services, section: Section, position: int, size: int, outcome: Outcome) -> None:
    with services.ledger() as conn:
        moved = conn.execute(
            "update lakehouse.retention_sections set position = %s, deleted = deleted + %s, "
            "deleted_bytes = deleted_bytes + %s, gone = gone + %s, spared = spared + %s "
            "where plan_id = %s and rule = %s and position = %s and status = 'ready'",
            [
                position,
                outcome.deleted,
                outcome.bytes,
                outcome.gone,
                outcome.spared,
                section["plan_id"],
                section["rule"],
                position - size,
            ],
        )
    if moved.rowcount != 1:
        raise RetentionError(
            f"plan {section['plan_id']}, rule {section['rule']}: another run moved on; nothing is lost"
        )


def _end(services: Services, section: Section, status: str, note: str = "") -> None:
    if note:
        _note(services, section, Finding("notes", "apply", note))
    with services.ledger() as conn:
        conn.execute(
            "update lakehouse.retention_sections set status = %s, ended_at = clock_timestamp() "
            "where plan_id = %s and rule = %s",
            [status, section["plan_id"], section["rule"]],
        )


def _note(services: Services, section: Section, finding: Finding) -> None:
    """Adds a finding once."""
    with services.ledger() as conn:
        conn.execute(
            "update lakehouse.retention_sections set findings = findings || %(one)s::jsonb "
            "where plan_id = %(plan)s and rule = %(rule)s and not findings @> %(one)s::jsonb",
            {"one": json.dumps([asdict(finding)]), "plan": section["plan_id"], "rule": section["rule"]},
        )
