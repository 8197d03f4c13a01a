"""What can be wrong around a sync, and what the person on call then reads. And: it recovers when mended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.embedded.replication.harness import Bench, Server, free_port, incremental, overwrite, until


@pytest.fixture
def orders(bench: Bench) -> Bench:
    bench.source.run("create table shop.orders (id int primary key, total numeric(12,2), updated_at timestamptz)")
    bench.source.run("insert into shop.orders select i, i, '2026-01-01' from generate_series(1, 10) i")
    return bench


def ends_of(server: Server, connection: str) -> tuple[str, str]:
    body = server.call("GET", f"/connections/{connection}")
    return f"/sources/{body['sourceId']}", f"/destinations/{body['destinationId']}"


def fails_once(bench: Bench, connection: str, origin: str, *words: str) -> dict[str, Any]:
    """One attempt, a config_error, each word in its message, nothing left behind."""
    job = bench.server.sync(connection, expect="failed")
    reason = job["failureReason"]
    assert (reason["origin"], reason["type"]) == (origin, "config_error"), reason
    for word in words:
        assert word in reason["message"]
    assert bench.source.password not in str(job)
    assert len(job["attempts"]) == 1, "a person must mend it: no retry"
    assert bench.lake.uploads() == []
    return job


def test_wrong_password(orders: Bench) -> None:
    connection = orders.connect(overwrite("orders"))
    source, _ = ends_of(orders.server, connection)
    orders.server.call("PATCH", source, json={"configuration": {"password": "not-the-password"}})
    fails_once(orders, connection, "source", "wrong user name or password for reader")
    problem = orders.server.call("GET", "/streams", expect=422, params={"sourceId": source.rpartition("/")[2]})
    assert "wrong user name or password" in problem["data"]["message"]
    orders.server.call("PATCH", source, json={"configuration": {"password": orders.source.password}})
    orders.server.sync(connection)


def test_a_database_that_is_not_there(orders: Bench) -> None:
    connection = orders.connect(overwrite("orders"))
    source, _ = ends_of(orders.server, connection)
    orders.server.call("PATCH", source, json={"configuration": {"database": "nowhere"}})
    fails_once(orders, connection, "source", "there is no database nowhere")


def test_a_source_that_is_down(own_bench: Bench) -> None:
    bench = own_bench
    bench.server.start(max_attempts="2")
    bench.source.run("create table shop.orders (id int primary key)")
    connection = bench.connect(overwrite("orders"))
    source, _ = ends_of(bench.server, connection)
    bench.server.call("PATCH", source, json={"configuration": {"port": free_port()}})
    job = bench.server.sync(connection, expect="failed")
    assert job["failureReason"]["type"] == "transient_error"
    assert "cannot be reached" in job["failureReason"]["message"]
    assert len(job["attempts"]) == 2
    bench.server.call("GET", "/streams", expect=503, params={"sourceId": source.rpartition("/")[2]})
    bench.server.call("PATCH", source, json={"configuration": {"port": bench.source.port}})
    bench.server.sync(connection)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"s3_bucket_name": "nosuchbucket"}, ["nosuchbucket", "the bucket does not exist"]),
        ({"access_key_id": "WRONGKEY1234"}, ["keys"]),
        ({"secret_access_key": "wrong-secret-key"}, ["keys"]),
    ],
)
def test_a_destination_that_refuses(orders: Bench, change: dict[str, Any], words: list[str]) -> None:
    connection = orders.connect(overwrite("orders"))
    _, destination = ends_of(orders.server, connection)
    orders.server.call("PATCH", destination, json={"configuration": change})
    fails_once(orders, connection, "destination", *words)
    good = {key: orders.lake.configuration()[key] for key in change}
    orders.server.call("PATCH", destination, json={"configuration": good})
    orders.server.sync(connection)


def test_a_destination_that_is_down(own_bench: Bench) -> None:
    bench = own_bench
    bench.server.start(max_attempts="1")
    bench.source.run("create table shop.orders (id int primary key)")
    connection = bench.connect(overwrite("orders"), destination={"s3_endpoint": f"http://127.0.0.1:{free_port()}"})
    job = bench.server.sync(connection, expect="failed")
    assert job["failureReason"]["origin"] == "destination"
    assert "cannot be reached; check that it runs and that s3_endpoint is right" in job["failureReason"]["message"]


def test_a_table_that_is_gone(orders: Bench) -> None:
    connection = orders.connect(overwrite("orders"))
    orders.source.run("alter table shop.orders rename to moved")
    fails_once(orders, connection, "source", "Table shop.orders is not in the source")
    orders.source.run("alter table shop.moved rename to orders")
    orders.server.sync(connection)


def test_rights_that_are_gone(orders: Bench) -> None:
    connection = orders.connect(overwrite("orders"))
    orders.source.run("revoke select on shop.orders from reader")
    fails_once(orders, connection, "source", "may not read table shop.orders", "grant SELECT")
    orders.source.run("grant select on shop.orders to reader")
    orders.source.run("revoke usage on schema shop from reader")
    fails_once(orders, connection, "source", "may not read table shop.orders")


def test_a_column_that_was_renamed(orders: Bench) -> None:
    connection = orders.connect(overwrite("orders"))
    orders.server.sync(connection)
    orders.source.run("alter table shop.orders rename total to amount")
    fails_once(orders, connection, "source", "Column total of table shop.orders", "does not know: amount")
    orders.source.run("alter table shop.orders rename amount to total")
    orders.server.sync(connection)


def test_a_cursor_that_is_gone_fails_whatever_the_behaviour(orders: Bench) -> None:
    for behaviour in ("ignore", "propagate_columns", "propagate_fully"):
        orders.source.run("alter table shop.orders add column if not exists c int")
        connection = orders.connect(incremental("orders", "c"), nonBreakingSchemaUpdatesBehavior=behaviour)
        orders.source.run("alter table shop.orders drop column c")
        fails_once(orders, connection, "source", "Column c of table shop.orders")


def test_a_new_column_is_ignored_or_propagated(orders: Bench) -> None:
    ignoring = orders.connect(overwrite("orders"))
    orders.source.run("alter table shop.orders add column note text default 'n'")
    orders.server.sync(ignoring)
    assert "note" not in orders.lake.read().schema.names
    orders.lake.path += "-p"
    orders.source.run("alter table shop.orders drop column note")
    taking = orders.connect(overwrite("orders"), nonBreakingSchemaUpdatesBehavior="propagate_columns")
    orders.source.run("alter table shop.orders add column note text default 'n'")
    job = orders.server.sync(taking)
    assert set(orders.lake.read().column("note").to_pylist()) == {"n"}
    assert any("column note text of shop.orders is new" in line for line in orders.server.log_lines(job["jobId"]))
    again = orders.server.sync(taking)
    assert not any("is new" in line for line in orders.server.log_lines(again["jobId"])), "known from now on"


def test_a_dropped_column_is_propagated(orders: Bench) -> None:
    connection = orders.connect(overwrite("orders"), nonBreakingSchemaUpdatesBehavior="propagate_columns")
    orders.server.sync(connection)
    orders.source.run("alter table shop.orders drop column total")
    second = orders.server.sync(connection)
    (newest,) = [f["key"] for f in orders.server.files(second["jobId"])]
    assert "total" not in orders.lake.file(newest).schema_arrow.names


def test_a_type_that_changes(orders: Bench) -> None:
    connection = orders.connect(overwrite("orders"))
    orders.source.run("alter table shop.orders alter total type numeric(20,2)")
    orders.server.sync(connection)
    orders.source.run("alter table shop.orders alter total type text")
    change = "column total of shop.orders changed from numeric(20,2) to text"
    fails_once(orders, connection, "source", change)
    body = {"nonBreakingSchemaUpdatesBehavior": "propagate_columns"}
    orders.server.call("PATCH", f"/connections/{connection}", json=body)
    job = orders.server.sync(connection)
    assert any(change in line for line in orders.server.log_lines(job["jobId"]))


def test_disable_connection(orders: Bench) -> None:
    connection = orders.connect(overwrite("orders"), nonBreakingSchemaUpdatesBehavior="disable_connection")
    orders.source.run("alter table shop.orders add column note text")
    fails_once(orders, connection, "source", "column note text of shop.orders is new")
    body = orders.server.call("GET", f"/connections/{connection}")
    assert body["status"] == "inactive"
    assert "note" in body["statusReason"]
    streams = {"streams": [overwrite("orders")]}
    orders.server.call("PATCH", f"/connections/{connection}", json={"status": "active", "configurations": streams})
    orders.server.sync(connection)


def test_propagate_fully_adds_and_removes_streams(orders: Bench) -> None:
    connection = orders.connect(overwrite("orders"), nonBreakingSchemaUpdatesBehavior="propagate_fully")
    orders.source.run("create table shop.extra (id int primary key)")
    orders.source.run("insert into shop.extra values (1)")
    orders.server.sync(connection)
    assert orders.lake.rows("shop/extra")[0]["id"] == 1

    def names() -> list[str]:
        body = orders.server.call("GET", f"/connections/{connection}")
        return [stream["name"] for stream in body["configurations"]["streams"]]

    assert names() == ["orders", "extra"]
    orders.source.run("drop table shop.orders")
    orders.server.sync(connection)
    assert names() == ["extra"]
    assert orders.lake.rows("shop/orders"), "what was copied stays"


def test_changing_a_connection_forgets_nothing(orders: Bench) -> None:
    connection = orders.connect(incremental("orders"))
    orders.server.sync(connection)
    before = orders.server.state(connection)
    path = f"/connections/{connection}"
    orders.server.call(
        "PATCH", path, json={"nonBreakingSchemaUpdatesBehavior": "propagate_fully", "status": "inactive"}
    )
    orders.server.call("PATCH", path, json={"status": "active", "configurations": {"streams": [incremental("orders")]}})
    assert orders.server.state(connection) == before
    assert len(orders.lake.objects()) == 1


@pytest.mark.parametrize("behaviour", ["propagate_columns", "propagate_fully"])
def test_a_connection_that_is_changed_during_a_sync_stays_so(orders: Bench, behaviour: str, tmp_path: Path) -> None:
    """What was configured meanwhile counts, also where the sync has found a new table."""
    named = {"selectedFields": [{"fieldPath": ["id"]}]}
    connection = orders.connect(overwrite("orders", **named), nonBreakingSchemaUpdatesBehavior=behaviour)
    orders.source.run("create table shop.items (id int primary key)")
    go = tmp_path / "go"
    orders.server.faults(sync=[{"point": "before_state", "action": "wait", "path": str(go)}])
    job_id = orders.server.submit(connection)
    until(lambda: any("are visible" in line for line in orders.server.log_lines(job_id)), "the sync's last step")
    wider = overwrite("orders", selectedFields=[{"fieldPath": ["id"]}, {"fieldPath": ["total"]}])
    orders.server.call("PATCH", f"/connections/{connection}", json={"configurations": {"streams": [wider]}})
    go.touch()
    assert orders.server.wait(job_id)["status"] == "succeeded"
    (stream,) = orders.server.call("GET", f"/connections/{connection}")["configurations"]["streams"]
    assert (stream["name"], stream["selectedFields"]) == ("orders", wider["selectedFields"])
    job = orders.server.sync(connection)
    (key,) = [file["key"] for file in orders.server.files(job["jobId"]) if file["name"] == "orders"]
    assert {"id", "total"} <= set(orders.lake.file(key).schema_arrow.names)


def test_a_source_that_goes_away_while_it_is_read(own_bench: Bench) -> None:
    """Its session is ended in the middle: the attempt fails, the next one reads everything."""
    bench = own_bench
    bench.server.start(object_mb="1")
    bench.source.run("create table shop.big (id int primary key, noise text)")
    bench.source.run("insert into shop.big select i, md5(i::text) from generate_series(1, 1000000) i")
    connection = bench.connect(overwrite("big"))
    job_id = bench.server.submit(connection)
    sessions = "select pg_terminate_backend(pid) from pg_stat_activity where query ilike 'copy%' and usename = 'reader'"
    while not bench.source.run(sessions).fetchall():
        assert bench.server.job(job_id)["status"] in ("pending", "running")
    job = bench.server.wait(job_id)
    assert job["status"] == "succeeded", job
    reason = job["attempts"][0]["failureReason"]
    assert (reason["type"], reason["origin"]) == ("transient_error", "source"), reason
    rows = bench.lake.read("shop/big")
    assert sorted(rows.column("id").to_pylist()) == list(range(1, 1000001))
