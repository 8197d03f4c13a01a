"""CREATE TABLE, CREATE TABLE AS, DROP TABLE, ALTER TABLE columns, ROLLBACK, VACUUM, OPTIMIZE on Iceberg tables."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

import pyarrow as pa
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, RESTError
from pyiceberg.exceptions import ValidationError as IcebergValidationError
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table

from embedded.sql.datasets import IcebergTable, Path
from embedded.sql.engine import iceberg
from embedded.sql.engine import statements as st
from embedded.sql.engine.datatypes import iceberg_type, literal, normalise
from embedded.sql.engine.outcomes import ok, records
from embedded.sql.engine.planner import output_schema
from embedded.sql.engine.relations import Version, dotted, load_table, parse_timestamp, snapshot_of
from embedded.sql.errors import (
    ConcurrentModification,
    DataReadError,
    NotFound,
    UnsupportedError,
    ValidationError,
)

if TYPE_CHECKING:
    from embedded.sql.engine.engine import Run


def table_schema(table: Table) -> pa.Schema:
    """The current columns of an Iceberg table as Dremio's Arrow types; required columns are not nullable."""
    found = schema_to_pyarrow(table.schema(), include_field_ids=False)
    return pa.schema([pa.field(f.name, normalise(f.type), f.nullable) for f in found])


def create_table(run: Run, statement: st.CreateTable) -> pa.Table:
    """CREATE TABLE [AS]. The result is {ok, summary}; a CTAS gives Dremio's fragment row."""
    dataset = run.catalog.iceberg_target(run.full(statement.path))
    with run.engine.writing(dataset.path, run.job):
        if iceberg.exists(dataset):
            if statement.if_not_exists:
                return ok(f"Table [{dotted(dataset.path)}] already exists.")
            raise iceberg.already_exists(dataset)
        if statement.query is None:
            schema = pa.schema([pa.field(c.name, c.type, c.nullable) for c in statement.columns if c.type is not None])
            _create(run, dataset, schema, statement.layout, None)
            return ok("Table created")
        return _create_as(run, dataset, statement)


def _create_as(run: Run, dataset: IcebergTable, statement: st.CreateTable) -> pa.Table:
    plan = run.plan()
    body = plan.query(statement.query or "", run.context)
    sql = plan.complete(body)
    found = output_schema(run.job, sql)
    schema = _declared(found, statement.columns)
    rows = _create(run, dataset, schema, statement.layout, iceberg.typed_select(sql, schema))
    run.used(plan)
    return records(rows)


def _declared(found: pa.Schema, columns: tuple[st.ColumnDefinition, ...]) -> pa.Schema:
    """The new table's columns: the query's, renamed and retyped by a column list when there is one."""
    fields = [pa.field(f.name, normalise(f.type)) for f in found]
    if columns:
        if len(columns) != len(fields):
            raise ValidationError(
                f"table's field list and the table's query field list have different counts: "
                f"{len(columns)} and {len(fields)}"
            )
        fields = [
            pa.field(c.name, f.type if c.type is None else c.type, c.nullable)
            for c, f in zip(columns, fields, strict=True)
        ]
    seen: set[str] = set()
    for field in fields:
        if field.name.lower() in seen:
            raise ValidationError(f"Duplicate column name [{field.name}]")
        seen.add(field.name.lower())
    return pa.schema(fields)


def _create(run: Run, dataset: IcebergTable, schema: pa.Schema, layout: st.Layout, sql: str | None) -> int:
    """Data first, then one commit that makes the table with all its rows. Returns the number of rows."""
    if not schema.names:
        raise ValidationError("A table needs at least one column.")
    transaction = iceberg.begin_create(dataset, schema, layout)
    metadata, io = transaction.table_metadata, transaction._table.io
    writer = iceberg.Writer(run.engine.database, run.job, metadata, io, dataset.access)
    try:
        written = writer.write(sql, _sort(schema, layout)) if sql else iceberg.Written([], 0, 0)
        iceberg.append(transaction, written.files, run.session.job_id)
        run.job.check()
    except BaseException:
        writer.discard()
        raise
    try:
        with iceberg.committing(dataset, run.session.job_id):
            transaction.commit_transaction()
    except iceberg.Conflict:
        writer.discard()
        raise iceberg.already_exists(dataset) from None
    run.changed(dataset.path)
    return written.rows


def _sort(schema: pa.Schema, layout: st.Layout) -> list[str]:
    known = {name.lower(): name for name in schema.names}
    for column in layout.sort:
        if column.lower() not in known:
            raise ValidationError(f"Sort column '{column}' is not found in the table's columns")
    return [known[column.lower()] for column in layout.sort]


def drop_table(run: Run, statement: st.DropTable) -> pa.Table:
    try:
        dataset = run.iceberg(statement.path)
        with run.engine.writing(dataset.path, run.job):
            dataset.catalog.drop_table(dataset.identifier)
    except (NotFound, NoSuchTableError):
        if statement.if_exists:
            return ok(f"Table [{dotted(statement.path)}] not found.")
        raise ValidationError(f"Table [{dotted(statement.path)}] does not exist.") from None
    except (RESTError, OSError) as error:
        raise DataReadError(f"Table [{dotted(statement.path)}] cannot be dropped: {type(error).__name__}") from None
    run.changed(dataset.path)
    return ok(f"Table [{dotted(dataset.path)}] dropped")


def alter_columns(run: Run, statement: st.AddColumns | st.DropColumn | st.AlterColumn) -> pa.Table:
    dataset = run.iceberg(statement.path)
    with run.engine.writing(dataset.path, run.job):
        table = load_table(dataset)
        try:
            with (
                iceberg.committing(dataset, ""),
                table.update_schema(
                    allow_incompatible_changes=isinstance(statement, st.DropColumn), case_sensitive=False
                ) as update,
            ):
                _alter(update, table, statement)
        except iceberg.Conflict:
            raise ConcurrentModification(f"Table [{dotted(dataset.path)}] was changed by another statement.") from None
        except (ValueError, IcebergValidationError) as error:
            raise ValidationError(str(error)) from None
    run.changed(dataset.path)
    words = {
        st.AddColumns: "New columns added.",
        st.DropColumn: "Column [{0}] dropped",
        st.AlterColumn: "Column [{0}] modified",
    }
    return ok(words[type(statement)].format(getattr(statement, "column", "")))


def _alter(update: object, table: Table, statement: st.AddColumns | st.DropColumn | st.AlterColumn) -> None:
    from pyiceberg.table.update.schema import UpdateSchema

    assert isinstance(update, UpdateSchema)
    known = {f.name.lower(): f for f in table.schema().fields}
    if isinstance(statement, st.AddColumns):
        for column in statement.columns:
            if column.name.lower() in known:
                raise ValidationError(f"Column [{column.name}] already in the table.")
            assert column.type is not None
            update.add_column(column.name, iceberg_type(column.type))
        return
    field = known.get(statement.column.lower())
    if field is None:
        raise ValidationError(f"Column [{statement.column}] is not present in table [{table.name()[-1]}]")
    if isinstance(statement, st.DropColumn):
        if len(known) == 1:
            raise ValidationError("Cannot drop all columns of a table")
        if any(p.source_id == field.field_id for p in table.spec().fields):
            raise ValidationError(f"[{field.name}] is a partition column. Partition spec change is not supported.")
        update.delete_column(field.name)
        return
    wanted = statement.definition
    assert wanted.type is not None
    if iceberg_type(wanted.type) != field.field_type:
        update.update_column(field.name, iceberg_type(wanted.type))
    if wanted.name != field.name:
        update.rename_column(field.name, wanted.name)


def rollback(run: Run, statement: st.Rollback) -> pa.Table:
    dataset = run.iceberg(statement.path)
    with run.engine.writing(dataset.path, run.job):
        table = load_table(dataset)
        if statement.snapshot is not None:
            snapshot = snapshot_of(table, dataset.path, Version("SNAPSHOT", statement.snapshot))
        else:
            snapshot = snapshot_of(table, dataset.path, Version("TIMESTAMP", statement.timestamp or ""))
        assert snapshot is not None
        with _lost(dataset.path), table.manage_snapshots() as manage:
            manage.rollback_to_snapshot(snapshot.snapshot_id)
    run.changed(dataset.path)
    return ok(f"Table [{dotted(dataset.path)}] rollbacked")


class _lost:
    """Dremio's words when an administrative commit loses a race or is not allowed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, CommitFailedException):
            raise ConcurrentModification(f"Table [{dotted(self.path)}] was changed by another statement.") from None
        if isinstance(error, ValueError):
            raise ValidationError(str(error)) from None


def vacuum(run: Run, statement: st.Vacuum) -> pa.Table:
    """EXPIRE SNAPSHOTS: metadata forgets them. Their files stay: another engine may still read them."""
    dataset = run.iceberg(statement.path)
    with run.engine.writing(dataset.path, run.job):
        table = load_table(dataset)
        default = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=5)  # Dremio's default age
        limit = parse_timestamp(statement.older_than) if statement.older_than else default
        keep = max(1, statement.retain_last or 1)
        ordered = sorted(table.snapshots(), key=lambda s: s.timestamp_ms, reverse=True)
        protected = {ref.snapshot_id for ref in table.metadata.refs.values()}
        pinned = run.engine.pinned_snapshots(dataset.path)
        doomed = [
            s.snapshot_id
            for s in ordered[keep:]
            if s.timestamp_ms < limit.timestamp() * 1000 and s.snapshot_id not in protected | pinned
        ]
        if doomed:
            with _lost(dataset.path):
                table.maintenance.expire_snapshots().by_ids(doomed).commit()
    run.changed(dataset.path)
    zero = [0]
    return pa.table(
        {
            name: pa.array(zero, pa.int64())
            for name in (
                "deleted_data_files_count",
                "deleted_position_delete_files_count",
                "deleted_equality_delete_files_count",
                "deleted_manifest_files_count",
                "deleted_manifest_lists_count",
                "deleted_partition_stats_files_count",
            )
        }
    )


def optimize(run: Run, statement: st.Optimize) -> pa.Table:
    """Rewrite the small files of a table into one per partition, in one commit."""
    dataset = run.iceberg(statement.path)
    with run.engine.writing(dataset.path, run.job):
        table = load_table(dataset)
        tasks = list(table.scan().plan_files())
        small = [t for t in tasks if t.file.file_size_in_bytes < 192 * 2**20 or t.delete_files]
        if len(small) < 2 and not any(t.delete_files for t in tasks):
            return _optimized(0, 0)
        if table.current_snapshot() is None:
            raise UnsupportedError(f"Table [{dotted(dataset.path)}] has no snapshot.")
        relation = run.reader.iceberg(dataset, None)
        writer = iceberg.Writer(run.engine.database, run.job, table.metadata, table.io, dataset.access)
        paths = "(" + ", ".join(literal(t.file.file_path) for t in small) + ")"
        try:
            written = writer.write(f"{relation.sql} WHERE filename IN {paths}")
            transaction = table.transaction()
            iceberg.replace(transaction, [t.file for t in small], written.files, run.session.job_id, same_rows=True)
            with iceberg.committing(dataset, run.session.job_id):
                transaction.commit_transaction()
        except iceberg.Conflict:
            writer.discard()
            raise ConcurrentModification(f"Table [{dotted(dataset.path)}] was changed by another statement.") from None
        except BaseException:
            writer.discard()
            raise
    run.changed(dataset.path)
    return _optimized(len(small), len(written.files))


def _optimized(rewritten: int, new: int) -> pa.Table:
    return pa.table(
        {
            "rewritten_data_files_count": pa.array([rewritten], pa.int64()),
            "rewritten_delete_files_count": pa.array([0], pa.int64()),
            "new_data_files_count": pa.array([new], pa.int64()),
        }
    )
