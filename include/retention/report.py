"""A plan as a person reads it: what goes, what stays and why, what guards say, what was freed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from include.ledger import Connection
from include.retention.model import RetentionError


def last(conn: Connection) -> int:
    """The newest plan. Raises RetentionError when there is none."""
    row = conn.execute("select max(plan_id) as plan from lakehouse.retention_plans").fetchone()
    if row is None or row["plan"] is None:
        raise RetentionError("there is no plan yet: make one with `plan`")
    return int(row["plan"])


def read(conn: Connection, plan: int) -> dict[str, Any]:
    """The stored plan with its sections, as JSON can hold it. Raises RetentionError when there is no such plan."""
    head = conn.execute("select * from lakehouse.retention_plans where plan_id = %s", [plan]).fetchone()
    if head is None:
        raise RetentionError(f"there is no plan {plan}")
    sections = conn.execute(
        "select * from lakehouse.retention_sections where plan_id = %s order by rule", [plan]
    ).fetchall()
    return {**head, "sections": sections}


def asks(plan: Mapping[str, Any]) -> bool:
    return any(section["status"] == "asks" for section in plan["sections"])


def blocked(plan: Mapping[str, Any]) -> list[str]:
    return [section["rule"] for section in plan["sections"] if section["status"] == "blocked"]


def size(number: int) -> str:
    amount = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def markdown(plan: Mapping[str, Any]) -> str:
    """For a terminal, Airflow's approval page and the runbook's reader alike."""
    lines = [
        f"# Retention plan {plan['plan_id']}, {plan['created_at']:%Y-%m-%d %H:%M} UTC, by {plan['created_by']}",
        "",
    ]
    lines += [f"- **{finding['level']}**: {finding['text']}" for finding in plan["findings"]]
    lines += ["", "| rule | status | goes | size | of | freed | due |", "|---|---|---|---|---|---|---|"]
    for one in plan["sections"]:
        freed = f"{one['deleted']} ({size(one['deleted_bytes'])})" if one["deleted"] else ""
        due = f"{one['due_at']:%m-%d %H:%M}" if one["status"] in ("ready", "asks") else ""
        lines.append(
            f"| {one['rule']} | {one['status']} | {one['planned_count']} | {size(one['planned_bytes'])} "
            f"| {one['total_count']} | {freed} | {due} |"
        )
    for one in plan["sections"]:
        lines += _details(one)
    return "\n".join(lines) + "\n"


def _details(section: Mapping[str, Any]) -> list[str]:
    lines = [f"- {finding['level']}: {finding['text']}" for finding in section["findings"]]
    lines += [f"- stays: {count}, {reason}" for reason, count in section["kept"].items() if count]
    lines += [f"- goes: `{one['item']}` of {one['since'][:16]}" for one in section["sample"][:5]]
    if section["planned_items"] > 5:
        lines.append(f"- and {section['planned_items'] - 5} more, listed in `{section['document_key']}`")
    if section["gone"] or section["spared"]:
        lines.append(f"- {section['gone']} were gone already, {section['spared']} were protected by then")
    return ["", f"## {section['rule']}", "", *lines] if lines else []
