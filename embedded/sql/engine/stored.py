"""What a refresh stores for a reflection, and how it is read: the layout of a materialization.

RAW stores its display columns under their own names. AGGREGATION stores its dimensions as d0, d1, ... (d0_day when a
timestamp is kept by day), COUNT(*) as `rows`, and each measure as m<number>_<function>. It may hold several rows of one
group (an incremental refresh adds some): whoever reads it aggregates again.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from embedded.sql.datasets import Materialization
from embedded.sql.engine.datatypes import duckdb_type, literal, parse_type, quote
from embedded.sql.engine.relations import empty_select, file_source

ROWS = "rows"
_FEW_FILES = 16  # more are pruned by the statistics of the Iceberg table


def measure_columns(m: Materialization) -> dict[tuple[str, str], str]:
    """(lowered column, function) -> name of the stored column. Only what can be aggregated again is stored."""
    found = {("", "COUNT"): ROWS}
    for number, measure in enumerate(m.measures):
        for function in measure.functions:
            if function in ("SUM", "COUNT", "MIN", "MAX"):
                found[(measure.column.lower(), function)] = f"m{number}_{function.lower()}"
    return found


def dimension_name(number: int, granularity: str, kind: pa.DataType) -> str:
    return f"d{number}_day" if granularity == "DATE" and pa.types.is_timestamp(kind) else f"d{number}"


def dimension_columns(m: Materialization) -> dict[str, str]:
    """Lowered column -> name of the stored column, of a materialization that is built."""
    stored = [name for name, _ in m.columns]
    return {name.lower(): stored[number] for number, (name, _) in enumerate(m.dimensions)}


def stored_select(m: Materialization, schema: pa.Schema, source: str) -> str:
    """The query that a refresh stores, over a FROM item that has the dataset's columns (`schema`)."""
    types = {f.name.lower(): f for f in schema}
    if m.kind == "RAW":
        return f"SELECT {', '.join(quote(types[name.lower()].name) for name in m.display)} FROM {source}"
    columns, keys = [], []
    for number, (name, granularity) in enumerate(m.dimensions):
        own = types[name.lower()]
        stored = dimension_name(number, granularity, own.type)
        keys.append(f"CAST({quote(own.name)} AS DATE)" if stored.endswith("_day") else quote(own.name))
        columns.append(f"{keys[-1]} AS {stored}")
    for (column, function), name in measure_columns(m).items():
        if not column:
            columns.append(f"count(*) AS {name}")
            continue
        value = f"{function.lower()}({quote(types[column].name)})"
        if function == "SUM" and pa.types.is_integer(types[column].type):
            value = f"CAST({value} AS BIGINT)"
        columns.append(f"{value} AS {name}")
    # Without dimensions too: a refresh of no rows adds none.
    group = f"GROUP BY {', '.join(keys)}" if keys else "HAVING count(*) > 0"
    return f"SELECT {', '.join(columns)} FROM {source} {group}"


def stored_schema(m: Materialization) -> pa.Schema:
    return pa.schema([pa.field(name, parse_type(text)) for name, text in m.columns])


def stored_relation(m: Materialization, needed: Sequence[str] | None = None) -> str:
    """A SELECT of the stored columns; `needed` (own spelling) leaves others out."""
    schema = stored_schema(m)
    if needed is not None:
        kept = [f for f in schema if f.name in set(needed)]
        schema = pa.schema(kept or [schema.field(0)])
    if not m.files:
        return empty_select(schema)
    columns = ", ".join(f"CAST({quote(f.name)} AS {duckdb_type(f.type)}) AS {quote(f.name)}" for f in schema)
    if len(m.files) <= _FEW_FILES:
        return f"SELECT {columns} FROM {file_source(m.files, 'Parquet', {}, schema)}"
    return f"SELECT {columns} FROM iceberg_scan({literal(m.metadata)})"
