"""INSERT, DELETE, UPDATE, MERGE and TRUNCATE on Iceberg tables: copy on write, one commit per statement.

A change finds the rows by (file, row number), rewrites only the files that hold one, and commits "these files out,
those in" against the snapshot it read. When another writer was faster, the statement runs again on the new snapshot.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from embedded.sql.datasets import IcebergTable
from embedded.sql.engine import iceberg
from embedded.sql.engine import statements as st
from embedded.sql.engine.datatypes import duckdb_type, quote
from embedded.sql.engine.ddl import table_schema
from embedded.sql.engine.outcomes import ok, records
from embedded.sql.engine.planner import Plan, output_schema
from embedded.sql.engine.relations import dotted, empty_select, load_table
from embedded.sql.errors import ConcurrentModification, NotFound, ValidationError

if TYPE_CHECKING:
    from embedded.sql.engine.engine import Run

ATTEMPTS = 6
FILE, ROW = '"__file"', '"__row"'


def insert(run: Run, statement: st.Insert) -> pa.Table:
    dataset = run.iceberg(statement.path)
    table = load_table(dataset)
    plan = run.plan()
    body = plan.complete(plan.query(statement.query, run.context))
    sql = _insert_select(run, body, statement.columns, table_schema(table))
    rows = append_rows(run, dataset, table, sql)
    run.used(plan)
    return records(rows)


def append_rows(run: Run, dataset: IcebergTable, table: Table, sql: str) -> int:
    """Write the rows of a query whose columns are the table's, and add them in one commit. Returns their number.

    An append conflicts with no other change of rows: when another writer was faster, the same files are added again.
    """
    writer = iceberg.Writer(run.engine.database, run.job, table.metadata, table.io, dataset.access)
    try:
        written = writer.write(sql)
        with run.engine.writing(dataset.path, run.job):
            for attempt in range(ATTEMPTS):
                try:
                    _append(run, dataset, table, written.files)
                    break
                except iceberg.Conflict:
                    run.job.check()
                    threading.Event().wait(0.05 * 2**attempt)
            else:
                raise _changed(dataset)
    except BaseException:
        writer.discard()
        raise
    run.changed(dataset.path)
    return written.rows


def _append(run: Run, dataset: IcebergTable, table: Table, files: list[DataFile]) -> None:
    current = load_table(dataset)
    if (
        current.metadata.table_uuid != table.metadata.table_uuid
        or current.schema() != table.schema()
        or current.spec() != table.spec()
    ):
        raise _changed(dataset)
    if not files:
        return
    transaction = current.transaction()
    iceberg.append(transaction, files, run.session.job_id)
    with iceberg.committing(dataset, run.session.job_id):
        transaction.commit_transaction()


def _changed(dataset: IcebergTable) -> ConcurrentModification:
    return ConcurrentModification(f"Table [{dotted(dataset.path)}] was changed by another statement.")


def _insert_select(run: Run, sql: str, columns: tuple[str, ...], schema: pa.Schema) -> str:
    """The query's columns by position into the named (or all) columns, NULL into the others."""
    found = output_schema(run.job, sql)
    wanted = _columns(columns, schema) if columns else list(schema.names)
    if len(found.names) != len(wanted):
        raise ValidationError(
            f"Number of INSERT target columns ({len(wanted)}) does not equal number of source items "
            f"({len(found.names)})"
        )
    given = pa.schema([schema.field(name) for name in wanted])
    typed = iceberg.typed_select(sql, given)
    if wanted == list(schema.names):
        return typed
    for field in schema:
        if field.name not in wanted and not field.nullable:
            raise ValidationError(f"Column '{field.name}' has no default value and does not allow NULLs")
    selected = ", ".join(
        quote(f.name) if f.name in wanted else f"CAST(NULL AS {duckdb_type(f.type)}) AS {quote(f.name)}" for f in schema
    )
    return f"SELECT {selected} FROM ({typed})"


def _columns(names: Sequence[str], schema: pa.Schema) -> list[str]:
    known = {name.lower(): name for name in schema.names}
    found: list[str] = []
    for name in names:
        if name.lower() not in known:
            raise ValidationError(f"Unknown target column '{name}'")
        if known[name.lower()] in found:
            raise ValidationError(f"Target column '{name}' is assigned more than once")
        found.append(known[name.lower()])
    return found


@dataclass
class Change:
    """One attempt at a changing statement: the table as read, and how to see its rows with their places."""

    run: Run
    dataset: IcebergTable
    table: Table
    schema: pa.Schema
    alias: str
    plan: Plan

    def rows_of(self, files: str | None = None) -> str:
        """A FROM item: the target's columns, __file and __row, under the statement's alias."""
        relation = self.run.reader.iceberg(self.dataset, None)
        if relation.snapshot_id != self.table.metadata.current_snapshot_id:
            raise iceberg.Conflict("The table changed while the statement was planned.")
        if relation.snapshot_id is None:
            inner = relation.sql.replace("SELECT ", f"SELECT NULL::VARCHAR AS {FILE}, NULL::BIGINT AS {ROW}, ", 1)
        else:
            inner = relation.sql.replace("SELECT ", f"SELECT filename AS {FILE}, file_row_number AS {ROW}, ", 1)
            if files is not None:
                inner += f" WHERE filename IN (SELECT {FILE} FROM {files})"
        return f"({inner}) AS {quote(self.alias)}"

    def column(self, field: pa.Field) -> str:
        return f"{quote(self.alias)}.{quote(field.name)}"

    def expression(self, sql: str, source: str | None = None) -> str:
        """An expression over the target and the FROM item `source`."""
        items = f"({empty_select(self.schema)}) AS {quote(self.alias)}" + (f", {source}" if source else "")
        names = {tuple(part.lower() for part in self.dataset.path): self.alias}
        return self.plan.expression(sql, self.run.context, items, names)

    def select(self, sql: str) -> str:
        return self.plan.complete(sql)

    def typed(self, value: str, field: pa.Field) -> str:
        return iceberg.stored(value, field)


@dataclass(frozen=True)
class Edit:
    """What one attempt found: names of the temporary tables and the queries of the new rows."""

    matched: str | None  # temporary table with __file, __row of rows to change; None: nothing matched is changed
    rows: list[str]  # queries whose union are the rows to write
    touched: int
    inserted: str | None = None  # a query that counts the inserted rows


def _change(run: Run, target: st.Target, find: Callable[[Change], Edit]) -> int:
    """Run an attempt under the table's lock until its commit wins. Returns the number of rows changed."""
    dataset = run.iceberg(target.path)
    with run.engine.writing(dataset.path, run.job):
        for attempt in range(ATTEMPTS):
            try:
                return _attempt(run, dataset, target, find)
            except iceberg.Conflict:
                run.job.check()
                threading.Event().wait(0.05 * 2**attempt)  # another process commits: let it finish
    raise ConcurrentModification(
        f"Unable to commit to [{dotted(dataset.path)}]: other statements changed it meanwhile."
    )


def _attempt(run: Run, dataset: IcebergTable, target: st.Target, find: Callable[[Change], Edit]) -> int:
    table = load_table(dataset)
    change = Change(run, dataset, table, table_schema(table), target.alias, run.plan())
    edit = find(change)
    if edit.matched is None and not edit.rows:
        run.used(change.plan)
        return 0
    old = _touched_files(change, edit.matched)
    writer = iceberg.Writer(run.engine.database, run.job, table.metadata, table.io, dataset.access)
    try:
        sql = " UNION ALL ".join(f"({query})" for query in edit.rows)
        written = writer.write(change.select(sql)) if edit.rows else iceberg.Written([], 0, 0)
        run.job.check()
        _commit(run, change, old, written.files)
    except BaseException:
        writer.discard()
        raise
    run.used(change.plan)
    run.changed(dataset.path)
    added = int(str(run.job.rows(edit.inserted)[0][0])) if edit.inserted else 0
    return edit.touched + added


def _commit(run: Run, change: Change, old: list[DataFile], new: list[DataFile]) -> None:
    if not old and not new:
        return
    transaction = change.table.transaction()
    with iceberg.committing(change.dataset, run.session.job_id):
        if old:
            iceberg.replace(transaction, old, new, run.session.job_id)
        else:
            iceberg.append(transaction, new, run.session.job_id)
        transaction.commit_transaction()


def _touched_files(change: Change, matched: str | None) -> list[DataFile]:
    if matched is None:
        return []
    names = {str(row[0]) for row in change.run.job.rows(f"SELECT DISTINCT {FILE} FROM {matched}")}
    if not names:
        return []
    files = [task.file for task in change.table.scan().plan_files() if task.file.file_path in names]
    if len(files) != len(names):
        raise iceberg.Conflict("The files that were read are not the table's any more.")
    return files


def delete(run: Run, statement: st.Delete) -> int:
    def find(change: Change) -> Edit:
        source = change.plan.table_expression(statement.using, run.context).item if statement.using else None
        extra = f", {source}" if source else ""
        where = f" WHERE {change.expression(statement.where, source)}" if statement.where else ""
        alias = quote(change.alias)
        matched = run.job.temporary(
            change.select(f"SELECT {alias}.{FILE}, {alias}.{ROW} FROM {change.rows_of()}{extra}{where}")
        )
        total, distinct = _counts(run, matched)
        if total != distinct:
            raise ValidationError("A target row matched more than once. Please update your query.")
        kept = (
            f"SELECT {', '.join(change.column(f) for f in change.schema)} FROM {change.rows_of(matched)} "
            f"ANTI JOIN {matched} AS m ON {alias}.{FILE} = m.{FILE} AND {alias}.{ROW} = m.{ROW}"
        )
        return Edit(matched if total else None, [kept] if total else [], total)

    return _change(run, statement.target, find)


def update(run: Run, statement: st.Update) -> int:
    def find(change: Change) -> Edit:
        source = change.plan.table_expression(statement.source, run.context).item if statement.source else None
        names = _columns([name for name, _ in statement.assignments], change.schema)
        values = ", ".join(
            f"{change.typed(change.expression(text, source), change.schema.field(name))} AS v{i}"
            for i, (name, (_, text)) in enumerate(zip(names, statement.assignments, strict=True))
        )
        extra = f", {source}" if source else ""
        where = f" WHERE {change.expression(statement.where, source)}" if statement.where else ""
        alias = quote(change.alias)
        matched = run.job.temporary(
            change.select(f"SELECT {alias}.{FILE}, {alias}.{ROW}, {values} FROM {change.rows_of()}{extra}{where}")
        )
        total, distinct = _counts(run, matched)
        if total != distinct:
            raise ValidationError("A target row matched more than once. Please update your query.")
        new = {name: f"m.v{i}" for i, name in enumerate(names)}
        return Edit(matched if total else None, [_rewritten(change, matched, new)] if total else [], total)

    return _change(run, statement.target, find)


def _rewritten(change: Change, matched: str, new: dict[str, str]) -> str:
    """All rows of the touched files, with new values where the row matched."""
    alias = quote(change.alias)
    columns = ", ".join(
        f"CASE WHEN m.{ROW} IS NULL THEN {change.column(f)} ELSE {new[f.name]} END AS {quote(f.name)}"
        if f.name in new
        else f"{change.column(f)} AS {quote(f.name)}"
        for f in change.schema
    )
    return (
        f"SELECT {columns} FROM {change.rows_of(matched)} "
        f"LEFT JOIN {matched} AS m ON {alias}.{FILE} = m.{FILE} AND {alias}.{ROW} = m.{ROW}"
    )


def _counts(run: Run, matched: str) -> tuple[int, int]:
    total, distinct = run.job.rows(f"SELECT count(*), count(DISTINCT ({FILE}, {ROW})) FROM {matched}")[0]
    return int(str(total)), int(str(distinct))


def merge(run: Run, statement: st.Merge) -> int:
    return _change(run, statement.target, lambda change: _merge(run, change, statement))


def _merge(run: Run, change: Change, statement: st.Merge) -> Edit:
    item = change.plan.table_expression(statement.source, run.context)
    # The source is read once: a second read could see other rows than the first.
    source = run.job.temporary(change.select(f"SELECT *, row_number() OVER () AS __id FROM {item.item}"))
    source_item = f"{source} AS {quote(item.alias)}"
    source_id = f"{quote(item.alias)}.__id"
    assignments = _assignments(run, change, statement, source)
    values = ", ".join(
        f"{change.typed(change.expression(text, source_item), change.schema.field(name))} AS v{i}"
        for i, (name, text) in enumerate(assignments)
    )
    alias = quote(change.alias)
    picked = ", ".join(x for x in (f"{alias}.{FILE}", f"{alias}.{ROW}", f"{source_id} AS id", values) if x)
    on = change.expression(statement.on, source_item)
    matched = run.job.temporary(change.select(f"SELECT {picked} FROM {change.rows_of()} JOIN {source_item} ON {on}"))
    rows: list[str] = []
    touched = 0
    if assignments:
        touched, distinct = _counts(run, matched)
        if touched != distinct:
            raise ValidationError("A target row matched more than once. Please update your query.")
        if touched:
            rows.append(_rewritten(change, matched, {name: f"m.v{i}" for i, (name, _) in enumerate(assignments)}))
    inserted = None
    if statement.insert_values is not None:
        missing = f"FROM {source_item} WHERE {source_id} NOT IN (SELECT id FROM {matched})"
        columns = _inserted(run, change, statement, source, source_item)
        inserted = f"SELECT count(*) {missing}"
        if int(str(run.job.rows(inserted)[0][0])):
            rows.append(f"SELECT {columns} {missing}")
    return Edit(matched if touched else None, rows, touched, inserted)


def _source_columns(run: Run, source: str) -> list[str]:
    return [name for name in output_schema(run.job, f"SELECT * FROM {source}").names if name != "__id"]


def _assignments(run: Run, change: Change, statement: st.Merge, source: str) -> list[tuple[str, str]]:
    if statement.update is None:
        return []
    if statement.update == "*":
        names = list(change.schema.names)
        given = {name.lower(): name for name in _source_columns(run, source)}
        missing = [name for name in names if name.lower() not in given]
        if missing:
            raise ValidationError(f"Column '{missing[0]}' not found in any table")
        alias = quote(_alias_of(statement.source, change))
        return [(name, f"{alias}.{quote(given[name.lower()])}") for name in names]
    names = _columns([name for name, _ in statement.update], change.schema)
    return [(name, text) for name, (_, text) in zip(names, statement.update, strict=True)]


def _alias_of(source: str, change: Change) -> str:
    return change.plan.table_expression(source, change.run.context).alias


def _inserted(run: Run, change: Change, statement: st.Merge, source: str, item: str) -> str:
    """The select list of inserted rows: the table's columns in order."""
    alias = _alias_of(statement.source, change)
    if statement.insert_values == "*":
        given = {name.lower(): name for name in _source_columns(run, source)}
        texts = {
            f.name: f"{quote(alias)}.{quote(given[f.name.lower()])}" for f in change.schema if f.name.lower() in given
        }
    else:
        names = (
            _columns(statement.insert_columns, change.schema) if statement.insert_columns else list(change.schema.names)
        )
        values = statement.insert_values or ()
        if len(names) != len(values):
            raise ValidationError(
                f"Number of INSERT target columns ({len(names)}) does not equal number of source items ({len(values)})"
            )
        texts = dict(zip(names, values, strict=True))
    return ", ".join(
        f"{change.typed(change.expression(texts[f.name], item) if f.name in texts else 'NULL', f)} AS {quote(f.name)}"
        for f in change.schema
    )


def truncate(run: Run, statement: st.Truncate) -> pa.Table:
    try:
        dataset = run.iceberg(statement.path)
    except NotFound:
        if statement.if_exists:
            return ok(f"Table [{dotted(statement.path)}] not found.")
        raise
    with run.engine.writing(dataset.path, run.job):
        table = load_table(dataset)
        files = [task.file for task in table.scan().plan_files()]
        if files:
            transaction = table.transaction()
            iceberg.replace(transaction, files, [], run.session.job_id)
            try:
                with iceberg.committing(dataset, run.session.job_id):
                    transaction.commit_transaction()
            except iceberg.Conflict:
                raise ConcurrentModification(
                    f"Table [{dotted(dataset.path)}] was changed by another statement."
                ) from None
    run.changed(dataset.path)
    return ok(f"Table [{dotted(dataset.path)}] truncated")
