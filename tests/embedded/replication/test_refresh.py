"""Reading streams again, voiding them, the page of a job, and a connection that is given up."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.embedded.replication.harness import Bench, incremental


@pytest.fixture
def two(bench: Bench) -> Bench:
    """Two tables with ten rows each."""
    for table in ("orders", "items"):
        bench.source.run(f"create table shop.{table} (id int primary key, updated_at timestamptz not null)")
        bench.source.run(
            f"insert into shop.{table} select i, '2026-01-01'::timestamptz + make_interval(hours => i)"
            " from generate_series(1, 10) i"
        )
    return bench


def start(bench: Bench, connection: str, kind: str, **body: Any) -> dict[str, Any]:
    url = f"{bench.server.extension}/connections/{connection}/{kind}"
    job = bench.server.wait(bench.server.call("POST", url, json=body)["jobId"])
    assert job["status"] == "succeeded", job
    return job


@pytest.mark.parametrize(("mode", "oldest"), [("truncate", 1), ("merge", 0)])
def test_refresh_reads_a_stream_again_in_a_new_generation(two: Bench, mode: str, oldest: int) -> None:
    connection = two.connect(incremental("orders"), incremental("items"))
    two.server.sync(connection)
    job = start(two, connection, "refresh", mode=mode, streams=[{"name": "orders"}])
    assert job["jobType"] == "refresh"
    assert {row["name"]: row["records"] for row in job["streams"]}["orders"] == 10
    states = two.server.state(connection)
    assert (states["orders"]["generationId"], states["orders"]["minimumGenerationId"]) == (1, oldest)
    assert states["items"]["generationId"] == 0
    assert len(two.lake.rows("shop/orders")) == 20, "no file is deleted"
    again = two.server.sync(connection)
    assert {row["name"]: row["records"] for row in again["streams"]} == {"orders": 1, "items": 1}, "cursors go on"


def test_clear_voids_only_the_streams_it_names(two: Bench) -> None:
    connection = two.connect(incremental("orders"), incremental("items"))
    two.server.sync(connection)
    start(two, connection, "clear", streams=[{"name": "items", "namespace": "shop"}])
    states = two.server.state(connection)
    assert states["items"]["cursor"] is None
    assert states["orders"]["cursor"] is not None
    again = two.server.sync(connection)
    assert {row["name"]: row["records"] for row in again["streams"]} == {"orders": 1, "items": 10}


@pytest.mark.parametrize("kind", ["refresh", "clear"])
def test_a_stream_that_is_not_there_is_named(two: Bench, kind: str) -> None:
    connection = two.connect(incremental("orders"))
    url = f"{two.server.extension}/connections/{connection}/{kind}"
    problem = two.server.call("POST", url, expect=400, json={"streams": [{"name": "nobody"}]})
    assert "nobody" in str(problem)
    assert "shop.orders" in str(problem)


def test_the_page_of_a_job_is_opened_by_its_link_alone(two: Bench) -> None:
    connection = two.connect(incremental("orders"))
    first, second = two.server.sync(connection), two.server.sync(connection)
    page = httpx.get(first["url"])
    assert page.status_code == 200
    assert f"Job {first['jobId']}: sync succeeded" in page.text
    assert "shop.orders" in page.text
    others = first["url"].replace(f"/jobs/{first['jobId']}/", f"/jobs/{second['jobId']}/")
    assert httpx.get(others).status_code == 404, "the key of one job opens no other"
    assert httpx.get(first["url"].partition("?")[0]).status_code == 404


def test_the_page_shows_hostile_text_as_text(two: Bench) -> None:
    two.source.run('create table shop."<script>alert(1)</script>" (id int primary key, updated_at timestamptz)')
    connection = two.connect(incremental("<script>alert(1)</script>"))
    page = httpx.get(two.server.sync(connection)["url"]).text
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_connection_whose_jobs_only_fail_is_switched_off_and_can_be_switched_on(own_bench: Bench) -> None:
    own_bench.server.start(disable_after="3")
    own_bench.source.run("create table shop.orders (id int primary key, updated_at timestamptz not null)")
    connection = own_bench.connect(incremental("orders"))
    own_bench.source.run("alter table shop.orders rename to gone")
    for number in range(3):
        assert own_bench.server.call("GET", f"/connections/{connection}")["status"] == "active", number
        own_bench.server.sync(connection, expect="failed")
    assert own_bench.server.call("GET", f"/connections/{connection}")["status"] == "inactive"
    own_bench.server.call("POST", "/jobs", expect=409, json={"connectionId": connection, "jobType": "sync"})
    own_bench.source.run("alter table shop.gone rename to orders")
    own_bench.server.call("PATCH", f"/connections/{connection}", json={"status": "active"})
    own_bench.server.sync(connection)
