"""How each kind of dataset is read by DuckDB: one SELECT with explicit columns of Dremio's types."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
from pyiceberg.exceptions import NoSuchTableError, RESTError
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table.snapshots import Snapshot

from embedded.sql.datasets import FileTable, IcebergTable, Path, PostgresQuery, PostgresTable, S3Access, SystemTable
from embedded.sql.engine.datatypes import duckdb_type, literal, normalise, parse_type, quote
from embedded.sql.engine.postgres import query_postgres, scan_postgres
from embedded.sql.errors import DataReadError, NotFound, SqlError, UnsupportedError, ValidationError

if TYPE_CHECKING:
    from pyiceberg.table import Table

    from embedded.sql.engine.database import Database, Job

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Version:
    """AT SNAPSHOT '<id>', AT TIMESTAMP '<utc>', AT BRANCH b, AT TAG t."""

    kind: str
    value: str


@dataclass(frozen=True)
class Relation:
    """A SELECT over one dataset, its columns, and the Iceberg snapshot it reads (None: not Iceberg or empty).

    Two relations of one dataset with the same `version` give the same rows; an empty one promises nothing.
    """

    sql: str
    schema: pa.Schema
    snapshot_id: int | None = None
    iceberg: bool = False
    version: str = ""
    size: int = 0  # bytes of all its files; 0: unknown


def dotted(path: Path) -> str:
    return ".".join(path)


class Reader:
    """Makes relations for one job."""

    def __init__(self, database: Database, job: Job) -> None:
        self.database = database
        self.job = job
        self._loaded: dict[Path, Table] | None = None  # None: every look is a fresh one
        self._relations: dict[tuple[Path, Version | None], Relation] = {}

    def read(
        self, dataset: FileTable | IcebergTable | PostgresTable | PostgresQuery | SystemTable, version: Version | None
    ) -> Relation:
        if isinstance(dataset, IcebergTable):
            return self._known(dataset, version)
        if version is not None:
            raise ValidationError(f"Time travel is not supported on table '{dotted(dataset.path)}'")
        if isinstance(dataset, FileTable):
            return self.files(dataset)
        if isinstance(dataset, PostgresTable):
            return scan_postgres(self.database, self.job, dataset)
        if isinstance(dataset, PostgresQuery):
            return self.arrow(query_postgres(dataset))
        return self.arrow(dataset.data)

    def arrow(self, data: pa.Table) -> Relation:
        schema = pa.schema([pa.field(f.name, normalise(f.type)) for f in data.schema])
        return Relation(f"SELECT {select_list(schema)} FROM {self.job.register(data)}", schema)

    def files(self, table: FileTable) -> Relation:
        schema = pa.schema([pa.field(name, parse_type(text)) for name, text in table.columns])
        if not table.files:
            return Relation(empty_select(schema), schema, version=table.version)
        self.database.allow_s3(table.files, table.access)
        source = file_source(table.files, table.format, table.format_options, schema)
        return Relation(f"SELECT {select_list(schema, truncate=True)} FROM {source}", schema, version=table.version)

    def iceberg(self, dataset: IcebergTable, version: Version | None) -> Relation:
        table = self.loaded(dataset)
        snapshot = snapshot_of(table, dataset.path, version)
        return self.iceberg_at(dataset, table, snapshot)

    def _known(self, dataset: IcebergTable, version: Version | None) -> Relation:
        """Once for each plan: both its matching and its writing ask, and translating a schema takes a millisecond."""
        if self._loaded is None:
            return self.iceberg(dataset, version)
        key = (dataset.path, version)
        if key not in self._relations:
            self._relations[key] = self.iceberg(dataset, version)
        return self._relations[key]

    def loaded(self, dataset: IcebergTable) -> Table:
        """The table as this reader sees it."""
        if self._loaded is None:
            return load_table(dataset)
        if dataset.path not in self._loaded:
            self._loaded[dataset.path] = load_table(dataset)
        return self._loaded[dataset.path]

    def steady(self) -> Reader:
        """A reader for one plan: it sees one state of a table, however often the plan names it."""
        reader = Reader(self.database, self.job)
        reader._loaded = {}
        return reader

    def iceberg_at(self, dataset: IcebergTable, table: Table, snapshot: Snapshot | None) -> Relation:
        historic = snapshot is not None and snapshot.schema_id is not None
        schemas = table.schemas()
        is_current = snapshot is None or snapshot.snapshot_id == table.metadata.current_snapshot_id
        iceberg = schemas[snapshot.schema_id] if historic and not is_current and snapshot else table.schema()  # type: ignore[index]
        arrow = schema_to_pyarrow(iceberg, include_field_ids=False)
        schema = pa.schema([pa.field(f.name, normalise(f.type)) for f in arrow])
        # The schema belongs to it: a column dropped and added again is another column under the same snapshot.
        version = f"{snapshot.snapshot_id if snapshot else table.metadata.table_uuid}.{iceberg.schema_id}"
        if snapshot is None:
            return Relation(empty_select(schema), schema, None, True, version)
        self.job.snapshots.add(snapshot.snapshot_id)
        self.database.allow_s3([table.metadata_location, table.location() + "/"], dataset.access)
        self.database.trust_metadata(table.metadata_location, str(table.metadata.table_uuid))
        pinned = "" if is_current else f", snapshot_from_id = {snapshot.snapshot_id}"
        source = f"iceberg_scan({literal(table.metadata_location)}{pinned})"
        return Relation(
            f"SELECT {select_list(schema, truncate=not whole_milliseconds(snapshot))} FROM {source}",
            schema,
            snapshot.snapshot_id,
            True,
            version,
            _bytes(snapshot),
        )


WHOLE_MILLISECONDS = "dremio-whole-milliseconds-after"
"""A property of snapshots: we wrote what this one added to the named parent, and all that the parent holds."""


def whole_milliseconds(snapshot: Snapshot | None) -> bool:
    """Whether every timestamp of a snapshot was cut when it was written.

    Cutting again costs each query time, and keeps DuckDB from skipping files and row groups by their statistics.
    A commit that was retried on top of another writer's has another parent than its mark says.
    """
    if snapshot is None:
        return True
    mark = snapshot.summary.additional_properties.get(WHOLE_MILLISECONDS) if snapshot.summary else None
    return mark == str(snapshot.parent_snapshot_id)


def _bytes(snapshot: Snapshot) -> int:
    found = snapshot.summary.additional_properties.get("total-files-size") if snapshot.summary else None
    return int(found) if found and found.isdigit() else 0


def load_table(dataset: IcebergTable) -> Table:
    """The current metadata from the catalog; NotFound in Dremio's words, DataReadError when the catalog is away."""
    try:
        return dataset.catalog.load_table(dataset.identifier)
    except NoSuchTableError:
        raise NotFound(f"Object '{dataset.path[-1]}' not found within '{dotted(dataset.path[:-1])}'") from None
    except (RESTError, OSError) as error:
        log.warning("Iceberg catalog failed for %s: %s", dotted(dataset.path), error)
        raise DataReadError(
            f"The Iceberg catalog of [{dataset.path[0]}] cannot be read: {type(error).__name__}"
        ) from None


def snapshot_of(table: Table, path: Path, version: Version | None) -> Snapshot | None:
    if version is None:
        return table.current_snapshot()
    if version.kind == "SNAPSHOT":
        snapshot = table.snapshot_by_id(int(version.value)) if version.value.lstrip("-").isdigit() else None
        if snapshot is None:
            raise ValidationError(
                f"The specified Iceberg snapshot ID '{version.value}' on table '{dotted(path)}' does not exist"
            )
        return snapshot
    if version.kind == "TIMESTAMP":
        return _snapshot_at(table, path, version.value)
    if version.kind in ("COMMIT", "REFERENCE"):
        raise UnsupportedError(f"Source {path[0]} does not support versioning.")
    snapshot = table.snapshot_by_name(version.value)
    if snapshot is None:
        raise ValidationError(f"Requested {version.kind} {version.value} not found on table '{dotted(path)}'")
    return snapshot


def _snapshot_at(table: Table, path: Path, text: str) -> Snapshot:
    moment = parse_timestamp(text)
    snapshot = table.snapshot_as_of_timestamp(int(moment.timestamp() * 1000))
    if snapshot is None:
        raise ValidationError(f"The provided table timestamp '{text}' is out of range on table '{dotted(path)}'")
    return snapshot


def parse_timestamp(text: str) -> datetime.datetime:
    """A timestamp literal as UTC; ValidationError names the text."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ValidationError(f"Literal '{text}' cannot be read as a TIMESTAMP") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


def select_list(schema: pa.Schema, *, truncate: bool = False) -> str:
    """Every column cast to its type by name. `truncate`: timestamps are cut to milliseconds, Dremio's precision."""
    return ", ".join(_column(field, truncate) for field in schema) or "1 AS nothing"


def _column(field: pa.Field, truncate: bool) -> str:
    name = quote(field.name)
    if truncate and pa.types.is_timestamp(field.type):
        return f"date_trunc('milliseconds', CAST({name} AS TIMESTAMP)) AS {name}"
    return f"CAST({name} AS {duckdb_type(field.type)}) AS {name}"


def empty_select(schema: pa.Schema) -> str:
    columns = ", ".join(f"CAST(NULL AS {duckdb_type(f.type)}) AS {quote(f.name)}" for f in schema) or "1 AS nothing"
    return f"SELECT {columns} WHERE false"


def file_list(files: tuple[str, ...] | list[str]) -> str:
    return "[" + ", ".join(literal(uri.replace("s3a://", "s3://", 1)) for uri in files) + "]"


def file_source(
    files: tuple[str, ...], file_format: str, options: object, schema: pa.Schema, *, extra: str = ""
) -> str:
    """The table function that reads these files with exactly these columns; a column absent from a file is NULL."""
    given = options if isinstance(options, dict) else dict(options or {})  # type: ignore[call-overload]
    if file_format == "Parquet":
        columns = ", ".join(
            f"{literal(f.name)}: {{name: {literal(f.name)}, type: {literal(duckdb_type(f.type))}, default_value: NULL}}"
            for f in schema
        )
        return f"read_parquet({file_list(list(files))}, hive_partitioning = false, schema = MAP {{{columns}}}{extra})"
    if file_format == "JSON":
        columns = ", ".join(f"{quote(f.name)}: {literal(duckdb_type(f.type))}" for f in schema)
        return f"read_json({file_list(list(files))}, hive_partitioning = false, columns = {{{columns}}})"
    if file_format == "Text":
        return _csv(files, given, schema)
    if file_format in _WHOLE:
        return _WHOLE[file_format](files[0], given)
    raise UnsupportedError(f"Files of format [{file_format}] cannot be read by this server.")


def _delta(location: str, options: dict[str, object]) -> str:
    return f"delta_scan({literal(location)}, version = {int(str(options['version']))})"


_WHOLE: dict[str, Callable[[str, dict[str, object]], str]] = {
    "Delta": _delta,
    "Iceberg": lambda location, options: f"iceberg_scan({literal(location)})",
}
"""Formats whose one location stands for the whole table."""


def _csv(files: tuple[str, ...], options: dict[str, object], schema: pa.Schema) -> str:
    columns = ", ".join(f"{literal(f.name)}: {literal(duckdb_type(f.type))}" for f in schema)
    settings = {**_csv_settings(options), "auto_detect": "false", "null_padding": "true", "columns": f"{{{columns}}}"}
    return f"read_csv({file_list(list(files))}, " + ", ".join(f"{k} = {v}" for k, v in settings.items()) + ")"


def _csv_settings(options: dict[str, object]) -> dict[str, str]:
    """DuckDB's names for the options of Dremio's format Text."""
    return {
        "delim": literal(str(options.get("fieldDelimiter", ","))),
        "quote": literal(str(options.get("quote", '"'))),
        "escape": literal(str(options.get("escape", '"'))),
        "comment": literal(str(options.get("comment", "#"))),
        "skip": "1" if options.get("skipFirstLine") else "0",
        "header": str(bool(options.get("extractHeader", False))).lower(),
    }


def _letters(position: int) -> str:
    """A, B, ... Z, AA, AB: how Dremio names the columns of a text without a header."""
    text = ""
    position += 1
    while position:
        position, digit = divmod(position - 1, 26)
        text = chr(ord("A") + digit) + text
    return text


def describe_files(
    database: Database,
    job: Job,
    files: tuple[str, ...],
    file_format: str,
    access: S3Access,
    options: dict[str, object] | None = None,
) -> pa.Schema:
    """The columns that a metadata refresh finds in these files: the union by name, in order of appearance."""
    if not files:
        return pa.schema([])
    database.allow_s3(files, access)
    reader = {
        "Parquet": f"read_parquet({file_list(list(files))}, union_by_name = true, hive_partitioning = false)",
        "JSON": f"read_json({file_list(list(files))}, hive_partitioning = false)",
    }.get(file_format)
    given = options or {}
    if file_format == "Text":
        settings = ", ".join(f"{k} = {v}" for k, v in _csv_settings(given).items())
        reader = f"read_csv({file_list(list(files))}, {settings}, auto_detect = true, all_varchar = true)"
    if file_format in _WHOLE:
        reader = _WHOLE[file_format](files[0], given)
    if reader is None:
        raise UnsupportedError(f"Files of format [{file_format}] cannot be read by this server.")
    try:
        found = job.arrow(f"SELECT * FROM {reader} LIMIT 0").schema
    except SqlError as error:
        raise DataReadError(f"Failed to read the metadata of {files[0]}: {error.message}") from None
    if file_format == "Text" and not given.get("extractHeader"):
        return pa.schema([pa.field(_letters(position), pa.string()) for position in range(len(found.names))])
    return pa.schema([pa.field(f.name, normalise(f.type)) for f in found])
