"""The process engine: one `supervisord` a stack keeps its programs running; it outlives the command that started it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import psutil
from supervisor.xmlrpc import Faults, SupervisorTransport

from embedded.durable import write_json, write_text
from embedded.home import Home
from embedded.launch import HOME_VARIABLE, SERVICE_VARIABLE, marked, record
from embedded.programs import INHERITED, Program, tail

LAUNCHER = Path(__file__).with_name("launch.py")
# The kernel's limit for a socket's path is 108 bytes, and supervisor adds its process id to it while it binds.
LONGEST_SOCKET = 90
# One that ends sooner has not started: it is tried again after 1, 2, 3, ... seconds, and given up after RETRIES.
START_SECONDS = 10
RETRIES = 3
STOPPED = frozenset({"STOPPED", "EXITED", "FATAL", "UNKNOWN"})


class SupervisorError(Exception):
    """The process engine does not do what was asked; the message ends with the tail of its log."""


@dataclass(frozen=True)
class State:
    """`name`: supervisor's word (RUNNING, STARTING, BACKOFF, FATAL, ...); `since`: seconds since 1970."""

    name: str
    pid: int
    since: float

    @property
    def is_alive(self) -> bool:
        return self.pid > 0 and self.name in {"RUNNING", "STARTING"}


class Supervisor:
    """The supervisord of one data folder. All methods are safe from several threads: each call opens a connection."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._config = home.run / "supervisord.conf"
        self._programs = home.run / "programs"
        self._pid_file = home.run / "supervisord.pid.json"
        self._socket_file = home.run / "socket"

    @property
    def marker(self) -> str:
        return str(self.home.root)

    @property
    def log(self) -> Path:
        return self.home.log("supervisor")

    def _socket(self) -> Path:
        direct = self.home.run / "supervisor.sock"
        if len(os.fsencode(direct)) <= LONGEST_SOCKET:
            return direct
        if self._socket_file.exists():
            return Path(self._socket_file.read_text())
        short = Path(tempfile.mkdtemp(prefix="lakehouse-")) / "supervisor.sock"  # mkdtemp: ours alone
        write_text(self._socket_file, str(short))
        return short

    def _call(self, method: str, *arguments: Any) -> Any:
        """Raises Fault, or OSError or HTTPException when no supervisord answers."""
        transport = SupervisorTransport(None, None, f"unix://{self._socket()}")
        with contextlib.closing(transport):
            return getattr(ServerProxy("http://127.0.0.1", transport=transport).supervisor, method)(*arguments)

    def is_running(self) -> bool:
        if not self.home.run.exists():
            return False
        try:
            return bool(self._call("getState")["statename"] == "RUNNING")
        except (OSError, HTTPException, Fault):
            return False

    def start(self) -> None:
        """Starts supervisord without any program. Raises SupervisorError when it does not answer in 20 s."""
        self._programs.mkdir(mode=0o700, exist_ok=True)
        for leftover in self._programs.glob("*.conf"):
            leftover.unlink()
        write_text(self._config, self._configuration())
        self._socket().unlink(missing_ok=True)
        started = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._config)],
            env={name: os.environ[name] for name in INHERITED if name in os.environ} | {HOME_VARIABLE: self.marker},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if started.returncode:
            raise SupervisorError(f"supervisord did not start: {started.stderr.strip() or started.stdout.strip()}")
        end = time.monotonic() + 20
        while not self.is_running():
            if time.monotonic() > end:
                raise SupervisorError(f"supervisord does not answer. The end of {self.log}:\n{tail(self.log)}")
            time.sleep(0.05)
        record(self._pid_file, self._call("getPID"))

    def _configuration(self) -> str:
        lines = [
            "[unix_http_server]",
            f"file = {_escaped(self._socket())}",
            "chmod = 0600",
            "[supervisord]",
            f"logfile = {_escaped(self.log)}",
            f"pidfile = {_escaped(self.home.run / 'supervisord.pid')}",
            f"childlogdir = {_escaped(self.home.logs)}",
            "loglevel = info",
            "umask = 077",
            *(["user = root"] if os.geteuid() == 0 else []),  # or it warns
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
            "[include]",
            f"files = {self._programs.name}/*.conf",  # relative: several patterns are parted by spaces
        ]
        return "\n".join(lines) + "\n"

    def define(self, program: Program) -> bool:
        """Makes the program known; gives True when it was known with another definition, which a restart applies."""
        spec = {
            "argv": program.argv,
            "cwd": str(program.cwd),
            "environment": self._environment(program),
            "user": program.user,
            "stale": [str(path) for path in program.stale],
            "pid_file": str(self._program_pid_file(program.name)),
        }
        spec_file = self._programs / f"{program.name}.json"
        before = spec_file.read_text(encoding="utf-8") if spec_file.exists() else None
        write_json(spec_file, spec)
        write_text(self._programs / f"{program.name}.conf", self._program_configuration(program, spec_file))
        _added, changed, _removed = self._call("reloadConfig")[0]
        if program.name in changed:
            self.stop([program.name])
            self._call("removeProcessGroup", program.name)
        with _ignoring(Faults.ALREADY_ADDED):
            self._call("addProcessGroup", program.name)
        return before is not None and before != spec_file.read_text(encoding="utf-8")

    def _environment(self, program: Program) -> dict[str, str]:
        # What comes from the caller's shell (INHERITED) is supervisord's: it must not count as another definition.
        own = dict(program.environment)
        return own | {HOME_VARIABLE: self.marker, SERVICE_VARIABLE: program.name}

    def _program_pid_file(self, name: str) -> Path:
        return self.home.run / f"{name}.pid.json"

    def _program_configuration(self, program: Program, spec_file: Path) -> str:
        words = (sys.executable, "-P", str(LAUNCHER), str(spec_file))
        lines = [
            f"[program:{program.name}]",
            "command = " + " ".join(f'"{_escaped(word)}"' for word in words),
            "autostart = false",
            "autorestart = true",
            f"startsecs = {START_SECONDS}",
            f"startretries = {RETRIES}",
            f"stopsignal = {program.stop_signal.name.removeprefix('SIG')}",
            f"stopwaitsecs = {program.stop_seconds}",
            f"stopasgroup = {str(program.stop_group).lower()}",
            "killasgroup = true",
            "redirect_stderr = true",
            f"stdout_logfile = {_escaped(self.home.log(program.name))}",
            "stdout_logfile_maxbytes = 20MB",
            "stdout_logfile_backups = 2",
        ]
        return "\n".join(lines) + "\n"

    def start_program(self, name: str) -> None:
        with _ignoring(Faults.ALREADY_STARTED):
            self._call("startProcess", name, False)

    def stop(self, names: Iterable[str], stopped: Callable[[str], None] = lambda name: None) -> None:
        """Stops the programs side by side and waits until they have ended; supervisor kills those past their time.

        `stopped` is called with each name as it ends.
        """
        waiting = set(names)
        for name in waiting:
            with _ignoring(Faults.NOT_RUNNING, Faults.BAD_NAME):
                self._call("stopProcess", name, False)
        while waiting:
            states = self.states()
            still = {name for name in waiting if name in states and states[name].name not in STOPPED}
            for name in sorted(waiting - still):
                stopped(name)
            waiting = still
            if waiting:
                time.sleep(0.05)

    def states(self) -> dict[str, State]:
        """Of every defined program; empty when no supervisord answers."""
        try:
            found = self._call("getAllProcessInfo")
        except (OSError, HTTPException, Fault):
            return {}
        return {item["name"]: State(item["statename"], item["pid"], float(item["start"])) for item in found}

    def shutdown(self) -> None:
        """Ends supervisord, which stops what still runs. Waits until its process is gone."""
        process = self._process(self._pid_file)
        with contextlib.suppress(OSError, HTTPException, Fault):
            self._call("shutdown")
        if process:
            wait_gone([process], 60)
        if self._socket_file.exists():
            shutil.rmtree(Path(self._socket_file.read_text()).parent, ignore_errors=True)
            self._socket_file.unlink()

    def survivors(self) -> list[psutil.Process]:
        """What is left of this stack without a living supervisord, deepest first: by recorded process and by mark."""
        files = self.home.run.glob("*.pid.json") if self.home.run.exists() else ()
        roots = [process for file in files if (process := self._process(file))]
        found: dict[int, psutil.Process] = {}
        for root in [*roots, *marked(self.marker)]:
            with contextlib.suppress(psutil.Error):
                for process in [*reversed(root.children(recursive=True)), root]:
                    if process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                        found.setdefault(process.pid, process)
        return list(found.values())

    @staticmethod
    def _process(file: Path) -> psutil.Process | None:
        try:
            known = json.loads(file.read_text(encoding="utf-8"))
            process = psutil.Process(known["pid"])
            # Computed from the boot time, which a clock's adjustment may shift a little.
            same = abs(process.create_time() - known["started"]) < 2
        except (OSError, ValueError, KeyError, psutil.Error):
            return None
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None

    def recorded(self, name: str) -> psutil.Process | None:
        """The service's own process, if it lives, whether or not a supervisord still watches it."""
        return self._process(self._program_pid_file(name))

    def sweep(self) -> list[psutil.Process]:
        """Ends what a killed supervisord, or a killed server, left behind; gives the processes it had to end."""
        watching = self._process(self._pid_file)
        if watching:  # first, or it would start the others again
            watching.kill()
            wait_gone([watching], 10)
        left = self.survivors()
        for process in left:
            with contextlib.suppress(psutil.Error):
                # SIGINT is PostgreSQL's "fast" stop; at SIGTERM it would wait for its clients.
                process.send_signal(signal.SIGINT if process.name() == "postgres" else signal.SIGTERM)
        for process in (stubborn := wait_gone(left, 30)):
            with contextlib.suppress(psutil.Error):
                process.kill()
        wait_gone(stubborn, 10)
        return left


def wait_gone(processes: Iterable[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Waits until all have ended; gives those that still run. One that nobody has reaped counts as ended."""
    end = time.monotonic() + timeout
    left = [process for process in processes if _lives(process)]
    while left and time.monotonic() < end:
        time.sleep(0.05)
        left = [process for process in left if _lives(process)]
    return left


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _escaped(value: object) -> str:
    return str(value).replace("%", "%%")


@contextlib.contextmanager
def _ignoring(*codes: int) -> Iterator[None]:
    try:
        yield
    except Fault as fault:
        if fault.faultCode not in codes:
            raise
