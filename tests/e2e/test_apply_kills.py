"""kill -9 in the middle of `make apply`, service by service, on a platform that has nothing yet; the next finishes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from embedded.airflow import API, Airflow
from embedded.demo import source
from embedded.home import PROJECT
from embedded.reconcile_command import environment
from embedded.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(4000)]

# Ends itself when so many writes were answered; signing in is none.
KILLED = """
import os, signal, sys
import httpx
from include.reconcile.__main__ import main
send, left = httpx.Client.send, int(os.environ["KILL_AFTER"])
def counted(self, request, **options):
    global left
    reply = send(self, request, **options)
    if request.method != "GET" and not request.url.path.endswith(("/login", "/token")):
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
    return reply
httpx.Client.send = counted
sys.exit(main(["apply", "--service", sys.argv[1]]))
"""
# In the order in which each finds what it needs. Superset's first write is the import of all assets in one transaction.
KILLS = [
    ("airbyte", (1, 4)),
    ("dremio", (1, 5, 12)),
    ("superset", (1, 2, 6)),
    ("airflow", (1, 3)),
]


class Terminal:
    """`include.reconcile` on a platform, as a terminal runs it."""

    def __init__(self, stack: Stack) -> None:
        endpoints = stack.endpoints()
        airflow = Airflow(endpoints.home, endpoints.ports[API], endpoints.platform.dsn("airflow"), endpoints.secrets)
        self.python = str(airflow.venv / "bin" / "python")
        self.environment = {**os.environ, **airflow.environment(), **environment(endpoints)}

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.python, *arguments],
            cwd=PROJECT,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    def reconcile(self, what: str, service: str) -> str:
        done = self.run("-m", "include.reconcile", what, "--service", service)
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """A platform on which nothing but what these need was applied."""
    stack = Stack(tmp_path_factory.mktemp("unapplied") / "home")
    try:
        stack.up()
        source.load(stack.endpoints().source.dsn("retail"), "tiny")
        found = Terminal(stack)
        for service in ("ledger", "object_store", "sources", "postgres"):
            found.reconcile("apply", service)
        yield found
    finally:
        stack.reset()


@pytest.mark.parametrize(("service", "writes"), KILLS)
def test_the_apply_after_a_kill_finishes(terminal: Terminal, service: str, writes: tuple[int, ...]) -> None:
    for number in writes:
        killed = terminal.run("-c", KILLED, service, KILL_AFTER=str(number))
        assert killed.returncode == -signal.SIGKILL, f"after {number} writes: {killed.stdout}{killed.stderr[-2000:]}"
    assert "made." in terminal.reconcile("apply", service)
    assert "Everything is as declared." in terminal.reconcile("plan", service)
