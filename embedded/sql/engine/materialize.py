"""Writing a reflection's data: an Iceberg table of its own for each refresh, below the refresh's own folder.

The table has one snapshot. An incremental refresh lists the data files that stay as they are (they lie in the folders
of earlier refreshes) and adds new ones, so that a killed refresh leaves nothing behind but its own folder.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa
from pyiceberg.catalog import MetastoreCatalog
from pyiceberg.catalog.noop import NoopCatalog
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import CommitTableResponse, CreateTableTransaction, StagedTable, StaticTable, Table
from pyiceberg.table.sorting import NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.table.update import TableRequirement, TableUpdate
from pyiceberg.transforms import IdentityTransform

from embedded.sql.datasets import IcebergTable, Materialization, Path, S3Access
from embedded.sql.engine import iceberg
from embedded.sql.engine.blocks import NotFlat, lowered
from embedded.sql.engine.datatypes import iceberg_schema, literal, quote, type_text
from embedded.sql.engine.increments import Base, Increment, increment
from embedded.sql.engine.planner import output_schema
from embedded.sql.engine.relations import Reader, Relation, Version, dotted, select_list
from embedded.sql.engine.results import normalise_table
from embedded.sql.engine.statements import PartitionTerm
from embedded.sql.engine.stored import stored_select
from embedded.sql.engine.tables import resolve
from embedded.sql.errors import DataReadError, ValidationError

if TYPE_CHECKING:
    from embedded.sql.engine.engine import Run

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Materialized:
    """What a refresh wrote and what it read."""

    metadata: str
    files: tuple[str, ...]
    rows: int
    size: int  # bytes
    columns: tuple[tuple[str, str], ...]
    scanned: tuple[Path, ...]
    sources: dict[Path, str]  # empty: something that was read has no version, so this may answer nothing
    method: str  # FULL or INCREMENTAL
    parents: tuple[str, ...]  # reflections that were read in place of tables


def materialize(
    run: Run,
    m: Materialization,
    folder: str,
    order: Sequence[str],
    partition: Sequence[PartitionTerm],
    base: Base | None,
) -> Materialized:
    """Store what `m` describes below `folder`, sorted by `order`; from `base` on when the rules of increments allow."""
    found = increment(run, m, partition, base) if base is not None else None
    if found is not None:
        reader = run.reader
        try:
            return _Refresh(run, m, folder, order, partition).incremental(found)
        except (DataReadError, OSError) as error:
            log.info("Reflection %s is read as a whole, what it was made from is gone: %s", m.name, error)
            run.reader = reader
    return _Refresh(run, m, folder, order, partition).full()


def versions(run: Run, dataset: Path) -> dict[Path, str]:
    """The versions at which a dataset and all that it reads stand now; empty when something has none."""
    plan = run.plan(accelerate=False)
    found = resolve(run.catalog, dataset, ())
    try:
        return dict(plan.flattener.versions(found))
    except NotFlat:
        return {}


class _Refresh:
    def __init__(
        self, run: Run, m: Materialization, folder: str, order: Sequence[str], partition: Sequence[PartitionTerm]
    ) -> None:
        self._run = run
        self._m = m
        self._folder = folder.rstrip("/")
        self._order = order
        self._partition = partition

    def full(self) -> Materialized:
        expected = versions(self._run, self._m.dataset)
        # Reflections of what lies below may be read in place of it; so none can, in the end, be made from itself.
        below = expected.keys() - {lowered(self._m.dataset)}
        others = [m.reflection_id for m in self._run.catalog.materializations() if lowered(m.dataset) not in below]
        plan = self._run.plan(excluded=frozenset(others))
        sql = plan.complete(plan.query(_everything(self._m.dataset), ()))
        schema = self._schema(sql)
        stored, files = self._write(sql, schema, [])
        self._run.used(plan)
        sources = expected if expected == plan.versions and all(expected.values()) else {}
        return self._result(stored, files, sources, "FULL", plan.scanned)

    def incremental(self, found: Increment) -> Materialized:
        """Only what has changed is read; the reader shows the one changed table without the rest."""
        changed = _files_only(found.table, found.files, f"{self._folder}/changes") if found.files else ""
        self._run.reader = _ChangesReader(found.reader, found.path, changed)
        plan = self._run.plan(accelerate=False)
        sql = plan.complete(plan.query(_everything(self._m.dataset), ()))
        kept = found.kept(_data_files(found.base.metadata, self._m.access))
        stored, files = self._write(sql, self._schema(sql), kept)
        return self._result(stored, files, found.sources, "INCREMENTAL", plan.scanned)

    def _schema(self, sql: str) -> pa.Schema:
        schema = normalise_table(output_schema(self._run.job, sql).empty_table()).schema
        known = {name.lower() for name in schema.names}
        m = self._m
        for name in [*m.display, *(name for name, _ in m.dimensions), *(measure.column for measure in m.measures)]:
            if name.lower() not in known:
                raise ValidationError(f"Column '{name}' not found in '{dotted(m.dataset)}'")
        return schema

    def _write(self, sql: str, schema: pa.Schema, kept: list[DataFile]) -> tuple[Table, list[DataFile]]:
        m, job = self._m, self._run.job
        select = stored_select(m, schema, f"({sql}) AS dataset")
        columns = normalise_table(output_schema(job, select).empty_table()).schema
        names = self._stored_names(columns)
        own = iceberg_schema(columns)
        terms = [replace(t, column=names[t.column.lower()]) for t in self._partition if t.column.lower() in names]
        sort = list(dict.fromkeys(names[name.lower()] for name in self._order if name.lower() in names))
        catalog = _FolderCatalog(m.access)
        staged = catalog.staged(self._folder, own, iceberg.partition_spec(own, terms), sort)
        transaction = CreateTableTransaction(staged)
        writer = iceberg.Writer(
            self._run.engine.database, job, transaction.table_metadata, transaction._table.io, m.access
        )
        files = [*kept, *writer.write(iceberg.typed_select(select, columns), sort).files]
        iceberg.append(transaction, files, self._run.session.job_id)
        job.check()
        return transaction.commit_transaction(), files

    def _stored_names(self, columns: pa.Schema) -> dict[str, str]:
        """Lowered column of the dataset -> its stored name: what partitions and sort columns are written with."""
        if self._m.kind == "RAW":
            return {name.lower(): name for name in columns.names}
        return {name.lower(): columns.names[i] for i, (name, _) in enumerate(self._m.dimensions)}

    def _result(
        self, stored: Table, files: list[DataFile], sources: dict[Path, str], method: str, scanned: Sequence[Path]
    ) -> Materialized:
        columns = stored.schema().as_arrow()
        chosen = [reflection for reflection, _, relationship in self._run.reflections if relationship == "CHOSEN"]
        return Materialized(
            stored.metadata_location,
            tuple(file.file_path for file in files),
            sum(file.record_count for file in files),
            sum(file.file_size_in_bytes for file in files),
            tuple((field.name, type_text(field.type)) for field in columns),
            tuple(scanned),
            sources,
            method,
            tuple(chosen),
        )


def _everything(dataset: Path) -> str:
    return f"SELECT * FROM {'.'.join(quote(part) for part in dataset)}"


class _ChangesReader(Reader):
    """Reads one table's changed files in place of the table."""

    def __init__(self, reader: Reader, path: Path, metadata: str) -> None:
        super().__init__(reader.database, reader.job)
        self._loaded = reader._loaded
        self._path = path
        self._changes = metadata

    def steady(self) -> Reader:
        return self

    def iceberg(self, dataset: IcebergTable, version: Version | None) -> Relation:
        relation = super().iceberg(dataset, version)
        if version is not None or dataset.path != self._path:
            return relation
        source = f"iceberg_scan({literal(self._changes)})" if self._changes else f"({relation.sql} LIMIT 0)"
        self.database.allow_s3([self._changes or self.loaded(dataset).metadata_location], dataset.access)
        return replace(relation, sql=f"SELECT {select_list(relation.schema, truncate=True)} FROM {source}")


class _FolderCatalog(NoopCatalog, MetastoreCatalog):
    """Writes a table's metadata next to its data. Which metadata counts is for the caller to remember."""

    def __init__(self, access: S3Access | None = None, properties: dict[str, str] | None = None) -> None:
        super().__init__("reflections", **(properties or file_properties(access)))

    def staged(self, folder: str, schema: Schema, spec: PartitionSpec, sort: Sequence[str]) -> StagedTable:
        ids = [schema.find_field(name).field_id for name in sort]
        order = SortOrder(*(SortField(i, IdentityTransform(), SortDirection.ASC, NullOrder.NULLS_LAST) for i in ids))
        properties = {"write.parquet.compression-codec": "zstd"}
        return self._create_staged_table(("reflections", "table"), schema, folder, spec, order, properties)

    def commit_table(
        self, table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        current = None if isinstance(table, StagedTable) else table
        staged = self._update_and_stage_table(current, table.name(), requirements, updates)
        self._write_metadata(staged.metadata, staged.io, staged.metadata_location)
        return CommitTableResponse.model_validate(
            {"metadata": staged.metadata, "metadata-location": staged.metadata_location}
        )


def file_properties(access: S3Access | None) -> dict[str, str]:
    """How pyiceberg reaches the distributed store."""
    if access is None:
        return {}
    return {
        "s3.endpoint": f"{'https' if access.secure else 'http'}://{access.endpoint}",
        "s3.access-key-id": access.access_key,
        "s3.secret-access-key": access.secret_key,
        "s3.region": access.region,
    }


def _data_files(metadata: str, access: S3Access) -> list[DataFile]:
    table = StaticTable.from_metadata(metadata, file_properties(access))
    return [task.file for task in table.scan().plan_files()]


def _files_only(table: Table, files: Iterable[DataFile], folder: str) -> str:
    """The metadata of a table like `table` that has these files only."""
    bare = table.metadata.model_copy(
        update={"location": folder, "snapshots": [], "current_snapshot_id": None, "refs": {}, "snapshot_log": [],
                "metadata_log": [], "properties": {}}
    )  # fmt: skip
    catalog = _FolderCatalog(properties=dict(table.io.properties))
    copy = Table(("reflections", "changes"), bare, f"{folder}/none", table.io, catalog)
    transaction = copy.transaction()
    iceberg.append(transaction, files, "")
    return transaction.commit_transaction().metadata_location
