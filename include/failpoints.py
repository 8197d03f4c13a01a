"""Where a test ends a process of upkeep without warning: LAKEHOUSE_UPKEEP_KILL_AT=<name>[:<nth time>]."""

from __future__ import annotations

import os
import signal
from collections import Counter

_seen: Counter[str] = Counter()


def reach(name: str) -> None:
    wanted, _, nth = os.environ.get("LAKEHOUSE_UPKEEP_KILL_AT", "").partition(":")
    if wanted != name:
        return
    _seen[name] += 1
    if _seen[name] == int(nth or 1):
        os.kill(os.getpid(), signal.SIGKILL)
