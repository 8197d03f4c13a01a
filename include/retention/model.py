"""The words of retention, and the one protocol that every kind of target fulfils."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self

from include.retention.services import Services
from include.specs.reader import Node


class RetentionError(Exception):
    """Retention cannot go on; the message says why and what to do."""


class BlockedError(RetentionError):
    """A guard forbids a rule's deletions; the message is what the plan shows."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that may go: an object, a backup set, a table's old rows.

    id: what people read and legal holds match. count: rows, where it stands for several. since: what its age is
    counted from (ISO, UTC). facts: what deletion compares before it deletes, so that nothing newer of that name goes.
    """

    id: str
    bytes: int
    since: str
    count: int = 1
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Survey:
    """What a target counts while it looks: everything there is, and what stays for which reason."""

    count: int = 0
    bytes: int = 0
    kept: Counter[str] = field(default_factory=Counter)

    def saw(self, count: int, size: int) -> None:
        self.count += count
        self.bytes += size

    def keep(self, reason: str, count: int = 1) -> None:
        self.kept[reason] += count


@dataclass(frozen=True)
class Outcome:
    """Of one batch. gone: was deleted before. spared: is protected or another by now, and stays."""

    deleted: int = 0
    bytes: int = 0
    gone: int = 0
    spared: int = 0

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(
            self.deleted + other.deleted,
            self.bytes + other.bytes,
            self.gone + other.gone,
            self.spared + other.spared,
        )


class Target(Protocol):
    """One kind of thing that ages. `needs`: fields of Services without which the rule is skipped, with the reason."""

    kind: ClassVar[str]

    @property
    def needs(self) -> tuple[str, ...]: ...

    @classmethod
    def read(cls, node: Node) -> Self:
        """From the rule's `with` mapping. Raises SpecError."""
        ...

    def find(self, services: Services, now: dt.datetime, survey: Survey) -> Iterator[Item]:
        """What may go, in any order, and counts the rest in `survey`. Raises BlockedError."""
        ...

    def delete(self, services: Services, items: Sequence[Item]) -> Outcome:
        """Deletes what of a batch is still as it was found; safe to repeat after a crash at any point."""
        ...


@dataclass(frozen=True)
class Finding:
    """What a guard says of a rule. `level`: blocks, asks (for approval), notes."""

    level: str
    guard: str
    text: str
