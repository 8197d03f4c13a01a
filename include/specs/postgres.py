"""include/platform/postgres/databases.yaml as checked values: databases, and what the policy's actions mean in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from include.paths import PLATFORM
from include.specs.policy import ACTIONS
from include.specs.reader import Node, read

FILE = PLATFORM / "postgres" / "databases.yaml"
FUTURE = ("schema", "owner")


@dataclass(frozen=True)
class Schema:
    """`read`, `write`: the actions that allow it. `future`: whose later tables count, the schema's or the owner's."""

    name: str
    read: str
    write: str | None
    future: str


@dataclass(frozen=True)
class DatabaseSpec:
    """`administrator`: an Airflow connection. `connect`, `create`: the actions that allow a session, new schemas."""

    name: str
    administrator: str
    owner: str
    connect: str
    create: str | None
    schemas: tuple[Schema, ...]


def load(file: Path = FILE) -> tuple[DatabaseSpec, ...]:
    """Raises SpecError naming the file, the field and the fix."""
    root = read(file)
    found = tuple(_database(name, node) for name, node in root.children("databases").items())
    root.done()
    return found


def _database(name: str, node: Node) -> DatabaseSpec:
    found = DatabaseSpec(
        name=name,
        administrator=node.name("administrator"),
        owner=node.name("owner"),
        connect=_action(node, "connect"),
        create=_action(node, "create") if "create" in node.raw else None,
        schemas=tuple(_schema(schema, child) for schema, child in node.children("schemas").items()),
    )
    node.done()
    return found


def _schema(name: str, node: Node) -> Schema:
    write = _action(node, "write") if "write" in node.raw else None
    schema = Schema(name, _action(node, "read"), write, node.one_of("future", FUTURE, FUTURE[0]))
    node.done()
    return schema


def _action(node: Node, key: str) -> str:
    return node.one_of(key, tuple(ACTIONS["postgres"]))
