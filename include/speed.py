"""The speed lane's state in PostgreSQL: positions, views of the change log, watermarks, modes, pruning.

Plain psycopg, no Airflow: every function takes a connection and joins the caller's transaction. LSNs are numbers here,
as in the log's `_ab_cdc_*` columns.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from include.fold import Fold, Pin, Position
from include.specs.pipeline import Pipeline, Stream

Connection = psycopg.Connection[dict[str, Any]]

SCHEMA = "speed"
COMMIT, CHANGE, DELETED = "_ab_cdc_commit_lsn", "_ab_cdc_lsn", "_ab_cdc_deleted_at"
EPOCH = "_airbyte_generation_id"  # of a row: rows of a snapshot that never succeeded belong to none that counts
MARKER = "_is_marker"


def lsn_number(text: str) -> int:
    """PostgreSQL's text form of an LSN as a number. Raises ValueError for anything else."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) | int(low, 16)


def position(conn: Connection, connection: str) -> Position | None:
    """How far the log of a connection is complete; None before its first snapshot."""
    row = conn.execute(
        "select epoch, snapshot_lsn, applied_lsn, job_id from lakehouse.applied_lsn where connection = %s", [connection]
    ).fetchone()
    return Position(row["epoch"], row["snapshot_lsn"], row["applied_lsn"], row["job_id"]) if row else None


def note_source(conn: Connection, connection: str, lsn: int, objective: dt.timedelta) -> None:
    """Remembers where the source stood: what the applied LSN is compared with to tell the lag.

    A restored source stands further back than it did, and is believed. Beyond `objective` the lag is told as mode
    `lagging`; it counts from the last time that somebody looked, so it grows while the lane stands still.
    """
    conn.execute(
        "insert into lakehouse.source_positions as p (connection, lsn, objective_seconds) values (%s, %s, %s) "
        "on conflict (connection) do update set "
        "lsn = excluded.lsn, objective_seconds = excluded.objective_seconds, read_at = clock_timestamp()",
        [connection, lsn, objective.total_seconds()],
    )


def pins(conn: Connection, pipeline: str) -> dict[str, Pin]:
    """What each published entity contains, by stream."""
    rows = conn.execute(
        "select w.entity, w.watermark, w.epoch, w.folded_job, w.snapshot_id, w.read_lsn, m.mode "
        "from lakehouse.watermarks as w "
        "join lakehouse.serving_mode as m on m.entity = w.entity where w.pipeline = %s",
        [pipeline],
    )
    return {
        r["entity"]: Pin(
            r["watermark"],
            r["epoch"],
            r["folded_job"],
            r["snapshot_id"],
            "batch" if r["mode"] == "batch" else "unified",
            r["read_lsn"],
        )
        for r in rows
    }


def columns(conn: Connection, relation: str) -> dict[str, str]:
    """Column names and PostgreSQL types of a relation in the log's schema, in order; empty when there is none."""
    rows = conn.execute(
        "select attname, format_type(atttypid, atttypmod) as kind from pg_attribute "
        "where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped order by attnum",
        [sql.Identifier(SCHEMA, relation).as_string(conn)],
    )
    return {row["attname"]: row["kind"] for row in rows}


def view_name(stream: str) -> str:
    return f"{stream}_latest"


def make_views(conn: Connection, pipeline: Pipeline) -> list[str]:
    """Makes the view of every stream whose log exists, anew where a column was added. Gives what was made.

    A view: of the current epoch, the latest change per key at or below the applied LSN and after the last truncation
    there, tombstones included, and one marker row with the position and that truncation, even when nothing else is
    there.
    """
    made = []
    for stream in pipeline.cdc_streams:
        table, view = columns(conn, stream.name), columns(conn, view_name(stream.name))
        if not table or [name for name in view if not name.startswith("_lane_")] == [*table, MARKER]:
            continue
        missing = {*stream.key, COMMIT, CHANGE, DELETED, EPOCH} - set(table)
        if missing:
            raise LookupError(
                f"{SCHEMA}.{stream.name} lacks {', '.join(sorted(missing))}: is it the log of a CDC sync?"
            )
        conn.execute(sql.SQL("drop view if exists {}").format(sql.Identifier(SCHEMA, view_name(stream.name))))
        conn.execute(_view(pipeline, stream, list(table)))
        made.append(view_name(stream.name))
    return made


def _view(pipeline: Pipeline, stream: Stream, names: list[str]) -> sql.Composed:
    assert pipeline.speed is not None

    def listed(template: str, items: list[str] | tuple[str, ...], between: str = ", ") -> sql.Composed:
        return sql.SQL(between).join(sql.SQL(template).format(sql.Identifier(name)) for name in items)

    return sql.SQL(
        """
        create view {view} as
        with lane as (
            select p.applied_lsn, p.epoch, t.commit_lsn, t.change_lsn
            from lakehouse.applied_lsn as p
            left join lateral (
                select l.{commit} as commit_lsn, l.{change} as change_lsn from {table} as l
                where {no_key} and l.{commit} <= p.applied_lsn and l.{epoch} = p.epoch
                order by l.{commit} desc, l.{change} desc limit 1
            ) as t on true
            where p.connection = {connection}
        )
        select {latest}, false as {marker},
               lane.applied_lsn as _lane_applied_lsn, lane.epoch as _lane_epoch,
               coalesce(lane.commit_lsn, 0) as _lane_truncated_lsn
        from lane
        cross join lateral (
            select distinct on ({key}) l.* from {table} as l
            where l.{commit} <= lane.applied_lsn and l.{epoch} = lane.epoch and {has_key}
              and (l.{commit}, l.{change}) > (coalesce(lane.commit_lsn, -1), coalesce(lane.change_lsn, -1))
            order by {key}, l.{commit} desc, l.{change} desc
        ) as latest
        union all
        select {empty}, true, lane.applied_lsn, lane.epoch, coalesce(lane.commit_lsn, 0)
        from lane
        left join (select * from {table} limit 0) as nothing on true
        """
    ).format(
        view=sql.Identifier(SCHEMA, view_name(stream.name)),
        table=sql.Identifier(SCHEMA, stream.name),
        commit=sql.Identifier(COMMIT),
        change=sql.Identifier(CHANGE),
        epoch=sql.Identifier(EPOCH),
        marker=sql.Identifier(MARKER),
        connection=sql.Literal(pipeline.speed.connection),
        key=listed("l.{}", stream.key),
        no_key=listed("l.{} is null", stream.key, " and "),
        has_key=listed("l.{} is not null", stream.key, " and "),
        latest=listed("latest.{}", names),
        empty=listed("nothing.{}", names),
    )


def record(conn: Connection, pipeline: Pipeline, fold: Fold, snapshot_id: int, dag_run: str) -> None:
    """Writes down what the view just published pins, and what may be pruned after the grace; one transaction.

    Called after the replacement of the view. Until then the ledger names the publication before, whose snapshot and
    log rows therefore stay.
    """
    assert pipeline.speed is not None
    values = {
        "entity": fold.stream,
        "pipeline": pipeline.name,
        "connection": pipeline.speed.connection,
        "watermark": fold.published_watermark,
        "epoch": fold.epoch,
        "job": fold.job,
        "read": fold.read,
        "snapshot": snapshot_id,
        "run": dag_run,
        "mode": fold.mode,
        "reason": fold.reason,
        "grace": pipeline.speed.grace.total_seconds(),
    }
    conn.execute(
        """
        insert into lakehouse.watermarks as w
            (entity, pipeline, watermark, epoch, folded_job, read_lsn, snapshot_id, dag_run)
        values (%(entity)s, %(pipeline)s, %(watermark)s, %(epoch)s, %(job)s, %(read)s, %(snapshot)s, %(run)s)
        on conflict (entity) do update set
            watermark = excluded.watermark, epoch = excluded.epoch, folded_job = excluded.folded_job,
            read_lsn = excluded.read_lsn, snapshot_id = excluded.snapshot_id, dag_run = excluded.dag_run,
            moved_at = case when (w.epoch, w.watermark) = (excluded.epoch, excluded.watermark)
                            then w.moved_at else clock_timestamp() end
        """,
        values,
    )
    conn.execute(
        """
        insert into lakehouse.serving_mode as m (entity, pipeline, connection, mode, watermark, epoch, reason)
        values (%(entity)s, %(pipeline)s, %(connection)s, %(mode)s, %(watermark)s, %(epoch)s, %(reason)s)
        on conflict (entity) do update set
            since = case when m.mode = excluded.mode then m.since else clock_timestamp() end,
            mode = excluded.mode, watermark = excluded.watermark, epoch = excluded.epoch,
            reason = case when excluded.mode = 'batch' and excluded.reason = '' then m.reason else excluded.reason end
        """,
        values,
    )
    conn.execute(
        "insert into lakehouse.prune_queue (entity, epoch, watermark, due_at) "
        "values (%(entity)s, %(epoch)s, %(watermark)s, clock_timestamp() + make_interval(secs => %(grace)s)) "
        "on conflict do nothing",
        values,
    )


# The newest publication whose grace is over, and never above the pinned one. Its epoch decides before its position: a
# restored source goes on at earlier positions, which readers of the publication before still need whole.
_PRUNABLE = """
select due.epoch, case when due.epoch = w.epoch then least(due.watermark, w.watermark) else due.watermark end as below
from lakehouse.watermarks as w
cross join lateral (
    select q.epoch, q.watermark from lakehouse.prune_queue as q
    where q.entity = w.entity and q.epoch <= w.epoch and q.due_at <= clock_timestamp()
    order by q.epoch desc, q.watermark desc limit 1
) as due
where w.entity = %(entity)s
"""


@dataclass(frozen=True)
class Prunable:
    """Rows of one stream's log, how many of them nobody needs, and what the log takes on disk."""

    stream: str
    rows: int
    prunable: int
    bytes: int


def prunable(conn: Connection, pipeline: Pipeline) -> Iterator[Prunable]:
    """What `prune` would delete now."""
    for stream in pipeline.cdc_streams:
        if not columns(conn, stream.name):
            continue
        row = conn.execute(_PRUNABLE, {"entity": stream.name}).fetchone() or {"below": None, "epoch": None}
        table = sql.Identifier(SCHEMA, stream.name)
        found = conn.execute(
            sql.SQL(
                "select count(*) as rows, count(*) filter (where ({}, {}) <= (%s, %s)) as prunable, "
                "pg_total_relation_size(%s::regclass) as bytes from {}"
            ).format(sql.Identifier(EPOCH), sql.Identifier(COMMIT), table),
            [row["epoch"], row["below"], table.as_string(conn)],
        ).fetchone()
        assert found is not None
        yield Prunable(stream.name, **found)


def prune(conn: Connection, pipeline: Pipeline) -> Iterator[tuple[str, int]]:
    """Deletes log rows that no reader can need: at or below a watermark whose grace is over, and of epochs before it.

    One transaction a stream, so dying in between costs nothing; gives stream and rows deleted.
    """
    for stream in pipeline.cdc_streams:
        with conn.transaction():
            row = conn.execute(_PRUNABLE, {"entity": stream.name}).fetchone()
            if row is None or not columns(conn, stream.name):
                continue
            done = conn.execute(
                sql.SQL("delete from {} where ({}, {}) <= (%s, %s)").format(
                    sql.Identifier(SCHEMA, stream.name), sql.Identifier(EPOCH), sql.Identifier(COMMIT)
                ),
                [row["epoch"], row["below"]],
            )
            conn.execute(
                "delete from lakehouse.prune_queue "
                "where entity = %s and (epoch, watermark) <= (%s, %s) and due_at <= clock_timestamp()",
                [stream.name, row["epoch"], row["below"]],
            )
        yield stream.name, done.rowcount


@dataclass(frozen=True)
class LogSize:
    """What the log of a pipeline holds: bytes on disk, and seconds since the watermark that nobody moved."""

    bytes: int
    oldest_seconds: float


def log_size(conn: Connection, pipeline: Pipeline) -> LogSize:
    """Grows while the batch lane stands still: then nothing is pruned."""
    names = [stream.name for stream in pipeline.cdc_streams]
    row = conn.execute(
        "select coalesce(sum(pg_total_relation_size(c.oid)), 0) as bytes, "
        "coalesce((select extract(epoch from clock_timestamp() - min(w.moved_at)) from lakehouse.watermarks as w "
        "where w.entity = any(%(names)s)), 0) as seconds "
        "from pg_class as c join pg_namespace as n on n.oid = c.relnamespace "
        "where n.nspname = %(schema)s and c.relname = any(%(names)s) and c.relkind = 'r'",
        {"names": names, "schema": SCHEMA},
    ).fetchone()
    assert row is not None
    return LogSize(int(row["bytes"]), float(row["seconds"]))


def status(conn: Connection, pipeline: str) -> list[dict[str, Any]]:
    """The rows of `lakehouse.serving_status` of a pipeline."""
    return conn.execute(
        "select * from lakehouse.serving_status where pipeline = %s order by entity", [pipeline]
    ).fetchall()
