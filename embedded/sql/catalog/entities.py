"""The entities of the catalog: rows in PostgreSQL with a full copy in memory, so that reads cost nothing."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

import psycopg
from psycopg.types.json import Jsonb

from embedded.sql import clock
from embedded.sql.catalog import names
from embedded.sql.catalog.vault import Vault
from embedded.sql.database import Database, Row
from embedded.sql.datasets import Path
from embedded.sql.errors import ConcurrentModification, NameTaken, NotFound

Kind = Literal["home", "space", "source", "folder", "view", "table", "function"]


@dataclass(frozen=True)
class Entity:
    """`body` holds what the kind needs: a view's sql, context and columns; a source's type and config; ..."""

    kind: Kind
    path: Path
    body: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    tag: str = field(default_factory=lambda: str(uuid.uuid4()))
    created_at: datetime = field(default_factory=clock.now)

    @property
    def key(self) -> names.Key:
        return names.key(self.path)

    @property
    def name(self) -> str:
        return self.path[-1]


class EntityStore:
    """One process owns the rows, so memory is the truth for readers; PostgreSQL is written first."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault
        self.guard = threading.RLock()  # held across check and write
        self._by_key: dict[names.Key, Entity] = {}
        self._by_id: dict[str, Entity] = {}

    def load(self) -> None:
        """Read everything. Raises VaultError when the secrets cannot be read with the keys at hand."""
        rows = self._database.rows("select * from entities")
        entities = [self._entity(row) for row in rows]
        for row, entity in zip(rows, entities, strict=True):
            if self._vault.stale(row["secrets"]):
                self._database.execute(
                    "update entities set secrets = %s where id = %s",
                    (Jsonb(self._vault.lock(entity.secrets)), entity.id),
                )
        with self.guard:
            self._by_key = {entity.key: entity for entity in entities}
            self._by_id = {entity.id: entity for entity in entities}

    def _entity(self, row: Row) -> Entity:
        return Entity(
            kind=row["kind"],
            path=tuple(row["path"]),
            body=row["body"],
            secrets=self._vault.open(row["secrets"], row["path"][-1]),
            id=str(row["id"]),
            tag=row["tag"],
            created_at=row["created_at"],
        )

    # Reading ----------------------------------------------------------------------------------------------------

    def find(self, path: Path) -> Entity | None:
        return self._by_key.get(names.key(path))

    def get(self, entity_id: str) -> Entity | None:
        return self._by_id.get(entity_id.lower())

    def need(self, entity_id: str) -> Entity:
        entity = self.get(entity_id)
        if entity is None:
            raise NotFound(f"Could not find entity with id [{entity_id}]")
        return entity

    def of_kind(self, *kinds: Kind) -> list[Entity]:
        with self.guard:
            return sorted((e for e in self._by_key.values() if e.kind in kinds), key=lambda e: e.key)

    def children(self, path: Path) -> list[Entity]:
        parent = names.key(path)
        with self.guard:
            found = [e for k, e in self._by_key.items() if len(k) == len(parent) + 1 and k[:-1] == parent]
        return sorted(found, key=lambda e: e.key)

    def below(self, path: Path) -> list[Entity]:
        """Everything under a path, itself not included."""
        top = names.key(path)
        with self.guard:
            found = [e for k, e in self._by_key.items() if len(k) > len(top) and k[: len(top)] == top]
        return sorted(found, key=lambda e: e.key)

    # Writing ----------------------------------------------------------------------------------------------------

    def insert(self, entity: Entity, connection: psycopg.Connection[Row] | None = None) -> Entity:
        """Raises ConcurrentModification (409) when the path is taken.

        With a `connection` the caller's transaction decides; it must call `remember` after its commit.
        """
        with self.guard:
            if entity.key in self._by_key:
                raise NameTaken(f"An object already exists with that name: {names.dotted(entity.path)}")
            if connection is not None:
                self._insert(entity, connection)
                return entity
            with self._database.transaction() as own:
                self._insert(entity, own)
            self.remember(entity)
        return entity

    def _insert(self, entity: Entity, connection: psycopg.Connection[Row]) -> None:
        connection.execute(
            "insert into entities (id, kind, path, key, tag, created_at, body, secrets)"
            " values (%s, %s, %s, %s, %s, %s, %s, %s)",
            (
                entity.id,
                entity.kind,
                list(entity.path),
                names.key_text(entity.path),
                entity.tag,
                entity.created_at,
                Jsonb(dict(entity.body)),
                Jsonb(self._vault.lock(entity.secrets)),
            ),
        )

    def update(self, entity: Entity, body: Mapping[str, Any], secrets: Mapping[str, str] | None = None) -> Entity:
        """Replace the body (and secrets) under a new tag, in one statement."""
        changed = replace(
            entity, body=body, secrets=entity.secrets if secrets is None else secrets, tag=str(uuid.uuid4())
        )
        with self.guard:
            self._database.execute(
                "update entities set body = %s, secrets = %s, tag = %s where id = %s",
                (Jsonb(dict(changed.body)), Jsonb(self._vault.lock(changed.secrets)), changed.tag, changed.id),
            )
            self.remember(changed)
        return changed

    def delete(self, entities: Iterable[Entity]) -> None:
        """Delete these rows, and by cascade what hangs on them, in one transaction."""
        doomed = list(entities)
        with self.guard:
            self._database.execute(
                "delete from entities where id = any(%s::uuid[])", ([entity.id for entity in doomed],)
            )
            for entity in doomed:
                self._by_key.pop(entity.key, None)
                self._by_id.pop(entity.id, None)

    def remember(self, entity: Entity) -> None:
        with self.guard:
            self._by_key[entity.key] = entity
            self._by_id[entity.id] = entity


def check_tag(entity: Entity, tag: str | None) -> None:
    """Raises ConcurrentModification (409) when someone else has changed the entity meanwhile."""
    if tag is not None and tag != entity.tag:
        raise ConcurrentModification(
            f"The entity {names.dotted(entity.path)} has been modified since tag [{tag}]: read it again"
        )
