"""Legal holds: what a person has said must stay, whatever a rule says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import translate
from typing import Any

from include.ledger import Connection
from include.retention.model import RetentionError


@dataclass(frozen=True)
class Holds:
    """The holds in force. One compiled pattern: a plan may ask a million times."""

    pattern: re.Pattern[str] | None

    def hold(self, rule: str, item: str) -> bool:
        return self.pattern is not None and self.pattern.match(f"{rule}/{item}") is not None


def current(conn: Connection) -> Holds:
    rows = conn.execute("select pattern from lakehouse.legal_holds where lifted_at is null order by name").fetchall()
    return Holds(re.compile("|".join(translate(row["pattern"]) for row in rows)) if rows else None)


def place(conn: Connection, name: str, pattern: str, reason: str, who: str) -> None:
    """Raises RetentionError when a hold of that name exists, lifted or not: holds are a record."""
    done = conn.execute(
        "insert into lakehouse.legal_holds (name, pattern, reason, placed_by) values (%s, %s, %s, %s) "
        "on conflict do nothing",
        [name, pattern, reason, who],
    )
    if done.rowcount == 0:
        raise RetentionError(f"a hold named {name!r} exists already; choose another name")


def lift(conn: Connection, name: str, who: str) -> None:
    """Raises RetentionError when there is no such hold in force."""
    done = conn.execute(
        "update lakehouse.legal_holds set lifted_by = %s, lifted_at = clock_timestamp() "
        "where name = %s and lifted_at is null",
        [who, name],
    )
    if done.rowcount == 0:
        raise RetentionError(f"there is no hold named {name!r} in force; `hold list` shows them")


def listed(conn: Connection) -> Sequence[dict[str, Any]]:
    return conn.execute("select * from lakehouse.legal_holds order by placed_at").fetchall()
