"""`include/retention.yaml`, checked: which rule, on which target, with which limits."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass
from pathlib import Path

from include.paths import INCLUDE
from include.retention.model import Target
from include.retention.targets import KINDS
from include.specs.reader import Node, read

FILE = INCLUDE / "retention.yaml"


@dataclass(frozen=True)
class Limits:
    """skew: how far this machine's clock may be from the servers'. jump: how far the servers' clock may have moved
    since the last plan. plan_age: an older plan is never applied.
    """

    skew: dt.timedelta
    jump: dt.timedelta
    plan_age: dt.timedelta


@dataclass(frozen=True)
class Rule:
    """grace: between marking and deleting. A person is asked above `approve_count` rows or objects, and above
    `approve_fraction` of what there is, unless it is `small` at most.
    """

    name: str
    target: Target
    grace: dt.timedelta
    approve_fraction: float
    approve_count: int
    small: int


@dataclass(frozen=True)
class Rules:
    limits: Limits
    rules: tuple[Rule, ...]
    digest: str


def _positive(node: Node, key: str, default: int | None = None) -> int:
    value: int = node.get(key, int) if default is None else node.get(key, int, default)
    if value < 0:
        raise node.fail(key, f"must be 0 or more, found {value}")
    return value


def _limits(node: Node) -> Limits:
    limits = Limits(
        skew=dt.timedelta(seconds=_positive(node, "clock_skew_seconds")),
        jump=dt.timedelta(hours=_positive(node, "clock_jump_hours")),
        plan_age=dt.timedelta(hours=_positive(node, "plan_age_hours")),
    )
    node.done()
    return limits


def _rule(name: str, node: Node) -> Rule:
    kind = node.one_of("target", tuple(KINDS))
    options = node.child("with")
    fraction = node.get("approve_fraction", float)
    if not 0 <= fraction <= 1:
        raise node.fail("approve_fraction", f"must be between 0.0 and 1.0, found {fraction}")
    rule = Rule(
        name=name,
        target=KINDS[kind].read(options),
        grace=dt.timedelta(hours=_positive(node, "grace_hours")),
        approve_fraction=fraction,
        approve_count=_positive(node, "approve_count"),
        small=_positive(node, "small", 0),
    )
    options.done()
    node.done()
    return rule


def load(file: Path = FILE) -> Rules:
    """Raises SpecError naming file, field and fix."""
    node = read(file)
    rules = tuple(_rule(name, child) for name, child in node.children("rules").items())
    limits = _limits(node.child("limits"))
    node.done()
    return Rules(limits, rules, hashlib.sha256(file.read_bytes()).hexdigest())
