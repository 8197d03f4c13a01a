"""What it takes to run one server, and a way to run it as a child of this process (tests do; `up` uses supervisor)."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

# Nothing else of the caller's environment reaches a server: no proxy, no PYTHONPATH, no cloud credentials.
INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "LD_LIBRARY_PATH")
POLL_SECONDS = 0.05
LOG_TAIL_LINES = 20


class NotReadyError(Exception):
    """A server did not become ready; the message ends with the tail of its log."""


@dataclass(frozen=True)
class Program:
    """`environment` is added to INHERITED. `user` is set only when root must not run it. Times in seconds.

    `stop_group`: the stop signal goes to the whole process group, not to the leader alone. `stale`: files that a killed
    process leaves behind, and that are removed before each start.
    """

    name: str
    argv: tuple[str, ...]
    cwd: Path
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: int = 15
    stop_group: bool = True
    stale: tuple[Path, ...] = ()

    def full_environment(self) -> dict[str, str]:
        return {name: os.environ[name] for name in INHERITED if name in os.environ} | dict(self.environment)


@dataclass
class Child:
    """A program started by this process, in a process group of its own."""

    program: Program
    log: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, program: Program, log: Path) -> Child:
        account = pwd.getpwnam(program.user) if program.user else None
        for path in program.stale:
            path.unlink(missing_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                program.argv,
                cwd=program.cwd,
                env=program.full_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
            )
        return cls(program, log, process)

    def wait_ready(self, probe: Callable[[], bool], timeout: float = 30) -> None:
        """Raises NotReadyError when the process ends or the time is over."""
        wait_until(probe, self.program.name, self.log, timeout, alive=lambda: self.process.poll() is None)

    def stop(self) -> None:
        """The program's own stop signal, then SIGKILL to its whole group after the deadline."""
        if self.process.poll() is None:
            self.process.send_signal(self.program.stop_signal)
        try:
            self.process.wait(self.program.stop_seconds)
        except subprocess.TimeoutExpired:
            pass
        finally:
            kill_group(self.process.pid)
            self.process.wait()


def kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def wait_until(
    probe: Callable[[], bool], name: str, log: Path, timeout: float, alive: Callable[[], bool] = lambda: True
) -> None:
    """Polls until the probe holds. Raises NotReadyError, with the log's tail, when it does not in `timeout` seconds."""
    end = time.monotonic() + timeout
    while not probe():
        if not alive():
            raise NotReadyError(f"{name} ended before it was ready. The end of {log}:\n{tail(log)}")
        if time.monotonic() > end:
            raise NotReadyError(f"{name} was not ready after {timeout:.0f} s. The end of {log}:\n{tail(log)}")
        time.sleep(POLL_SECONDS)


def tail(log: Path, lines: int = LOG_TAIL_LINES) -> str:
    if not log.exists():
        return "(no log was written)"
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 400 * lines))
        text = file.read().decode(errors="replace")
    return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"
