"""Waiting for something remote for hours: outages are waited out, standing refusals are not."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
REFUSALS = 3  # in a row; one may be a restart half done


@dataclass(frozen=True)
class Pace:
    """Seconds between the first looks and between later ones; the epoch at which the wait ends (None: never)."""

    interval: float = 2.0
    longest: float = 30.0
    deadline: float | None = None

    def left(self) -> float | None:
        return None if self.deadline is None else self.deadline - time.time()

    def pause(self, looks: int, trouble: int) -> float:
        """Grows with the number of looks, doubles with every look in a row that got no answer; jittered."""
        wait = min(self.interval * 1.5 ** min(looks, 50), max(self.longest, self.interval))
        if trouble:
            wait = min(wait * 2 ** min(trouble, 6), max(self.longest, 60.0))
        return wait * random.uniform(0.8, 1.2)


async def poll(
    check: Callable[[], Awaitable[T | None]],
    pace: Pace,
    *,
    transient: Callable[[Exception], bool],
    log: logging.Logger,
) -> T | None:
    """The first result of `check` that is not None; None when the pace's deadline passes.

    Transient errors only lengthen the pause; another error is raised when it comes three times in a row.
    """
    looks = refusals = trouble = 0
    while True:
        try:
            found = await check()
        except Exception as error:
            trouble += 1
            refusals = 0 if transient(error) else refusals + 1
            if refusals >= REFUSALS:
                raise
            log.warning("No answer (%s in a row), still waiting: %s", trouble, error)
        else:
            if found is not None:
                return found
            refusals = trouble = 0
        left = pace.left()
        if left is not None and left <= 0:
            return None
        pause = pace.pause(looks, trouble)
        await asyncio.sleep(pause if left is None else min(pause, left))
        looks += 1
