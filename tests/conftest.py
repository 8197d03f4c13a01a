"""What every test process shares, in either venv: a home of Airflow's own, and no way out of this machine."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parent.parent

# Before anything imports Airflow: it reads these once, and would otherwise write into the user's home folder.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="lakehouse-tests-"))
os.environ.setdefault("AIRFLOW__CORE__DAGS_FOLDER", str(PROJECT / "dags"))
os.environ.setdefault("AIRFLOW__CORE__PLUGINS_FOLDER", str(PROJECT / "plugins"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
os.environ.setdefault("AIRFLOW__COSMOS__ENABLE_TELEMETRY", "False")
os.environ.setdefault("DO_NOT_TRACK", "1")


class OutsideError(Exception):
    """A test tried to reach another machine."""


def _is_here(address: Any) -> bool:
    if not isinstance(address, tuple):  # a Unix socket
        return True
    host = str(address[0])
    return host.startswith("127.") or host in {"::1", "localhost"}


@pytest.fixture(scope="session", autouse=True)
def _only_this_machine() -> Iterator[None]:
    """Every connection but those to 127.0.0.1 fails, unless a test against a real product was asked for."""
    if any(name.startswith("LAKEHOUSE_REAL_") for name in os.environ):
        yield
        return
    patch = pytest.MonkeyPatch()
    for name in ("connect", "connect_ex"):
        original = getattr(socket.socket, name)

        def guarded(self: socket.socket, address: Any, original: Any = original) -> Any:
            if not _is_here(address):
                raise OutsideError(f"tests reach 127.0.0.1 only, not {address}")
            return original(self, address)

        patch.setattr(socket.socket, name, guarded)
    yield
    patch.undo()
