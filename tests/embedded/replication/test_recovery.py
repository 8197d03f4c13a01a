"""Kills at every point, cancels, retries: nothing lost, nothing twice, nothing half visible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.embedded.replication.harness import Bench, Server, incremental, overwrite, until

POINTS = ["after_snapshot", "after_read", "after_upload", "half_visible", "before_state"]
SHORT = ("after_read", "half_visible")  # one on either side; the others are long tests
EVERY_POINT = [p if p in SHORT else pytest.param(p, marks=pytest.mark.faults) for p in POINTS]
FORWARD = POINTS[2:]  # from here on the attempt is finished, not repeated


@pytest.fixture
def shop(own_bench: Bench) -> Bench:
    """Two tables with 1,000 rows each."""
    for table in ("orders", "items"):
        own_bench.source.run(f"create table shop.{table} (id int primary key, updated_at timestamptz not null)")
        own_bench.source.run(
            f"insert into shop.{table} select i, '2026-01-01'::timestamptz + make_interval(mins => i)"
            " from generate_series(1, 1000) i"
        )
    return own_bench


def check_exactly_once(bench: Bench, job: dict[str, Any]) -> None:
    """The lake holds what the manifest says, the manifest is all visible or removed, and every row is there once."""
    assert job["status"] == "succeeded", job
    for table in ("orders", "items"):
        rows = bench.lake.rows(f"shop/{table}", [job["jobId"]])
        assert sorted(row["id"] for row in rows) == list(range(1, 1001))
    files = bench.server.files(job["jobId"])
    assert sorted(f["key"] for f in files if f["status"] == "visible") == sorted(bench.lake.objects())
    assert {f["status"] for f in files} <= {"visible", "removed"}
    assert bench.lake.uploads() == []


@pytest.mark.parametrize("point", EVERY_POINT)
def test_a_worker_that_dies_is_replaced(shop: Bench, point: str) -> None:
    shop.server.start({"sync": [{"point": point, "action": "crash", "attempt": 1}]})
    connection = shop.connect(incremental("orders"), incremental("items"))
    job = shop.server.sync(connection)
    check_exactly_once(shop, job)
    first, second = job["attempts"]
    assert first["failureReason"]["type"] == "system_error"
    assert "SIGKILL" in first["failureReason"]["message"]
    assert second["status"] == "succeeded"
    finished = any("finishing it" in line for line in shop.server.log_lines(job["jobId"]))
    assert finished == (point in FORWARD)
    assert shop.server.state(connection)["orders"]["cursor"]["value"] == "2026-01-01 16:40:00+00"


@pytest.mark.parametrize("point", EVERY_POINT)
def test_a_server_that_dies_goes_on_after_its_restart(shop: Bench, point: str) -> None:
    shop.server.start({"sync": [{"point": point, "action": "crash_server", "attempt": 1}]})
    connection = shop.connect(incremental("orders"), incremental("items"))
    job_id = shop.server.submit(connection)
    assert shop.server.process is not None
    shop.server.process.wait(timeout=60)
    shop.server.start()
    job = shop.server.wait(job_id)
    check_exactly_once(shop, job)
    assert len(job["attempts"]) == 2
    assert "server stopped" in job["attempts"][0]["failureReason"]["message"]
    orders = shop.server.sync(connection)
    assert orders["rowsSynced"] == 2, "the next sync goes on from the recorded state"


def test_a_stopped_server_goes_on_too(shop: Bench, tmp_path: Path) -> None:
    rule = {"point": "after_read", "action": "wait", "path": str(tmp_path / "never"), "attempt": 1}
    shop.server.start({"sync": [rule]})
    job_id = shop.server.submit(shop.connect(overwrite("orders"), overwrite("items")))
    until(lambda: len(shop.lake.uploads()) == 2, "both uploads")
    shop.server.stop()
    shop.server.start()
    job = shop.server.wait(job_id)
    check_exactly_once(shop, job)
    assert job["streams"][0]["generationId"] == 1, "a job's attempts share one generation"


@pytest.mark.parametrize("point", EVERY_POINT)
def test_cancel_leaves_no_trace(shop: Bench, point: str, tmp_path: Path) -> None:
    shop.server.start({"sync": [{"point": point, "action": "wait", "path": str(tmp_path / "never"), "job": 1}]})
    connection = shop.connect(incremental("orders"), incremental("items"))
    job_id = shop.server.submit(connection)
    reached = {"after_snapshot": 0, "after_read": 2, "after_upload": 2, "half_visible": 1, "before_state": 0}[point]
    until(lambda: shop.server.log_lines(job_id), "the worker to have begun")
    if point != "after_snapshot":
        visible = len([p for p in FORWARD if p in ("half_visible", "before_state") and p == point])
        until(lambda: len(shop.lake.objects()) >= visible and len(shop.lake.uploads()) == reached, f"point {point}")
    job = shop.server.call("DELETE", f"/jobs/{job_id}")
    assert job["status"] == "cancelled"
    shop.server.call("DELETE", f"/jobs/{job_id}", expect=409)
    until(lambda: not shop.lake.uploads() and not shop.lake.objects(), "everything to be taken back")
    sessions = "select count(*) from pg_stat_activity where datname = current_database() and usename = 'reader'"
    until(lambda: shop.source.run(sessions).fetchone()[0] == 0, "its sessions to end")
    assert shop.server.state(connection).get("orders", {}).get("cursor") is None
    again = shop.server.sync(connection)
    check_exactly_once(shop, again)


def test_a_pending_job_can_be_cancelled(shop: Bench, tmp_path: Path) -> None:
    go = tmp_path / "go"
    shop.server.start({"sync": [{"point": "after_snapshot", "action": "wait", "path": str(go)}]}, max_jobs="1")
    first = shop.server.submit(shop.connect(overwrite("orders")))
    second = shop.server.submit(shop.connect(overwrite("items")))
    shop.server.wait(first, ("running",))
    assert shop.server.job(second)["status"] == "pending", "one job at a time: the other says honestly that it waits"
    assert "duration" not in shop.server.job(second)
    assert shop.server.call("DELETE", f"/jobs/{second}")["status"] == "cancelled"
    go.touch()
    assert shop.server.wait(first)["status"] == "succeeded"
    assert shop.server.job(second)["attempts"] == []


def test_one_running_job_per_connection_and_adoption_by_list(shop: Bench, tmp_path: Path) -> None:
    go = tmp_path / "go"
    shop.server.start({"sync": [{"point": "after_snapshot", "action": "wait", "path": str(go)}]})
    connection = shop.connect(overwrite("orders"))
    job_id = shop.server.submit(connection)
    problem = shop.server.call("POST", "/jobs", expect=409, json={"connectionId": connection, "jobType": "sync"})
    assert problem["title"] == "try-again-later"
    assert problem["data"] == {"message": f"A sync is already running for: {connection}"}
    params = {"connectionId": connection, "orderBy": "createdAt|DESC", "limit": 1}
    (newest,) = shop.server.call("GET", "/jobs", params=params)["data"]
    assert newest["jobId"] == job_id
    go.touch()
    assert shop.server.wait(job_id)["status"] == "succeeded"
    shop.server.sync(connection)


def test_a_worker_whose_job_was_taken_away_changes_nothing(shop: Bench, tmp_path: Path) -> None:
    """Fencing: cancelled behind the server's back, the worker reaches its last step and finds that it is too late."""
    go = tmp_path / "go"
    shop.server.start({"sync": [{"point": "before_state", "action": "wait", "path": str(go), "job": 1}]})
    connection = shop.connect(incremental("orders"), incremental("items"))
    job_id = shop.server.submit(connection)
    until(lambda: len(shop.lake.objects()) == 2, "both objects")
    with psycopg.connect(shop.server.database_url, autocommit=True) as db:
        db.execute("update jobs set status = 'cancelled' where id = %s", [job_id])
        db.execute("update attempts set status = 'cancelled' where job_id = %s", [job_id])
    go.touch()
    until(lambda: not shop.lake.objects(), "the objects to be taken back")
    assert shop.server.job(job_id)["status"] == "cancelled"
    assert shop.server.state(connection) == {}
    check_exactly_once(shop, shop.server.sync(connection))


def test_lost_uploads_are_read_again(shop: Bench) -> None:
    """Somebody aborted the uploads between the recorded outcome and its completion."""
    shop.server.start({"sync": [{"point": "after_upload", "action": "crash", "attempt": 1}]}, retry_seconds="2")
    job_id = shop.server.submit(shop.connect(overwrite("orders"), overwrite("items")))
    shop.server.wait(job_id, ("incomplete",))
    for upload in shop.lake.s3.list_multipart_uploads(Bucket="lakehouse", Prefix=shop.lake.path)["Uploads"]:
        shop.lake.s3.abort_multipart_upload(Bucket="lakehouse", Key=upload["Key"], UploadId=upload["UploadId"])
    job = shop.server.wait(job_id)
    check_exactly_once(shop, job)
    assert [attempt["status"] for attempt in job["attempts"]] == ["failed", "failed", "succeeded"]


def test_transient_failures_are_retried_and_counted(shop: Bench) -> None:
    shop.server.start({"sync": [{"point": "after_read", "action": "fail"}]}, max_attempts="3")
    job = shop.server.sync(shop.connect(overwrite("orders")), expect="failed")
    assert [attempt["status"] for attempt in job["attempts"]] == ["failed"] * 3
    assert job["failureReason"] == {
        "origin": "replication",
        "type": "transient_error",
        "message": "injected fault at after_read",
    }
    assert (job["rowsSynced"], job["bytesSynced"]) == (0, 0)
    until(lambda: not shop.lake.uploads() and not shop.lake.objects(), "everything to be taken back")


def test_a_job_that_runs_too_long_is_stopped(shop: Bench, tmp_path: Path) -> None:
    rule = {"point": "after_snapshot", "action": "wait", "path": str(tmp_path / "never")}
    shop.server.start({"sync": [rule]}, job_seconds="3", max_attempts="1")
    job = shop.server.sync(shop.connect(overwrite("orders")), expect="failed")
    assert "longer than 3 s" in job["failureReason"]["message"]


def test_a_second_server_waits_for_the_first(shop: Bench, tmp_path: Path) -> None:
    go = tmp_path / "go"
    shop.server.start({"sync": [{"point": "after_snapshot", "action": "wait", "path": str(go)}]})
    job_id = shop.server.submit(shop.connect(overwrite("orders"), overwrite("items")))
    shop.server.wait(job_id, ("running",))
    second = Server(shop.server.database_url, tmp_path / "second.log").start()
    try:
        assert second.call("GET", f"{second.extension}/health")["leading"] is False
        assert second.job(job_id)["status"] == "running", "it must not take the job for an orphan"
        go.touch()
        job = shop.server.wait(job_id)
        assert len(job["attempts"]) == 1
        shop.server.stop()
        until(lambda: second.call("GET", f"{second.extension}/health")["leading"], "the second to take over")
    finally:
        second.stop()


def test_deleting_a_connection_or_its_source_ends_its_job(shop: Bench, tmp_path: Path) -> None:
    rule = {"point": "after_read", "action": "wait", "path": str(tmp_path / "never")}
    shop.server.start({"sync": [rule]})
    connection = shop.connect(overwrite("orders"))
    job_id = shop.server.submit(connection)
    until(shop.lake.uploads, "an upload")
    source = shop.server.call("GET", f"/connections/{connection}")["sourceId"]
    shop.server.call("DELETE", f"/sources/{source}", expect=204)
    assert shop.server.job(job_id)["status"] == "cancelled"
    shop.server.call("GET", f"/connections/{connection}", expect=404)
    until(lambda: not shop.lake.uploads(), "its uploads to be taken back")


def test_an_inactive_connection_runs_nothing(shop: Bench) -> None:
    shop.server.start(max_jobs="1")
    connection = shop.connect(overwrite("orders"), status="inactive")
    problem = shop.server.call("POST", "/jobs", expect=409, json={"connectionId": connection, "jobType": "sync"})
    assert problem["title"] == "state-conflict"
    assert problem["type"].endswith("errors#409-state-conflict")
    assert problem["data"] == {"message": "Could not fulfill request"}
