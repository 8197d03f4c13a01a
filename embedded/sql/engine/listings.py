"""SHOW and DESCRIBE, answered from INFORMATION_SCHEMA and from the dataset itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from embedded.sql.datasets import IcebergTable, Path, View
from embedded.sql.engine import statements as st
from embedded.sql.engine.datatypes import literal, quote, sql_type, type_text
from embedded.sql.engine.ddl import table_schema
from embedded.sql.engine.relations import load_table
from embedded.sql.errors import NotFound, UnsupportedError, ValidationError

if TYPE_CHECKING:
    from embedded.sql.engine.engine import Run


def quoted(path: Path) -> list[str]:
    return [quote(part) for part in path]


def show(run: Run, s: st.Show) -> pa.Table:
    like = literal(s.like) if s.like is not None else ""
    if s.what == "FUNCTIONS":
        return _functions(run, s.like)
    if s.what == "SCHEMAS":
        where = f" WHERE SCHEMA_NAME LIKE {like}" if like else ""
        return run.query(f'SELECT SCHEMA_NAME FROM INFORMATION_SCHEMA."SCHEMATA"{where} ORDER BY SCHEMA_NAME')
    conditions = ["TABLE_TYPE = 'VIEW'"] if s.what == "VIEWS" else []
    within = s.within or run.context
    if within:
        conditions.append(f"LOWER(TABLE_SCHEMA) = {literal('.'.join(within).lower())}")
    if like:
        conditions.append(f"TABLE_NAME LIKE {like}")
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return run.query(
        f'SELECT TABLE_SCHEMA, TABLE_NAME FROM INFORMATION_SCHEMA."TABLES"{where} ORDER BY TABLE_SCHEMA, TABLE_NAME'
    )


def _functions(run: Run, like: str | None) -> pa.Table:
    names = pa.table({"NAME": pa.array(sorted(".".join(f.path) for f in run.catalog.functions()), pa.string())})
    if like is None:
        return names
    return run.job.arrow(f"SELECT NAME FROM {run.job.register(names)} WHERE NAME LIKE {literal(like)} ORDER BY NAME")


def show_create(run: Run, s: st.ShowCreate) -> pa.Table:
    """SHOW CREATE VIEW | TABLE: the path, and a statement that would make the same again."""
    dataset = run.dataset(s.path)
    if isinstance(dataset, View) != (s.what == "VIEW"):
        raise ValidationError(f"[{'.'.join(dataset.path)}] is not a {s.what}")
    path = ".".join(quoted(dataset.path))
    if isinstance(dataset, View):
        return _created(dataset.path, f"CREATE VIEW {path} AS\n{dataset.sql}")
    if not isinstance(dataset, IcebergTable):
        raise UnsupportedError(f"SHOW CREATE TABLE is supported on Iceberg tables only; [{path}] is none.")
    table = load_table(dataset)
    columns = ",\n  ".join(
        f"{quote(f.name)} {type_text(f.type)}{'' if f.nullable else ' NOT NULL'}" for f in table_schema(table)
    )
    clauses = [f"CREATE TABLE {path} (\n  {columns}\n)"]
    schema = table.schema()
    if terms := [_term(f.transform, schema.find_field(f.source_id).name) for f in table.spec().fields]:
        clauses.append(f"PARTITION BY ({', '.join(terms)})")
    if order := [quote(schema.find_field(f.source_id).name) for f in table.sort_order().fields]:
        clauses.append(f"LOCALSORT BY ({', '.join(order)})")
    return _created(dataset.path, "\n".join(clauses))


def _term(transform: object, column: str) -> str:
    name, _, argument = str(transform).partition("[")
    if name == "identity":
        return quote(column)
    number = argument.rstrip("]")
    return f"{name}({number}, {quote(column)})" if number else f"{name}({quote(column)})"


def _created(path: Path, sql: str) -> pa.Table:
    return pa.table({"path": pa.array([".".join(path)], pa.string()), "sql_definition": pa.array([sql], pa.string())})


def describe(run: Run, s: st.Describe) -> pa.Table:
    schema = run.query_schema(f"SELECT * FROM {'.'.join(quoted(s.path))}")
    fields = [f for f in schema if s.column is None or f.name.lower() == s.column.lower()]
    if not fields:
        raise NotFound(f"Column '{s.column}' not found in table '{'.'.join(s.path)}'")
    decimals = [f.type if pa.types.is_decimal(f.type) else None for f in fields]
    whole = {"INTEGER": 32, "BIGINT": 64}
    precisions = [d.precision if d else whole.get(sql_type(f.type)) for f, d in zip(fields, decimals, strict=True)]
    scales = [d.scale if d else (0 if p else None) for d, p in zip(decimals, precisions, strict=True)]
    return pa.table(
        {
            "COLUMN_NAME": pa.array([f.name for f in fields], pa.string()),
            "DATA_TYPE": pa.array([sql_type(f.type) for f in fields], pa.string()),
            "IS_NULLABLE": pa.array(["YES" if f.nullable else "NO" for f in fields], pa.string()),
            "NUMERIC_PRECISION": pa.array(precisions, pa.int32()),
            "NUMERIC_SCALE": pa.array(scales, pa.int32()),
        }
    )
