"""Has a dashboard drawn by a headless browser, in a process of its own.

Playwright drives it. That library is in a venv of its own (`make browser`), the browser is the machine's Chromium:
workers without either draw nothing, and say what is missing.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from include.paths import PROJECT
from include.settings import SETTINGS, Settings

MODULE = "include.reports.draw"
SECONDS = 600


class DrawingError(Exception):
    """A dashboard could not be drawn, or a chart on it shows an error; the message says which, and why."""


@dataclass(frozen=True)
class Page:
    """A dashboard as somebody sees it. `url`: of Superset. `width`: in pixels."""

    url: str
    user: str
    dashboard: str
    width: int
    password: str = field(repr=False)


def absent(settings: Settings = SETTINGS) -> str:
    """Why nothing can be drawn here; "" when it can."""
    if not settings.chromium:
        return "there is no Chromium: install it, or set LAKEHOUSE_CHROMIUM to its program"
    if not settings.browser_python:
        return "there is no Playwright: run `make browser`, or set LAKEHOUSE_BROWSER_PYTHON to a Python that has it"
    return ""


def draw(page: Page, formats: tuple[str, ...], folder: Path, settings: Settings = SETTINGS) -> list[Path]:
    """Writes a file a format into `folder`. Raises DrawingError; then nothing in the folder is of any use."""
    job: Mapping[str, Any] = {**vars(page), "formats": formats, "folder": str(folder), "chromium": settings.chromium}
    with tempfile.TemporaryDirectory(prefix="lakehouse-browser-") as home:
        try:
            done = subprocess.run(
                [settings.browser_python, "-m", MODULE],
                input=json.dumps(job),  # not as arguments, which everybody on the machine can read
                cwd=PROJECT,
                env={"PATH": os.environ.get("PATH", ""), "HOME": home, "TMPDIR": home, "DO_NOT_TRACK": "1"},
                capture_output=True,
                text=True,
                check=False,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise DrawingError(f"dashboard {page.dashboard} was not drawn within {SECONDS} s") from None
    if done.returncode:
        raise DrawingError(f"dashboard {page.dashboard} could not be drawn:\n{done.stderr[-2000:]}")
    faults = json.loads(done.stdout)
    if faults:
        raise DrawingError(f"dashboard {page.dashboard} shows errors:\n" + "\n".join(faults))
    return [folder / f"{page.dashboard}.{suffix}" for suffix in formats]
