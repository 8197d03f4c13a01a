"""The metadata database of a server that runs from another venv, migrated by a script of ours in that venv."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from embedded.durable import write_json
from embedded.programs import INHERITED, tail


@dataclass(frozen=True)
class MetadataDatabase:
    """`version`: of the installed server. `revisions`: queries for what the database says of itself.

    `script` gets `account` as JSON on its standard input. `stamp`: where the last migration is noted. `failure`: what
    is raised, with the end of the output, when the script fails.
    """

    server: str
    url: str = field(repr=False)
    version: str
    revisions: tuple[str, ...]
    python: Path
    script: Path
    account: Mapping[str, str] = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)
    folder: Path
    log: Path
    stamp: Path
    seconds: float
    failure: type[Exception]

    def migrate(self) -> None:
        """Brings it to the server's version, with the administrator, when either is missing."""
        if self.is_migrated():
            return
        with self.log.open("w", encoding="utf-8") as output:
            os.chmod(output.fileno(), 0o600)
            try:
                subprocess.run(
                    [str(self.python), "-P", str(self.script)],
                    input=json.dumps(dict(self.account)),
                    env={name: os.environ[name] for name in INHERITED if name in os.environ} | dict(self.environment),
                    cwd=self.folder,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    text=True,
                    timeout=self.seconds,
                    check=True,
                )
            except (OSError, subprocess.SubprocessError) as error:
                raise self.failure(
                    f"{self.server}'s database could not be set up ({type(error).__name__}). "
                    f"The end of {self.log}:\n{tail(self.log)}"
                ) from error
        write_json(self.stamp, self._state())

    def is_migrated(self) -> bool:
        """A database that was restored or emptied does not match the stamp, and is migrated again."""
        try:
            return bool(json.loads(self.stamp.read_text(encoding="utf-8")) == self._state())
        except (OSError, ValueError, psycopg.Error):
            return False

    def _state(self) -> dict[str, object]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            found = [str(row[0]) for query in self.revisions for row in connection.execute(query.encode())]
        return {"version": self.version, "revisions": found}
