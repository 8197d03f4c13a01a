"""CREATE TABLE, CREATE TABLE AS and DROP TABLE on Iceberg tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
from pyiceberg.exceptions import NoSuchTableError, RESTError
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table

from embedded.sql.datasets import IcebergTable
from embedded.sql.engine import iceberg
from embedded.sql.engine import statements as st
from embedded.sql.engine.datatypes import normalise
from embedded.sql.engine.outcomes import ok, records
from embedded.sql.engine.planner import output_schema
from embedded.sql.engine.relations import dotted
from embedded.sql.errors import DataReadError, NotFound, ValidationError

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
        written = writer.write(sql) if sql else iceberg.Written([], 0, 0)
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
