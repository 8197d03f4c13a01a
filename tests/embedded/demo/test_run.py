"""The demo starts nothing twice, and refuses what would leave layers that do not add up."""

from __future__ import annotations

from typing import Any

import pytest

from embedded.demo import run, source
from embedded.postgres import PostgresServer


class Scheduler:
    """Airflow as far as choosing a run goes: a scheduled DAG gets its newest interval when it is switched on."""

    def __init__(self, *, paused: bool, scheduled: bool, active: list[str] | None = None) -> None:
        self.paused = paused
        self.scheduled = scheduled
        self.active = list(active or [])
        self.triggered = 0

    def json(self, method: str, path: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        if path.endswith("/dagRuns"):
            return {"dag_runs": [{"dag_run_id": run_id} for run_id in self.active]}
        return {"is_paused": self.paused, "timetable_summary": "0 2 * * *" if self.scheduled else None}

    def unpause(self, dag_id: str) -> None:
        if self.paused and self.scheduled:
            self.active.append("scheduled__newest")
        self.paused = False

    def trigger(self, dag_id: str) -> str:
        self.triggered += 1
        return "manual__now"


@pytest.mark.parametrize(
    ("scheduler", "chosen", "triggered"),
    [
        (Scheduler(paused=True, scheduled=True), "scheduled__newest", 0),
        (Scheduler(paused=True, scheduled=False), "manual__now", 1),
        (Scheduler(paused=False, scheduled=True), "manual__now", 1),
        (Scheduler(paused=False, scheduled=True, active=["manual__earlier"]), "manual__earlier", 0),
    ],
    ids=["switched on", "without schedule", "again", "while it runs"],
)
def test_one_run_is_followed(scheduler: Scheduler, chosen: str, triggered: int) -> None:
    assert run.choose_run(scheduler, "retail_batch") == chosen  # type: ignore[arg-type]
    assert scheduler.triggered == triggered


def test_another_scale_is_refused_and_says_what_to_do(
    source_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "loaded_scale", lambda conn: "tiny")
    with pytest.raises(run.DemoError, match=r"make demo SCALE=tiny[\s\S]*make reset"):
        run.load_source(source_postgres.dsn("retail"), "full")
