"""What backup, restore and retention share: they never run together. One lease of the ledger keeps them apart.

Plain PostgreSQL, no Airflow. The clock is PostgreSQL's alone, so a worker whose clock is wrong still waits its turn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from include import ledger

LEASE = "upkeep"
SECONDS = 120  # how long a killed holder blocks the others; a living one renews three times in this time

Connect = Callable[[], ledger.Connection]


class LeaseLostError(ledger.LedgerError):
    """The lease could not be renewed in time: somebody else may hold it by now, so nothing more is changed."""


class Turn:
    """A held lease. Call `check` before every step that deletes or overwrites something."""

    def __init__(self, connect: Connect, holder: str, seconds: int = SECONDS, name: str = LEASE) -> None:
        self.holder, self.name, self._connect, self._seconds = holder, name, connect, seconds
        self._problem: str | None = None
        self._ended = threading.Event()
        self.token = self._renew()
        self._thread = threading.Thread(target=self._keep, name=f"lease {name}", daemon=True)
        self._thread.start()

    def _renew(self) -> int:
        with self._connect() as conn:
            return ledger.hold_lease(conn, self.name, self.holder, self._seconds)

    def _keep(self) -> None:
        while not self._ended.wait(self._seconds / 3):
            try:
                if self._renew() != self.token:
                    self._problem = "somebody else held it in between"
            except (psycopg.Error, ledger.LedgerError) as error:
                self._problem = str(error).splitlines()[0]
            if self._problem:
                return

    def check(self) -> None:
        """Raises LeaseLostError once the lease may be another's."""
        if self._problem:
            raise LeaseLostError(f"'{self.name}' was lost by {self.holder}: {self._problem}")

    def end(self, *, let_go: bool = True) -> None:
        self._ended.set()
        self._thread.join()
        if let_go:
            with self._connect() as conn:
                ledger.release_lease(conn, self.name, self.holder)


@contextmanager
def turn(
    connect: Connect, holder: str, seconds: int = SECONDS, name: str = LEASE, *, let_go: bool = True
) -> Iterator[Turn]:
    """Holds the lease `name` while the block runs, and for `seconds` more unless it is let go then.

    Raises LeaseHeldError, which names who has it and until when.
    """
    held = Turn(connect, holder, seconds, name)
    try:
        yield held
    finally:
        held.end(let_go=let_go)
