"""Moving rows of a waiting table into the one that people read: append, replace, deduplicate, apply changes."""

from __future__ import annotations

import zlib
from typing import Any

from psycopg import sql

from embedded.replication.postgres_destination.database import Database
from embedded.replication.postgres_destination.layout import TableLayout

_TEMPORARY = "_airbyte_changes"
# When two versions of a row meet, the one that was committed later wins; a later epoch is later than all before it.
_CHANGE_ORDER = ("_airbyte_generation_id", "_ab_cdc_commit_lsn", "_ab_cdc_lsn")
_EVENT = sql.SQL('_airbyte_meta @> \'{"changes": [{"field": "*"}]}\'')
_SNAPSHOT = sql.SQL('_airbyte_meta @> \'{"changes": [{"field": "*", "reason": "SOURCE_SNAPSHOT"}]}\'')


def temporary(database: Database, layout: TableLayout) -> sql.Identifier:
    """An empty table of the session with the layout's columns, gone at commit."""
    name = sql.Identifier(f"{_TEMPORARY}_{zlib.crc32(f'{layout.schema}.{layout.name}'.encode()):08x}")
    create = sql.SQL("create temporary table {} (like {}) on commit drop")
    database.execute(create.format(name, layout.identifier))
    return name


def changes(database: Database, layout: TableLayout, source: sql.Identifier, *, soft_delete: bool) -> None:
    """Apply changes to a table by key, then drop their table. A truncation removes all that is older than itself.

    A snapshot does so only when it is complete, see `supersede`: its rows come over many transactions.
    """
    database.execute(sql.SQL("delete from {} where {}").format(source, _SNAPSHOT))
    target = layout.identifier
    order = _tuple("c", _CHANGE_ORDER)
    cut = sql.SQL("(select {order} from {source} c where {event} order by {order} desc limit 1)").format(
        order=_columns("c", _CHANGE_ORDER), source=source, event=_EVENT
    )
    found = database.execute(sql.SQL("select 1 as one from {} where {} limit 1").format(source, _EVENT))
    if found:
        for table in (target, source):
            older = sql.SQL("delete from {} c where {} <= {}").format(table, order, cut)
            database.execute(older)
    latest = _latest(layout, source, [*_CHANGE_ORDER])
    database.execute(
        sql.SQL("delete from {} t using ({}) l where {} and {} <= {}").format(
            target, latest, _same_key(layout), _tuple("t", _CHANGE_ORDER), _tuple("l", _CHANGE_ORDER)
        )
    )
    alive = sql.SQL("true") if soft_delete else sql.SQL("l._ab_cdc_deleted_at is null")
    _insert(database, layout, latest, alive)
    database.execute(sql.SQL("drop table {}").format(source))


def supersede(database: Database, layout: TableLayout, generation: int, snapshot: int) -> None:
    """Delete all that is older than the rows of a snapshot: they stand at its commit LSN, twice."""
    older = sql.SQL("delete from {} t where {} < (%s, %s, %s)").format(layout.identifier, _tuple("t", _CHANGE_ORDER))
    database.execute(older, [generation, snapshot, snapshot])


def publish(database: Database, staging: sql.Identifier, plan: dict[str, Any], *, cascade: bool) -> None:
    """Make a waiting table's rows visible, as its plan says."""
    columns = tuple((name, type_) for name, type_ in plan["columns"])
    layout = TableLayout(plan["schema"], plan["name"], columns, tuple(plan["key"]), plan["cursor"])
    if plan["mode"] == "full_refresh_overwrite":
        _replace(database, layout, staging, cascade=cascade)
        return
    forget(database, layout, plan.get("minimum_generation", 0))
    if plan["mode"] == "incremental_deduped_history":
        _deduplicate(database, layout, staging)
    else:
        names = layout.column_list()
        insert = sql.SQL("insert into {} ({}) select {} from {}").format(layout.identifier, names, names, staging)
        database.execute(insert)
    database.execute(sql.SQL("drop table {}").format(staging))


def forget(database: Database, layout: TableLayout, minimum_generation: int) -> None:
    """Delete the rows of the generations below (not TRUNCATE: who is reading goes on seeing them)."""
    if minimum_generation:
        delete = sql.SQL("delete from {} where _airbyte_generation_id < %s").format(layout.identifier)
        database.execute(delete, [minimum_generation])


def _replace(database: Database, layout: TableLayout, staging: sql.Identifier, *, cascade: bool) -> None:
    for statement in layout.index_statements(deduplicated=False, log=False, identifier=staging):
        database.execute(statement)
    drop = sql.SQL("drop table if exists {}{}").format(layout.identifier, sql.SQL(" cascade" if cascade else ""))
    database.execute(drop)
    database.execute(sql.SQL("comment on table {} is null").format(staging))
    database.execute(sql.SQL("alter table {} rename to {}").format(staging, sql.Identifier(layout.name)))


def _deduplicate(database: Database, layout: TableLayout, staging: sql.Identifier) -> None:
    """The version with the higher cursor wins, then the one extracted later; a version without cursor is the oldest."""
    order = [*([layout.cursor] if layout.cursor else []), "_airbyte_extracted_at"]
    latest = _latest(layout, staging, order)
    newer: sql.Composable = sql.SQL("t._airbyte_extracted_at <= l._airbyte_extracted_at")
    if layout.cursor:
        newer = sql.SQL("(t.{c} is null or t.{c} < l.{c} or (t.{c} = l.{c} and {newer}))").format(
            c=sql.Identifier(layout.cursor), newer=newer
        )
    database.execute(
        sql.SQL("delete from {} t using ({}) l where {} and {}").format(
            layout.identifier, latest, _same_key(layout), newer
        )
    )
    _insert(database, layout, latest, sql.SQL("true"))


def _latest(layout: TableLayout, source: sql.Identifier, order: list[str]) -> sql.Composed:
    key = _columns("s", layout.key)
    by = sql.SQL(", ").join(sql.SQL("s.{} desc nulls last").format(sql.Identifier(name)) for name in order)
    return sql.SQL("select distinct on ({}) s.* from {} s order by {}, {}").format(key, source, key, by)


def _insert(database: Database, layout: TableLayout, latest: sql.Composed, condition: sql.Composable) -> None:
    database.execute(
        sql.SQL(
            "insert into {t} ({names}) select {names} from ({l}) l where {alive} and not exists"
            " (select from {t} t where {same})"
        ).format(t=layout.identifier, names=layout.column_list(), l=latest, alive=condition, same=_same_key(layout))
    )


def _same_key(layout: TableLayout) -> sql.Composed:
    parts = [sql.SQL("t.{0} = l.{0}").format(sql.Identifier(name)) for name in layout.key]
    return sql.SQL(" and ").join(parts)


def _columns(table: str, names: tuple[str, ...]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(table, name) for name in names)


def _tuple(table: str, names: tuple[str, ...]) -> sql.Composed:
    return sql.SQL("({})").format(_columns(table, names))
