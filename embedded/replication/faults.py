"""Faults on demand, for tests of clients and of our own recovery. Off unless LAKEHOUSE_REPLICATION_FAULTS is set.

The setting is JSON; `{}` switches the machinery on with nothing to inject. Rules can then be replaced at run time
with PUT /api/lakehouse/v1/faults.

    {"http": [{"method": "POST", "path": "/jobs", "action": "delay", "seconds": 8, "times": 1}],
     "sync": [{"point": "after_upload", "action": "crash", "attempt": 1}]}

http actions: `delay` (then answer), `lost_reply` (act, then cut the connection), `status` (answer `status`, default
503, and do nothing), `hang` (never answer). `times` defaults to 1; -1 is for ever. `path` is the end of the path.
sync actions, in the worker process: `crash` (SIGKILL to itself), `crash_server` (SIGKILL to the server),
`hang` (for `seconds`, else till it is ended), `wait` (until the file `path` exists), `fail` (a transient error).
Points:
`after_snapshot` the source's snapshot is taken, or its connector runs; nothing is read;
`after_read` all parts are in the store, the outcome is not recorded: the next attempt undoes them and reads again;
`after_upload` the outcome is recorded, nothing is visible; `half_visible` the first object is visible;
`before_state` all objects are visible, the job is not recorded as succeeded: the next attempt finishes it;
`before_progress` a checkpoint's rows are durable in the destination, its state is not recorded;
`after_progress` what was read so far is kept for the job's next attempt.
Of a change data capture: `mid_snapshot` a stream's snapshot is complete and recorded; `mid_range` a range of it is;
`mid_append` rows are in a transaction that is still open; `before_commit` all rows and the applied LSN are.
`attempt` limits a rule to that attempt of a job; `job` to that job.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import dataclass
from typing import Any

from embedded.replication.failures import SyncError

POINTS = (
    *("after_snapshot", "after_read", "after_upload", "half_visible", "before_state"),
    *("before_progress", "after_progress", "mid_snapshot", "mid_range", "mid_append", "before_commit"),
)
ACTIONS = ("crash", "crash_server", "hang", "wait", "fail")


@dataclass
class HttpFault:
    """One rule; `times` counts down."""

    method: str
    path: str
    action: str
    seconds: float = 0.0
    status: int = 503
    times: int = 1


class Faults:
    """The rules of the running server. `sync` rules are handed to each worker in its environment."""

    def __init__(self, text: str | None) -> None:
        self.enabled = text is not None
        self._lock = threading.Lock()
        self._http: list[HttpFault] = []
        self.sync: list[dict[str, Any]] = []
        if text:
            self.replace(json.loads(text))

    def replace(self, rules: dict[str, Any]) -> None:
        """Set all rules; raises ValueError or TypeError for a rule that cannot be understood."""
        http = [HttpFault(**rule) for rule in rules.get("http", [])]
        sync = [dict(rule) for rule in rules.get("sync", [])]
        for rule in sync:
            if rule.get("point") not in POINTS:
                raise ValueError(f"unknown point {rule.get('point')!r}; one of {', '.join(POINTS)}")
            if rule.get("action", "crash") not in ACTIONS:
                raise ValueError(f"unknown action {rule['action']!r}; one of {', '.join(ACTIONS)}")
        with self._lock:
            self._http, self.sync = http, sync

    def take(self, method: str, path: str) -> HttpFault | None:
        """The first rule that fits a request, counted down."""
        with self._lock:
            for rule in self._http:
                if rule.times != 0 and rule.method in (method, "*") and path.endswith(rule.path):
                    rule.times -= 1
                    return rule
        return None


def reach(point: str, rules: list[dict[str, Any]], job_id: int, attempt: int, server_pid: int) -> None:
    """Called by the worker at a named point: act out the rules that fit."""
    for rule in rules:
        here = {"point": point, "attempt": attempt, "job": job_id}
        if any(rule.get(name, value) != value for name, value in here.items()):
            continue
        match rule.get("action", "crash"):
            case "crash":
                os.kill(os.getpid(), signal.SIGKILL)
            case "crash_server":
                os.kill(server_pid, signal.SIGKILL)
                time.sleep(3600)
            case "hang":
                time.sleep(float(rule.get("seconds", 3600)))
            case "wait":
                while not os.path.exists(rule["path"]):
                    time.sleep(0.05)
            case "fail":
                raise SyncError("replication", "transient_error", f"injected fault at {point}")
