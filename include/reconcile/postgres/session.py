"""One database in one transaction: notes what differs, and with `apply` makes it so, wholly or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from include.reconcile.plan import ApplyError, Change

Connection = psycopg.Connection[dict[str, Any]]
MARK = "managed by open-lakehouse"


@dataclass
class Session:
    conn: Connection
    apply: bool
    changes: list[Change] = field(default_factory=list)

    def make(self, change: Change, statements: Iterable[sql.Composable]) -> None:
        """Notes the change, then makes it. Raises ApplyError, which names it; the whole database stays as it was."""
        if self.apply:
            try:
                for statement in statements:
                    self.conn.execute(statement.as_string(self.conn).encode())
            except psycopg.Error as error:
                raise ApplyError(f"{change.action} {change.kind} {change.name}: {error}") from error
        self.changes.append(change)

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        return self.conn.execute(query.encode(), values).fetchall()
