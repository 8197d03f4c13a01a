"""Settings of the bundle, read once from `LAKEHOUSE_*` variables with typed defaults."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from include.paths import PROJECT


@dataclass(frozen=True)
class Settings:
    """`dbt_executable`: the dbt of the dbt venv. `lease_seconds`: how long a lease lasts without renewal.

    `speed_schedule`: a cron expression, or `continuous`. `browser_python`: a Python that has Playwright; `chromium`:
    the browser that it drives. Both are "" where there is none.
    """

    dbt_executable: str
    lease_seconds: int
    deadline_minutes: int | None
    speed_schedule: str = "* * * * *"
    browser_python: str = ""
    chromium: str = ""


def _dbt_executable() -> str:
    beside = PROJECT / ".venvs" / "dbt" / "bin" / "dbt"
    return str(beside) if beside.exists() else (shutil.which("dbt") or "dbt")


def _program(variable: str, *otherwise: str) -> str:
    """The file that a variable names, or the first of others that is there."""
    given = os.environ.get(variable) or ""
    return next((found for name in (given, *otherwise) if name and (found := shutil.which(name))), "")


def load() -> Settings:
    # `astro dev parse` replaces unset variables with "MOCKED_..." strings, hence the digit check.
    seconds = os.environ.get("LAKEHOUSE_LEASE_SECONDS") or ""
    deadline = os.environ.get("LAKEHOUSE_DEADLINE_MINUTES") or ""
    executable = os.environ.get("LAKEHOUSE_DBT_EXECUTABLE") or ""
    schedule = os.environ.get("LAKEHOUSE_SPEED_SCHEDULE") or ""
    return Settings(
        dbt_executable=executable if Path(executable).is_file() else _dbt_executable(),
        lease_seconds=int(seconds) if seconds.isdigit() else 7200,
        deadline_minutes=int(deadline) if deadline.isdigit() else None,
        speed_schedule=schedule if schedule == "continuous" or len(schedule.split()) == 5 else "* * * * *",
        browser_python=_program("LAKEHOUSE_BROWSER_PYTHON", str(PROJECT / ".venvs" / "browser" / "bin" / "python")),
        chromium=_program("LAKEHOUSE_CHROMIUM", "chromium", "chromium-browser", "google-chrome"),
    )


SETTINGS = load()
