"""What a stack remembers between commands (`stack.json`), and the lock that lets one command at a time change it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from embedded.durable import write_json
from embedded.home import Home


class StateError(Exception):
    """`stack.json` cannot be read, or another command holds the lock; the message says what to do."""


@dataclass(frozen=True)
class StackState:
    """`ports` by name. `processes`: pid and start time (seconds since 1970) by service, as of the last `up`."""

    ports: Mapping[str, int] = field(default_factory=dict)
    processes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def load(cls, home: Home) -> StackState:
        """Raises StateError when the file is damaged."""
        if not home.state.exists():
            return cls()
        try:
            known = json.loads(home.state.read_text(encoding="utf-8"))
            return cls({name: int(port) for name, port in known["ports"].items()}, known.get("processes", {}))
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise StateError(f"cannot read {home.state}: {error}; delete it: new ports will be chosen") from error

    def save(self, home: Home) -> None:
        write_json(home.state, {"ports": dict(self.ports), "processes": dict(self.processes)})


@contextlib.contextmanager
def locked(home: Home) -> Iterator[None]:
    """Held by `up`, `down` and `reset`. Raises StateError at once when another process holds it."""
    with home.lock.open("a+", encoding="utf-8") as file:
        os.chmod(file.fileno(), 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise StateError(
                f"process {holder} is starting or stopping the platform in {home.root}: wait until it is done"
            ) from None
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield
        file.seek(0)
        file.truncate()
