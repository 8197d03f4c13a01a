"""The slot, the publication and the cluster behind them: whether the log can be read on without a gap.

Everything that would lose changes is a config_error that says what was found and how to go on; nothing here ever
replaces a position by a newer one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from embedded.replication.connectors import ChangeDataCapture, PostgresSource
from embedded.replication.failures import SyncError
from embedded.replication.postgres.cdc.lsn import Identity, format_lsn, parse_lsn
from embedded.replication.postgres.connection import Connection, translate
from embedded.replication.postgres.discovery import Table

if TYPE_CHECKING:  # pipeline.py needs Arrow, which the server process does without
    from embedded.replication.pipeline import SourceStream

Log = Callable[[str, str], None]
REBUILD = "To start over from a new snapshot: POST /api/lakehouse/v1/connections/<id>/rebuild, then sync."
_WARN_SHARE = 0.5

_SLOT = """
select s.plugin, s.slot_type, s.database = current_database() as here, s.database, s.active, s.wal_status,
       s.restart_lsn::text as restart, s.confirmed_flush_lsn::text as confirmed, s.safe_wal_size,
       to_jsonb(s)->>'invalidation_reason' as reason, coalesce((to_jsonb(s)->>'failover')::bool, false) as failover,
       pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn)::bigint as retained,
       (select setting::bigint from pg_settings where name = 'max_slot_wal_keep_size') as keep_mb
  from pg_replication_slots s where s.slot_name = %s
"""
_PUBLISHED = """
select p.puballtables as everything, p.pubinsert and p.pubupdate and p.pubdelete and p.pubtruncate as complete,
       p.pubviaroot as via_root
  from pg_publication p where p.pubname = %s
"""
_TABLES = """
select schemaname as namespace, tablename as name, rowfilter is not null as filtered, attnames::text[] as columns,
       array(select a.attname::text from pg_attribute a join pg_class c on c.oid = a.attrelid
              where c.relnamespace = n.oid and c.relname = tablename and a.attgenerated <> '') as generated
  from pg_publication_tables join pg_namespace n on n.nspname = schemaname where pubname = %s
"""


class LostSlot(SyncError):
    """A logical slot of this database whose log is gone: of no more use to anybody."""


@dataclass(frozen=True)
class Slot:
    """A usable slot. LSNs; sizes in bytes. limit: how much log the server keeps for a slot, None without a limit."""

    restart: int
    confirmed: int
    failover: bool
    retained: int
    limit: int | None
    status: str

    def as_json(self) -> dict[str, Any]:
        return {
            "restartLsn": format_lsn(self.restart),
            "confirmedFlushLsn": format_lsn(self.confirmed),
            "walStatus": self.status,
            "retainedBytes": self.retained,
            "limitBytes": self.limit,
        }


def find(db: Connection, options: ChangeDataCapture, source: PostgresSource) -> Slot | None:
    """The slot, None when there is none; raises SyncError when it is of the wrong kind, LostSlot when invalidated."""
    name = options.replication_slot
    try:
        level = db.execute("show wal_level").fetchone()
        row = db.execute(_SLOT, [name]).fetchone()
    except psycopg.Error as error:
        raise translate(error, source) from None
    if level and level["wal_level"] != "logical":
        raise _config(f"The source has wal_level={level['wal_level']}. Set wal_level=logical and restart it.")
    if row is None:
        return None
    if row["slot_type"] != "logical" or row["plugin"] != options.plugin:
        raise _config(f"Replication slot {name} is not a logical slot with plugin pgoutput but {row['plugin']}.")
    if not row["here"]:
        raise _config(f"Replication slot {name} belongs to database {row['database']}, not {source.database}.")
    if row["restart"] is None or row["wal_status"] == "lost" or row["reason"]:
        why = f"wal_status {row['wal_status']}, invalidation_reason {row['reason'] or 'unknown'}"
        message = (
            f"Replication slot {name} is not valid: {why}. Changes were lost with it: the source removed log that had"
            f" not been read. {REBUILD} The slot is replaced then."
        )
        raise LostSlot("source", "config_error", message)
    keep = row["keep_mb"]
    return Slot(
        parse_lsn(row["restart"]),
        parse_lsn(row["confirmed"]),
        row["failover"],
        int(row["retained"]),
        None if keep is None or keep < 0 else int(keep) * 1024 * 1024,
        row["wal_status"],
    )


def require(db: Connection, options: ChangeDataCapture, source: PostgresSource) -> Slot:
    """The slot; a missing one is a config_error that says how to make it."""
    slot = find(db, options, source)
    if slot is None:
        name = options.replication_slot
        raise _config(
            f"Replication slot {name} does not exist in the source. For a new connection make it:"
            f" SELECT pg_create_logical_replication_slot('{name}', 'pgoutput'). If it was there before, changes were"
            f" lost with it. {REBUILD} The slot is made then."
        )
    return slot


def replace(db: Connection, options: ChangeDataCapture, source: PostgresSource, log: Log) -> Slot:
    """For a rebuild: the slot as it is if it can be used, a new one if it is lost or missing; raises SyncError."""
    name = options.replication_slot
    try:
        slot = find(db, options, source)
    except LostSlot as error:
        log("warn", f"the slot is replaced: {error.message}")
        _run(db, source, sql.SQL("select pg_drop_replication_slot({})").format(sql.Literal(name)))
        slot = None
    if slot is None:
        create = sql.SQL("select pg_create_logical_replication_slot({}, 'pgoutput')")
        _run(db, source, create.format(sql.Literal(name)))
        log("info", f"replication slot {name} was created")
    return slot or require(db, options, source)


def _run(db: Connection, source: PostgresSource, statement: sql.Composed) -> None:
    try:
        db.execute(statement)
    except psycopg.Error as error:
        raise translate(error, source) from None


def check_size(slot: Slot, options: ChangeDataCapture, log: Log) -> None:
    """Say it before the source does: a slot that holds back too much log is thrown away, or fills the disk."""
    held = f"replication slot {options.replication_slot} holds back {slot.retained / 1024**2:.0f} MB of log"
    if slot.limit is None:
        log("warn", f"{held}; the source sets no limit (max_slot_wal_keep_size = -1): a stopped reader fills its disk")
    elif slot.retained > slot.limit * _WARN_SHARE or slot.status in ("unreserved", "extended"):
        share = slot.retained / slot.limit if slot.limit else 1.0
        log("warn", f"{held}, {share:.0%} of max_slot_wal_keep_size ({slot.status}); beyond that the slot is lost")


def check_position(slot: Slot, identity: Identity, state: dict[str, Any], options: ChangeDataCapture) -> None:
    """Whether the log from the state's position on is there, and is the same log."""
    name, position = options.replication_slot, int(state["lsn"])
    if state["system"] != identity.system:
        raise _config(f"The source is another PostgreSQL cluster than the one that was read before. {REBUILD}")
    if state["timeline"] != identity.timeline and not slot.failover:
        raise _config(
            f"The source is on timeline {identity.timeline} of its log, and was on {state['timeline']}: it was restored"
            f" or failed over, and the slot {name} is not one that follows. {REBUILD}"
        )
    if identity.flushed < position:
        raise _config(
            f"The source's log ends at {format_lsn(identity.flushed)}, before the state's {format_lsn(position)}:"
            f" the source was set back. {REBUILD}"
        )
    if slot.confirmed > position:
        raise _config(
            f"Replication slot {name} has advanced to {format_lsn(slot.confirmed)}, beyond the state's position"
            f" {format_lsn(position)}: another reader used it, or it was made anew. Changes were lost. {REBUILD}"
        )


def check_publication(db: Connection, options: ChangeDataCapture, streams: list[tuple[SourceStream, Table]]) -> None:
    """Whether the publication has every change of every stream."""
    name = options.publication
    row = db.execute(_PUBLISHED, [name]).fetchone()
    quoted = '"' + name.replace('"', '""') + '"'
    if row is None:
        tables = ", ".join(f'"{stream.namespace}"."{stream.name}"' for stream, _ in streams) or "<tables>"
        raise _config(f"Publication {name} does not exist. Run: CREATE PUBLICATION {quoted} FOR TABLE {tables}")
    if not row["complete"]:
        publish = "SET (publish = 'insert, update, delete, truncate')"
        raise _config(f"Publication {name} leaves changes out. Run: ALTER PUBLICATION {quoted} {publish}")
    published = {(item["namespace"], item["name"]): item for item in db.execute(_TABLES, [name])}
    for stream, table in streams:
        _check_published(stream, table, published.get(stream.key), name, quoted, via_root=row["via_root"])


def _check_published(
    stream: SourceStream, table: Table, item: dict[str, Any] | None, name: str, quoted: str, *, via_root: bool
) -> None:
    full = f'"{stream.namespace}"."{stream.name}"'
    if table.relkind == "p" and not via_root:
        set_ = "SET (publish_via_partition_root = true)"
        raise _config(f"Stream {stream.label} is partitioned. Run: ALTER PUBLICATION {quoted} {set_}")
    if item is None:
        raise _config(f"Publication {name} lacks {stream.label}. Run: ALTER PUBLICATION {quoted} ADD TABLE {full}")
    wanted = {field.source for field in stream.fields}
    hidden = [column.name for column in table.columns if column.name in wanted and column.name not in item["columns"]]
    generated = [name for name in hidden if name in item["generated"]]
    if generated:
        raise _config(
            f"Publication {name} leaves out the generated columns {', '.join(generated)} of {stream.label}: select"
            f" other fields. From PostgreSQL 18 on, stored ones are published by: ALTER PUBLICATION {quoted} SET"
            " (publish_generated_columns = stored)"
        )
    if item["filtered"] or hidden:
        what = f"leaves out the columns {', '.join(hidden)}" if hidden else "filters the rows"
        advice = "publish the whole table, or select other fields"
        raise _config(f"Publication {name} {what} of {stream.label}: {advice}.")


def _config(message: str) -> SyncError:
    return SyncError("source", "config_error", message)
