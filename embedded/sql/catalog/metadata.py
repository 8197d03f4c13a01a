"""Metadata of promoted folders: what the last refresh saw, and the refresh itself.

Queries see the stored list of files. A file that lands later is invisible until the next refresh, as in Dremio; a
pipeline that forgets to refresh must find that out here and not in production.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import psycopg
import pyarrow as pa
from psycopg.types.json import Jsonb

from embedded.sql import clock
from embedded.sql.catalog import formats, names, parquet
from embedded.sql.catalog.object_listing import StoredObject
from embedded.sql.catalog.s3_source import S3Source
from embedded.sql.catalog.scope import Scope
from embedded.sql.database import Database, Row
from embedded.sql.datasets import Path, S3Access
from embedded.sql.engine.datatypes import parse_type, type_text
from embedded.sql.errors import ValidationError

Change = Literal["CHANGED", "UNCHANGED", "MISSING"]


@dataclass(frozen=True)
class KnownFile:
    uri: str
    size: int
    etag: str
    rows: int


@dataclass(frozen=True)
class Metadata:
    """`version` grows with every refresh that found a change."""

    version: int
    refreshed_at: datetime
    columns: pa.Schema
    files: tuple[KnownFile, ...]

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)


class MetadataStore:
    """Metadata by entity id, in PostgreSQL; the lists of files are read once and kept."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._guard = threading.RLock()
        self._known: dict[str, Metadata] = {}

    def get(self, entity_id: str) -> Metadata | None:
        found = self._known.get(entity_id)
        if found is None:
            found = self._read(entity_id)
            if found is not None:
                self._known[entity_id] = found
        return found

    def _read(self, entity_id: str) -> Metadata | None:
        with self._database.transaction() as connection:
            # The two reads must see one refresh.
            connection.execute("set transaction isolation level repeatable read")
            row = connection.execute("select * from table_metadata where entity_id = %s", (entity_id,)).fetchone()
            files = connection.execute(
                "select uri, size, etag, row_count from table_files where entity_id = %s order by uri", (entity_id,)
            ).fetchall()
        if row is None:
            return None
        return Metadata(
            version=row["version"],
            refreshed_at=row["refreshed_at"],
            columns=columns_from(row["columns"]),
            files=tuple(KnownFile(f["uri"], f["size"], f["etag"], f["row_count"]) for f in files),
        )

    def write(self, entity_id: str, metadata: Metadata, connection: psycopg.Connection[Row]) -> None:
        """Put it into the caller's transaction; `remember` it after the commit."""
        connection.execute(
            "insert into table_metadata (entity_id, version, refreshed_at, columns, row_count)"
            " values (%s, %s, %s, %s, %s) on conflict (entity_id) do update set version = excluded.version,"
            " refreshed_at = excluded.refreshed_at, columns = excluded.columns, row_count = excluded.row_count",
            (entity_id, metadata.version, metadata.refreshed_at, Jsonb(columns_to(metadata.columns)), metadata.rows),
        )
        connection.execute(
            "delete from table_files where entity_id = %s and uri != all(%s)",
            (entity_id, [file.uri for file in metadata.files]),
        )
        with connection.cursor() as cursor:
            cursor.executemany(
                "insert into table_files (entity_id, uri, size, etag, row_count) values (%s, %s, %s, %s, %s)"
                " on conflict (entity_id, uri) do update set size = excluded.size, etag = excluded.etag,"
                " row_count = excluded.row_count",
                [
                    (entity_id, file.uri, file.size, file.etag, file.rows)
                    for file in self._new_files(entity_id, metadata)
                ],
            )

    def _new_files(self, entity_id: str, metadata: Metadata) -> list[KnownFile]:
        before = self.get(entity_id)
        known = set(before.files) if before else set()
        return [file for file in metadata.files if file not in known]

    def remember(self, entity_id: str, metadata: Metadata) -> None:
        self._known[entity_id] = metadata

    def save(self, entity_id: str, metadata: Metadata) -> None:
        with self._guard, self._database.transaction() as connection:
            self.write(entity_id, metadata, connection)
        self.remember(entity_id, metadata)

    def touch(self, entity_id: str, metadata: Metadata) -> None:
        """Nothing changed; only the time of the refresh moves."""
        fresh = Metadata(metadata.version, clock.now(), metadata.columns, metadata.files)
        self._database.execute(
            "update table_metadata set refreshed_at = %s where entity_id = %s", (fresh.refreshed_at, entity_id)
        )
        self.remember(entity_id, fresh)

    def forget(self, entity_id: str) -> None:
        """Drop the metadata, keep the table: the next query or refresh learns it anew."""
        self._database.execute("delete from table_files where entity_id = %s", (entity_id,))
        self._database.execute("delete from table_metadata where entity_id = %s", (entity_id,))
        self._known.pop(entity_id, None)

    def dropped(self, entity_ids: Sequence[str]) -> None:
        """The entities are gone, and their rows with them."""
        for entity_id in entity_ids:
            self._known.pop(entity_id, None)


def columns_to(schema: pa.Schema) -> list[list[str]]:
    """Columns as JSON: pairs of name and Dremio type."""
    return [[field.name, type_text(field.type)] for field in schema]


def columns_from(pairs: Sequence[Sequence[str]]) -> pa.Schema:
    return pa.schema([pa.field(name, parse_type(kind)) for name, kind in pairs])


Describe = Callable[[tuple[str, ...], str, S3Access, Mapping[str, object]], Sequence[tuple[str, str]]]
"""The engine's look into files: name and Dremio type of each column."""


Listed = list[tuple[str, StoredObject]]


def learn(
    source: S3Source,
    path: Path,
    format_: Mapping[str, Any],
    before: Metadata | None,
    describe: Describe,
    only: Scope | None = None,
) -> tuple[Change, Metadata | None]:
    """List the files of a promoted path and look into the new ones.

    With `only` the files outside of it stay as they were. MISSING: no file is left.
    Raises DataReadError for a file of another format, ValidationError for columns that cannot be united.
    """
    listed = formats.listed(source, path, format_["type"])
    if not listed:
        return "MISSING", None
    known = {file.uri: file for file in before.files} if before else {}
    kept: dict[str, KnownFile] = {}
    if only is not None:
        listed, kept = _narrowed(only, source, path, listed, known)
        known = {uri: file for uri, file in known.items() if uri not in kept}
    new = [(u, o) for u, o in listed if u not in known or (known[u].etag, known[u].size) != (o.etag, o.size)]
    if before is not None and not new and len(listed) == len(known):
        return "UNCHANGED", before
    if format_["type"] == formats.PARQUET:
        # When every file is new nothing binds us to the old columns.
        every_one = new and len(new) == len(listed) + len(kept)
        base = before.columns if before is not None and not every_one else None
        footers = parquet.read_footers([uri for uri, _ in new], source.access)
        rows = {footer.uri: footer.rows for footer in footers}
        columns = parquet.merge(base, footers, names.dotted(path))
    else:
        rows = {}
        options = {**format_, "version": listed[0][1].etag if listed else ""}
        uris = (*kept, *(uri for uri, _ in listed))
        columns = columns_from(describe(uris, format_["type"], source.access, options))
    read = [KnownFile(u, o.size, o.etag, rows.get(u, known[u].rows if u in known else 0)) for u, o in listed]
    if not columns.names:
        raise ValidationError(f"The files of {names.dotted(path)} have no columns")
    files = tuple(sorted([*kept.values(), *read], key=lambda file: file.uri))
    return "CHANGED", Metadata((before.version if before else 0) + 1, clock.now(), columns, files)


def _narrowed(
    only: Scope, source: S3Source, path: Path, listed: Listed, known: Mapping[str, KnownFile]
) -> tuple[Listed, dict[str, KnownFile]]:
    """The listed files in a refresh's scope, and the known ones outside of it."""
    folder = "s3://{}/{}/".format(*source.location(path[1:]))
    only.check([uri.removeprefix(folder) for uri, _ in listed], names.dotted(path))
    kept = {uri: file for uri, file in known.items() if not only.holds(uri.removeprefix(folder))}
    return [(uri, found) for uri, found in listed if only.holds(uri.removeprefix(folder))], kept
