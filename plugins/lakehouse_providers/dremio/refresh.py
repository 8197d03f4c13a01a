"""When is a reflection refreshed? Pure rules, no I/O.

Dremio's `combinedStatus` cannot tell: it stays CAN_ACCELERATE on last week's data while a refresh runs, fails or is
given up. What tells is a materialization that did not exist before we asked, is DONE, was fetched from the tables at
or after a moment on the server's own clock, and has reached the cache that the planner reads.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from lakehouse_providers.dremio.models import Materialization, Reflection

DONE = "DONE"
LOST = frozenset({"FAILED", "CANCELED"})


@dataclass(frozen=True)
class Target:
    """What was known of a reflection before the refresh was asked for."""

    id: str
    name: str
    dataset: str
    failures: int
    known: tuple[str, ...]  # its materializations
    running: tuple[str, ...]  # those of them that were still being made

    @property
    def label(self) -> str:
        return f"{self.name} on {self.dataset}"


@dataclass(frozen=True)
class Baseline:
    """`at` is the server's clock. `tables`: ids of the base tables whose refresh is asked for, one request each."""

    at: dt.datetime
    targets: tuple[Target, ...]
    tables: tuple[str, ...]

    def dump(self) -> dict[str, Any]:
        """As JSON, for the state store and the trigger."""
        return {
            "at": self.at.isoformat(),
            "targets": [{**asdict(t), "known": list(t.known), "running": list(t.running)} for t in self.targets],
            "tables": list(self.tables),
        }

    @staticmethod
    def load(data: Mapping[str, Any]) -> Baseline:
        return Baseline(
            at=dt.datetime.fromisoformat(data["at"]),
            targets=tuple(
                Target(**{**t, "known": tuple(t["known"]), "running": tuple(t["running"])}) for t in data["targets"]
            ),
            tables=tuple(data["tables"]),
        )


def target(reflection: Reflection, dataset: str, materializations: Iterable[Materialization]) -> Target:
    own = [m for m in materializations if m.reflection_id == reflection.id]
    return Target(
        id=reflection.id,
        name=reflection.name,
        dataset=dataset,
        failures=reflection.failure_count,
        known=tuple(m.id for m in own),
        running=tuple(m.id for m in own if m.state == "RUNNING"),
    )


@dataclass(frozen=True)
class Verdict:
    """`fresh`: the materialization that holds this run's data. `job_id`: the refresh job, where one is known."""

    state: Literal["waiting", "fresh", "failed"]
    reason: str = ""
    job_id: str = ""
    fresh: Materialization | None = field(default=None, repr=False)


def judge(
    wanted: Target,
    at: dt.datetime,
    now: Reflection | None,
    materializations: Sequence[Materialization],
    *,
    wait_for_retries: bool = False,
) -> Verdict:
    """How the refresh of one reflection stands. `wait_for_retries`: let Dremio's own back-off repeat a failure."""
    if now is None:
        return Verdict("failed", "it was deleted while we waited for its refresh")
    if not now.enabled:
        return Verdict("failed", "it was disabled while we waited for its refresh")
    if now.config == "INVALID":
        return Verdict("failed", f"its definition no longer fits the dataset. {_short(now.last_failure)}".strip())
    own = [m for m in materializations if m.reflection_id == wanted.id]
    new = sorted((m for m in own if m.id not in wanted.known), key=_age)
    fresh = [m for m in new if m.state == DONE and m.data_fetched is not None and m.data_fetched >= at]
    if fresh and now.availability == "AVAILABLE":
        return Verdict("fresh", job_id=fresh[-1].job_id, fresh=fresh[-1])
    if fresh and now.availability == "EXPIRED":
        why = "its data expired before it could be used; the dataset's grace period is shorter than the refresh"
        return Verdict("failed", why, fresh[-1].job_id)
    if fresh:
        return Verdict("waiting", "refreshed, not yet known to the planner", fresh[-1].job_id)
    lost = [m for m in new if m.state in LOST]
    job_id = lost[-1].job_id if lost else next((m.job_id for m in reversed(new) if m.job_id), "")
    why = _short((lost[-1].failure if lost else "") or now.last_failure) or "Dremio gives no reason"
    if now.refresh == "GIVEN_UP":
        return Verdict("failed", f"Dremio has given it up after {now.failure_count} failures: {why}", job_id)
    # A refresh that already ran when we asked may fail too; Dremio then starts ours, so that one is forgiven.
    forgiven = sum(1 for m in own if m.id in wanted.running and m.state in LOST)
    if (lost or now.failure_count > wanted.failures + forgiven) and not wait_for_retries:
        how = "was cancelled" if lost and lost[-1].state == "CANCELED" else "failed"
        return Verdict("failed", f"its refresh {how}: {why}", job_id)
    return Verdict("waiting", f"refresh {now.refresh or 'unknown'}", job_id)


def _short(text: str, limit: int = 1500) -> str:
    """Some reasons carry a whole plan; an event must fit into Airflow's database."""
    return text if len(text) <= limit else f"{text[:limit]} …"


def _age(materialization: Materialization) -> dt.datetime:
    return materialization.created or dt.datetime.min.replace(tzinfo=dt.UTC)


def facts(wanted: Target, now: Reflection, fresh: Materialization, url: str) -> dict[str, Any]:
    """What the run reports of one refreshed reflection. Its rows are added at the end, for all at once."""
    method = {"": "UNKNOWN", "NONE": "NO_OP"}.get(now.method, now.method)
    return {
        "id": wanted.id,
        "reflection": wanted.name,
        "dataset": wanted.dataset,
        "type": now.type,
        "method": method,
        "duration_seconds": None if fresh.milliseconds is None else fresh.milliseconds / 1000,
        "rows": None,
        "bytes": fresh.bytes or now.bytes,
        "data_fetched_at": fresh.data_fetched.isoformat() if fresh.data_fetched else None,
        "job_id": fresh.job_id,
        "job_url": url,
    }
