"""For whom the code of this thread works. One place, so that REST, SQL and Flight cannot disagree on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

_USER: ContextVar[str | None] = ContextVar("acting_user", default=None)

SYSTEM = "$dremio$"  # whom Dremio names as the user of its own jobs


@contextlib.contextmanager
def as_user(name: str | None) -> Iterator[None]:
    """Everything inside is done for this user; None or SYSTEM: for the server itself, which may do anything."""
    token = _USER.set(None if name == SYSTEM else name)
    try:
        yield
    finally:
        _USER.reset(token)


def user() -> str | None:
    return _USER.get()
