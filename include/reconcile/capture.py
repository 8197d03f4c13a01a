"""What change data capture needs of a pipeline's source: a publication of its tables, whole old rows, a slot."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from include.reconcile.plan import Change
from include.specs.pipeline import Pipeline

Connection = psycopg.Connection[dict[str, Any]]


def run(conn: Connection, pipeline: Pipeline, *, apply: bool) -> list[Change]:
    """Plans, and with `apply` also writes, as the owner of the tables. Takes nothing out of a publication."""
    if pipeline.speed is None:
        return []
    wanted = [stream.name for stream in pipeline.cdc_streams]
    tables = _tables(conn, pipeline, wanted)
    missing = sorted(set(wanted) - set(tables))
    if missing:
        raise LookupError(
            f"the source has no table {', '.join(missing)} in schema {pipeline.source_schema}; load it, or take the "
            f"stream out of include/pipelines/{pipeline.name}.yaml"
        )
    changes, statements = [], []
    for name in wanted:
        if tables[name] != "f":
            changes.append(Change("update", "table", name, ("replica identity full",)))
            statements.append(
                sql.SQL("alter table {} replica identity full").format(sql.Identifier(pipeline.source_schema, name))
            )
    published = _published(conn, pipeline)
    absent = sorted(set(wanted) - (published or set()))
    listed = sql.SQL(", ").join(sql.Identifier(pipeline.source_schema, name) for name in absent)
    publication = sql.Identifier(pipeline.speed.publication)
    if published is None:
        changes.append(Change("create", "publication", pipeline.speed.publication, tuple(absent)))
        statements.append(sql.SQL("create publication {} for table {}").format(publication, listed))
    elif absent:
        changes.append(Change("update", "publication", pipeline.speed.publication, tuple(absent)))
        statements.append(sql.SQL("alter publication {} add table {}").format(publication, listed))
    for statement in statements if apply else ():
        conn.execute(statement)
    return changes


def _tables(conn: Connection, pipeline: Pipeline, names: list[str]) -> dict[str, str]:
    """Replica identity by table."""
    rows = conn.execute(
        "select c.relname, c.relreplident::text as identity from pg_class as c "
        "join pg_namespace as n on n.oid = c.relnamespace "
        "where n.nspname = %s and c.relname = any(%s) and c.relkind in ('r', 'p')",
        [pipeline.source_schema, names],
    )
    return {row["relname"]: row["identity"] for row in rows}


def _published(conn: Connection, pipeline: Pipeline) -> set[str] | None:
    """The schema's tables in the publication; None when there is no such publication."""
    assert pipeline.speed is not None
    name = pipeline.speed.publication
    if conn.execute("select 1 from pg_publication where pubname = %s", [name]).fetchone() is None:
        return None
    rows = conn.execute(
        "select tablename from pg_publication_tables where pubname = %s and schemaname = %s",
        [name, pipeline.source_schema],
    )
    return {row["tablename"] for row in rows}


def slot(conn: Connection, pipeline: Pipeline, *, begun: bool, apply: bool) -> list[Change]:
    """The replication slot, made before the first snapshot by the role that will read it.

    `begun`: the log has a position. A slot that is missing then was lost with the changes behind it: making it anew
    would hide that, so it is left to a rebuild of the connection, which takes a new snapshot.
    """
    if pipeline.speed is None or begun:
        return []
    name = pipeline.speed.slot
    if conn.execute("select 1 from pg_replication_slots where slot_name = %s", [name]).fetchone():
        return []
    if apply:
        conn.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", [name])
    return [Change("create", "replication slot", name)]
