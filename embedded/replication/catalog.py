"""What a connection is asked to copy, checked against what the source has.

The rules and the wording of the checks follow the real server (airbyte-platform, AirbyteCatalogHelper.kt).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from embedded.replication.connectors import PostgresSource

SyncMode = Literal[
    "full_refresh_overwrite", "full_refresh_overwrite_deduped", "full_refresh_append", "full_refresh_update",
    "full_refresh_soft_delete", "incremental_append", "incremental_deduped_history", "incremental_update",
    "incremental_soft_delete",
]  # fmt: skip
# destination-s3 neither deduplicates nor updates.
_MODES_OF: dict[str, tuple[SyncMode, ...]] = {
    "s3": ("full_refresh_overwrite", "full_refresh_append", "incremental_append"),
    "postgres": (
        "full_refresh_overwrite", "full_refresh_append", "incremental_append", "incremental_deduped_history",
    ),
}  # fmt: skip
# What every stream of a CDC source carries beside the table's columns. The first is the cursor that it defines itself.
CDC_CURSOR = "_ab_cdc_lsn"
CDC_COLUMNS = (CDC_CURSOR, "_ab_cdc_updated_at", "_ab_cdc_deleted_at", "_ab_cdc_commit_lsn")


class Column(Protocol):
    """A top-level field of a stream. type_text: its type in the source's words. written: the type written, as text."""

    @property
    def name(self) -> str: ...
    @property
    def type_text(self) -> str: ...
    @property
    def written(self) -> str: ...
    @property
    def is_cursor(self) -> bool:
        """Whether its values have an order that an incremental sync can follow."""


class Table(Protocol):
    """What a source offers as one stream: a PostgreSQL table, or a connector's stream.

    default_cursor: what an incremental sync follows when nothing is named; source_defined_cursor: nothing may be.
    """

    @property
    def namespace(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def columns(self) -> Sequence[Column]: ...
    @property
    def primary_key(self) -> tuple[str, ...]: ...
    @property
    def readable(self) -> bool: ...
    @property
    def incremental(self) -> bool: ...
    @property
    def source_defined_cursor(self) -> bool: ...
    @property
    def default_cursor(self) -> tuple[str, ...]: ...
    @property
    def change_key(self) -> tuple[str, ...]:
        """The columns that identify a row whose changes are captured; none where there can be no such capture."""

    def change_problem(self) -> str | None:
        """Why changes cannot be captured exactly; None when they can."""

    def column(self, name: str) -> Column | None: ...


Catalog = Mapping[tuple[str, str], Table]


@dataclass(frozen=True)
class Offer:
    """What source and destination allow together. cdc: the source streams changes, with a cursor of its own."""

    modes: tuple[SyncMode, ...]
    cdc: bool = False

    def modes_of(self, table: Table) -> list[SyncMode]:
        """Those that one stream supports."""
        return [mode for mode in self.modes if table.incremental or not mode.startswith("incremental")]

    @property
    def default(self) -> SyncMode:
        return "full_refresh_overwrite" if "full_refresh_overwrite" in self.modes else self.modes[0]


def offer(source: PostgresSource | None, destination_type: str) -> Offer:
    """The sync modes of a source and a type of destination. Changes are only ever streamed incrementally.

    `source`: None for a connector's, whose streams differ in what they support.
    """
    modes = _MODES_OF[destination_type]
    if source is None or source.cdc is None:
        return Offer(modes)
    return Offer(tuple(mode for mode in modes if mode.startswith("incremental")), cdc=True)


class CatalogError(Exception):
    """The configuration does not fit the source; the message says what is possible instead."""


class SelectedField(BaseModel):
    fieldPath: list[str]


class StreamConfig(BaseModel):
    """One element of `configurations.streams`."""

    model_config = ConfigDict(extra="ignore")

    name: str
    namespace: str | None = None
    syncMode: SyncMode | None = None
    cursorField: list[str] | None = None
    primaryKey: list[list[str]] | None = None
    selectedFields: list[SelectedField] | None = None
    mappers: list[dict[str, Any]] | None = None
    includeFiles: bool | None = None
    destinationObjectName: str | None = None


class StreamConfigs(BaseModel):
    streams: list[StreamConfig] | None = None


def configure(wanted: StreamConfigs | None, catalog: Catalog, offered: Offer) -> list[dict[str, Any]]:
    """The streams of a connection as they are stored; no wish means every stream. Raises CatalogError."""
    streams = wanted.streams if wanted else None
    if not streams:
        tables = [table for table in catalog.values() if table.columns and (table.change_key or not offered.cdc)]
        for table in tables:
            _check_changes(table, offered)
        return [_stored(StreamConfig(name=t.name, namespace=t.namespace), t, offered) for t in tables]
    chosen: dict[tuple[str, str], dict[str, Any]] = {}
    for stream in streams:
        table = _find(stream, catalog)
        _check(stream, table, offered)
        key = (table.namespace, table.name)
        if key in chosen:
            raise CatalogError(f"Duplicate stream found in configuration for: {stream.name}.")
        chosen[key] = _stored(stream, table, offered)
    return list(chosen.values())


def _find(stream: StreamConfig, catalog: Catalog) -> Table:
    found = [
        table
        for (namespace, name), table in catalog.items()
        if name == stream.name and (stream.namespace is None or stream.namespace == namespace)
    ]
    if len(found) > 1:
        choices = ", ".join(table.namespace for table in found)
        raise CatalogError(f"Stream {stream.name} is in several namespaces: {choices}. Set namespace.")
    if not found:
        names = ", ".join(sorted(f"{namespace}.{name}" for namespace, name in catalog)) or "none"
        raise CatalogError(f"Invalid stream found: {stream.name}. The source's streams: {names}.")
    if not found[0].readable or not found[0].columns:
        raise CatalogError(f"Stream {stream.name}: the source's role may not read it, or it has no columns.")
    return found[0]


def _check(stream: StreamConfig, table: Table, offered: Offer) -> None:
    modes = offered.modes_of(table)
    mode = stream.syncMode or offered.default
    if mode not in modes:
        raise CatalogError(
            f"Cannot set sync mode to {mode} for stream {stream.name}. Valid sync modes are: {', '.join(modes)}."
        )
    if stream.mappers:
        raise CatalogError(f"Stream {stream.name}: mappers are not available in this server.")
    if stream.includeFiles:
        raise CatalogError(f"Stream {stream.name}: includeFiles is not available in this server.")
    if stream.destinationObjectName:
        raise CatalogError(f"Stream {stream.name}: destinationObjectName is not available in this server; use prefix.")
    _check_key(stream, table, mode)
    _check_changes(table, offered)
    if offered.cdc and stream.cursorField not in (None, [], [CDC_CURSOR]):
        raise CatalogError(
            f"Cursor field of stream {stream.name} is defined by the source: {CDC_CURSOR}. Do not set it."
        )
    if mode.startswith("incremental") and not offered.cdc:
        _check_cursor(stream, table)
    if stream.selectedFields is not None:
        _check_selection(stream, table, mode)


def _check_changes(table: Table, offered: Offer) -> None:
    """Whether a table's changes can be told apart and are complete; raises CatalogError with the statement to run."""
    problem = table.change_problem() if offered.cdc else None
    if problem:
        raise CatalogError(problem)


def _check_key(stream: StreamConfig, table: Table, mode: str) -> None:
    if not stream.primaryKey:
        if mode == "incremental_deduped_history" and not table.primary_key:
            raise CatalogError(f"Stream {stream.name} has no primary key: set primaryKey to deduplicate it.")
        return
    wanted = [".".join(path) for path in stream.primaryKey]
    if table.primary_key and set(wanted) != set(table.primary_key):
        key = ", ".join(table.primary_key)
        raise CatalogError(f"Primary key for stream: {stream.name} is already pre-defined: {key}. Do not set another.")
    _check_names(stream, table, wanted, "primary key")


def _check_cursor(stream: StreamConfig, table: Table) -> None:
    usable = ", ".join(column.name for column in table.columns if column.is_cursor)
    if table.source_defined_cursor:
        if stream.cursorField and tuple(stream.cursorField) != table.default_cursor:
            raise CatalogError(f"Cursor field for stream: {stream.name} is already defined by source.")
        return
    if not stream.cursorField and table.default_cursor:
        return
    if not stream.cursorField:
        message = f"No default cursor field is available for stream {stream.name}. Set cursorField to one of: {usable}."
        raise CatalogError(message)
    if len(stream.cursorField) != 1:
        raise CatalogError(f"Cursor field of stream {stream.name} must be one top-level field.")
    _check_names(stream, table, stream.cursorField, "cursor field")
    column = table.column(stream.cursorField[0])
    if column is None or not column.is_cursor:
        name = stream.cursorField[0]
        raise CatalogError(f"Field {name} of stream {stream.name} has no order to follow. Possible: {usable}.")


def _check_selection(stream: StreamConfig, table: Table, mode: str) -> None:
    paths = [field.fieldPath for field in stream.selectedFields or []]
    if not paths:
        raise CatalogError(f"No fields selected for stream {stream.name}. Leave selectedFields out to take all.")
    if any(len(path) != 1 for path in paths):
        raise CatalogError(f"Selected fields of stream {stream.name} must be top-level fields.")
    names = [path[0] for path in paths]
    if len(set(names)) != len(names):
        raise CatalogError(f"Duplicate fields selected for stream {stream.name}.")
    _check_names(stream, table, names, "selected field")
    cursor = stream.cursorField[0] if stream.cursorField else None
    if mode.startswith("incremental") and cursor not in (None, CDC_CURSOR, *names):
        raise CatalogError(f"Cursor field {cursor} of stream {stream.name} must be selected.")
    key = [path[0] for path in stream.primaryKey or []] or list(table.primary_key)
    if mode == "incremental_deduped_history" and not set(key) <= set(names):
        raise CatalogError(f"Primary key {', '.join(key)} of stream {stream.name} must be selected.")


def _check_names(stream: StreamConfig, table: Table, names: list[str], what: str) -> None:
    known = [column.name for column in table.columns]
    for name in names:
        if name not in known:
            fields = ", ".join(known)
            raise CatalogError(f"Invalid {what} {name} for stream {stream.name}. The stream's fields: {fields}.")


def _stored(stream: StreamConfig, table: Table, offered: Offer) -> dict[str, Any]:
    """A stream as rows of `streams`: the config as it is shown, and the columns known now."""
    selected = None if stream.selectedFields is None else [field.fieldPath[0] for field in stream.selectedFields]
    mode = stream.syncMode or offered.default
    default_cursor = list(table.default_cursor) if mode.startswith("incremental") else []
    config: dict[str, Any] = {
        "name": table.name,
        "namespace": table.namespace or None,
        "syncMode": mode,
        "cursorField": [CDC_CURSOR] if offered.cdc else stream.cursorField or default_cursor,
        "primaryKey": stream.primaryKey or [[name] for name in table.primary_key],
        "selectedFields": [{"fieldPath": [name]} for name in selected] if selected else [],
        "mappers": [],
    }
    fields = [field(column) for column in table.columns if selected is None or column.name in selected]
    return {"namespace": table.namespace, "name": table.name, "config": config, "fields": fields}


def field(column: Column) -> dict[str, str]:
    """A column as the connection remembers it: the type written decides whether a change matters."""
    return {"name": column.name, "type": column.type_text, "written": column.written}


def stream_properties(table: Table, offered: Offer | None, *, cdc: bool) -> dict[str, Any]:
    """One element of GET /streams; `offered` None leaves out the sync modes."""
    fields = [[column.name] for column in table.columns]
    return {
        "streamName": table.name,
        "streamnamespace": table.namespace or None,
        "syncModes": offered.modes_of(table) if offered else None,
        "defaultCursorField": [CDC_CURSOR] if cdc else list(table.default_cursor),
        "sourceDefinedCursorField": cdc or table.source_defined_cursor,
        "sourceDefinedPrimaryKey": [[name] for name in table.primary_key],
        "propertyFields": [*fields, *([name] for name in CDC_COLUMNS if cdc)],
    }
