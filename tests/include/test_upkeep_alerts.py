"""Alerts as data: each of them fires on what it names, once, and says when it is over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from include import ledger, upkeep_alerts
from include.specs.reader import SpecError

_MODE = "insert into lakehouse.serving_mode (entity, pipeline, connection, mode, watermark, epoch, reason) values"
_LANE = (
    "insert into lakehouse.applied_lsn (connection_id, connection, epoch, snapshot_lsn, applied_lsn, job_id) "
    "values (gen_random_uuid(), 'retail_cdc', 1, 1, 9, 1);"
    "insert into lakehouse.source_positions (connection, lsn, objective_seconds, read_at) "
    "values ('retail_cdc', 9, 75, now() - interval '76 seconds')"
)
_SECTION = "insert into lakehouse.retention_sections (plan_id, rule, kind, status) values"
# For each alert: what makes it fire, and what ends it.
CASES = {
    "no_verified_backup": (
        "update lakehouse.migrations set applied_at = now() - interval '2 days'",
        "insert into lakehouse.backup_sets (set_id, kind, state, completed_at, verified_at) "
        "values ('s', 'full', 'complete', now() - interval '25 hours', now())",
    ),
    "rpo": (
        "insert into lakehouse.wal_archive (instance, lsn, written_at) "
        "values ('source', '0/1', now() - interval '16 min')",
        "update lakehouse.wal_archive set written_at = now()",
    ),
    "drill_failed": (
        "insert into lakehouse.backup_drills (set_id, finished_at, reason) values ('s', now(), 'a table differs')",
        "insert into lakehouse.backup_drills (set_id, finished_at, passed) values ('s', now(), true)",
    ),
    "retention_blocked": (
        "insert into lakehouse.retention_plans (created_by, rules_digest) values ('t', '');"
        f"{_SECTION} (1, 'bronze', 'bronze', 'blocked')",
        "insert into lakehouse.retention_plans (created_by, rules_digest) values ('t', '');"
        f"{_SECTION} (2, 'bronze', 'bronze', 'nothing')",
    ),
    "retention_asks": (
        "insert into lakehouse.retention_plans (created_by, rules_digest) values ('t', '');"
        f"{_SECTION} (1, 'bronze', 'bronze', 'asks')",
        "update lakehouse.retention_sections set status = 'ready'",
    ),
    "offsite_lag": (
        "insert into lakehouse.mirror_runs (bucket, started_by, status, listed_at) values "
        "('lake', 't', 'ok', now() - interval '31 minutes'), ('lake', 't', 'failed', now())",
        "insert into lakehouse.mirror_runs (bucket, started_by, status) values ('lake', 't', 'ok')",
    ),
    "copy_unproven": (
        "insert into lakehouse.mirror_objects (bucket, key, size, etag, sha256, copied_at) "
        "values ('lake', 'k', 1, 'e', 's', now() - interval '31 days')",
        "update lakehouse.mirror_objects set verified_at = now()",
    ),
    "speed_lane_behind": (
        f"{_MODE} ('orders', 'retail', 'retail_cdc', 'unified', 1, 1, ''), "
        f"('products', 'retail', 'retail_cdc', 'unified', 1, 1, ''); {_LANE}",
        "update lakehouse.source_positions set read_at = now()",
    ),
    "serving_batch": (
        f"{_MODE} ('orders', 'retail', 'retail_cdc', 'batch', 1, 1, 'the log did not come')",
        "update lakehouse.serving_mode set mode = 'unified'",
    ),
}


class Told(list[Mapping[str, Any]]):
    def __call__(self, message: Mapping[str, Any]) -> None:
        self.append(message)


def test_every_declared_alert_is_tried_here() -> None:
    assert {alert.name for alert in upkeep_alerts.load()} == set(CASES)


def test_a_fresh_platform_is_silent(conn: ledger.Connection) -> None:
    told = Told()
    assert upkeep_alerts.evaluate(conn, upkeep_alerts.load(), told) == []
    assert told == []


@pytest.mark.parametrize("name", CASES)
def test_an_alert_fires_once_and_ends(conn: ledger.Connection, name: str) -> None:
    (alert,) = [one for one in upkeep_alerts.load() if one.name == name]
    begin, end = CASES[name]
    conn.execute(begin.encode())
    told = Told()
    upkeep_alerts.evaluate(conn, [alert], told)
    upkeep_alerts.evaluate(conn, [alert], told)
    assert [message["kind"] for message in told] == ["alert_firing"]
    assert (told[0]["alert"], told[0]["severity"]) == (name, alert.severity)
    assert [row["alert"] for row in upkeep_alerts.firing(conn)] == [name]
    conn.execute("update lakehouse.alert_states set told_at = told_at - interval '25 hours'")
    upkeep_alerts.evaluate(conn, [alert], told)
    assert len(told) == 2, "what lasts is told again after a while"
    conn.execute(end.encode())
    upkeep_alerts.evaluate(conn, [alert], told)
    assert [message["kind"] for message in told[2:]] == ["alert_resolved"]
    assert list(upkeep_alerts.firing(conn)) == []


def test_what_could_not_be_told_is_told_the_next_time(conn: ledger.Connection) -> None:
    alerts = [one for one in upkeep_alerts.load() if one.name in ("rpo", "offsite_lag")]
    for one in alerts:
        conn.execute(CASES[one.name][0].encode())
    conn.commit()

    def deaf(message: Mapping[str, Any]) -> None:
        if message["alert"] == "offsite_lag":
            raise OSError("nobody answers")

    with pytest.raises(upkeep_alerts.AlertsError, match="offsite_lag: OSError: nobody answers"):
        upkeep_alerts.evaluate(conn, alerts, deaf)
    told = Told()
    upkeep_alerts.evaluate(conn, alerts, told)
    assert [message["alert"] for message in told] == ["offsite_lag"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("severity: loud", "'severity' must be one of page, ticket"),
        ("text: '{what}'", "'text' names what; there are subject, value"),
        ("runbook: docs/none.md", "'runbook' must name a file"),
    ],
)
def test_a_wrong_declaration_is_named(tmp_path: Path, line: str, says: str) -> None:
    good = {
        "severity": "page",
        "runbook": "docs/runbooks/retention.md",
        "repeat_hours": "1",
        "text": "x",
        "query": "select 1",
    }
    changed = {**good, line.split(":", 1)[0]: line.split(":", 1)[1].strip()}
    (tmp_path / "one.yaml").write_text("".join(f"{key}: {value}\n" for key, value in changed.items()))
    with pytest.raises(SpecError, match=rf"one\.yaml: {says}"):
        upkeep_alerts.load(tmp_path)
