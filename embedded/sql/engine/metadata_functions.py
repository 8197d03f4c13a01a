"""TABLE(...) in FROM: Iceberg metadata as tables, and files read with other format options than the promoted ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pyarrow as pa
from pyiceberg.table import Table
from sqlglot import exp

from embedded.sql.datasets import Catalog, Dataset, FileTable, IcebergTable, Path, PostgresQuery, SystemTable
from embedded.sql.engine.relations import dotted, load_table
from embedded.sql.engine.tokens import Cursor
from embedded.sql.errors import ParseError, UnsupportedError, ValidationError

Resolve = Callable[[Path], Dataset]


def metadata_table(call: exp.Expr, resolve: Resolve) -> SystemTable | None:
    """table_history, table_snapshot, table_files, table_manifests, table_partitions; None for anything else."""
    if not isinstance(call, exp.Anonymous) or call.name.upper() not in _FUNCTIONS:
        return None
    if len(call.expressions) != 1 or not call.expressions[0].is_string:
        raise ParseError(f"Failure parsing the query. {call.name} expects one text literal, the table's path.")
    cursor = Cursor(call.expressions[0].name)
    path = cursor.path()
    cursor.finish()
    dataset = resolve(path)
    if not isinstance(dataset, IcebergTable):
        raise ValidationError(
            f"{call.name.lower()} is supported on Iceberg tables only; '{dotted(dataset.path)}' is none."
        )
    return SystemTable(dataset.path, _FUNCTIONS[call.name.upper()](load_table(dataset)))


def system_table(call: exp.Expr, known: Callable[[str, str], pa.Table | None]) -> SystemTable | None:
    """sys.reflection_lineage('id') and the like; None for anything else."""
    if (
        not isinstance(call, exp.Dot)
        or call.this.name.lower() != "sys"
        or not isinstance(call.expression, exp.Anonymous)
    ):
        return None
    function = call.expression
    if len(function.expressions) != 1 or not function.expressions[0].is_string:
        raise ParseError(f"Failure parsing the query. {function.name} expects one text literal.")
    found = known(function.name.lower(), function.expressions[0].name)
    if found is None:
        raise ValidationError(f"No match found for function signature {function.name.upper()}(<CHARACTER>)")
    return SystemTable(("sys", function.name.lower()), found)


def named_table(call: exp.Expr, resolve: Resolve) -> FileTable:
    """path(type => 'text', fieldDelimiter => ',', ...)"""
    parts: list[str] = []
    while isinstance(call, exp.Dot):
        parts.append(call.this.name)
        call = call.expression
    if not isinstance(call, exp.Anonymous):
        raise ParseError("Failure parsing the query. A table function must be written TABLE(function(...)).")
    options: dict[str, object] = {}
    for argument in call.expressions:
        if not isinstance(argument, exp.Kwarg) or not isinstance(argument.expression, (exp.Literal, exp.Boolean)):
            raise ValidationError(f"No match found for function signature {call.name.upper()}(<ANY>)")
        value = argument.expression
        options[argument.this.name] = value.this if isinstance(value, exp.Boolean) else value.name
    if not options:
        raise ValidationError(f"No match found for function signature {call.name.upper()}()")
    dataset = resolve((*parts, call.name))
    if not isinstance(dataset, FileTable):
        raise ValidationError(f"Table '{dotted(dataset.path)}' does not take format options.")
    names = {"parquet": "Parquet", "json": "JSON", "text": "Text"}
    kind = str(options.pop("type", dataset.format)).lower()
    if kind not in names:
        raise ValidationError(f"Unknown format type [{kind}]")
    merged = {**dataset.format_options, **options}
    return dataclasses.replace(dataset, format=names[kind], format_options=merged)  # type: ignore[arg-type]


def external_query(call: exp.Expr, catalog: Catalog) -> PostgresQuery | None:
    """source.external_query('select ... in the words of the source'); None for anything else."""
    if not isinstance(call, exp.Dot) or not isinstance(call.expression, exp.Anonymous):
        return None
    function = call.expression
    if function.name.upper() != "EXTERNAL_QUERY" or isinstance(call.this, exp.Dot):
        return None
    if len(function.expressions) != 1 or not function.expressions[0].is_string:
        raise ValidationError("No match found for function signature EXTERNAL_QUERY(<ANY>)")
    source = call.this.name
    dsn = catalog.external_source(source)
    if dsn is None:
        raise UnsupportedError(f"Source [{source}] does not support external_query.")
    return PostgresQuery((source, "external_query"), dsn, function.expressions[0].name)


def _timestamp(milliseconds: list[int | None]) -> pa.Array:
    return pa.array(milliseconds, pa.timestamp("ms"))


def _snapshots(table: Table) -> pa.Table:
    found = table.snapshots()
    summaries = [
        {"operation": s.summary.operation.value, **s.summary.additional_properties} if s.summary else {} for s in found
    ]
    return pa.table(
        {
            "committed_at": _timestamp([s.timestamp_ms for s in found]),
            "snapshot_id": pa.array([s.snapshot_id for s in found], pa.int64()),
            "parent_id": pa.array([s.parent_snapshot_id for s in found], pa.int64()),
            "operation": pa.array([s.summary.operation.value if s.summary else None for s in found], pa.string()),
            "manifest_list": pa.array([s.manifest_list for s in found], pa.string()),
            "summary": pa.array([list(m.items()) for m in summaries], pa.map_(pa.string(), pa.string())),
        }
    )


def _history(table: Table) -> pa.Table:
    entries = table.history()
    parents = {s.snapshot_id: s.parent_snapshot_id for s in table.snapshots()}
    ancestors, at = set(), table.metadata.current_snapshot_id
    while at is not None and at not in ancestors:
        ancestors.add(at)
        at = parents.get(at)
    return pa.table(
        {
            "made_current_at": _timestamp([e.timestamp_ms for e in entries]),
            "snapshot_id": pa.array([e.snapshot_id for e in entries], pa.int64()),
            "parent_id": pa.array([parents.get(e.snapshot_id) for e in entries], pa.int64()),
            "is_current_ancestor": pa.array([e.snapshot_id in ancestors for e in entries], pa.bool_()),
        }
    )


def _files(table: Table) -> pa.Table:
    tasks = [task.file for task in table.scan().plan_files()]
    return pa.table(
        {
            "file_path": pa.array([f.file_path for f in tasks], pa.string()),
            "file_format": pa.array([str(f.file_format.value) for f in tasks], pa.string()),
            "partition": pa.array([str(f.partition) for f in tasks], pa.string()),
            "record_count": pa.array([f.record_count for f in tasks], pa.int64()),
            "file_size_in_bytes": pa.array([f.file_size_in_bytes for f in tasks], pa.int64()),
        }
    )


def _manifests(table: Table) -> pa.Table:
    snapshot = table.current_snapshot()
    found = snapshot.manifests(table.io) if snapshot else []
    return pa.table(
        {
            "path": pa.array([m.manifest_path for m in found], pa.string()),
            "length": pa.array([m.manifest_length for m in found], pa.int64()),
            "partition_spec_id": pa.array([m.partition_spec_id for m in found], pa.int32()),
            "added_snapshot_id": pa.array([m.added_snapshot_id for m in found], pa.int64()),
            "added_data_files_count": pa.array([m.added_files_count for m in found], pa.int32()),
            "existing_data_files_count": pa.array([m.existing_files_count for m in found], pa.int32()),
            "deleted_data_files_count": pa.array([m.deleted_files_count for m in found], pa.int32()),
        }
    )


def _partitions(table: Table) -> pa.Table:
    counts: dict[tuple[str, int], list[int]] = {}
    for task in table.scan().plan_files():
        entry = counts.setdefault((str(task.file.partition), task.file.spec_id), [0, 0])
        entry[0] += task.file.record_count
        entry[1] += 1
    return pa.table(
        {
            "partition": pa.array([k[0] for k in counts], pa.string()),
            "record_count": pa.array([v[0] for v in counts.values()], pa.int64()),
            "file_count": pa.array([v[1] for v in counts.values()], pa.int32()),
            "spec_id": pa.array([k[1] for k in counts], pa.int32()),
        }
    )


_FUNCTIONS: dict[str, Callable[[Table], pa.Table]] = {
    "TABLE_SNAPSHOT": _snapshots,
    "TABLE_HISTORY": _history,
    "TABLE_FILES": _files,
    "TABLE_MANIFESTS": _manifests,
    "TABLE_PARTITIONS": _partitions,
}
