"""The data folder of one platform, and what lies where in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


class HomeError(Exception):
    """The data folder cannot be used; the message says what to change."""


@dataclass(frozen=True)
class Home:
    """Everything that one platform writes lies under `root`; two platforms with two roots do not see each other."""

    root: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Home:
        """`LAKEHOUSE_HOME`, or `.lakehouse` beside the code."""
        given = environment.get("LAKEHOUSE_HOME", "")
        return cls(Path(given).expanduser().absolute() if given else PROJECT / ".lakehouse")

    @property
    def secrets(self) -> Path:
        return self.root / "secrets.json"

    @property
    def state(self) -> Path:
        return self.root / "stack.json"

    @property
    def lock(self) -> Path:
        return self.root / "stack.lock"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """The supervisor's own files."""
        return self.root / "run"

    @property
    def pg_source(self) -> Path:
        return self.root / "pg-source"

    @property
    def pg_platform(self) -> Path:
        return self.root / "pg-platform"

    @property
    def object_store(self) -> Path:
        return self.root / "object-store"

    @property
    def offsite_store(self) -> Path:
        return self.root / "offsite-store"

    @property
    def airflow(self) -> Path:
        return self.root / "airflow"

    @property
    def scratch(self) -> Path:
        return self.root / "scratch"

    @property
    def binaries(self) -> Path:
        """Copies of server programs, made only where the originals cannot be reached by the user that runs them."""
        return self.root / "lib"

    def log(self, service: str) -> Path:
        return self.logs / f"{service}.log"

    def create(self) -> None:
        """Makes the folders, private to the user. Root's home can be passed through (0711), but not listed, by others:
        PostgreSQL refuses to run as root and reaches its own data folder as another user.

        Raises HomeError when the place cannot be written.
        """
        try:
            if not self.root.exists():
                self.root.mkdir(parents=True, mode=0o700)
                self.root.chmod(0o711 if os.geteuid() == 0 else 0o700)
            for folder in (self.logs, self.run, self.object_store, self.offsite_store, self.airflow, self.scratch):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise HomeError(
                f"cannot write the data folder {self.root}: {error.strerror}; set LAKEHOUSE_HOME to a folder of yours"
            ) from error
