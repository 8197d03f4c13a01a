"""What a source holds, read from pg_catalog: tables, columns with their resolved types, primary keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from embedded.replication.postgres import types
from embedded.replication.postgres.connection import Connection

# Types with a total order and a maximum, whose values PostgreSQL can read back from text; all in pg_catalog.
CURSOR_TYPES = frozenset(
    {
        "int2", "int4", "int8", "oid", "numeric", "float4", "float8", "date", "timestamp", "timestamptz", "time",
        "text", "varchar", "bpchar",
    }
)  # fmt: skip


@dataclass(frozen=True)
class ColumnType:
    """A column's type with domains resolved.

    name: pg_type.typname of the base type (`numeric`), or of the element when `array` is set.
    kind: pg_type.typtype of it (b base, e enum, c composite, r range, ...).
    modifier: atttypmod, -1 when none. dimensions: declared ones (pg_attribute.attndims), 0 for a scalar.
    text: as PostgreSQL writes the declared type, `numeric(12,2)[]`.
    """

    name: str
    kind: str
    modifier: int
    array: bool
    dimensions: int
    text: str


@dataclass(frozen=True)
class Column:
    name: str
    type: ColumnType
    nullable: bool

    @property
    def type_text(self) -> str:
        return self.type.text

    @property
    def written(self) -> str:
        return types.plan(self, False).written

    @property
    def is_cursor(self) -> bool:
        return not self.type.array and self.type.kind == "b" and self.type.name in CURSOR_TYPES


@dataclass(frozen=True)
class Table:
    """A table, partitioned table, view, materialised view or foreign table that the role may read."""

    namespace: str
    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    estimated_rows: float
    readable: bool
    oid: int = 0
    relkind: str = "r"
    # pg_class.relreplident (d default, n nothing, f full, i index), and whether any value may be stored out of line.
    identity: str = "d"
    toastable: bool = False
    # As a connector's streams have them; a table supports every mode and has no cursor of its own.
    incremental: bool = True
    source_defined_cursor: bool = False
    default_cursor: tuple[str, ...] = ()

    @property
    def change_key(self) -> tuple[str, ...]:
        """The columns that identify a row in the log: the primary key; none for what has no changes of its own."""
        return self.primary_key if self.relkind in ("r", "p") else ()

    def change_problem(self) -> str | None:
        """Why this table's changes cannot be captured exactly, with what to do about it; None when they can."""
        name = f'"{self.namespace}"."{self.name}"'
        if self.relkind not in ("r", "p"):
            return f"Stream {self.name} is no table: views and foreign tables have no changes of their own."
        if not self.primary_key:
            return (
                f"Stream {self.name} has no primary key, so its changes cannot be told apart. Add one, or leave it out."
            )
        if self.toastable and self.identity != "f":
            return (
                f"Stream {self.name} has columns whose long values PostgreSQL leaves out of the log when they do not"
                f" change. Run: ALTER TABLE {name} REPLICA IDENTITY FULL"
            )
        if self.identity == "n" or (self.identity == "i" and not self.toastable):
            return (
                f"Stream {self.name}: its replica identity does not give the primary key."
                f" Run: ALTER TABLE {name} REPLICA IDENTITY {'FULL' if self.toastable else 'DEFAULT'}"
            )
        return None

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)


_TABLES = """
select c.oid, n.nspname as namespace, c.relname as name, c.reltuples as estimate, c.relkind::text as relkind,
       (select min(case l.relreplident when 'n' then '1n' when 'i' then '2i' when 'd' then '3d' else '4f' end)
          from pg_class l where l.oid = c.oid or l.oid in (select relid from pg_partition_tree(c.oid))) as identity,
       exists (select from pg_class l where l.reltoastrelid <> 0
                  and (l.oid = c.oid or l.oid in (select relid from pg_partition_tree(c.oid)))) as toastable,
       has_schema_privilege(n.oid, 'USAGE')
       and (has_table_privilege(c.oid, 'SELECT') or has_any_column_privilege(c.oid, 'SELECT')) as readable,
       (select array_agg(a.attname order by k.ordinality)
          from pg_index i
          cross join unnest(i.indkey::int2[]) with ordinality k (attnum, ordinality)
          join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
         where i.indrelid = c.oid and i.indisprimary) as primary_key
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = any(%(schemas)s) and c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
   and (%(names)s::text[] is null or c.relname = any(%(names)s))
 order by n.nspname, c.relname
"""

# Domains resolve to their base type, innermost modifier first; arrays to their element.
_COLUMNS = """
with recursive base (relation, number, type, modifier, dimensions, depth) as (
    select a.attrelid, a.attnum, a.atttypid, a.atttypmod, a.attndims::int4, 0
      from pg_attribute a
     where a.attrelid = any(%(tables)s) and a.attnum > 0 and not a.attisdropped
    union all
    select b.relation, b.number, t.typbasetype, t.typtypmod, greatest(b.dimensions, t.typndims::int4), b.depth + 1
      from base b join pg_type t on t.oid = b.type
     where t.typtype = 'd'
)
select b.relation, a.attname as name, not a.attnotnull as nullable,
       format_type(a.atttypid, a.atttypmod) as text, b.modifier, b.dimensions,
       t.typcategory = 'A' and t.typelem <> 0 and t.typlen = -1 as array,
       coalesce(e.typname, t.typname) as type_name, coalesce(e.typtype, t.typtype)::text as kind,
       has_column_privilege(a.attrelid, a.attnum, 'SELECT') as readable
  from base b
  join pg_attribute a on a.attrelid = b.relation and a.attnum = b.number
  join pg_type t on t.oid = b.type and t.typtype <> 'd'
  left join pg_type e on e.oid = t.typelem and t.typcategory = 'A' and t.typlen = -1
 order by b.relation, b.number
"""


def discover(db: Connection, schemas: list[str], names: list[str] | None = None) -> dict[tuple[str, str], Table]:
    """Tables by (schema, name), optionally only those called `names`. Columns the role may not read are left out."""
    tables = db.execute(_TABLES, {"schemas": schemas, "names": names}).fetchall()
    columns: dict[int, list[Column]] = {}
    rows = db.execute(_COLUMNS, {"tables": [table["oid"] for table in tables]})
    for row in rows:
        if row["readable"]:
            columns.setdefault(row["relation"], []).append(_column(row))
    return {
        (table["namespace"], table["name"]): Table(
            namespace=table["namespace"],
            name=table["name"],
            columns=tuple(columns.get(table["oid"], [])),
            primary_key=tuple(table["primary_key"] or ()),
            estimated_rows=float(table["estimate"]),
            readable=bool(table["readable"]),
            oid=int(table["oid"]),
            relkind=table["relkind"],
            identity=table["identity"][1],
            toastable=bool(table["toastable"]),
        )
        for table in tables
    }


def _column(row: dict[str, Any]) -> Column:
    type_ = ColumnType(
        name=row["type_name"],
        kind=row["kind"],
        modifier=row["modifier"],
        array=row["array"],
        dimensions=row["dimensions"],
        text=row["text"],
    )
    return Column(name=row["name"], type=type_, nullable=row["nullable"])
