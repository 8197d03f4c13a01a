"""Tasks that plan and apply declared platform state, and tasks that only say where it has drifted; one a service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import get_current_context, task

from include.reconcile.plan import Change
from include.reconcile.steps import STEPS, Options, Step


class DriftError(Exception):
    """A service is not what is declared; the message names each object that differs, and how."""


def _show(changes: Sequence[Change]) -> list[str]:
    lines = [str(change) for change in changes]
    print("\n".join(lines) or "nothing to change")
    return lines


def _apply(step: Step) -> Any:
    @task(task_id=f"apply_{step.name}")
    def apply() -> list[str]:
        params = get_current_context()["params"]
        return _show(step.changes(Options(apply=not params["plan_only"], prune=bool(params["prune"]))))

    return apply()


def apply_all() -> list[Any]:
    """A task a service, in the order in which each finds what it needs."""
    return [_apply(step) for step in STEPS]


def _judge(service: str, changes: Sequence[Change]) -> list[str]:
    """Prints what is only awaited; raises DriftError for what differs."""
    lines = _show(changes)
    differing = [str(change) for change in changes if change.differs]
    if differing:
        raise DriftError(
            f"{service} is not as declared; to make it so: run apply_platform, or correct the declaration.\n"
            + "\n".join(differing)
        )
    return lines


def _drift(step: Step) -> Any:
    @task(task_id=step.name)
    def drift() -> list[str]:
        """Also names what was made from declarations that are gone."""
        return _judge(step.title, step.changes(Options(apply=False, prune=True)))

    return drift()


def drift_all() -> list[Any]:
    """A task a service, side by side: one that has drifted hides no other."""
    return [_drift(step) for step in STEPS]
