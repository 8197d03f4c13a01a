"""Answering queries from reflections, only where the answer is provably the same.

A materialization counts when it was read at exactly the snapshot that the query reads. RAW: it has every column that
the statement could name. AGGREGATION: one SELECT over one table that groups by (expressions of) dimensions and
aggregates measures by SUM, COUNT, MIN or MAX; sums of floating-point columns are left alone, their result depends on
the order of the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa
from sqlglot import exp

from embedded.sql.datasets import Materialization, Path
from embedded.sql.engine import functions
from embedded.sql.engine.datatypes import duckdb_type, quote
from embedded.sql.engine.relations import file_source

Relationship = Literal["CONSIDERED", "MATCHED", "CHOSEN"]
ROWS = "rows"  # the hidden measure COUNT(*) of every aggregation
_RANK: dict[Relationship, int] = {"CONSIDERED": 0, "MATCHED": 1, "CHOSEN": 2}
_DAY_UNITS = ("day", "week", "month", "quarter", "year", "decade", "century")


@dataclass
class Ledger:
    """What became of each reflection in one statement; the strongest relationship wins."""

    entries: dict[str, tuple[str, Path, Relationship]] = field(default_factory=dict)

    def note(self, m: Materialization, relationship: Relationship) -> None:
        known = self.entries.get(m.reflection_id)
        if known is None or _RANK[known[2]] < _RANK[relationship]:
            self.entries[m.reflection_id] = (m.reflection_id, m.dataset, relationship)

    def listed(self) -> list[tuple[str, Path, Relationship]]:
        return list(self.entries.values())


def measure_columns(m: Materialization) -> dict[tuple[str, str], str]:
    """(column, function) -> name of the stored column; dimensions are d0, d1, ... in order."""
    found = {("", "COUNT"): ROWS}
    for number, measure in enumerate(m.measures):
        for function in measure.functions:
            if function in ("SUM", "COUNT", "MIN", "MAX"):
                found[(measure.column.lower(), function)] = f"m{number}_{function.lower()}"
    return found


def materialization_select(m: Materialization, schema: pa.Schema, source: str) -> str:
    """The query that a refresh stores, over a FROM item that has the dataset's columns (`schema`)."""
    types = {f.name.lower(): f for f in schema}
    if m.kind == "RAW":
        return f"SELECT {', '.join(quote(types[name.lower()].name) for name in m.display)} FROM {source}"
    keys = [_dimension(types[name.lower()], granularity) for name, granularity in m.dimensions]
    columns = [f"{key} AS d{i}" for i, key in enumerate(keys)]
    for (column, function), name in measure_columns(m).items():
        if not column:
            columns.append(f"count(*) AS {name}")
            continue
        value = f"{function.lower()}({quote(types[column].name)})"
        if function == "SUM" and pa.types.is_integer(types[column].type):
            value = f"CAST({value} AS BIGINT)"
        columns.append(f"{value} AS {name}")
    group = f" GROUP BY {', '.join(keys)}" if keys else ""
    return f"SELECT {', '.join(columns)} FROM {source}{group}"


def _dimension(column: pa.Field, granularity: str) -> str:
    if granularity == "DATE" and pa.types.is_timestamp(column.type):
        return f"CAST({quote(column.name)} AS DATE)"
    return quote(column.name)


def raw_relation(m: Materialization, schema: pa.Schema) -> str:
    """A SELECT of the displayed columns, in the dataset's order and types."""
    shown = {name.lower() for name in m.display}
    kept = pa.schema([f for f in schema if f.name.lower() in shown])
    columns = ", ".join(quote(f.name) for f in kept)
    return f"SELECT {columns} FROM {file_source(m.files, 'Parquet', {}, kept)}"


def covers(m: Materialization, schema: pa.Schema, needed: set[str] | None) -> bool:
    """Does a RAW reflection show all columns that may be needed? None: all of the dataset's."""
    shown = {name.lower() for name in m.display}
    columns = {name.lower() for name in schema.names}
    return (columns if needed is None else columns & needed) <= shown


def names_in(tree: exp.Expr) -> set[str] | None:
    """Every name that occurs in a statement, lowered; None when a star or a natural join names all columns."""
    for star in tree.find_all(exp.Star):
        if not (isinstance(star.parent, exp.Anonymous) and star.parent.name.upper() == "COUNT"):
            return None
    if any(join.method == "NATURAL" for join in tree.find_all(exp.Join)):
        return None
    return {identifier.name.lower() for identifier in tree.find_all(exp.Identifier)}


@dataclass(frozen=True)
class Rollup:
    """An aggregation SELECT that a reflection can answer: where to read, and the replaced nodes."""

    relation: str
    replacements: list[tuple[exp.Expr, exp.Expr]]

    def apply(self, select: exp.Select) -> None:
        """Replace the nodes; a plain column of the select list keeps its name."""
        shown = {id(item) for item in select.expressions}
        for old, new in self.replacements:
            old.replace(exp.alias_(new, old.name, quoted=True) if id(old) in shown else new)


def aggregate_columns(select: exp.Select) -> bool:
    """Is this the shape at all: one table, grouping or aggregates, no windows, subqueries, DISTINCT or samples?"""
    if select.args.get("joins") or select.args.get("distinct") or select.args.get("qualify"):
        return False
    if any(_disqualifying(select)):
        return False
    own = [node for node in select.find_all(exp.Query) if node is not select]
    return not own and (select.args.get("group") is not None or any(_aggregates(select)))


def _disqualifying(select: exp.Select) -> Iterator[bool]:
    for node in select.find_all(exp.Window, exp.Filter, exp.WithinGroup, exp.Rollup, exp.Cube, exp.GroupingSets):
        yield node is not None
    for star in select.find_all(exp.Star):
        if not (isinstance(star.parent, exp.Anonymous) and star.parent.name.upper() == "COUNT"):
            yield True


def _aggregates(select: exp.Select) -> Iterator[exp.Anonymous]:
    for call in select.find_all(exp.Anonymous):
        if call.name.upper() in _AGGREGATES:
            yield call


_AGGREGATES = set(functions.AGGREGATES)


def roll_up(select: exp.Select, m: Materialization, schema: pa.Schema, renamed: dict[str, str]) -> Rollup | None:
    """How to answer `select` from an aggregation of its table, or None.

    `renamed` maps the (lowered) column names that the SELECT sees to the table's own.
    """
    types = {f.name.lower(): f.type for f in schema}
    stored = measure_columns(m)
    dimensions = {name.lower(): (i, granularity) for i, (name, granularity) in enumerate(m.dimensions)}
    replacements: list[tuple[exp.Expr, exp.Expr]] = []
    inside: set[int] = set()
    for call in _aggregates(select):
        new = _rolled(call, stored, types, renamed)
        if new is None:
            return None
        replacements.append((call, new))
        inside |= {id(node) for node in call.find_all(exp.Column)}
    aliases = {item.alias.lower() for item in select.expressions if isinstance(item, exp.Alias)}
    for column in select.find_all(exp.Column):
        if id(column) in inside or _is_alias(column, aliases, renamed):
            continue
        own = renamed.get(column.name.lower())
        if own is None or column.args.get("db") or own not in dimensions:
            return None
        number, granularity = dimensions[own]
        new_column: exp.Expr = exp.column(f"d{number}", quoted=True)
        if granularity == "DATE" and pa.types.is_timestamp(types[own]):
            if not _only_the_day(column):
                return None
            new_column = exp.cast(new_column, "TIMESTAMP")
        replacements.append((column, new_column))
    return Rollup(_aggregate_relation(m, schema, stored), replacements)


def _is_alias(column: exp.Column, aliases: set[str], renamed: dict[str, str]) -> bool:
    """ORDER BY total: a name of the select list, not of the table."""
    return not column.table and column.name.lower() in aliases and column.name.lower() not in renamed


def _only_the_day(column: exp.Column) -> bool:
    parent = column.parent
    if isinstance(parent, exp.Cast) and parent.is_type("date"):
        return True
    if isinstance(parent, exp.Anonymous) and parent.name.upper() == "DATE_TRUNC":
        unit = parent.expressions[0]
        return isinstance(unit, exp.Literal) and unit.name.lower() in _DAY_UNITS
    return False


def _rolled(
    call: exp.Anonymous, stored: dict[tuple[str, str], str], types: dict[str, pa.DataType], renamed: dict[str, str]
) -> exp.Expr | None:
    function = call.name.upper()
    if len(call.expressions) != 1 or function not in ("SUM", "COUNT", "MIN", "MAX"):
        return None
    argument = call.expressions[0]
    column = ""
    if isinstance(argument, exp.Column) and not argument.args.get("db"):
        column = renamed.get(argument.name.lower(), "?")
    elif not (function == "COUNT" and (isinstance(argument, exp.Star) or argument.is_number)):
        return None
    name = stored.get((column, function))
    if name is None:
        return None
    if function == "SUM" and pa.types.is_floating(types[column]):
        return None
    value = exp.column(name, quoted=True)
    if function in ("MIN", "MAX"):
        return exp.Anonymous(this=function, expressions=[value])
    total: exp.Expr = exp.Anonymous(this="SUM", expressions=[value])
    if function == "COUNT":
        total = exp.Anonymous(this="COALESCE", expressions=[exp.cast(total, "BIGINT"), exp.Literal.number(0)])
    return total


def _aggregate_relation(m: Materialization, schema: pa.Schema, stored: dict[tuple[str, str], str]) -> str:
    types = {f.name.lower(): f.type for f in schema}
    fields: list[pa.Field] = []
    for number, (name, granularity) in enumerate(m.dimensions):
        kind = types[name.lower()]
        fields.append(
            pa.field(f"d{number}", pa.date32() if granularity == "DATE" and pa.types.is_timestamp(kind) else kind)
        )
    for (column, function), name in stored.items():
        fields.append(pa.field(name, _measure_type(types.get(column), function)))
    kept = pa.schema(fields)
    columns = ", ".join(f"CAST({quote(f.name)} AS {duckdb_type(f.type)}) AS {quote(f.name)}" for f in kept)
    return f"SELECT {columns} FROM {file_source(m.files, 'Parquet', {}, kept)}"


def _measure_type(column: pa.DataType | None, function: str) -> pa.DataType:
    if function == "COUNT" or column is None:
        return pa.int64()
    if function != "SUM":
        return column
    if pa.types.is_decimal(column):
        return pa.decimal128(38, column.scale)
    return pa.int64() if pa.types.is_integer(column) else pa.float64()


def usable(
    found: Sequence[Materialization], snapshot_id: int | None, schema: pa.Schema, ledger: Ledger
) -> list[Materialization]:
    """Those that stand at this snapshot and whose columns all still exist; every one is noted as considered."""
    columns = {name.lower() for name in schema.names}
    kept: list[Materialization] = []
    for m in found:
        ledger.note(m, "CONSIDERED")
        used = {*m.display, *(name for name, _ in m.dimensions), *(measure.column for measure in m.measures)}
        if (
            snapshot_id is not None
            and m.snapshot_id == snapshot_id
            and {u.lower() for u in used} <= columns
            and m.files
        ):
            kept.append(m)
    return kept
