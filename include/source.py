"""What the DAG reads from a pipeline's source itself: positions, counts and sums, never rows."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import sql

from include.specs.pipeline import Stream

Connection = psycopg.Connection[dict[str, Any]]


@dataclass(frozen=True)
class Totals:
    """Rows of a stream at or below a cursor position, rows that moved above it since, and sums of money columns."""

    rows: int
    moved: int
    money: dict[str, Decimal]


def position_before(conn: Connection) -> str:
    """The LSN that everything committed so far lies at or below."""
    row = conn.execute("select pg_current_wal_flush_lsn()::text as lsn").fetchone()
    assert row is not None
    return str(row["lsn"])


def position_after(conn: Connection) -> str:
    """The LSN after which a later change must lie; a heartbeat follows so that an idle log can reach it."""
    row = conn.execute("select pg_current_wal_insert_lsn()::text as lsn").fetchone()
    conn.execute("select pg_logical_emit_message(false, 'lakehouse', 'heartbeat', true)")
    assert row is not None
    return str(row["lsn"])


def totals(conn: Connection, schema: str, stream: Stream, cursor_max: str | None) -> Totals:
    """Counts a stream in the caller's snapshot. `cursor_max` None means bronze holds no row of it.

    Raises LookupError when the table or a declared column is missing at the source.
    """
    sums = [
        sql.SQL("coalesce(sum({c}) filter (where below), 0) as {n}").format(
            c=sql.Identifier(column), n=sql.Identifier(f"money_{column}")
        )
        for column in stream.money
    ]
    below: sql.Composable = sql.SQL("true")
    moved: sql.Composable = sql.SQL("false")
    if stream.incremental:
        limit = sql.SQL("%(max)s::timestamptz")
        below = sql.SQL("{} <= {}").format(sql.Identifier(stream.cursor), limit)
        if stream.created:
            moved = sql.SQL("{} > {} and {} <= {}").format(
                sql.Identifier(stream.cursor), limit, sql.Identifier(stream.created), limit
            )
    query = sql.SQL(
        "select count(*) filter (where below) as rows, count(*) filter (where moved) as moved{sums} "
        "from (select *, {below} as below, {moved} as moved from {table}) t"
    ).format(
        sums=sql.SQL("").join(sql.SQL(", ") + part for part in sums),
        below=below,
        moved=moved,
        table=sql.Identifier(schema, stream.name),
    )
    try:
        row = conn.execute(query, {"max": cursor_max or "-infinity"}).fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        raise LookupError(
            f"source table {schema}.{stream.name}: {error.diag.message_primary}; "
            "mend the source or the stream's declaration in include/pipelines"
        ) from error
    assert row is not None
    money = {column: Decimal(row[f"money_{column}"]) for column in stream.money}
    return Totals(rows=int(row["rows"]), moved=int(row["moved"]), money=money)
