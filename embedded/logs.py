"""The services' log files, merged for reading, and followed as they grow."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from embedded.home import Home
from embedded.programs import tail

POLL_SECONDS = 0.2


class UnknownLogError(Exception):
    """There is no log of that name; the message lists those there are."""


def files(home: Home, service: str | None) -> list[Path]:
    """The log of one service, or all. Raises UnknownLogError."""
    found = sorted(home.logs.glob("*.log")) if home.logs.exists() else []
    if service is None:
        return found
    chosen = [path for path in found if path.stem == service]
    if not chosen:
        names = ", ".join(path.stem for path in found) or "none: nothing was started yet"
        raise UnknownLogError(f"there is no log of {service!r}; there are: {names}")
    return chosen


def last_lines(paths: list[Path], count: int) -> Iterator[tuple[str, str]]:
    """(service, line) of the last `count` lines of each file."""
    for path in paths:
        for line in tail(path, count).splitlines():
            yield path.stem, line


@dataclass
class _Followed:
    path: Path
    inode: int
    offset: int


def follow(paths: list[Path]) -> Iterator[tuple[str, str]]:
    """(service, line) for each line as it is written, for ever; goes on in the new file when one is rotated."""
    followed = [_Followed(path, path.stat().st_ino, path.stat().st_size) for path in paths]
    while True:
        quiet = True
        for one in followed:
            for line in _new_lines(one):
                quiet = False
                yield one.path.stem, line
        if quiet:
            time.sleep(POLL_SECONDS)


def _new_lines(one: _Followed) -> Iterator[str]:
    try:
        status = one.path.stat()
    except FileNotFoundError:
        return
    if status.st_ino != one.inode or status.st_size < one.offset:
        one.inode, one.offset = status.st_ino, 0
    if status.st_size == one.offset:
        return
    with one.path.open("rb") as file:
        file.seek(one.offset)
        text = file.read()
    complete = text[: text.rfind(b"\n") + 1]
    one.offset += len(complete)
    for line in complete.decode(errors="replace").splitlines():
        yield line.rstrip(os.linesep)
