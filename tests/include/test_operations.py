"""What the page says of a pipeline, from a real ledger; and that it lets nobody in who is not signed in."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from typing import Any

import httpx
import pytest

from include import ledger
from include.operations import page, state, upkeep
from include.specs import pipeline

RETAIL = pipeline.load("retail")


def publish(conn: ledger.Connection, dataset: str, run: str = "run-1", age: str = "1 hour") -> None:
    ledger.record_publication(
        conn, pipeline="retail", dataset=dataset, view_path=dataset, snapshot_id=7, dag_run=run, fence_token=1
    )
    conn.execute(
        "update lakehouse.publications set published_at = clock_timestamp() - %s::interval where dataset = %s",
        [age, dataset],
    )


def found(conn: ledger.Connection) -> dict[str, state.Dataset]:
    return {dataset.name: dataset for dataset in state.read(conn, RETAIL).datasets}


def test_a_dataset_is_fresh_late_or_stale(conn: ledger.Connection) -> None:
    publish(conn, "gold.daily_revenue")
    publish(conn, "gold.campaign_effect", age="27 hours")
    publish(conn, "silver.orders")
    ledger.set_status(conn, "retail", ["silver.orders"], stale=True, reason="run run-2 failed")
    datasets = found(conn)
    assert {name: dataset.state for name, dataset in datasets.items()} == {
        "gold.daily_revenue": "fresh",
        "gold.campaign_effect": "late",
        "silver.orders": "stale",
    }
    assert datasets["silver.orders"].reason == "run run-2 failed"
    assert datasets["gold.campaign_effect"].age > dt.timedelta(hours=26)
    assert len(state.read(conn, RETAIL).attention) == 2


def test_only_the_newest_publication_of_a_dataset_counts(conn: ledger.Connection) -> None:
    publish(conn, "gold.daily_revenue", "old", "27 hours")
    publish(conn, "gold.daily_revenue", "new", "1 minute")
    assert found(conn)["gold.daily_revenue"].dag_run == "new"


def test_a_stream_that_lost_a_row_does_not_add_up(conn: ledger.Connection) -> None:
    line: dict[str, Any] = {"stream": "orders", "source_rows": 10, "bronze_keys": 10}
    receipt = {
        "pipeline": "retail",
        "run_type": "scheduled",
        "started": "2026-01-01T02:00:00+00:00",
        "streams": [line, {**line, "stream": "products"}],
        "layers": {"silver": {"orders": {"rows": 9, "quarantined": 1}, "products": {"rows": 9, "quarantined": 0}}},
    }
    ledger.write_receipt(conn, "retail_batch", "run-1", receipt)
    seen = state.read(conn, RETAIL)
    assert {stream.name: stream.adds_up for stream in seen.streams} == {"orders": True, "products": False}
    (run,) = seen.runs
    assert (run.run_id, run.run_type) == ("run-1", "scheduled")


def test_a_pipeline_without_a_run_is_empty_not_an_error(conn: ledger.Connection) -> None:
    seen = state.read(conn, RETAIL)
    assert (seen.datasets, seen.runs, seen.streams, seen.syncs, seen.lease) == ([], [], [], [], None)


@pytest.fixture
def ledger_connection(conn: ledger.Connection, platform_postgres: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    conn.commit()
    info = conn.info
    values = {
        "conn_type": "postgres",
        "host": info.host,
        "port": info.port,
        "login": info.user,
        "password": info.password,
        "schema": info.dbname,
    }
    monkeypatch.setenv("AIRFLOW_CONN_LAKEHOUSE", json.dumps(values))


def ask(**headers: str) -> httpx.Response:
    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(page.application("/lakehouse"))
        async with httpx.AsyncClient(transport=transport, base_url="http://airflow") as client:
            return await client.get("/", headers=headers)

    return asyncio.run(go())


def test_nobody_reads_the_page_without_a_session() -> None:
    browser = ask(accept="text/html")
    assert (browser.status_code, browser.headers["location"]) == (307, "/auth/login/?next=/lakehouse/")
    assert ask(accept="application/json").status_code == 401


def test_names_from_the_ledger_are_text_never_markup(conn: ledger.Connection, ledger_connection: None) -> None:
    publish(conn, "gold.<script>alert(1)</script>", run="manual__<b>&x")
    conn.commit()
    body = page.render()
    assert "<script>alert(1)" not in body
    assert "&lt;script&gt;alert(1)" in body
    assert "/dags/retail_batch/runs/manual__%3Cb%3E%26x" in body


def mirrored(conn: ledger.Connection, bucket: str, minutes: int, status: str = "ok", reason: str = "") -> None:
    conn.execute(
        "insert into lakehouse.mirror_runs (bucket, started_by, status, reason, listed_at) "
        "values (%s, 'test', %s, %s, clock_timestamp() - make_interval(mins => %s))",
        [bucket, status, reason, minutes],
    )


def planned(conn: ledger.Connection, **sections: str) -> None:
    row = conn.execute(
        "insert into lakehouse.retention_plans (created_by, rules_digest) values ('test', '') returning plan_id"
    ).fetchone()
    assert row is not None
    for rule, status in sections.items():
        conn.execute(
            "insert into lakehouse.retention_sections (plan_id, rule, kind, status, deleted, deleted_bytes) "
            "values (%s, %s, 'prefix', %s, 2, 3000)",
            [row["plan_id"], rule, status],
        )


def test_upkeep_tells_what_is_behind_blocked_or_waiting(conn: ledger.Connection) -> None:
    seen = upkeep.read(conn)
    assert {one.state for one in seen.copies} == {"failed"}, "a bucket that was never copied"
    assert (seen.retention, list(seen.alerts)) == (None, [])
    mirrored(conn, "lakehouse", 5)
    mirrored(conn, "warehouse", 31)
    planned(conn, archive="done", logs="ready")
    seen = upkeep.read(conn)
    assert {one.bucket: one.state for one in seen.copies} == {"lakehouse": "fresh", "warehouse": "late"}
    assert seen.retention is not None
    assert (seen.retention.state, seen.retention.deleted, seen.retention.freed) == ("fresh", 4, 6000)
    mirrored(conn, "lakehouse", 0, "failed", "the off-site store refuses")
    planned(conn, archive="asks", logs="nothing")
    seen = upkeep.read(conn)
    assert {one.bucket: one.reason for one in seen.copies if one.state == "failed"} == {
        "lakehouse": "the off-site store refuses"
    }
    assert seen.retention is not None
    assert (seen.retention.state, seen.retention.asks) == ("late", ["archive"])
    planned(conn, archive="blocked")
    blocked = upkeep.read(conn).retention
    assert blocked is not None
    assert (blocked.state, blocked.blocked) == ("failed", ["archive"])


def test_the_page_shows_copies_retention_and_alerts(conn: ledger.Connection, ledger_connection: None) -> None:
    mirrored(conn, "lakehouse", 5)
    planned(conn, archive="asks")
    conn.execute(
        "insert into lakehouse.alert_states (alert, subject, text) values ('rpo', 'source', 'log of <source> is old')"
    )
    conn.commit()
    body = page.render()
    assert "complete 5 min ago" in body
    assert "never complete" in body, "the other bucket"
    assert "waits for approval: archive" in body
    assert "log of &lt;source&gt; is old" in body


def test_a_ledger_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_LAKEHOUSE", "postgres://nobody:nothing@127.0.0.1:1/none")
    assert "check the Airflow connection" in page.render()
