"""Upkeep takes turns: a backup, a drill, a restore and retention never run together; who comes second waits."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from include import connections, ledger, upkeep
from include.backup.errors import StoreError
from include.connections import LEDGER
from include.settings import SETTINGS
from include.task_groups.run import holder

_WAIT = dt.timedelta(minutes=1)

# Of the tasks that may find the lease held, for as long as a run may last. Whatever else fails, fails at once: asking
# again does not change what was refused.
PATIENT: dict[str, Any] = {
    "retries": 720,
    "retry_delay": _WAIT,
    "retry_exponential_backoff": False,
    "retry_policy": ExceptionRetryPolicy(
        rules=[
            RetryRule(ledger.LeaseHeldError, RetryAction.RETRY, _WAIT, "waits its turn"),
            RetryRule([StoreError, psycopg.OperationalError], RetryAction.RETRY, _WAIT, "waits for a server"),
            RetryRule(Exception, RetryAction.FAIL),
        ]
    ),
}


@contextmanager
def holding() -> Iterator[upkeep.Turn]:
    """Keeps the lease for this run while a task works, however long; the run's last task lets go of it.

    Raises LeaseHeldError, which says who has it.
    """
    with upkeep.turn(lambda: connections.connect(LEDGER), holder(), SETTINGS.lease_seconds, let_go=False) as turn:
        yield turn
