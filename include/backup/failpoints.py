"""Named points at which a test lets the process die: `LAKEHOUSE_FAILPOINTS="backup.before_manifest=kill"`."""

from __future__ import annotations

import os
import signal

POINTS = (
    "backup.after_begin",
    "backup.between_segments",
    "backup.before_part",
    "backup.after_part",
    "backup.before_manifest",
    "backup.after_manifest",
    "wal.after_put",
    "drill.after_fetch",
    "drill.after_recovery",
    "drill.before_report",
    "restore.after_plan",
    "restore.after_fetch",
    "restore.before_swap",
    "restore.after_swap",
)


def reach(point: str) -> None:
    """Does nothing unless the point is named in the environment."""
    for rule in filter(None, os.environ.get("LAKEHOUSE_FAILPOINTS", "").split(";")):
        name, _, action = rule.partition("=")
        if name != point:
            continue
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError(f"failpoint {point}")
