"""Runs a connector so that it, and all that it starts, ends when whoever holds our stdin goes away.

`python -I -S leash.py GRACE PROGRAM ARGUMENT...`. We lead the process group, so that a signal to the group reaches
everyone. On Linux we also adopt orphans (PR_SET_CHILD_SUBREAPER): a child that left the group, or whose parent died,
is still found. When stdin closes (the worker ended, however) or the connector has ended, whatever is left gets TERM,
and KILL after GRACE seconds. The exit code is the connector's. Only the standard library, and little of it.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

_PR_SET_CHILD_SUBREAPER = 36


def main(grace: float, command: list[str]) -> int:
    if os.getpgrp() != os.getpid():
        os.setsid()  # or ending the group would end whoever started us
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the group's TERM is for the others
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_default_signals)
    threading.Thread(target=_watch, args=[grace], daemon=True).start()
    code = child.wait()
    end_all(grace)
    return code if code >= 0 else 128 - code


def _default_signals() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _watch(grace: float) -> None:
    while os.read(0, 1024):
        pass
    end_all(grace)
    os._exit(143)


def end_all(grace: float) -> None:
    """TERM, then KILL, to the group and to every descendant outside it; returns when none is left."""
    deadline = time.monotonic() + grace
    sent = None
    while others := _others():
        number = signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL
        for pid in others if number != sent or number == signal.SIGKILL else []:
            with contextlib.suppress(OSError):
                os.kill(pid, number)
        sent = number
        _reap()
        time.sleep(0.02)


def _reap() -> None:
    """Collect what ended; a zombie would count as somebody who is left."""
    with contextlib.suppress(OSError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _others() -> set[int]:
    """Living processes of our group, and our descendants outside it."""
    me, group = os.getpid(), os.getpgrp()
    parents, groups = {}, {}
    for pid, parent, group_id, state in _processes():
        if state != "Z":
            parents[pid], groups[pid] = parent, group_id
    found = {pid for pid, group_id in groups.items() if group_id == group and pid != me}
    known = {me}
    while True:
        more = {pid for pid, parent in parents.items() if parent in known and pid not in known}
        if not more:
            return found | known - {me}
        known |= more


def _processes() -> list[tuple[int, int, int, str]]:
    """Pid, parent, group and state of every process that can be seen."""
    if sys.platform != "linux":
        listing = subprocess.run(["ps", "-axo", "pid=,ppid=,pgid=,state="], capture_output=True, text=True).stdout
        rows = [line.split() for line in listing.splitlines()]
        return [(int(pid), int(parent), int(group), state[:1]) for pid, parent, group, state in rows]
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                    # The command, in parentheses, may hold anything: what counts stands behind the last one.
                    state, parent, group = file.read().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            found.append((int(name), int(parent), int(group), state))
    return found


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
