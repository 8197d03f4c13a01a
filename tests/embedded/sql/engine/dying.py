"""Runs statements on a table and kills itself (SIGKILL) at a given step of the last one.

python -m tests.embedded.sql.engine.dying <json>: {"endpoint", "access_key", "secret_key", "iceberg_uri", "namespace",
"scratch", "step", "sql"}
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pyiceberg.table import Transaction

from embedded.sql.datasets import S3Access, Session
from embedded.sql.engine import Engine, iceberg
from tests.embedded.sql.engine.conftest import MemoryCatalog, rest_catalog


def die(*_: Any, **__: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def _before_data() -> None:
    iceberg.Writer._copy = die  # type: ignore[method-assign]


def _after_data() -> None:
    iceberg.Writer._collect = die  # type: ignore[method-assign]


def _before_commit() -> None:
    @contextmanager
    def dying(*_: Any) -> Any:
        die()
        yield

    iceberg.committing = dying  # type: ignore[assignment]


def _after_commit() -> None:
    real = Transaction.commit_transaction

    def commit(self: Transaction) -> Any:
        real(self)
        die()

    Transaction.commit_transaction = commit  # type: ignore[method-assign]


def _before_delete() -> None:
    iceberg.delete_quietly = die  # type: ignore[assignment]


STEPS: dict[str, Callable[[], None]] = {
    "before data": _before_data,
    "after data": _after_data,
    "before commit": _before_commit,
    "after commit": _after_commit,
    "before delete": _before_delete,
}


def main(text: str) -> None:
    given = json.loads(text)
    store = SimpleNamespace(**given)
    access = S3Access(given["endpoint"].removeprefix("http://"), given["access_key"], given["secret_key"])
    catalog = MemoryCatalog(rest_catalog(store), access)  # type: ignore[arg-type]
    engine = Engine(catalog, scratch=Path(given["scratch"]), memory_limit="300MB", threads=1)
    STEPS[given["step"]]()
    engine.execute(given["sql"], Session("tester", (), "00000000-0000-0000-0000-000000000001"))
    print("survived")


if __name__ == "__main__":
    main(sys.argv[1])
