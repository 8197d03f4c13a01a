"""The server's own folder for files that must not outlive their use: secrets for connectors, certificates, spills."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ScratchError(Exception):
    """The folder cannot be used; the message says why."""


class Scratch:
    """A private folder per server process. What a server that died left is removed by the next one that starts."""

    def __init__(self, root: Path) -> None:
        """`root` may be shared by servers of the same user; raises ScratchError if it is not private to that user."""
        self._root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = root.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise ScratchError(
                f"{root} must be a folder of this user that nobody else can enter (mode 0700): secrets are put there."
                " Set LAKEHOUSE_REPLICATION_SCRATCH to another one."
            )
        self._remove_left_over()
        self.own = root / str(os.getpid())
        self.own.mkdir(mode=0o700, exist_ok=True)

    def _remove_left_over(self) -> None:
        for folder in self._root.iterdir():
            if folder.name.isdigit() and not _alive(int(folder.name)):
                shutil.rmtree(folder, ignore_errors=True)

    def new(self, purpose: str) -> Path:
        """A new folder; whoever asks for it removes it."""
        return Path(tempfile.mkdtemp(prefix=f"{purpose}-", dir=self.own))

    @contextmanager
    def folder(self, purpose: str) -> Iterator[Path]:
        """A folder for the time of a block."""
        path = self.new(purpose)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def remove(self) -> None:
        """Everything of this server."""
        shutil.rmtree(self.own, ignore_errors=True)


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return False  # an earlier process of this number: containers give the same one again
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
