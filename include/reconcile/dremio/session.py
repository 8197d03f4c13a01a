"""One walk over the declared state: notes what differs, and makes it so when it applies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from include.reconcile.plan import ApplyError, Change
from lakehouse_providers.dremio import errors
from lakehouse_providers.dremio.administration import Administration
from lakehouse_providers.dremio.client import DremioClient


@dataclass
class Session:
    """`apply`: change what differs; otherwise only look."""

    client: DremioClient
    apply: bool
    changes: list[Change] = field(default_factory=list)

    @property
    def admin(self) -> Administration:
        return Administration(self.client)

    def make(self, change: Change, do: Callable[[], Any]) -> None:
        """Notes the change, then makes it. Raises ApplyError, which names it and what was applied before."""
        if self.apply:
            with self.naming(f"{change.action} {change.kind} {change.name}"):
                do()
        self.changes.append(change)

    def naming(self, what: str) -> _Naming:
        return _Naming(what, self.changes if self.apply else [])


class _Naming:
    """Turns Dremio's refusal into an ApplyError that says at which object."""

    def __init__(self, what: str, done: list[Change]) -> None:
        self._what, self._done = what, done

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, errors.DremioError):
            before = f" Applied before it: {len(self._done)} changes, which stay." if self._done else ""
            raise ApplyError(f"{self._what}: {error}.{before}") from error
