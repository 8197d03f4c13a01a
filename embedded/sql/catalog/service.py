"""What one can do with the catalog. Every change is one PostgreSQL transaction; memory follows it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from embedded.sql import acting
from embedded.sql.catalog import formats, metadata, names, sources
from embedded.sql.catalog.entities import Entity, EntityStore, check_tag
from embedded.sql.catalog.iceberg_source import IcebergSource
from embedded.sql.catalog.metadata import Metadata, MetadataStore
from embedded.sql.catalog.policy import MetadataPolicy
from embedded.sql.catalog.postgres_source import PostgresSource
from embedded.sql.catalog.s3_source import S3Source
from embedded.sql.catalog.scope import Scope
from embedded.sql.catalog.sources import Child, Source
from embedded.sql.catalog.vault import Vault
from embedded.sql.database import Database
from embedded.sql.datasets import Path
from embedded.sql.errors import ConcurrentModification, NameTaken, NotFound, SqlError, ValidationError

log = logging.getLogger(__name__)

_SOURCE_TYPES: dict[str, Callable[[Entity], Source]] = {
    "S3": S3Source,
    "RESTCATALOG": IcebergSource,
    "POSTGRES": PostgresSource,
}
_PREFIX = "dremio:/"


@dataclass(frozen=True)
class Place:
    """A folder or file of a source that the catalog has no row for."""

    path: Path
    kind: Literal["folder", "file"]

    @property
    def id(self) -> str:
        return _PREFIX + "/".join(self.path)


Item = Entity | Place


class CatalogService:
    """`describe` and `describe_files` are the engine's: the columns of a view or of files, or an error."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        describe: Callable[[str, Path], pa.Schema],
        describe_files: metadata.Describe,
    ) -> None:
        self._database = database
        self._describe = describe
        self._describe_files = describe_files
        self.entities = EntityStore(database, vault)
        self.metadata = MetadataStore(database)
        self._sources: dict[str, tuple[str, Source]] = {}  # entity id -> tag, source
        self.on_removed: list[Callable[[Sequence[Entity]], None]] = []
        self.on_changed: list[Callable[[Entity], None]] = []

    # Finding ----------------------------------------------------------------------------------------------------

    def source(self, entity: Entity) -> Source:
        """The live source of a source's entity; a new one after a change of its configuration."""
        known = self._sources.get(entity.id)
        if known is None or known[0] != entity.tag:
            known = (entity.tag, _SOURCE_TYPES[entity.body["type"]](entity))
            self._sources[entity.id] = known
        return known[1]

    def root(self, path: Path) -> Entity:
        """The space or source of a path. Raises NotFound."""
        entity = self.entities.find(path[:1])
        if entity is None:
            raise NotFound(f"Object '{path[0] if path else ''}' not found")
        return entity

    def by_path(self, path: Path) -> Item:
        """Raises NotFound in Dremio's words."""
        item = self.find(path)
        if item is None:
            raise NotFound(f"Could not find entity with path [{names.dotted(path)}]")
        return item

    def find(self, path: Path) -> Item | None:
        entity = self.entities.find(path)
        if entity is not None and not self._stale(entity):
            return entity
        root = self.entities.find(path[:1])
        if root is None or root.kind != "source" or len(path) < 2:
            return None
        source = self.source(root)
        table = source.table(path)
        if table is not None:
            return self._register(table.path)
        return self._place(source, root, path)

    def _stale(self, entity: Entity) -> bool:
        """A table that its source no longer has (someone dropped it behind our back)."""
        if entity.kind != "table" or not entity.body.get("live"):
            return False
        source = self.source(self.root(entity.path))
        source.forget(entity.path)
        if source.table(entity.path) is not None:
            return False
        self._delete([entity])
        return True

    def _place(self, source: Source, root: Entity, path: Path) -> Place | None:
        sub = path[1:]
        if source.children(sub) is not None:
            return Place((root.name, *sub), "folder")
        siblings = source.children(sub[:-1]) or []
        match = next((child for child in siblings if child.name.lower() == sub[-1].lower()), None)
        if match is None or match.kind == "table":
            return None
        return Place((root.name, *sub[:-1], match.name), match.kind)

    def _register(self, path: Path, owner: str = "") -> Entity:
        """The row of a table that its source knows: its id, owner, reflections, wiki and tags hang on it."""
        with self.entities.guard:
            known = self.entities.find(path)
            return known or self.entities.insert(Entity("table", path, {"live": True, "owner": owner}))

    def by_id(self, entity_id: str) -> Item:
        """An id is a UUID, or `dremio:/source/folder` for what has no row. Raises NotFound."""
        if entity_id.startswith(_PREFIX):
            path = tuple(part for part in entity_id.removeprefix(_PREFIX).split("/") if part)
            item = self.find(path) if path else None
        else:
            item = self.entities.get(entity_id)
            if item is not None and self._stale(item):
                item = None
        if item is None:
            raise NotFound(f"Could not find entity with id [{entity_id}]")
        return item

    def dataset(self, entity_id: str) -> Entity:
        """Raises NotFound when the id is not that of a table or view."""
        try:
            item = self.by_id(entity_id)
        except NotFound:
            item = None
        if not isinstance(item, Entity) or item.kind not in ("view", "table"):
            raise NotFound(f"Could not find dataset with id [{entity_id}]")
        return item

    def columns(self, entity: Entity) -> pa.Schema:
        """The columns of a dataset as the catalog knows them. Raises NotFound, ResourceError."""
        if entity.kind == "view":
            return metadata.columns_from(entity.body["columns"])
        if entity.body.get("live"):
            return self.source(self.root(entity.path)).columns(entity.path)
        return self.known_metadata(entity).columns

    def known_metadata(self, entity: Entity) -> Metadata:
        """Of a promoted table; learns it when it was forgotten."""
        found = self.metadata.get(entity.id)
        if found is None:
            self.refresh(entity)
            found = self.metadata.get(entity.id)
        if found is None:
            raise NotFound(f"Table '{names.dotted(entity.path)}' not found")
        return found

    def children(self, item: Item) -> list[Entity | Place]:
        """What lies directly under a container."""
        rows = [child for child in self.entities.children(item.path) if not child.body.get("live")]
        root = self.root(item.path)
        if root.kind != "source":
            return list(rows)
        found: dict[names.Key, Entity | Place] = {row.key: row for row in rows}
        for child in self.source(root).children(item.path[1:]) or ():
            path = (*item.path, child.name)
            if names.key(path) not in found:
                found[names.key(path)] = self._child(path, child)
        return [found[key] for key in sorted(found)]

    def _child(self, path: Path, child: Child) -> Entity | Place:
        if child.kind == "table":
            return self._register(path)
        return Place(path, child.kind)

    # Containers -------------------------------------------------------------------------------------------------

    def create_home(self, user: str) -> None:
        if self.entities.find((f"@{user}",)) is None:
            self.entities.insert(Entity("home", (f"@{user}",)))

    def owner(self, path: Path) -> str | None:
        """The name of the user who owns exactly this object, if one does."""
        entity = self.entities.find(path)
        if entity is None:
            return None
        return entity.name.removeprefix("@") if entity.kind == "home" else entity.body.get("owner") or None

    def create_space(self, name: str, *, owner: str = "") -> Entity:
        names.check_root(name)
        return self.entities.insert(Entity("space", (name,), {"owner": owner}))

    def create_folder(self, path: Path, *, owner: str = "") -> Entity | Place:
        """A folder of a space, or the namespace of an Iceberg catalog. 409 when it exists."""
        if len(path) < 2:
            raise ValidationError("A folder needs a parent: path must have at least two parts")
        names.check_folder(path[-1])
        root = self.root(path)
        if root.kind == "source":
            return self._create_source_folder(root, path)
        with self.entities.guard:
            self._check_parent(path)
            return self.entities.insert(Entity("folder", self._spelled_parent(path) + path[-1:], {"owner": owner}))

    def _create_source_folder(self, root: Entity, path: Path) -> Place:
        source = self.source(root)
        if not isinstance(source, IcebergSource):
            raise ValidationError("Can not create a folder inside a [SOURCE]")
        if not source.create_namespace(path[1:]):
            raise NameTaken(f"An object already exists with that name: {names.dotted(path)}")
        return Place((root.name, *path[1:]), "folder")

    def _check_parent(self, path: Path) -> None:
        parent = self.entities.find(path[:-1])
        if parent is None or parent.kind not in ("home", "space", "folder"):
            raise ValidationError(f"Parent folder [{names.dotted(path[:-1])}] of [{names.dotted(path)}] does not exist")

    def _spelled_parent(self, path: Path) -> Path:
        parent = self.entities.find(path[:-1])
        return parent.path if parent is not None else path[:-1]

    def drop_source_folder(self, path: Path) -> bool:
        """Drop a namespace of an Iceberg catalog; False when there is none."""
        source = self.source(self.root(path))
        if not isinstance(source, IcebergSource):
            raise ValidationError("Can not drop a folder inside a [SOURCE]")
        dropped = source.drop_namespace(path[1:])
        if dropped:
            self._tell_removed([Entity("folder", path)])
        return dropped

    # Sources ----------------------------------------------------------------------------------------------------

    def create_source(self, name: str, kind: str, config: Mapping[str, Any], options: Mapping[str, Any]) -> Entity:
        """Raises ValidationError when the source does not answer: a typing error shows at once."""
        names.check_root(name)
        if self.entities.find((name,)) is not None:
            raise NameTaken(f"An object already exists with that name: {name}")
        public, secrets = sources.split(kind, config, {})
        entity = Entity("source", (name,), {**options, "type": kind, "config": public}, secrets)
        self._check_source(entity)
        return self.entities.insert(entity)

    def update_source(
        self, entity: Entity, tag: str | None, kind: str, config: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Entity:
        check_tag(entity, tag)
        if kind != entity.body["type"]:
            raise ValidationError(
                f"The type of source [{entity.name}] cannot change from {entity.body['type']} to {kind}"
            )
        public, secrets = sources.split(kind, config, entity.secrets)
        body = {"owner": entity.body.get("owner", ""), **options, "type": kind, "config": public}
        self._check_source(Entity("source", entity.path, body, secrets))
        return self.entities.update(entity, body, secrets)

    def _check_source(self, entity: Entity) -> None:
        problem = _SOURCE_TYPES[entity.body["type"]](entity).probe()
        if problem:
            raise ValidationError(f"Failure creating/updating this source [{entity.name}]. {problem}")

    # Views ------------------------------------------------------------------------------------------------------

    def put_view(
        self, path: Path, sql: str, context: Path, columns: pa.Schema, *, replace: bool, owner: str = ""
    ) -> Entity:
        """Create or replace, in one statement of PostgreSQL: readers see the old text or the new one."""
        names.check_dataset(path[-1])
        path = self._place_of_view(path)
        body = {"sql": sql, "context": list(context), "columns": metadata.columns_to(columns), "owner": owner}
        with self.entities.guard:
            known = self.entities.find(path)
            if known is None:
                return self.entities.insert(Entity("view", path, body))
            if known.kind != "view":
                raise ValidationError(
                    f"A non-view table with given name [{known.name}] already exists in schema "
                    f"[{names.dotted(path[:-1])}]."
                )
            if not replace:
                raise ConcurrentModification(
                    f"A view with given name [{known.name}] already exists in schema [{names.dotted(path[:-1])}]."
                )
            changed = self.entities.update(known, body)
        if any(known.body[part] != body[part] for part in ("sql", "context")):
            self._tell_changed(changed)
        return changed

    def _place_of_view(self, path: Path) -> Path:
        """The path as its parents are spelled. A catalog of Iceberg tables holds views too, beside them."""
        root = self.root(path)
        if root.kind != "source":
            self._check_parent(path)
            return self._spelled_parent(path) + path[-1:]
        source = self.source(root)
        if not isinstance(source, IcebergSource):
            raise ValidationError(
                f"Cannot create view [{names.dotted(path)}]: views live in spaces, and [{root.name}] is a source"
            )
        target = source.target((root.name, *path[1:])).path
        if source.table(target) is not None:
            raise ValidationError(
                f"A non-view table with given name [{path[-1]}] already exists in schema [{names.dotted(path[:-1])}]."
            )
        return target

    def put_function(self, path: Path, body: Mapping[str, Any], *, replace: bool) -> Entity:
        """Create or replace a function in a space, home or folder."""
        names.check_dataset(path[-1])
        if self.root(path).kind == "source":
            raise ValidationError(f"Cannot create function [{names.dotted(path)}]: functions live in spaces")
        with self.entities.guard:
            known = self.entities.find(path)
            if known is None:
                self._check_parent(path)
                return self.entities.insert(Entity("function", self._spelled_parent(path) + path[-1:], body))
            if known.kind != "function" or not replace:
                raise ConcurrentModification(f"An object already exists with that name: {names.dotted(path)}")
            return self.entities.update(known, body)

    def drop_function(self, path: Path) -> bool:
        """False when there is no function of this name."""
        with self.entities.guard:
            entity = self.entities.find(path)
            if entity is None or entity.kind != "function":
                return False
            self._delete([entity])
        return True

    def save_view(self, path: Path, sql: str, context: Path, *, owner: str) -> Entity:
        """Create a view over REST: 409 when the path is taken."""
        if not path or len(path) < 2:
            raise ValidationError("A view needs a space: path must have at least two parts")
        if self.entities.find(path) is not None:
            raise NameTaken(f"An object already exists with that name: {names.dotted(path)}")
        return self.put_view(path, sql, context, self._describe(sql, context), replace=False, owner=owner)

    def update_view(self, entity: Entity, tag: str | None, sql: str, context: Path, *, owner: str) -> Entity:
        check_tag(entity, tag)
        return self.put_view(entity.path, sql, context, self._describe(sql, context), replace=True, owner=owner)

    # Promoted tables --------------------------------------------------------------------------------------------

    def promote(self, path: Path, format_: Mapping[str, Any]) -> Entity:
        """Make a folder or file of an S3 source a table: row and metadata in one transaction."""
        chosen = formats.checked(format_)
        root = self.root(path)
        source = self._s3(root)
        path = (root.name, *path[1:])
        change, learned = metadata.learn(source, path, chosen, None, self._describe_files)
        if change == "MISSING" or learned is None:
            raise formats.missing(path, chosen["type"])
        entity = Entity("table", path, {"format": chosen, "owner": acting.user() or ""})
        with self.entities.guard:
            if self.entities.find(path) is not None:
                raise NameTaken(f"An object already exists with that name: {names.dotted(path)}")
            with self._database.transaction() as connection:
                self.entities.insert(entity, connection)
                self.metadata.write(entity.id, learned, connection)
            self.metadata.remember(entity.id, learned)
            self.entities.remember(entity)
        log.info("Promoted %s: %d files, %d rows", names.dotted(path), len(learned.files), learned.rows)
        return entity

    def _s3(self, root: Entity) -> S3Source:
        source = self.source(root) if root.kind == "source" else None
        if not isinstance(source, S3Source):
            raise ValidationError(f"[{root.name}] holds no files that could be promoted")
        return source

    def refresh(self, entity: Entity, *, only: Scope | None = None, delete_missing: bool = True) -> metadata.Change:
        """Look at the files again. MISSING: none is left, and the table is gone if `delete_missing`."""
        before = self.metadata.get(entity.id)
        source = self._s3(self.root(entity.path))
        change, learned = metadata.learn(source, entity.path, entity.body["format"], before, self._describe_files, only)
        if change == "MISSING":
            if delete_missing:
                self._delete([entity])
            return change
        assert learned is not None
        if change == "UNCHANGED":
            self.metadata.touch(entity.id, learned)
        else:
            self.metadata.save(entity.id, learned)
            log.info("Refreshed %s: %d files, %d rows", names.dotted(entity.path), len(learned.files), learned.rows)
            self._tell_changed(entity)
        return change

    def reformat(self, entity: Entity, format_: Mapping[str, Any]) -> Entity:
        """Read a promoted table's files with another format or other options; the old ones stay when that fails."""
        chosen = formats.checked(format_)
        before = self.metadata.get(entity.id)
        source = self._s3(self.root(entity.path))
        change, learned = metadata.learn(source, entity.path, chosen, None, self._describe_files)
        if change == "MISSING" or learned is None:
            raise formats.missing(entity.path, chosen["type"])
        learned = dataclasses.replace(learned, version=(before.version if before else 0) + 1)
        with self.entities.guard:
            changed = self.entities.update(entity, {**entity.body, "format": chosen})
            self.metadata.save(entity.id, learned)
        self._tell_changed(changed)
        return changed

    def refresh_by_policy(self, entity: Entity) -> None:
        """What the source's metadata policy asks for when metadata have grown old."""
        policy = self.root(entity.path).body.get("metadataPolicy") or {}
        self.refresh(entity, delete_missing=bool(policy.get("deleteUnavailableDatasets", True)))

    def metadata_expired(self, entity: Entity) -> bool:
        """Whether the metadata of a promoted table is older than its source's datasetExpireAfterMs."""
        known = self.metadata.get(entity.id)
        policy = MetadataPolicy.of(self.root(entity.path))
        return known is None or policy.expired(known.refreshed_at)

    def table_changed(self, path: Path, *, owner: str = "") -> None:
        """A table of a live source was created, written or dropped through us; `owner` is who made a new one."""
        root = self.root(path)
        source = self.source(root)
        source.forget(path)
        entity = self.entities.find(path)
        table = source.table(path)
        if entity is None:
            if table is not None and owner:
                self._register(table.path, owner)
            return
        if table is None:
            self._delete([entity])
        else:
            self._tell_changed(entity)

    def _tell_changed(self, entity: Entity) -> None:
        for listener in self.on_changed:
            listener(entity)

    # Removing ---------------------------------------------------------------------------------------------------

    def delete(self, item: Item, tag: str | None) -> None:
        """DELETE /catalog/{id}: a promoted table goes back to being a folder, a container takes all inside with it."""
        if isinstance(item, Place):
            if item.kind != "folder" or not self.drop_source_folder(item.path):
                raise ValidationError(f"[{names.dotted(item.path)}] cannot be deleted")
            return
        check_tag(item, tag)
        if item.kind == "home":
            raise ValidationError("A home cannot be deleted")
        if item.kind == "table" and item.body.get("live"):
            raise ValidationError(f"Table [{names.dotted(item.path)}] cannot be deleted here: use DROP TABLE")
        with self.entities.guard:
            self._delete([item, *self.entities.below(item.path)])

    def _delete(self, doomed: Sequence[Entity]) -> None:
        self.entities.delete(doomed)
        self.metadata.dropped([entity.id for entity in doomed])
        for entity in doomed:
            self._sources.pop(entity.id, None)
        self._tell_removed(doomed)

    def _tell_removed(self, doomed: Sequence[Entity]) -> None:
        for listener in self.on_removed:
            try:
                listener(doomed)
            except SqlError:
                log.exception("After the removal of %s", names.dotted(doomed[0].path))

    def drop_view(self, path: Path) -> bool:
        """False when there is none. Raises ValidationError for something that is not a view."""
        with self.entities.guard:
            entity = self.entities.find(path)
            if entity is None:
                return False
            if entity.kind != "view":
                raise ValidationError(f"[{names.dotted(path)}] is not a VIEW")
            self._delete([entity])
        return True
