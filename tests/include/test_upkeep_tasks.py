"""The services that retention's tasks work on, from Airflow's connections; what nobody has made is skipped."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from include import ledger, upkeep
from include.retention import plan, report, rules
from include.task_groups import retention


def _set(monkeypatch: pytest.MonkeyPatch, name: str, **fields: Any) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(fields))


def test_the_declared_rules_plan_over_airflows_connections(
    conn: ledger.Connection, platform_postgres: Any, object_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    conn.commit()
    secrets = object_store.secrets
    _set(
        monkeypatch,
        "lakehouse",
        conn_type="postgres",
        host="127.0.0.1",
        port=platform_postgres.port,
        schema="lakehouse",
        login="lakehouse",
        password=secrets.lakehouse,
    )
    for name in ("lake_s3", "backup_s3"):
        extra = {"endpoint_url": object_store.endpoint_url, "bucket": "lakehouse"}
        _set(
            monkeypatch,
            name,
            conn_type="aws",
            login=object_store.access_key,
            password=object_store.secret_key,
            extra=extra,
        )
    for name in ("dremio", "offsite_s3", "airflow_metadata", "elasticsearch"):
        monkeypatch.delenv(f"AIRFLOW_CONN_{name.upper()}", raising=False)
    monkeypatch.setattr(retention, "_optional", _from_environment(retention._optional))
    use = retention.services()
    with upkeep.turn(use.ledger, "test") as turn:
        number = plan.make(use, rules.load(), "test", turn)
    with use.ledger() as session:
        made = report.read(session, number)
    states = {section["rule"]: section["status"] for section in made["sections"]}
    assert set(states) == {rule.name for rule in rules.load().rules}
    assert {states[name] for name in ("bronze", "snapshots", "airflow_metadata", "mirror_quarantine")} == {"skipped"}
    assert {states[name] for name in ("change_log", "ledger", "uploads", "backup_sets", "backup_log")} == {"nothing"}
    assert "| bronze | skipped |" in report.markdown(made)


def _from_environment(original: Any) -> Any:
    """Without a running Airflow only connections of the environment exist."""

    def optional(conn_id: str) -> Any:
        return original(conn_id) if f"AIRFLOW_CONN_{conn_id.upper()}" in os.environ else None

    return optional
