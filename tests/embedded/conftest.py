"""A platform of its own for the tests of the runner: real processes under a real supervisor."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded.stack import Event, Stack

SERVICES = ["postgres-source", "postgres-platform", "object-store", "alerts"]
for _server in ("replication", "sql"):
    if importlib.util.find_spec(f"embedded.{_server}.__main__"):
        SERVICES.append(_server)


@pytest.fixture(scope="session")
def stack_events() -> list[Event]:
    """What the stack reported, oldest first; a test that looks at it clears it before."""
    return []


@pytest.fixture(scope="session")
def stack(stack_events: list[Event]) -> Iterator[Stack]:
    """Not started. Its folder has a space in its name, and is too long for a Unix socket in it."""
    root = Path(tempfile.mkdtemp(prefix="lakehouse-stack-"))
    root.chmod(0o711)
    home = root / ("a long name " * 8).strip()
    made = Stack(home, stack_events.append)
    yield made
    made.down()
    shutil.rmtree(root)


@pytest.fixture
def running(stack: Stack) -> Stack:
    """All that is not Airflow is up and ready; a test may leave it as it likes."""
    stack.up(SERVICES)
    return stack
