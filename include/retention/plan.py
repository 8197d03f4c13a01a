"""Makes a plan: asks every rule's target what may go, lets the guards judge, stores what a person can read."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from include import upkeep
from include.ledger import Connection
from include.retention import clock, document, holds
from include.retention.model import BlockedError, Finding, Survey
from include.retention.rules import Limits, Rule, Rules
from include.retention.services import Services

NOTHING, SKIPPED, BLOCKED, ASKS, READY = "nothing", "skipped", "blocked", "asks", "ready"


@dataclass(frozen=True)
class Planned:
    """One rule's part of a plan, before it is stored."""

    status: str
    findings: list[Finding]
    survey: Survey
    written: document.Writer | None = None


def make(
    services: Services,
    rules: Rules,
    who: str,
    turn: upkeep.Turn,
    *,
    only: Sequence[str] = (),
    read_clock: clock.Clock = clock.read,
) -> int:
    """Stores a plan and gives its number; deletes nothing. `only`: names of rules, all when empty.

    A rule whose last plan is still to be applied gets no new one. The caller holds the lease.
    """
    reading = read_clock(services)
    with services.ledger() as conn:
        general = clock.findings(conn, reading, rules.limits)
        plan = _new(conn, who, rules, general)
        _outdate(conn, rules.limits)
        if not general:
            clock.remember(conn, reading)
    for rule in rules.rules:
        if not only or rule.name in only:
            turn.check()
            with document.Writer() as writer:
                planned = _plan_rule(services, rule, reading.ledger, general, writer)
                _store(services, plan, rule, planned)
    return plan


def _new(conn: Connection, who: str, rules: Rules, findings: Sequence[Finding]) -> int:
    row = conn.execute(
        "insert into lakehouse.retention_plans (created_by, rules_digest, findings) values (%s, %s, %s) "
        "returning plan_id",
        [who, rules.digest, json.dumps([asdict(finding) for finding in findings])],
    ).fetchone()
    assert row is not None
    return int(row["plan_id"])


def _outdate(conn: Connection, limits: Limits) -> None:
    """What was planned long ago says nothing of today; a section that was begun is finished first."""
    conn.execute(
        "update lakehouse.retention_sections as s set status = 'outdated', ended_at = clock_timestamp() "
        "from lakehouse.retention_plans as p where p.plan_id = s.plan_id and s.status in ('asks', 'ready') "
        "and s.position = 0 and greatest(s.due_at, p.created_at) < clock_timestamp() - make_interval(secs => %s)",
        [limits.plan_age.total_seconds()],
    )


def _plan_rule(
    services: Services, rule: Rule, now: dt.datetime, general: Sequence[Finding], writer: document.Writer
) -> Planned:
    survey = Survey()
    missing = services.missing(rule.target.needs)
    if missing:
        text = f"there is no connection for {', '.join(missing)}"
        return Planned(SKIPPED, [Finding("notes", "services", text)], survey)
    with services.ledger() as conn:
        open_plan = conn.execute(
            "select plan_id from lakehouse.retention_sections where rule = %s and status in ('asks', 'ready')",
            [rule.name],
        ).fetchone()
        held = holds.current(conn)
    if open_plan:
        text = f"plan {open_plan['plan_id']} is still to be applied or decided"
        return Planned(SKIPPED, [Finding("notes", "open plan", text)], survey)
    try:
        for item in rule.target.find(services, now, survey):
            if held.hold(rule.name, item.id):
                survey.keep("under legal hold", item.count)
            else:
                writer.add(item)
    except BlockedError as error:
        return Planned(BLOCKED, [Finding("blocks", rule.target.kind, str(error))], survey)
    except Exception as error:  # a service that is down must not keep the other rules from being planned
        text = f"could not look: {type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}"
        return Planned(BLOCKED, [Finding("blocks", rule.target.kind, text)], survey)
    found = [*general, *_limits(rule, survey, writer)]
    return Planned(_status(writer, found), found, survey, writer)


def _limits(rule: Rule, survey: Survey, writer: document.Writer) -> list[Finding]:
    """More than a set count, or a set part of what there is, goes only if a person says so."""
    found = []
    if writer.count > rule.approve_count:
        text = f"{writer.count} would go, more than {rule.approve_count}"
        found.append(Finding("asks", "count", text))
    if writer.count > rule.small and writer.count > rule.approve_fraction * survey.count:
        part = writer.count / survey.count if survey.count else 1.0
        text = f"{part:.0%} of {survey.count} would go, more than {rule.approve_fraction:.0%}"
        found.append(Finding("asks", "fraction", text))
    return found


def _status(writer: document.Writer, findings: Sequence[Finding]) -> str:
    if not writer.items:
        return NOTHING
    levels = {finding.level for finding in findings}
    return BLOCKED if "blocks" in levels else ASKS if "asks" in levels else READY


def _store(services: Services, plan: int, rule: Rule, planned: Planned) -> None:
    written = planned.written
    key = digest = None
    if written is not None and planned.status in (ASKS, READY, BLOCKED):
        key, digest = written.store(services, plan, rule.name)
    values = {
        "plan": plan,
        "rule": rule.name,
        "kind": rule.target.kind,
        "status": planned.status,
        "findings": json.dumps([asdict(finding) for finding in planned.findings]),
        "kept": json.dumps(planned.survey.kept),
        "total_count": planned.survey.count,
        "total_bytes": planned.survey.bytes,
        "items": written.items if written else 0,
        "count": written.count if written else 0,
        "bytes": written.bytes if written else 0,
        "sample": json.dumps(written.sample if written else []),
        "key": key,
        "digest": digest,
        "grace": rule.grace.total_seconds(),
    }
    with services.ledger() as conn:
        conn.execute(
            """
            insert into lakehouse.retention_sections (
                plan_id, rule, kind, status, findings, kept, total_count, total_bytes,
                planned_items, planned_count, planned_bytes, sample, document_key, digest, due_at
            ) values (
                %(plan)s, %(rule)s, %(kind)s, %(status)s, %(findings)s, %(kept)s, %(total_count)s, %(total_bytes)s,
                %(items)s, %(count)s, %(bytes)s, %(sample)s, %(key)s, %(digest)s,
                clock_timestamp() + make_interval(secs => %(grace)s)
            )
            """,
            values,
        )


def decide(conn: Connection, plan: int, who: str, *, approve: bool, only: Sequence[str] = ()) -> list[str]:
    """A person's answer for the rules of a plan that ask; gives their names. Their grace begins anew.

    An approved jump of the clock is from then on the time that is compared with.
    """
    rows = conn.execute(
        "update lakehouse.retention_sections set status = %s, decided_by = %s, decided_at = clock_timestamp(), "
        # Graces are whole hours; the rest is what making the plan took.
        "due_at = clock_timestamp() + date_trunc('hour', due_at - "
        "(select created_at from lakehouse.retention_plans as p "
        "where p.plan_id = retention_sections.plan_id)), "
        "ended_at = case when %s then null else clock_timestamp() end "
        "where plan_id = %s and status = 'asks' and (%s or rule = any(%s)) returning rule, findings",
        [READY if approve else "rejected", who, approve, plan, not only, list(only)],
    ).fetchall()
    if approve and any(finding["guard"] == "clock" for row in rows for finding in row["findings"]):
        conn.execute(
            "insert into lakehouse.retention_clock as c (seen_at) values (clock_timestamp()) "
            "on conflict (only_row) do update set seen_at = excluded.seen_at"
        )
    return sorted(row["rule"] for row in rows)
