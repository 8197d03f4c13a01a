"""How each service is, as an operator asks: state, process, port, age, memory."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psutil

from embedded.services import PORTS_OF, Service
from embedded.stack import Stack
from embedded.supervision import State

# Supervisor's words for a process that does not run, in ours.
NOT_RUNNING = {"FATAL": "failed", "BACKOFF": "restarting", "STOPPING": "stopping"}


@dataclass(frozen=True)
class ServiceStatus:
    """`state`: ready, starting, unready, restarting, failed, stopping, stopped, or orphaned (it runs, unwatched).

    `uptime_seconds` since its last start. `memory_bytes`: of its whole process tree, shared pages counted once (PSS)
    where the kernel tells, else RSS; `rss_bytes`: with them counted in every process.
    """

    name: str
    state: str
    pid: int | None = None
    port: int | None = None
    uptime_seconds: float | None = None
    memory_bytes: int | None = None
    rss_bytes: int | None = None


def statuses(stack: Stack) -> list[ServiceStatus]:
    """Of every service that has a process. Raises StackError when the platform was never started."""
    services = [service for service in stack.services().values() if service.has_process]
    states = stack.supervisor.states()
    with ThreadPoolExecutor(len(services)) as pool:
        return list(pool.map(lambda service: _status(stack, service, states.get(service.name)), services))


def _status(stack: Stack, service: Service, state: State | None) -> ServiceStatus:
    ports = PORTS_OF.get(service.name, ())
    port = stack.endpoints().ports[ports[0]] if ports else None
    if state and state.is_alive:
        word = _word(service, state)
        process = _process(state.pid)
    else:
        process = stack.supervisor.recorded(service.name) if state is None else None
        word = "orphaned" if process else NOT_RUNNING.get(state.name if state else "", "stopped")
    if not process:
        return ServiceStatus(service.name, word, port=port)
    memory, rss = _memory(process)
    age = time.time() - process.create_time()
    return ServiceStatus(service.name, word, process.pid, port, age, memory, rss)


def _word(service: Service, state: State) -> str:
    if service.is_ready(state.since):
        return "ready"
    return "starting" if time.time() - state.since < service.timeout else "unready"


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None


def _memory(root: psutil.Process) -> tuple[int, int]:
    proportional = resident = 0
    with contextlib.suppress(psutil.Error):
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                rss = process.memory_info().rss
                resident += rss
                proportional += _shared_once(process, rss)
    return proportional, resident


def _shared_once(process: psutil.Process, otherwise: int) -> int:
    """PSS, where the kernel has it and lets us read it."""
    try:
        return int(getattr(process.memory_full_info(), "pss", otherwise))
    except psutil.AccessDenied:
        return otherwise
