"""kill -9 in the middle of `make apply`, service by service, on a platform that has nothing yet; the next finishes."""

from __future__ import annotations

import json
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

# Airflow is imported once; each apply runs in a fork, and a killed one ends itself when so many writes were answered.
# Signing in is no write. At the end drift, which sees more than a plan, must find nothing.
PROGRAM = """
import json, os, signal, sys
import httpx
from include.reconcile.__main__ import main

service, kills = sys.argv[1], [int(number) for number in sys.argv[2:]]
send = httpx.Client.send

def die_after(left):
    def counted(self, request, **options):
        nonlocal left
        reply = send(self, request, **options)
        if request.method != "GET" and not request.url.path.endswith(("/login", "/token")):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
        return reply
    httpx.Client.send = counted

def forked(what, writes=0):
    sys.stdout.flush()
    child = os.fork()
    if not child:
        if writes:
            die_after(writes)
        code = main([what, "--service", service])
        sys.stdout.flush()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

codes = [*(forked("apply", number) for number in kills), forked("apply"), forked("drift")]
print(json.dumps(codes))
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

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [self.python, *arguments], cwd=PROJECT, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """A platform on which nothing but what these need was applied."""
    stack = Stack(tmp_path_factory.mktemp("unapplied") / "home")
    try:
        stack.up()
        source.load(stack.endpoints().source.dsn("retail"), "tiny")
        found = Terminal(stack)
        first = ("ledger", "object_store", "sources", "postgres")
        found.run("-m", "include.reconcile", "apply", *(word for name in first for word in ("--service", name)))
        yield found
    finally:
        stack.reset()


@pytest.mark.parametrize(("service", "writes"), KILLS)
def test_the_apply_after_a_kill_finishes(terminal: Terminal, service: str, writes: tuple[int, ...]) -> None:
    *told, codes = terminal.run("-c", PROGRAM, service, *map(str, writes)).splitlines()
    assert json.loads(codes) == [*(-signal.SIGKILL for _ in writes), 0, 0], "\n".join(told)
    assert any(line.endswith(" made.") for line in told), "the last kill left nothing to do"
