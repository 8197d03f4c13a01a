"""Which connectors there are: one pinned, hashed requirements file each, and the venv that was made from it.

A file `locked/<name>.txt` begins with two comments, `# package: airbyte-source-faker==7.2.1` and
`# definition-id: <uuid>`. `make connector NAME=<name>` installs it into a venv of its own, asks the connector for its
specification, and puts a copy of the file beside both: a venv that was made from another file is not used.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import UUID

FOLDER = "LAKEHOUSE_REPLICATION_CONNECTORS"
LOCKED = Path(__file__).with_name("locked")
_PROJECT = Path(__file__).resolve().parents[3]
_HEADER = re.compile(r"# (package|definition-id): *(\S+)")
NAME = re.compile(r"source-[a-z0-9]+(?:-[a-z0-9]+)*")
SPECIFICATION, INSTALLED = "spec.json", ".installed"
# Whose replies the public SDK's typed unions can read back; see Definition.typed.
_TYPED = frozenset({"faker", "hardcoded-records"})


class NotInstalled(Exception):
    """The connector cannot be used on this machine yet; the message says what to run."""


@dataclass(frozen=True)
class Definition:
    """A connector that this server may run.

    name: `source-faker`, also that of its program. version: of its package. folder: its venv, there or not.
    """

    name: str
    version: str
    definition_id: UUID
    lock: Path
    folder: Path

    @property
    def type(self) -> str:
        """The `sourceType`: the name without its first word."""
        return self.name.removeprefix("source-")

    @property
    def typed(self) -> bool:
        """Whether replies carry sourceType inside `configuration`.

        The SDK parses that member into a closed union of models. With a type it does not know, or a known one whose
        configuration differs from its model, it fails for the whole page of a listing; without a type it never does.
        """
        return self.type in _TYPED

    @property
    def program(self) -> Path:
        return self.folder / "bin" / self.name

    def require(self) -> Path:
        """The program; raises NotInstalled."""
        installed = self.folder / INSTALLED
        advice = f"run `make connector NAME={self.name}`"
        if not installed.is_file():
            raise NotInstalled(f"connector {self.name} {self.version} is not installed: {advice}")
        if installed.read_bytes() != self.lock.read_bytes():
            raise NotInstalled(f"connector {self.name} was installed from another lock file: {advice}")
        return self.program

    @cached_property
    def specification(self) -> dict[str, Any]:
        """The JSON schema of its configuration (`connectionSpecification`); raises NotInstalled."""
        self.require()
        spec: dict[str, Any] = json.loads((self.folder / SPECIFICATION).read_text("utf-8"))
        return dict(spec["connectionSpecification"])

    @cached_property
    def secret_names(self) -> frozenset[str]:
        """Names of all properties, at any depth, that the specification marks as `airbyte_secret`."""
        return frozenset(_secret_names(self.specification))


def _secret_names(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for item in node:
            yield from _secret_names(item)
    elif isinstance(node, dict):
        for name, item in node.get("properties", {}).items() if isinstance(node.get("properties"), dict) else ():
            if isinstance(item, dict) and item.get("airbyte_secret"):
                yield name
        for item in node.values():
            yield from _secret_names(item)


def root(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the connectors' venvs are: LAKEHOUSE_REPLICATION_CONNECTORS, or `.venvs/connectors` of the project."""
    given = environ.get(FOLDER, "")
    return Path(given) if given else _PROJECT / ".venvs" / "connectors"


def definitions(locked: Path | None = None, folder: Path | None = None) -> dict[str, Definition]:
    """Every connector with a lock file, by type; raises ValueError naming a file whose header is wrong.

    Lock files of the project come first; a folder of installed ones may add its own (`locked/` in it).
    """
    venvs = folder or root()
    found: dict[str, Definition] = {}
    for place in [venvs / "locked", locked or LOCKED]:
        for file in sorted(place.glob("*.txt")) if place.is_dir() else []:
            made = _definition(file, venvs / file.stem)
            found[made.type] = made
    return found


def _definition(file: Path, folder: Path) -> Definition:
    with file.open(encoding="utf-8") as lines:
        found = [_HEADER.match(line) for line in (next(lines, ""), next(lines, ""))]
    header = {match[1]: match[2] for match in found if match}
    package, _, version = header.get("package", "").partition("==")
    if not version or not NAME.fullmatch(file.stem) or package != f"airbyte-{file.stem}":
        raise ValueError(f"{file.name}: the first line must be `# package: airbyte-{file.stem}==VERSION`")
    try:
        definition_id = UUID(header.get("definition-id", ""))
    except ValueError:
        raise ValueError(f"{file.name}: the second line must be `# definition-id: UUID`") from None
    return Definition(file.stem, version, definition_id, file, folder)
