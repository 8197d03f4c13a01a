"""What the ledger and the operator's page say of sets and drills."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from include import ledger
from include.backup import catalogue
from include.backup.drill import Report
from include.backup.errors import DamagedError
from include.backup.manifest import Manifest
from include.operations import proof
from include.task_groups.fall_back import mark
from tests.include.conftest import conn

__all__ = ["conn"]

ID = "20261126T020000Z-0123abcd"


def manifest(set_id: str = ID, sha256: str = "aa") -> Manifest:
    body = {"kind": "full", "parent": None, "completed_at": "2026-11-26T02:10:00+00:00"}
    return Manifest(set_id, body, sha256, {})


def report(passed: bool, sha256: str = "aa", **changes: Any) -> Report:
    facts = {"finished_at": "2026-11-26T03:31:00+00:00", "rto_seconds": 12.0, "rpo_seconds": 3.0}
    return Report(ID, sha256, "2026-11-26T03:30:00+00:00", passed=passed, **{**facts, **changes})


def test_only_the_very_set_that_a_drill_has_proven_is_verified(conn: ledger.Connection) -> None:
    catalogue.begun(conn, ID, "full", None)
    assert catalogue.unverified(conn) is None, "a set that is being made is none yet"
    catalogue.completed(conn, manifest())
    assert catalogue.unverified(conn) == ID
    catalogue.drilled(conn, report(False, reason="NotVerifiedError: table x"))
    catalogue.drilled(conn, report(True, sha256="bb"))
    assert catalogue.unverified(conn) == ID
    catalogue.drilled(conn, report(True))
    assert catalogue.unverified(conn) is None
    assert catalogue.older(conn) == ID


def test_a_manifest_that_is_not_the_recorded_one_is_refused(conn: ledger.Connection) -> None:
    catalogue.completed(conn, manifest())
    catalogue.completed(conn, manifest())
    with pytest.raises(DamagedError, match="not the one that the ledger recorded"):
        catalogue.completed(conn, manifest(sha256="bb"))


def test_a_set_that_failed_says_why_and_a_complete_one_never_fails(conn: ledger.Connection) -> None:
    catalogue.begun(conn, ID, "full", None)
    catalogue.failed(conn, ID, "lacks postgres-source")
    row = conn.execute("select state, reason from lakehouse.backup_sets").fetchone()
    assert row == {"state": "failed", "reason": "lacks postgres-source"}
    catalogue.completed(conn, manifest())
    catalogue.failed(conn, ID, "too late")
    row = conn.execute("select state, reason from lakehouse.backup_sets").fetchone()
    assert row == {"state": "complete", "reason": ""}


def test_the_page_tells_the_last_proof_and_every_reason_to_worry(conn: ledger.Connection) -> None:
    assert proof.read(conn).state == "failed", "no proven backup at all"
    catalogue.completed(conn, manifest())
    catalogue.drilled(conn, report(True))
    catalogue.archived(conn, "source", "0/10")
    assert (proof.read(conn).state, proof.read(conn).set_id) == ("fresh", ID)
    conn.execute("update lakehouse.wal_archive set written_at = written_at - interval '16 minutes'")
    assert proof.read(conn).state == "late"
    catalogue.archived(conn, "source", "0/20")
    conn.execute("update lakehouse.backup_sets set verified_at = verified_at - interval '27 hours'")
    assert proof.read(conn).state == "late"
    catalogue.drilled(conn, report(False, reason="could not"))
    assert (proof.read(conn).state, proof.read(conn).reason) == ("failed", "could not")


def test_after_a_restore_every_entity_says_batch_and_why(conn: ledger.Connection) -> None:
    conn.execute(
        "insert into lakehouse.serving_mode (entity, pipeline, connection, mode, watermark, epoch) "
        "values ('orders', 'retail', 'retail_changes', 'unified', 1, 1), ('other', 'other', 'x', 'unified', 1, 1)"
    )
    mark(conn, "retail", f"restored from backup set {ID}")
    rows = conn.execute("select entity, mode, reason from lakehouse.serving_mode order by entity").fetchall()
    assert rows[0] == {"entity": "orders", "mode": "batch", "reason": f"restored from backup set {ID}"}
    assert rows[1]["mode"] == "unified"


def test_the_ledger_refuses_a_set_of_an_unknown_kind(conn: ledger.Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        catalogue.begun(conn, ID, "some", None)
