"""SHOW and DESCRIBE, answered from INFORMATION_SCHEMA and from the dataset itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from embedded.sql.datasets import Path
from embedded.sql.engine import statements as st
from embedded.sql.engine.datatypes import literal, quote, sql_type
from embedded.sql.errors import NotFound

if TYPE_CHECKING:
    from embedded.sql.engine.engine import Run


def quoted(path: Path) -> list[str]:
    return [quote(part) for part in path]


def show(run: Run, s: st.Show) -> pa.Table:
    like = literal(s.like) if s.like is not None else ""
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
            "IS_NULLABLE": pa.array(["YES" for _ in fields], pa.string()),
            "NUMERIC_PRECISION": pa.array(precisions, pa.int32()),
            "NUMERIC_SCALE": pa.array(scales, pa.int32()),
        }
    )
