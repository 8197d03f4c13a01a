"""Shows a DAG run while it goes: a line when a task starts and ends, and a sign of life in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from embedded.airflow_client import DONE_TASKS, AirflowClient

SILENCE = 5.0  # seconds without a line before the tasks at work are named
NAMED = 3  # tasks in such a line; the longest at work come first
LOG_LINES = 25  # of a failed task
SHOWN = 3  # failed tasks; the first of them are nearest to the cause
# What a reader cares about; `deferred` is work that goes on elsewhere.
AT_WORK = frozenset({"running", "deferred", "up_for_reschedule"})
RETRY = "up_for_retry"
WORDS = {
    "success": "done",
    "failed": "FAILED",
    "skipped": "skipped",
    "upstream_failed": "not run: something before it failed",
    RETRY: "failed, will be tried again",
    "removed": "removed",
}

Say = Callable[[str], None]


def _name(task: Mapping[str, Any]) -> str:
    mapped = int(task.get("map_index", -1))
    return str(task["task_id"]) + (f"[{mapped}]" if mapped >= 0 else "")


def _when(task: Mapping[str, Any]) -> tuple[str, str, str]:
    """Sorts by end, then by start; what has neither comes last."""
    return (task.get("end_date") or "~", task.get("start_date") or "~", task["task_id"])


class Follower:
    """Called with a run's task instances at every look; says what has changed since the last one.

    As a context it also gives a sign of life by itself: a look at a busy Airflow may take longer than people wait.
    """

    def __init__(self, say: Say, clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._began = self._spoke = clock()
        self._seen: dict[str, str] = {}
        self._started: dict[str, float] = {}
        self._tasks: Sequence[Mapping[str, Any]] = ()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def __call__(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        with self._lock:
            self._tasks = tasks
            for task in sorted(tasks, key=_when):
                self._look(task)
        self.tick()

    def tick(self) -> None:
        """Says what is at work if nothing was said for a while."""
        with self._lock:
            if self._clock() - self._spoke >= SILENCE:
                self._sign_of_life(self._tasks)

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            self.tick()

    def _look(self, task: Mapping[str, Any]) -> None:
        name, state = _name(task), task.get("state")
        if state is None or state == self._seen.get(name):
            return
        self._seen[name] = state
        if state in AT_WORK:
            if name not in self._started:  # from the triggerer it comes back by way of the queue: that is no new start
                self._started[name] = self._clock()
                self._line(f"{name} ...")
        elif state in WORDS:
            self._started.pop(name, None)
            took = task.get("duration")
            seconds = f" in {float(took):.1f} s" if state == "success" and took is not None else ""
            self._line(f"{name}: {WORDS[state]}{seconds}")

    def _sign_of_life(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        now = self._clock()
        at_work = [f"{name} ({now - since:.0f} s)" for name, since in self._started.items()]
        if len(at_work) > NAMED:
            at_work = [*at_work[:NAMED], f"{len(at_work) - NAMED} more"]
        again = [_name(task) for task in tasks if task.get("state") == RETRY]
        parts = [
            *(["at work: " + ", ".join(at_work)] if at_work else []),
            *(["to be tried again: " + ", ".join(again)] if again else []),
        ]
        waiting = sum(
            task.get("state") not in DONE_TASKS | {RETRY} and _name(task) not in self._started for task in tasks
        )
        self._line("; ".join([*(parts or ["at work: the scheduler"]), f"{waiting} to come"]))

    def _line(self, text: str) -> None:
        self._spoke = self._clock()
        self._say(f"  {self._spoke - self._began:6.1f} s  {text}")


def _unfolded(log: str) -> list[str]:
    """The lines without closed groups, which Airflow's log page folds; an open group is where the task died."""
    lines: list[str] = []
    opened: list[int] = []
    for line in log.splitlines():
        if line.startswith("::group::"):
            opened.append(len(lines))
        elif line.startswith("::endgroup::"):
            del lines[opened.pop() if opened else len(lines) :]
        else:
            lines.append(line)
    return lines or log.splitlines()


def failure(client: AirflowClient, dag_id: str, run_id: str) -> str:
    """Which tasks failed first, with the end of their logs and where to read on."""
    failed = [task for task in client.tasks(dag_id, run_id) if task["state"] == "failed"]
    parts = [f"{dag_id}: run {run_id} failed"]
    for task in sorted(failed, key=lambda t: t["end_date"] or "")[:SHOWN]:
        log = client.log(dag_id, run_id, task["task_id"], int(task["try_number"]))
        tail = "\n".join(f"    {line}" for line in _unfolded(log)[-LOG_LINES:])
        parts.append(f"  {_name(task)}, try {task['try_number']}, the end of its log:\n{tail}")
    if len(failed) > SHOWN:
        parts.append(f"  and {len(failed) - SHOWN} more tasks")
    parts.append(f"  All of it: {client.url}/dags/{dag_id}/runs/{run_id}")
    return "\n".join(parts)
