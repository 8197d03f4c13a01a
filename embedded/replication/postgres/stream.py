"""Reading one stream: its query, its predicate on the cursor, and where the next sync must go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import sql

from embedded.replication.postgres.discovery import Column, Table
from embedded.replication.postgres.snapshot import Snapshot
from embedded.replication.postgres.types import TypePlan, plan

# A batch should stay near this size, whatever the width of a row.
_BATCH_BYTES = 4 * 1024 * 1024
_VECTOR = 2048  # DuckDB's unit of work
_LONGEST_BATCH = 32 * _VECTOR
FLAGS = "flags"


@dataclass(frozen=True)
class Cursor:
    """Where a stream stands: everything below `value` was read by an earlier sync.

    value: text that PostgreSQL reads back as the column's type, or None before the first row. type: its name.
    """

    field: str
    type: str
    value: str | None

    def as_json(self) -> dict[str, Any]:
        return {"field": self.field, "type": self.type, "value": self.value}


@dataclass(frozen=True)
class StreamQuery:
    """What to read of one table. `since` is the cursor of the last succeeded sync, None for everything."""

    table: Table
    columns: tuple[Column, ...]
    plans: tuple[TypePlan, ...]
    cursor_field: str | None
    since: Cursor | None
    # Only the rows in these blocks [low, high) of `relation_name`, the table or one partition of it.
    blocks: tuple[int, int] | None = None
    relation_name: tuple[str, str] | None = None

    @property
    def guarded(self) -> list[int]:
        """Positions of columns whose values the source checks; the query then ends with a column `flags`."""
        return [index for index, item in enumerate(self.plans) if item.guard]

    def locals(self) -> list[str]:
        """DuckDB's select list over the output columns c0, c1, ... of the remote query."""
        items = [f"c{i}" if item.local is None else f"c{i}::{item.local}" for i, item in enumerate(self.plans)]
        return [*items, FLAGS] if self.guarded else items

    def remote(self) -> sql.Composed:
        """PostgreSQL's query. Output columns are c0, c1, ...: no name of the source reaches DuckDB."""
        items = [
            sql.SQL("{} as {}").format(_expression(column, item), sql.Identifier(f"c{index}"))
            for index, (column, item) in enumerate(zip(self.columns, self.plans, strict=True))
        ]
        if self.guarded:
            items.append(sql.SQL("{} as flags").format(self._flags()))
        query = sql.SQL("select {} from {}").format(sql.SQL(", ").join(items), self.relation)
        if self.blocks is not None:
            # A range of tuple identifiers is read without a pass over the rest of the table.
            low, high = (sql.Literal(f"({block},0)") for block in self.blocks)
            return query + sql.SQL(" where ctid >= {}::tid and ctid < {}::tid").format(low, high)
        return query + sql.SQL(" where ") + self._predicate(self.since) if self.since else query

    def counts(self) -> sql.Composed:
        """How many rows the table has, and how many of them this query reads."""
        wanted: sql.Composable = sql.SQL("count(*)")
        if self.since:
            wanted = sql.SQL("count(*) filter (where {})").format(self._predicate(self.since))
        return sql.SQL("select count(*) as rows, {} as wanted from {}").format(wanted, self.relation)

    @property
    def relation(self) -> sql.Identifier:
        return sql.Identifier(*(self.relation_name or (self.table.namespace, self.table.name)))

    def _flags(self) -> sql.Composed:
        """Null for a good row; otherwise the positions of the values that cannot be carried: `0,3`."""
        guards = [(index, _fill(self.plans[index].guard or "", self.columns[index])) for index in self.guarded]
        any_ = sql.SQL(" or ").join(sql.SQL("({})").format(guard) for _, guard in guards)
        each = sql.SQL(", ").join(
            sql.SQL("case when {} then {} end").format(guard, sql.Literal(str(index))) for index, guard in guards
        )
        return sql.SQL("case when {} then concat_ws(',', {}) end").format(any_, each)

    def _predicate(self, since: Cursor) -> sql.Composed:
        """Rows that may be new.

        `>=`, not `>`: a row that got the same cursor value as the last one read, but was committed after the
        snapshot, is found only this way. The rows at the boundary are read again; silver deduplicates by key and
        cursor. Rows without a cursor value have no place in the order, so they are read every time.
        """
        field = sql.Identifier(since.field)
        bound = _at_least(field, since)
        column = self.table.column(since.field)
        if column is None or column.nullable:
            return sql.SQL("({} or {} is null)").format(bound, field)
        return bound


def build(
    table: Table, names: list[str], cursor_field: str | None, state: dict[str, Any] | None, decimal_as_double: bool
) -> StreamQuery:
    """The query for a table's columns `names` (all exist). A state of another cursor, or another type, is void."""
    columns = tuple(column for column in table.columns if column.name in names)
    plans = tuple(plan(column, decimal_as_double) for column in columns)
    since = None
    cursor = table.column(cursor_field) if cursor_field else None
    fits = state and cursor and state.get("field") == cursor.name and state.get("type") == cursor_type(cursor)
    if state and cursor and fits and state.get("value") is not None:
        since = Cursor(cursor.name, cursor_type(cursor), state["value"])
    return StreamQuery(table, columns, plans, cursor_field, since)


def cursor_type(column: Column) -> str:
    """The type that a cursor's text is cast to: the base type without modifier, `timestamptz` or `numeric`.

    Only names of pg_catalog get here (see discovery.CURSOR_TYPES), so it can stand in a query as it is.
    """
    return f"pg_catalog.{column.type.name}"


def batch_rows(snapshot: Snapshot, query: str) -> int:
    """How many rows make a batch of a few megabytes, from the planner's estimate of a row's width."""
    row = snapshot.ask(sql.SQL("explain (format json) {}").format(sql.SQL(query)))
    width = max(1, int(row["QUERY PLAN"][0]["Plan"]["Plan Width"]))
    return max(_VECTOR, min(_BATCH_BYTES // width, _LONGEST_BATCH) // _VECTOR * _VECTOR)


def distinct_columns(snapshot: Snapshot, table: Table) -> set[str]:
    """Columns in which nearly every row has its own value: a key of one column, or by the planner's statistics."""
    row = snapshot.ask(
        sql.SQL(
            "select coalesce(array_agg(attname::text), '{{}}') as names from pg_stats"
            " where schemaname = {} and tablename = {} and n_distinct < -0.5"
        ).format(sql.Literal(table.namespace), sql.Literal(table.name))
    )
    return {*row["names"], *(table.primary_key if len(table.primary_key) == 1 else ())}


def writes_of(table: Table) -> sql.Composed:
    """The source's own count of rows inserted into a table and updated since its statistics began; null for views."""
    return sql.SQL(
        "select sum(n_tup_ins + n_tup_upd)::int8 as writes from pg_stat_user_tables where relid in"
        " (select {0}::regclass union select relid from pg_partition_tree({0}::regclass))"
    ).format(sql.Literal(sql.Identifier(table.namespace, table.name).as_string()))


def cursor_range(snapshot: Snapshot, query: StreamQuery) -> tuple[str | None, Cursor] | None:
    """The lowest cursor value that was read, and where the next sync must begin; None without a cursor field.

    PostgreSQL is asked, in the snapshot that was read: that keeps the order of its types and collations. Infinite
    values are left out: nothing comes after them. A temporal value is lowered to the snapshot's horizon, the start of
    the oldest transaction that may commit after the snapshot: what it stamped with `now()` lies behind the maximum,
    and a plain `max` would lose it. It never goes back: what an earlier sync left behind was not open then.
    """
    column = query.table.column(query.cursor_field) if query.cursor_field else None
    if column is None:
        return None
    field, type_ = sql.Identifier(column.name), cursor_type(column)
    temporal = type_ in TEMPORAL
    conditions = [sql.SQL("isfinite({})").format(field)] if temporal else []
    if query.since:
        conditions.append(_at_least(field, query.since))
    where = sql.SQL(" where ") + sql.SQL(" and ").join(conditions) if conditions else sql.SQL("")
    top = sql.SQL("max({})").format(field)
    if temporal:
        top = _lowered(top, type_, snapshot)
        if query.since:
            top = sql.SQL("greatest({}, {}::{})").format(top, sql.Literal(query.since.value), sql.SQL(type_))
    # `max is not null`: least() skips nulls, so the horizon alone would stand for an empty table.
    row = snapshot.ask(
        sql.SQL(
            "select min({f})::text as low, case when max({f}) is not null then {top} end::text as high from {t}{w}"
        ).format(f=field, top=top, t=query.relation, w=where)
    )
    if row["high"] is None:
        return row["low"], query.since or Cursor(column.name, type_, None)
    return row["low"], Cursor(column.name, type_, row["high"])


TEMPORAL = ("pg_catalog.date", "pg_catalog.timestamp", "pg_catalog.timestamptz")
# Local time is ahead of UTC by as much as this.
_FARTHEST_EAST = "14 hours"


def _lowered(top: sql.Composable, type_: str, snapshot: Snapshot) -> sql.Composed:
    """A stream's greatest cursor value, lowered to the horizon.

    A value without a zone was stamped in the writer's, which nobody knows: it is lowered by the horizon's age instead.
    """
    horizon = sql.Literal(snapshot.horizon)
    if type_ == "pg_catalog.timestamptz":
        return sql.SQL("least({}, {}::timestamptz)").format(top, horizon)
    return sql.SQL("least({} - {}::interval, {}::timestamptz::timestamp + {}::interval)::{}").format(
        top, sql.Literal(snapshot.age), horizon, sql.Literal(_FARTHEST_EAST), sql.SQL(type_)
    )


def _at_least(field: sql.Identifier, since: Cursor) -> sql.Composed:
    return sql.SQL("{} >= {}::{}").format(field, sql.Literal(since.value), sql.SQL(since.type))


def _fill(template: str, column: Column) -> sql.Composed:
    """A SQL template of types.py with {c} filled in; the template is ours, the name is quoted."""
    return sql.SQL(template).format(c=sql.Identifier(column.name))


def _expression(column: Column, item: TypePlan) -> sql.Composed:
    remote = _fill(item.remote, column)
    if item.guard and item.nulls:
        return sql.SQL("case when {} then null else {} end").format(_fill(item.guard, column), remote)
    return remote
