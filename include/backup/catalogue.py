"""What the ledger knows of sets and drills: written beside the store, for people, alerts and retention.

Plain psycopg, no Airflow: every function takes a connection and joins the caller's transaction.
"""

from __future__ import annotations

import json
from typing import Any

import psycopg

from include.backup.drill import Report
from include.backup.errors import DamagedError
from include.backup.manifest import Manifest

Connection = psycopg.Connection[dict[str, Any]]


def begun(conn: Connection, set_id: str, kind: str, parent: str | None) -> None:
    conn.execute(
        "insert into lakehouse.backup_sets (set_id, kind, parent, state) values (%s, %s, %s, 'running') "
        "on conflict (set_id) do nothing",
        [set_id, kind, parent],
    )


def completed(conn: Connection, manifest: Manifest) -> None:
    """Raises DamagedError when the ledger knows another manifest of this set."""
    conn.execute(
        "insert into lakehouse.backup_sets (set_id, kind, parent, state, completed_at, bytes, manifest_sha256) "
        "values (%(id)s, %(kind)s, %(parent)s, 'complete', %(at)s, %(bytes)s, %(sha)s) "
        "on conflict (set_id) do update set state = 'complete', completed_at = excluded.completed_at, reason = '', "
        "bytes = excluded.bytes, manifest_sha256 = coalesce(backup_sets.manifest_sha256, excluded.manifest_sha256)",
        {
            "id": manifest.set_id,
            "kind": manifest.kind,
            "parent": manifest.parent,
            "at": manifest.body["completed_at"],
            "bytes": manifest.bytes,
            "sha": manifest.sha256,
        },
    )
    check(conn, manifest)


def check(conn: Connection, manifest: Manifest) -> None:
    """Raises DamagedError when the set's manifest is not the one that was recorded when it was made."""
    row = conn.execute(
        "select manifest_sha256 from lakehouse.backup_sets where set_id = %s", [manifest.set_id]
    ).fetchone()
    if row and row["manifest_sha256"] not in (None, manifest.sha256):
        raise DamagedError(f"the manifest of {manifest.set_id} is not the one that the ledger recorded")


def failed(conn: Connection, set_id: str, reason: str) -> None:
    conn.execute(
        "update lakehouse.backup_sets set state = 'failed', reason = %s where set_id = %s and state = 'running'",
        [reason, set_id],
    )


def drilled(conn: Connection, report: Report) -> None:
    """One row for each drill; a set that passed is marked verified by its manifest, so only the very one proven is."""
    conn.execute(
        "insert into lakehouse.backup_drills "
        "(set_id, started_at, finished_at, passed, reason, rto_seconds, rpo_seconds, report) "
        "values (%s, %s, %s, %s, %s, %s, %s, %s)",
        [
            report.set_id,
            report.started_at,
            report.finished_at,
            report.passed,
            report.reason,
            report.rto_seconds,
            report.rpo_seconds,
            json.dumps(report.__dict__, default=str),
        ],
    )
    if report.passed:
        conn.execute(
            "update lakehouse.backup_sets set verified_at = coalesce(verified_at, clock_timestamp()) "
            "where set_id = %s and manifest_sha256 = %s",
            [report.set_id, report.manifest_sha256],
        )


def unverified(conn: Connection) -> str | None:
    """The newest complete set that no drill has proven."""
    row = conn.execute(
        "select set_id from lakehouse.backup_sets where state = 'complete' and verified_at is null "
        "order by completed_at desc limit 1"
    ).fetchone()
    return row["set_id"] if row else None


def older(conn: Connection) -> str | None:
    """Some verified set, by chance, to be proven again."""
    row = conn.execute(
        "select set_id from lakehouse.backup_sets where state = 'complete' and verified_at is not null "
        "order by random() limit 1"
    ).fetchone()
    return row["set_id"] if row else None


def archived(conn: Connection, instance: str, lsn: str) -> None:
    """How far a server's log lies in the store; moves forward, and back only with a restored server's log."""
    conn.execute(
        "insert into lakehouse.wal_archive (instance, lsn) values (%s, %s) on conflict (instance) "
        "do update set lsn = excluded.lsn, written_at = clock_timestamp()",
        [instance, lsn],
    )
