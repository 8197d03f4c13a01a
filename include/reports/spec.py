"""include/platform/superset/reports.yaml as checked values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from include.paths import PLATFORM
from include.specs.policy import Member, Policy
from include.specs.reader import Node, read

FILE = PLATFORM / "superset" / "reports.yaml"
FORMATS = ("pdf", "png")
NARROWEST, WIDEST = 800, 4000


@dataclass(frozen=True)
class Report:
    """A dashboard to be drawn. `dashboard`: its slug. `member`: who looks at it. `width`: in pixels."""

    name: str
    dashboard: str
    member: Member
    width: int
    formats: tuple[str, ...]


def load(policy: Policy, file: Path = FILE) -> tuple[Report, ...]:
    """Raises SpecError naming the file, the field and the fix."""
    root = read(file)
    members = {member.name: member for member in policy.members}
    found = tuple(_report(name, node, members) for name, node in root.children("reports").items())
    root.done()
    return found


def _report(name: str, node: Node, members: Mapping[str, Member]) -> Report:
    report = Report(
        name=name,
        dashboard=node.name("dashboard"),
        member=members[node.one_of("member", list(members))],
        width=node.get("width", int),
        formats=node.names("formats"),
    )
    node.done()
    if not NARROWEST <= report.width <= WIDEST:
        raise node.fail("width", f"must be {NARROWEST} to {WIDEST} pixels, found {report.width}")
    if not report.formats or not set(report.formats) <= set(FORMATS):
        raise node.fail("formats", f"must list one or more of {', '.join(FORMATS)}, found {list(report.formats)}")
    return report
