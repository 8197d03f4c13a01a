"""The catalog as the engine sees it: names become datasets, commands become changes (the seam is datasets.Catalog)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol

import pyarrow as pa

from embedded.sql import acting
from embedded.sql.access import Access
from embedded.sql.catalog import metadata, names, permits
from embedded.sql.catalog.accounts import Accounts
from embedded.sql.catalog.entities import Entity
from embedded.sql.catalog.iceberg_source import IcebergSource
from embedded.sql.catalog.policy import MetadataPolicy
from embedded.sql.catalog.postgres_source import PostgresSource
from embedded.sql.catalog.s3_source import S3Source
from embedded.sql.catalog.scope import Scope
from embedded.sql.catalog.service import CatalogService, Item, Place
from embedded.sql.datasets import (
    Dataset,
    FileTable,
    IcebergTable,
    Materialization,
    Path,
    S3Access,
    SystemTable,
    UserFunction,
    View,
)
from embedded.sql.engine.datatypes import type_text
from embedded.sql.engine.statements import Grant
from embedded.sql.errors import ConcurrentModification, NotFound, UnsupportedError, ValidationError

_PINNED = re.compile(r"\bAT\s+SNAPSHOT\s+'(-?\d+)'", re.IGNORECASE)


class ReflectionCommands(Protocol):
    """What the reflection manager does for SQL."""

    def create_from_sql(self, dataset: Entity, definition: Mapping[str, object]) -> str: ...

    def drop_named(self, dataset: Entity, name: str) -> str: ...

    def set_acceleration(self, dataset: Entity, kind: Literal["RAW", "AGGREGATION"], *, enabled: bool) -> str: ...

    def refresh_from_sql(self, dataset: Entity) -> str: ...

    def lineage(self, reflection_id: str) -> pa.Table: ...

    def serving(self) -> Sequence[Materialization]: ...


class EngineCatalog:
    """Implements datasets.Catalog. `system_table` knows INFORMATION_SCHEMA and sys; None: no such table."""

    def __init__(
        self,
        service: CatalogService,
        reflections: ReflectionCommands,
        system_table: Callable[[Path], pa.Table | None],
        access: Access,
        accounts: Accounts,
        on_resolve: Callable[[], None] = lambda: None,
        on_query: Callable[[str], None] = lambda entity_id: None,
    ) -> None:
        self._service = service
        self._reflections = reflections
        self._system_table = system_table
        self._access = access
        self._accounts = accounts
        self._on_resolve = on_resolve
        self._on_query = on_query

    # Names ------------------------------------------------------------------------------------------------------

    def resolve(self, path: Path, context: Path) -> Dataset:
        """First relative to the context, then as it stands. Raises NotFound in Dremio's words."""
        self._on_resolve()
        for candidate in _candidates(path, context):
            found = self._lookup(candidate)
            if found is not None:
                if not isinstance(found, SystemTable):
                    self._access.need("SELECT", found.path)
                return found
        if len(path) == 1:
            raise NotFound(f"Object '{path[0]}' not found")
        raise NotFound(f"Object '{path[-1]}' not found within '{names.dotted(path[:-1])}'")

    def _lookup(self, path: Path) -> Dataset | None:
        if not path:
            return None
        if path[0].lower() in names.RESERVED_ROOTS:
            data = self._system_table(path)
            return None if data is None else SystemTable(path, data)
        entity = self._service.entities.find(path)
        if entity is not None and entity.kind == "view":
            return View(
                entity.path, entity.body["sql"], tuple(entity.body["context"]), str(entity.body.get("owner", ""))
            )
        root = self._service.entities.find(path[:1])
        if root is None or root.kind != "source":
            return None
        source = self._service.source(root)
        if not isinstance(source, S3Source):
            return source.table((root.name, *path[1:]))
        if entity is None and _promotes(root) and len(path) > 1 and source.files(path[1:]):
            entity = self._service.promote(path, {"type": "Parquet"})
        if entity is None or entity.kind != "table":
            return None
        return self._file_table(entity, source)

    def _file_table(self, entity: Entity, source: S3Source) -> FileTable:
        known = self._service.known_metadata(entity)
        self._on_query(entity.id)
        if MetadataPolicy.of(self._service.root(entity.path)).due_at_query(known.refreshed_at):
            self._service.refresh_by_policy(entity)
            known = self._service.known_metadata(entity)
        options = dict(entity.body.get("format", {}))
        if options.get("type") == "Delta":
            options["version"] = known.files[0].etag
        return FileTable(
            path=entity.path,
            files=tuple(file.uri for file in known.files),
            format=options.get("type", "Parquet"),
            access=source.access,
            columns=tuple((field.name, type_text(field.type)) for field in known.columns),
            format_options=options,
            version=f"{known.version}.{_digest(known)}",
        )

    # Privileges -------------------------------------------------------------------------------------------------

    def permit(self, statement: object, context: Path) -> None:
        """Raises PermissionDenied unless the user may run such a statement on the objects it names."""

        def full(path: Path) -> Path:
            return self._known_path((*context, *path) if len(path) == 1 else path)

        permits.check(self._access, statement, full, lambda path: self._service.entities.find(path) is not None)

    def _known_path(self, path: Path) -> Path:
        """A schema quoted as one identifier with dots is taken apart where only that names something."""
        if path and self._service.entities.find(path[:1]) is None:
            return tuple(part for name in path[:-1] for part in name.split(".")) + path[-1:]
        return path

    def on_behalf(self, view: View) -> AbstractContextManager[None]:
        """What a view reads is read with its owner's privileges; a view of the server's own may read everything."""
        return acting.as_user(view.owner or None)

    def grant(self, statement: Grant) -> str:
        """GRANT and REVOKE of privileges on an object."""
        revoke = statement.revoke
        self._access.need_enterprise("REVOKE" if revoke else "GRANT")
        path = self._known_path(statement.path)
        kind = _GRANTED_ON[statement.object_type]
        if path:
            item = self._service.by_path(path)
            kind = object_type(item)
            path = item.path
        change = self._access.revoke if revoke else self._access.grant
        change(statement.grantee_type, statement.grantee, statement.privileges, kind, path)
        what = ", ".join(statement.privileges)
        words = f"revoked from {statement.grantee}" if revoke else f"granted to {statement.grantee}"
        return f"Privilege [{what}] on [{names.dotted(path) or kind}] {words}."

    def change_accounts(self, statement: object) -> str:
        """CREATE, ALTER and DROP of users and roles, GRANT and REVOKE of roles."""
        return self._accounts.change(statement)

    # Tables -----------------------------------------------------------------------------------------------------

    def iceberg_target(self, path: Path) -> IcebergTable:
        root = self._service.root(path)
        source = self._service.source(root) if root.kind == "source" else None
        if not isinstance(source, IcebergSource):
            raise UnsupportedError(
                f"[{root.name}] does not support tables: CREATE TABLE needs a source of type RESTCATALOG"
            )
        known = self._service.entities.find(path)
        if known is not None and known.kind == "view":
            raise ValidationError(
                f"A view with given name [{known.name}] already exists in schema [{names.dotted(path[:-1])}]."
            )
        return source.target((root.name, *path[1:]))

    def table_changed(self, path: Path) -> None:
        self._service.table_changed(path, owner=acting.user() or "")

    def refresh_metadata(self, path: Path, options: Mapping[str, object]) -> str:
        """ALTER PDS ... REFRESH METADATA; options: files, partitions, promotion, update, missing."""
        root = self._service.root(path)
        shown = names.dotted(path)
        if root.kind != "source":
            raise ValidationError(f"Table '{shown}' not found: REFRESH METADATA works on tables, not on views")
        source = self._service.source(root)
        if not isinstance(source, S3Source):
            return self._refresh_live(root, path)
        entity = self._service.entities.find(path)
        if entity is None:
            return self._promote(path, root, options)
        change = self._service.refresh(entity, only=Scope.of(options), delete_missing=_delete_missing(root, options))
        return _refresh_words(shown, change, force=options.get("update") != "LAZY")

    def _refresh_live(self, root: Entity, path: Path) -> str:
        source = self._service.source(root)
        source.forget(path)
        found = source.table((root.name, *path[1:]))
        if found is None:
            raise NotFound(f"Table '{names.dotted(path)}' not found")
        self._service.table_changed(found.path)
        return _refresh_words(names.dotted(path), "CHANGED", force=True)

    def _promote(self, path: Path, root: Entity, options: Mapping[str, object]) -> str:
        promotion = options.get("promotion") or ("AUTO" if _promotes(root) else "AVOID")
        if promotion != "AUTO":
            raise NotFound(f"Table '{names.dotted(path)}' not found")
        try:
            self._service.promote(path, {"type": "Parquet"})
        except ConcurrentModification:  # two refreshes at once: the other one has just learned the same files
            return _refresh_words(names.dotted(path), "UNCHANGED", force=True)
        return _refresh_words(names.dotted(path), "CHANGED", force=True)

    def forget_metadata(self, path: Path) -> str:
        entity = self._service.entities.find(path)
        if entity is None or entity.kind != "table" or entity.body.get("live"):
            raise NotFound(f"Table '{names.dotted(path)}' not found")
        self._service.metadata.forget(entity.id)
        return f"Successfully removed table '{names.dotted(path)}' from namespace (and not from the source)"

    # Functions and files ----------------------------------------------------------------------------------------

    def find_function(self, path: Path, context: Path) -> UserFunction | None:
        for candidate in _candidates(path, context):
            entity = self._service.entities.find(candidate)
            if entity is not None and entity.kind == "function":
                self._access.need("SELECT", entity.path)
                return _function(entity)
        return None

    def functions(self) -> Sequence[UserFunction]:
        return [_function(entity) for entity in self._service.entities.of_kind("function")]

    def put_function(self, function: UserFunction, *, replace: bool) -> None:
        body = {
            "parameters": [list(parameter) for parameter in function.parameters],
            "returns": function.returns if isinstance(function.returns, str) else [list(c) for c in function.returns],
            "sql": function.body,
            "context": list(function.context),
            "owner": acting.user() or "",
        }
        self._service.put_function(function.path, body, replace=replace)

    def drop_function(self, path: Path) -> bool:
        return self._service.drop_function(path)

    def external_source(self, name: str) -> str | None:
        source = self._service.source(self._source_root(name))
        self._access.need("EXTERNAL QUERY", (name,))
        return source.dsn if isinstance(source, PostgresSource) else None

    def has_root(self, name: str) -> bool:
        return self._service.entities.find((name,)) is not None

    def copy_source(self, location: Path) -> tuple[Sequence[str], S3Access]:
        source = self._service.source(self._source_root(location[0]))
        if not isinstance(source, S3Source):
            raise UnsupportedError(f"COPY INTO reads files of sources of type S3; [{location[0]}] is of another type")
        self._access.need("SELECT", location)
        found = source.files(location[1:])
        if not found:
            raise NotFound(f"No files are found in '@{'/'.join(location)}'")
        return [uri for uri, _ in found], source.access

    def _source_root(self, name: str) -> Entity:
        root = self._service.entities.find((name,))
        if root is None or root.kind != "source":
            raise NotFound(f"Source [{name}] not found")
        return root

    # Views and folders ------------------------------------------------------------------------------------------

    def put_view(self, path: Path, sql: str, context: Path, columns: pa.Schema, *, replace: bool) -> None:
        self._service.put_view(path, sql, context, columns, replace=replace, owner=acting.user() or "")

    def drop_view(self, path: Path, *, if_exists: bool) -> None:
        if not self._service.drop_view(path) and not if_exists:
            raise ValidationError(f"Unknown view [{names.dotted(path)}].")

    def create_folder(self, path: Path, *, if_not_exists: bool) -> str:
        try:
            self._service.create_folder(path, owner=acting.user() or "")
        except ConcurrentModification:
            if not if_not_exists:
                raise
            return f"Folder [{names.dotted(path)}] already exists."
        return f"Folder [{names.dotted(path)}] created."

    def drop_folder(self, path: Path, *, if_exists: bool) -> str:
        item = self._service.find(path)
        if isinstance(item, Place) or (isinstance(item, Entity) and item.kind == "folder"):
            if isinstance(item, Entity) and self._service.entities.children(path):
                raise ValidationError(f"Folder [{names.dotted(path)}] is not empty.")
            self._service.delete(item, None)
            return f"Folder [{names.dotted(path)}] dropped."
        if not if_exists:
            raise NotFound(f"Folder [{names.dotted(path)}] not found.")
        return f"Folder [{names.dotted(path)}] does not exist."

    def set_default_reflection(self, path: Path, enabled: bool) -> str:
        """ALTER VDS ... SET ENABLE_DEFAULT_REFLECTION: may queries on this view use its default raw reflection?"""
        entity = self._dataset(path)
        self._service.entities.update(entity, {**entity.body, "defaultReflection": enabled})
        return f"Default reflection {'enabled' if enabled else 'disabled'}"

    def pinned_snapshots(self, path: Path) -> set[int]:
        """Snapshots that views pin: they must survive VACUUM. Ids of other tables do no harm."""
        texts = (view.body["sql"] for view in self._service.entities.of_kind("view"))
        return {int(found) for text in texts for found in _PINNED.findall(text)}

    # Reflections ------------------------------------------------------------------------------------------------

    def create_reflection(self, dataset: Path, definition: Mapping[str, object]) -> str:
        return self._reflections.create_from_sql(self._dataset(dataset), definition)

    def drop_reflection(self, dataset: Path, name: str) -> str:
        return self._reflections.drop_named(self._dataset(dataset), name)

    def set_acceleration(self, dataset: Path, kind: Literal["RAW", "AGGREGATION"], *, enabled: bool) -> str:
        return self._reflections.set_acceleration(self._dataset(dataset), kind, enabled=enabled)

    def refresh_reflections(self, dataset: Path) -> str:
        return self._reflections.refresh_from_sql(self._dataset(dataset))

    def system_function(self, name: str, argument: str) -> pa.Table | None:
        """TABLE(sys.<name>('argument')); None: there is no such function."""
        return self._reflections.lineage(argument) if name == "reflection_lineage" else None

    def materializations(self) -> Sequence[Materialization]:
        return self._reflections.serving()

    def _dataset(self, path: Path) -> Entity:
        item = self._service.find(path)
        if not isinstance(item, Entity) or item.kind not in ("view", "table"):
            raise NotFound(f"Unable to find dataset {names.quoted(path)}")
        return item


_GRANTED_ON = {"VDS": "VIEW", "PDS": "TABLE", "PROJECT": "SYSTEM", "CATALOG": "SOURCE", "SCHEMA": "FOLDER"} | {
    kind: kind for kind in ("TABLE", "VIEW", "FUNCTION", "FOLDER", "SOURCE", "SPACE", "SYSTEM")
}


def object_type(item: Item) -> str:
    """What privileges call an object: the keys of access.AVAILABLE."""
    kind = item.kind.upper()
    return {"HOME": "SPACE", "FILE": "FOLDER"}.get(kind, kind)


def _function(entity: Entity) -> UserFunction:
    body = entity.body
    returns = body["returns"]
    return UserFunction(
        path=entity.path,
        parameters=tuple((name, kind, default) for name, kind, default in body["parameters"]),
        returns=returns if isinstance(returns, str) else tuple((name, kind) for name, kind in returns),
        body=body["sql"],
        context=tuple(body["context"]),
    )


def _candidates(path: Path, context: Path) -> list[Path]:
    found = [(*context, *path), path] if context else [path]
    # Some clients quote a whole schema as one identifier: "lake.silver"."orders".
    found += [
        tuple(part for name in candidate[:-1] for part in name.split(".")) + candidate[-1:]
        for candidate in list(found)
        if any("." in name for name in candidate[:-1])
    ]
    return found


def _digest(known: metadata.Metadata) -> str:
    """Of what the files are: their count of versions starts again when the metadata is forgotten."""
    text = "\n".join(f"{file.uri} {file.etag}" for file in known.files)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _promotes(root: Entity) -> bool:
    return bool(root.body.get("metadataPolicy", {}).get("autoPromoteDatasets", False))


def _delete_missing(root: Entity, options: Mapping[str, object]) -> bool:
    word = options.get("missing")
    if word is None:
        return bool(root.body.get("metadataPolicy", {}).get("deleteUnavailableDatasets", True))
    return word == "DELETE"


def _refresh_words(table: str, change: metadata.Change, *, force: bool) -> str:
    if change == "MISSING":
        return f"Table '{table}' no longer exists, metadata removed."
    if change == "UNCHANGED" and not force:
        return f"Table '{table}' read signature reviewed but source stated metadata is unchanged, no refresh occurred."
    return f"Metadata for table '{table}' refreshed."
