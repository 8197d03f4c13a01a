"""Timetables that a setting chooses."""

from __future__ import annotations

import datetime as dt
from typing import Any

from airflow.sdk import CronTriggerTimetable

from include.settings import SETTINGS
from include.specs.pipeline import Pipeline

CONTINUOUS = "continuous"


def speed() -> Any:
    """Of the speed lane: a micro-batch takes what there is, so its runs have no interval and skip nothing."""
    if SETTINGS.speed_schedule == CONTINUOUS:
        return "@continuous"
    return CronTriggerTimetable(SETTINGS.speed_schedule, timezone="UTC")


def speed_deadline(pipeline: Pipeline) -> dt.timedelta:
    """When somebody is told that a run, or what readers see, is late: what was promised, and a minute for Airflow."""
    assert pipeline.speed is not None
    return pipeline.speed.freshness + dt.timedelta(minutes=1)
