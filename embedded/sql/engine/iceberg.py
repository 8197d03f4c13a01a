"""Writing Iceberg: DuckDB makes the Parquet files under fresh names, pyiceberg puts all of them into one commit.

Order, so that a crash at any point leaves the table as it was: data files first (unknown to any table), then the one
commit. Files carry Iceberg's field ids, so that other engines read them right after a rename or a dropped column.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.exceptions import (
    BadRequestError,
    CommitFailedException,
    CommitStateUnknownException,
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    RESTError,
    TableAlreadyExistsError,
    ValidationException,
)
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import (
    UNPARTITIONED_PARTITION_SPEC,
    PartitionField,
    PartitionSpec,
    _to_partition_representation,
)
from pyiceberg.schema import Schema
from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER, NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    Transform,
    TruncateTransform,
    YearTransform,
)
from pyiceberg.typedef import Record
from pyiceberg.types import IcebergType, ListType, MapType, StructType

from embedded.sql.datasets import IcebergTable, S3Access
from embedded.sql.engine.database import Database, Job
from embedded.sql.engine.datatypes import duckdb_type, iceberg_schema, literal, quote
from embedded.sql.engine.planner import numbered
from embedded.sql.engine.relations import WHOLE_MILLISECONDS, dotted, whole_milliseconds
from embedded.sql.engine.statements import Layout, PartitionTerm
from embedded.sql.errors import ConcurrentModification, DataReadError, SqlError, UnsupportedError, ValidationError

log = logging.getLogger(__name__)

_ROW_GROUP = 122_880
_TRANSFORMS: dict[str, type[Transform[Any, Any]]] = {
    "identity": IdentityTransform,
    "year": YearTransform,
    "month": MonthTransform,
    "day": DayTransform,
    "hour": HourTransform,
}


class Conflict(Exception):
    """Another writer committed between our read and our commit."""


@dataclass(frozen=True)
class Written:
    files: list[DataFile]
    rows: int
    size: int  # bytes


def partition_spec(schema: Schema, terms: Sequence[PartitionTerm]) -> PartitionSpec:
    """The Iceberg spec of PARTITION BY; field names as Spark and pyiceberg make them (day of ts is ts_day)."""
    if not terms:
        return UNPARTITIONED_PARTITION_SPEC
    fields: list[PartitionField] = []
    for number, term in enumerate(terms):
        try:
            source = schema.find_field(term.column, case_sensitive=False)
        except ValueError:
            raise ValidationError(f"Partition column '{term.column}' is not found in the table's columns") from None
        transform = transform_of(term)
        if not transform.can_transform(source.field_type):
            raise ValidationError(
                f"Cannot apply transform {transform} to column '{source.name}' of type {source.field_type}"
            )
        suffix = {"identity": "", "truncate": "_trunc"}.get(term.transform, f"_{term.transform}")
        fields.append(PartitionField(source.field_id, 1000 + number, transform, source.name + suffix))
    return PartitionSpec(*fields)


def sort_order(schema: Schema, columns: Sequence[str]) -> SortOrder:
    """The Iceberg order of LOCALSORT BY: ascending, nulls last, as Dremio writes it."""
    fields: list[SortField] = []
    for column in columns:
        try:
            source = schema.find_field(column, case_sensitive=False)
        except ValueError:
            raise ValidationError(f"Sort column '{column}' is not found in the table's columns") from None
        fields.append(SortField(source.field_id, IdentityTransform(), SortDirection.ASC, NullOrder.NULLS_LAST))
    return SortOrder(*fields, order_id=1) if fields else UNSORTED_SORT_ORDER


def transform_of(term: PartitionTerm) -> Transform[Any, Any]:
    if term.transform in ("bucket", "truncate"):
        if term.argument < 1:
            raise ValidationError(f"{term.transform} needs a positive number")
        return BucketTransform(term.argument) if term.transform == "bucket" else TruncateTransform(term.argument)
    return _TRANSFORMS[term.transform]()  # type: ignore[call-arg]  # each subclass fixes the root itself


def _key_sql(transform: Transform[Any, Any], column: str) -> str:
    """A DuckDB expression that is equal for two rows exactly when the Iceberg transform is."""
    name = str(transform)
    if isinstance(transform, BucketTransform):
        return f"iceberg_bucket({transform.num_buckets}, {column})"
    if isinstance(transform, TruncateTransform):
        return f"iceberg_truncate({transform.width}, {column})"
    return column if name == "identity" else f"date_trunc('{name}', {column})"


class Writer:
    """Writes rows of DuckDB as data files of one table (existing, or staged in a transaction)."""

    def __init__(self, database: Database, job: Job, metadata: TableMetadata, io: FileIO, access: S3Access) -> None:
        self.job = job
        self.metadata = metadata
        self.schema = metadata.schema()
        self.spec = metadata.spec()
        self.io = io
        self.sort = [
            self.schema.find_field(field.source_id).name
            for field in _current_order(metadata).fields
            if isinstance(field.transform, IdentityTransform)
        ]
        self.written: list[str] = []  # every key begun, also when the statement fails
        database.allow_s3([metadata.location + "/"], access)

    def write(self, sql: str, sort: Sequence[str] = ()) -> Written:
        """Run a query whose columns are the table's, in order, and store its rows. No file when there are none.

        `sort`: columns that order the rows inside files, instead of the table's own sort order.
        """
        order = ", ".join(f"{quote(s)} NULLS LAST" for s in (sort or self.sort))
        if self.spec.is_unpartitioned():
            return self._collect([(self._copy(f"SELECT * FROM ({sql}) ORDER BY {order}" if order else sql), Record())])
        return self._partitioned(sql, order)

    def _partitioned(self, sql: str, order: str) -> Written:
        columns = [self.schema.find_field(field.source_id) for field in self.spec.fields]
        keys = [
            _key_sql(field.transform, quote(column.name))
            for field, column in zip(self.spec.fields, columns, strict=True)
        ]
        names = ", ".join(quote(f.name) for f in self.schema.fields)
        order = ", ".join(x for x in ("p_id", order) if x)
        # Sorted by partition, the later WHERE of each one touches only its own row groups.
        table = self.job.temporary(
            f"SELECT {names}, dense_rank() OVER (ORDER BY {', '.join(keys)}) AS p_id FROM ({sql}) ORDER BY {order}"
        )
        samples = ", ".join(f"any_value({quote(column.name)})" for column in columns)
        parts: list[tuple[tuple[str, int], Record]] = []
        for row in self.job.rows(f"SELECT p_id, {samples} FROM {table} GROUP BY p_id ORDER BY p_id"):
            values = [
                field.transform.transform(column.field_type)(_to_partition_representation(column.field_type, value))
                for field, column, value in zip(self.spec.fields, columns, row[1:], strict=True)
            ]
            parts.append((self._copy(f"SELECT {names} FROM {table} WHERE p_id = {row[0]}"), Record(*values)))
        self.job.execute(f"DROP TABLE {table}")
        return self._collect(parts)

    def _copy(self, sql: str) -> tuple[str, int]:
        uri = f"{self.metadata.location}/data/{uuid.uuid4()}.parquet"
        self.written.append(uri)
        self.job.files.append(uri)
        ids = ", ".join(f"{quote(f.name)}: {_ids(f.field_id, f.field_type)}" for f in self.schema.fields)
        rows = self.job.rows(
            f"COPY ({sql}) TO {literal(uri)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROW_GROUP}, "
            f"FIELD_IDS {{{ids}}}, RETURN_STATS)"
        )
        return uri, int(str(rows[0][1])) if rows else 0

    def _collect(self, parts: list[tuple[tuple[str, int], Record]]) -> Written:
        files: list[DataFile] = []
        for (uri, rows), partition in parts:
            if rows:
                files.append(self._data_file(uri, partition))
            else:
                delete_quietly(self.io, [uri])
        return Written(files, sum(f.record_count for f in files), sum(f.file_size_in_bytes for f in files))

    def _data_file(self, uri: str, partition: Record) -> DataFile:
        source = self.io.new_input(uri)
        with source.open() as stream:
            footer = pq.read_metadata(stream)
        statistics = data_file_statistics_from_parquet_metadata(
            parquet_metadata=footer,
            stats_columns=compute_statistics_plan(self.schema, self.metadata.properties),
            parquet_column_mapping=parquet_path_to_id_mapping(self.schema),
        )
        return DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=uri,
            file_format=FileFormat.PARQUET,
            partition=partition,
            file_size_in_bytes=len(source),
            sort_order_id=None,
            spec_id=self.metadata.default_spec_id,
            equality_ids=None,
            key_metadata=None,
            **statistics.to_serialized_dict(),
        )

    def discard(self) -> None:
        """After a failure before the commit: no table knows these files."""
        delete_quietly(self.io, self.written)


def _current_order(metadata: TableMetadata) -> SortOrder:
    found = (order for order in metadata.sort_orders if order.order_id == metadata.default_sort_order_id)
    return next(found, UNSORTED_SORT_ORDER)


def _ids(field_id: int, field_type: IcebergType) -> str:
    """The FIELD_IDS entry of DuckDB's COPY for a column of any nesting."""
    if isinstance(field_type, StructType):
        inner = ", ".join(f"{quote(f.name)}: {_ids(f.field_id, f.field_type)}" for f in field_type.fields)
        return f"{{__duckdb_field_id: {field_id}, {inner}}}"
    if isinstance(field_type, ListType):
        return f"{{__duckdb_field_id: {field_id}, element: {_ids(field_type.element_id, field_type.element_type)}}}"
    if isinstance(field_type, MapType):
        key = _ids(field_type.key_id, field_type.key_type)
        value = _ids(field_type.value_id, field_type.value_type)
        return f"{{__duckdb_field_id: {field_id}, key: {key}, value: {value}}}"
    return str(field_id)


def delete_quietly(io: FileIO, uris: Iterable[str]) -> None:
    for uri in uris:
        try:
            io.delete(uri)
        except (OSError, ValueError) as error:  # an orphan is harmless; the statement's own error matters more
            log.info("Could not remove %s: %s", uri, error)


def typed_select(sql: str, schema: pa.Schema) -> str:
    """Rename and cast the columns of a query, by position, to a table's schema."""
    columns = ", ".join(f"{stored(f'c{i}', field)} AS {quote(field.name)}" for i, field in enumerate(schema))
    return f"SELECT {columns} FROM ({numbered(sql, len(schema))})"


def stored(column: str, field: pa.Field) -> str:
    value = f"CAST({column} AS {duckdb_type(field.type)})"
    if pa.types.is_timestamp(field.type):
        value = f"date_trunc('milliseconds', {value})"
    if not field.nullable:
        value = f"coalesce({value}, error({literal(f'Column {field.name} is NOT NULL')}))"
    return value


def ensure_namespace(dataset: IcebergTable) -> None:
    """Dremio makes missing folders of a table's path."""
    namespace = dataset.identifier[:-1]
    for depth in range(1, len(namespace) + 1):
        try:
            dataset.catalog.create_namespace_if_not_exists(namespace[:depth])
        except NamespaceAlreadyExistsError:  # made by another statement in between
            pass
        except (RESTError, OSError) as error:
            raise catalog_error(dataset, error) from None


def exists(dataset: IcebergTable) -> bool:
    try:
        return dataset.catalog.table_exists(dataset.identifier)
    except (RESTError, OSError) as error:
        raise catalog_error(dataset, error) from None


def catalog_error(dataset: IcebergTable, error: Exception) -> SqlError:
    """What the catalog answered, in words that say whether the name or the service is the trouble."""
    if isinstance(error, BadRequestError):  # a name that this catalog does not take
        return ValidationError(f"Table [{dotted(dataset.path)}] cannot be created: {error}")
    return DataReadError(f"The Iceberg catalog of [{dataset.path[0]}] does not answer: {type(error).__name__}")


def begin_create(dataset: IcebergTable, schema: pa.Schema, layout: Layout) -> Transaction:
    """Stage a table: nothing is visible before the transaction commits."""
    iceberg = iceberg_schema(schema)
    spec = partition_spec(iceberg, layout.partition)
    order = sort_order(iceberg, layout.sort)
    properties = {"write.parquet.compression-codec": "zstd"}
    properties |= {
        k: str(v) for k, v in layout.options.items() if k.startswith(("write.", "commit.", "history.", "gc."))
    }
    if len(dataset.identifier) < 2:
        raise UnsupportedError(f"Cannot create table [{dotted(dataset.path)}]: a table needs a folder.")
    ensure_namespace(dataset)
    try:
        usual = dataset.catalog.create_table_transaction(dataset.identifier, iceberg)
        # A place of its own: after DROP and CREATE the catalog would reuse the old one, with the same metadata file
        # names, and readers that cache by name (DuckDB does) would see the dropped table's rows.
        location = f"{usual.table_metadata.location.rstrip('/')}-{uuid.uuid4().hex}"
        return dataset.catalog.create_table_transaction(
            dataset.identifier,
            iceberg,
            location=location,
            partition_spec=spec,
            sort_order=order,
            properties=properties,
        )
    except TableAlreadyExistsError:
        raise already_exists(dataset) from None
    except (RESTError, OSError) as error:
        raise catalog_error(dataset, error) from None


def already_exists(dataset: IcebergTable) -> ValidationError:
    return ValidationError(f"A table or view with given name [{dotted(dataset.path)}] already exists.")


def append(transaction: Transaction, files: Iterable[DataFile], job_id: str) -> None:
    with transaction.update_snapshot(snapshot_properties=marks(transaction, job_id)).fast_append() as update:
        for file in files:
            update.append_data_file(file)


SAME_ROWS = "dremio-same-rows"  # a property of snapshots that only put the rows into other files


def replace(
    transaction: Transaction, old: Iterable[DataFile], new: Iterable[DataFile], job_id: str, *, same_rows: bool = False
) -> None:
    """One overwrite snapshot: `old` files out, `new` files in."""
    properties = marks(transaction, job_id) | ({SAME_ROWS: "true"} if same_rows else {})
    with transaction.update_snapshot(snapshot_properties=properties).overwrite() as update:
        for file in old:
            update.delete_data_file(file)
        for file in new:
            update.append_data_file(file)


def marks(transaction: Transaction, job_id: str) -> dict[str, str]:
    """Properties of our next snapshot: `landed` and `whole_milliseconds` look for them."""
    parent = transaction.table_metadata.current_snapshot()
    found = {"dremio-job-id": job_id} if job_id else {}
    if whole_milliseconds(parent):
        found[WHOLE_MILLISECONDS] = str(parent.snapshot_id if parent else None)
    return found


@contextmanager
def committing(dataset: IcebergTable, job_id: str) -> Iterator[None]:
    """Turns a lost race into Conflict. After an unknown outcome the table's snapshots tell whether we landed."""
    try:
        yield
    except (CommitFailedException, ValidationException) as error:
        raise Conflict(str(error)) from None
    except TableAlreadyExistsError:
        raise already_exists(dataset) from None
    except NoSuchTableError:
        raise ConcurrentModification(f"Table [{dotted(dataset.path)}] was dropped by another statement.") from None
    except CommitStateUnknownException:
        if not landed(dataset, job_id):
            raise DataReadError(
                f"The commit to [{dotted(dataset.path)}] has an unknown outcome: the catalog did not answer."
            ) from None
    except RESTError as error:
        raise DataReadError(f"The commit to [{dotted(dataset.path)}] failed: {type(error).__name__}: {error}") from None


def landed(dataset: IcebergTable, job_id: str) -> bool:
    """Does the table hold a snapshot that this job made?"""
    if not job_id:
        return False
    try:
        table: Table = dataset.catalog.load_table(dataset.identifier)
    except (NoSuchTableError, RESTError, OSError):
        return False
    return any(s.summary and s.summary.additional_properties.get("dremio-job-id") == job_id for s in table.snapshots())
