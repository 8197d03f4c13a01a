"""The manifest: every S3 object that was ever planned, written down before it can exist."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from embedded.replication.store.database import Connection

Row = DictRow


class KeyTaken(Exception):
    """The key exists already."""


class KeyIsFolder(Exception):
    """The key is a folder of another key, or another key is a folder of it.

    Such neighbours make listings lose their tail on some S3 servers (SeaweedFS 4.48), so they must never exist.
    """


def plan(db: Connection, values: dict[str, Any]) -> int:
    """Write down an object that is about to be uploaded; gives its id. Raises KeyTaken, KeyIsFolder."""
    key: str = values["key"]
    parents = [key[:i] for i, char in enumerate(key) if char == "/"]
    clash = db.execute(
        "select key from objects where destination_id = %(destination_id)s and bucket = %(bucket)s"
        " and status <> 'removed' and (key = any(%(parents)s) or starts_with(key, %(folder)s)) limit 1",
        {**values, "parents": parents, "folder": f"{key}/"},
    ).fetchone()
    if clash is not None:
        raise KeyIsFolder(f"{key} and {clash['key']} would be file and folder of one name")
    try:
        row = db.execute(
            "insert into objects (job_id, attempt, destination_id, namespace, name, bucket, key, part_number,"
            " generation_id, status) values (%(job_id)s, %(attempt)s, %(destination_id)s, %(namespace)s, %(name)s,"
            " %(bucket)s, %(key)s, %(part_number)s, %(generation_id)s, 'planned') returning id",
            values,
        ).fetchone()
    except psycopg.errors.UniqueViolation:
        raise KeyTaken(f"{key} exists") from None
    assert row is not None
    return int(row["id"])


def set_upload(db: Connection, object_id: int, upload_id: str) -> None:
    db.execute("update objects set upload_id = %s where id = %s", [upload_id, object_id])


def set_uploaded(db: Connection, object_id: int, parts: list[dict[str, Any]], records: int, size: int) -> None:
    db.execute(
        "update objects set status = 'uploaded', parts = %s, records = %s, bytes = %s where id = %s",
        [Jsonb(parts), records, size, object_id],
    )


def set_status(db: Connection, ids: list[int], status: str) -> None:
    db.execute("update objects set status = %s where id = any(%s)", [status, ids])


def of_job(db: Connection, job_id: int, statuses: list[str]) -> list[Row]:
    query = "select * from objects where job_id = %s and status = any(%s) order by id"
    return db.execute(query, [job_id, statuses]).fetchall()


def keep(db: Connection, job_id: int, streams: list[tuple[str, str]]) -> None:
    """The job's next attempt need not bring again what is uploaded of these streams (places in the destination)."""
    for namespace, name in streams:
        db.execute(
            "update objects set kept = true where job_id = %s and namespace = %s and name = %s and status = 'uploaded'",
            [job_id, namespace, name],
        )


def next_part(db: Connection, destination_id: UUID, namespace: str, name: str, minimum_generation: int) -> int:
    """Part numbers go on after those of the stream's objects that an overwrite has not put behind it."""
    row = db.execute(
        "select max(part_number) + 1 as next from objects where destination_id = %s and namespace = %s and name = %s"
        " and generation_id >= %s and status <> 'removed'",
        [destination_id, namespace, name, minimum_generation],
    ).fetchone()
    return int(row["next"]) if row and row["next"] is not None else 0


def has_objects(db: Connection, destination_id: UUID, namespace: str, name: str) -> bool:
    row = db.execute(
        "select 1 as one from objects where destination_id = %s and namespace = %s and name = %s"
        " and status = 'visible' limit 1",
        [destination_id, namespace, name],
    ).fetchone()
    return row is not None
