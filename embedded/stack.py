"""Starts, watches and stops the whole platform of one data folder: the Python API of `python -m embedded`."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from embedded.credentials import Secrets
from embedded.endpoints import Endpoints
from embedded.home import Home
from embedded.object_store import PORT_OFFSETS
from embedded.ports import assign
from embedded.programs import tail
from embedded.services import ALL_PORTS, PORTS_OF, Service, catalogue, selection, wanted_ports
from embedded.state import StackState, locked
from embedded.supervision import State, Supervisor

# Between two looks at a service that is not ready: soon at first, then seldom, for it needs the CPU itself.
FIRST_POLL_SECONDS = 0.1
LONGEST_POLL_SECONDS = 1.0


class StackError(Exception):
    """The platform is not as it was asked to be; the message names the service, the reason and the end of its log."""


@dataclass(frozen=True)
class Event:
    """`kind`: note, starting, ready, failed, stopping or stopped. `seconds`: how long it took."""

    kind: str
    service: str = ""
    text: str = ""
    seconds: float = 0.0


class _InterruptedError(Exception):
    """Another service failed to start, or the user interrupted."""


class Stack:
    """The platform in one data folder; another process may have started it."""

    def __init__(self, home: Home | Path | None = None, report: Callable[[Event], None] = lambda event: None) -> None:
        self.home = home if isinstance(home, Home) else Home(home.absolute()) if home else Home.from_environment()
        self.supervisor = Supervisor(self.home)
        self._report = report

    def endpoints(self) -> Endpoints:
        """Raises StackError when the platform was never started here."""
        state = StackState.load(self.home)
        if set(state.ports) < set(ALL_PORTS) or not self.home.secrets.exists():
            raise StackError(f"the platform in {self.home.root} was never started: `python -m embedded up`")
        return Endpoints(self.home, state.ports, Secrets.load_or_create(self.home.secrets))

    def services(self) -> dict[str, Service]:
        return catalogue(self.endpoints())

    def up(self, only: Iterable[str] | None = None) -> None:
        """Starts what does not run yet, and waits until all of it is ready; safe to repeat.

        `only`: services or groups, with what they need. Raises StackError when one does not become ready; what runs by
        then goes on running.
        """
        self.home.create()
        with locked(self.home):
            secrets = Secrets.load_or_create(self.home.secrets)
            running = self.supervisor.is_running()
            if not running:
                self._sweep()
            state = self._choose_ports()
            chosen = selection(only, catalogue(Endpoints(self.home, state.ports, secrets)))
            if not running:
                self.supervisor.start()
            try:
                self._start(chosen)
            finally:
                self._remember(state)

    def _sweep(self) -> None:
        left = self.supervisor.sweep()
        if left:
            self._report(Event("note", text=f"ended {len(left)} processes that an earlier run had left behind"))

    def _choose_ports(self) -> StackState:
        known = StackState.load(self.home)
        states = self.supervisor.states()
        ours = {
            port
            for service, ports in PORTS_OF.items()
            if service in states and states[service].is_alive
            for port in ports
        }
        wanted = wanted_ports()
        kept = {name for name in ours if wanted.get(name, known.ports.get(name)) == known.ports.get(name)}
        found = assign(ALL_PORTS, {**known.ports, **wanted}, kept.__contains__, PORT_OFFSETS)
        for name, port in found.moved.items():
            self._report(
                Event("note", name, f"port {port} is taken by another program: using {found.ports[name]} from now on")
            )
        state = StackState(found.ports, known.processes)
        state.save(self.home)
        return state

    def _remember(self, state: StackState) -> None:
        processes = {
            name: {"pid": process.pid, "started": process.create_time()}
            for name in (*self.supervisor.states(), "supervisord")
            if (process := self.supervisor.recorded(name))
        }
        StackState(state.ports, processes).save(self.home)

    def _start(self, chosen: list[Service]) -> None:
        cancelled = threading.Event()
        futures: dict[str, Future[None]] = {}
        with ThreadPoolExecutor(len(chosen)) as pool:
            try:
                for service in chosen:  # each comes after what it needs
                    futures[service.name] = pool.submit(self._start_after_needs, service, dict(futures), cancelled)
                for future in futures.values():
                    future.exception()  # waits
            except BaseException:
                cancelled.set()
                raise
        failures = [error for future in futures.values() if (error := future.exception())]
        real = [error for error in failures if not isinstance(error, _InterruptedError)]
        if real:
            raise StackError("\n\n".join(str(error) for error in real)) from real[0]

    def _start_after_needs(
        self, service: Service, futures: dict[str, Future[None]], cancelled: threading.Event
    ) -> None:
        for need in service.needs:
            if futures[need].exception():
                raise _InterruptedError(f"{service.name} needs {need}")
        begun = time.monotonic()
        try:
            if cancelled.is_set():
                raise _InterruptedError(service.name)
            self._start_one(service, cancelled)
        except _InterruptedError:
            raise
        except Exception as error:
            self._report(Event("failed", service.name, seconds=time.monotonic() - begun))
            raise StackError(f"{service.name}: {_told(error)}") from error
        self._report(Event("ready", service.name, seconds=time.monotonic() - begun))

    def _start_one(self, service: Service, cancelled: threading.Event) -> None:
        self._report(Event("starting", service.name))
        program = service.prepare()
        if program:
            if self.supervisor.define(program) and service.name in self._alive():
                self._report(Event("note", service.name, "its settings changed: restarting"))
                self.supervisor.stop([service.name])
            self.supervisor.start_program(service.name)
            self._wait(service, service.timeout, cancelled.is_set)
        service.settle()

    def _alive(self) -> dict[str, State]:
        return {name: state for name, state in self.supervisor.states().items() if state.is_alive}

    def _wait(
        self, service: Service, timeout: float, cancelled: Callable[[], bool] = lambda: False, other_than: int = 0
    ) -> None:
        end = time.monotonic() + timeout
        log = self.home.log(service.name)
        pause = FIRST_POLL_SECONDS
        while True:
            state = self.supervisor.states().get(service.name, State("STOPPED", 0, 0))
            if state.is_alive and state.pid != other_than and service.is_ready(state.since):
                return
            if cancelled():
                raise _InterruptedError(service.name)
            if state.name == "FATAL":
                raise StackError(f"it ended again and again, and was given up. The end of {log}:\n{tail(log)}")
            if time.monotonic() > end:
                raise StackError(f"not ready after {timeout:.0f} s ({state.name}). The end of {log}:\n{tail(log)}")
            time.sleep(pause)
            pause = min(pause * 1.2, LONGEST_POLL_SECONDS)

    def wait_ready(self, service: str, timeout: float | None = None, other_than: int = 0) -> None:
        """Waits until the service is ready, in a process other than `other_than`; `timeout`: the service's own unless
        given. Raises StackError.
        """
        waited_for = self.services()[service]
        self._wait(waited_for, timeout or waited_for.timeout, other_than=other_than)

    def pid(self, service: str) -> int:
        """Of the service's main process. Raises StackError when it does not run."""
        state = self.supervisor.states().get(service)
        if not state or not state.is_alive:
            raise StackError(f"{service} does not run")
        return state.pid

    def stop_service(self, service: str) -> None:
        """Stops one service and leaves it stopped; for tests of what the others do meanwhile."""
        self.supervisor.stop([service])

    def start_service(self, service: str) -> None:
        """Starts a service that `stop_service` stopped, and waits until it is ready."""
        self.supervisor.start_program(service)
        self.wait_ready(service)

    def down(self) -> None:
        """Stops everything, dependents first; data stays. Raises StackError when a process is left."""
        if not self.home.lock.exists():
            return
        with locked(self.home):
            self._stop_all()

    def _stop_all(self) -> None:
        if self.supervisor.is_running():
            self._stop_by_layer()
            self.supervisor.shutdown()
        self._sweep()
        if StackState.load(self.home).ports:
            endpoints = self.endpoints()
            endpoints.object_store.remove_sockets()
            endpoints.offsite_store.remove_sockets()
        left = self.supervisor.survivors()
        if left:
            raise StackError(f"these processes did not end: {', '.join(str(process.pid) for process in left)}")

    def _stop_by_layer(self) -> None:
        needs = {name: {*service.needs, *service.uses} for name, service in self.services().items()}
        alive = set(self._alive())
        while alive:
            needed = {need for name in alive for need in _all_needs(name, needs)}
            layer = sorted(alive - needed) or sorted(alive)
            self._stop_layer(layer)
            alive -= set(layer)

    def _stop_layer(self, layer: list[str]) -> None:
        begun = time.monotonic()
        for name in layer:
            self._report(Event("stopping", name))
        self.supervisor.stop(layer, lambda name: self._report(Event("stopped", name, seconds=time.monotonic() - begun)))

    def reset(self) -> None:
        """Stops everything and deletes the data folder. Raises StackError when the folder is no platform's."""
        if not self.home.root.exists():
            return
        if not self.home.secrets.exists():
            raise StackError(f"{self.home.root} holds no {self.home.secrets.name}: it is not deleted")
        with locked(self.home):
            self._stop_all()
            # The mark by which a next attempt recognises the folder goes last.
            for path in sorted(self.home.root.iterdir(), key=lambda path: path == self.home.secrets):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            self.home.root.rmdir()


def _told(error: Exception) -> str:
    """Our own errors speak for themselves; those of libraries often say nothing without their kind."""
    ours = type(error).__module__.startswith("embedded.")
    return str(error) if ours else f"{type(error).__name__}: {error}"


def _all_needs(name: str, needs: dict[str, set[str]]) -> set[str]:
    direct = needs.get(name, set())
    return direct.union(*(_all_needs(need, needs) for need in direct))
