"""kill -9, a second server, PostgreSQL away: nothing acknowledged is lost, nothing half-done is seen."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.embedded.sql.process import Client, JobError, SqlProcess, free_port, rest_source, s3_source, until

if TYPE_CHECKING:
    from embedded.object_store import ObjectStore

Make = Callable[..., SqlProcess]


@pytest.fixture
def server(make_server: Make) -> SqlProcess:
    """A server of the test's own: it will be killed."""
    return make_server(FAULTS='{"backoff_unit": 0.2}').start()


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return f"k{abs(hash(request.node.name)) % 10**9}"


def restarted(server: SqlProcess) -> Client:
    server.kill()
    server.start()
    return server.client()


def numbers(client: Client, lake: str) -> str:
    digits = ", ".join(f"({n})" for n in range(10))
    client.run(f"create table {lake}.digits as select n from (values {digits}) t(n)")
    return f"{lake}.digits"


def test_a_killed_ctas_leaves_no_table_and_a_failed_job(
    server: SqlProcess, object_store: ObjectStore, prefix: str
) -> None:
    client = server.client()
    client.create(rest_source(object_store, "lake"))
    lake = f"lake.{prefix}"
    digits = numbers(client, lake)
    client.run(f"create table {lake}.kept as select n, 'v' as v from {digits}")
    many = ", ".join(f"{digits} d{i}" for i in range(8))  # a hundred million rows: it will not end by itself
    job_id = client.submit(f"create table {lake}.half as select d0.n as n from {many}")
    until(lambda: client.job(job_id)["jobState"] not in ("PENDING", "METADATA_RETRIEVAL"), "the job's start")
    done = client.submit("select 'acknowledged' as word")
    client.wait(done)
    client = restarted(server)
    job = client.job(job_id)
    assert job["jobState"] == "FAILED"
    assert "The server stopped while this job was running" in job["errorMessage"]
    assert client.job(done)["jobState"] == "COMPLETED"
    assert client.http.get(f"/api/v3/job/{done}/results").json()["rows"] == [{"word": "acknowledged"}]
    with pytest.raises(JobError, match="not found"):
        client.run(f"select * from {lake}.half")
    assert client.value(f"select count(*) from {lake}.kept") == 10
    client.run(f"create table {lake}.half as select 1 as n")  # the name is free
    assert client.value(f"select n from {lake}.half") == 1


def test_acknowledged_writes_survive_a_kill_at_any_moment(
    server: SqlProcess, object_store: ObjectStore, prefix: str
) -> None:
    client = server.client()
    client.create(rest_source(object_store, "lake"))
    client.space("s", "f")
    lake = f"lake.{prefix}"
    client.run(f"create table {lake}.log as select 0 as n, 'first' as word")
    acknowledged = [0]
    for round_ in range(3):
        for step in range(3):
            number = 1 + round_ * 3 + step
            client.run(f"insert into {lake}.log values ({number}, 'more')")
            client.run(f"create or replace view s.f.v as select {number} as n")
            acknowledged.append(number)
        client.submit(f"insert into {lake}.log values ({100 + round_}, 'unacknowledged')")
        client = restarted(server)
        found = {row["n"] for row in client.rows(f"select n from {lake}.log")}
        assert set(acknowledged) <= found
        assert client.value("select n from s.f.v") == acknowledged[-1]


def test_the_catalog_survives(server: SqlProcess, object_store: ObjectStore, prefix: str) -> None:
    client = server.client()
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": [1, 2]}), sink)
    s3 = object_store.client("s3")
    s3.put_object(Bucket="lakehouse", Key=f"{prefix}/t/a.parquet", Body=sink.getvalue())
    client.create(s3_source(object_store, "bronze", f"/lakehouse/{prefix}"))
    table = client.promote("bronze", "t")
    place = f"/api/v3/catalog/{table['id']}/collaboration/wiki"
    client.http.post(place, json={"text": "kept"})
    s3.put_object(Bucket="lakehouse", Key=f"{prefix}/t/b.parquet", Body=sink.getvalue())
    client = restarted(server)
    assert client.entity("bronze", "t") == table
    assert client.http.get(place).json() == {"text": "kept", "version": 0}
    assert client.value("select count(*) from bronze.t") == 2  # the new file is still unknown
    client.run("alter pds bronze.t refresh metadata")
    assert client.value("select count(*) from bronze.t") == 4


def materializations(client: Client, reflection_id: str) -> list[dict[str, Any]]:
    return client.rows(
        f"select state, failure_msg from sys.materializations where reflection_id = '{reflection_id}' order by created"
    )


def test_a_killed_refresh_begins_again_and_leaves_no_files(
    server: SqlProcess, object_store: ObjectStore, prefix: str
) -> None:
    client = server.client()
    client.create(rest_source(object_store, "lake"))
    client.run(f"create table lake.{prefix}.t as select * from (values (1, 'a'), (2, 'b')) t(id, kind)")
    dataset = client.entity("lake", prefix, "t")
    fields = {"displayFields": [{"name": "id"}, {"name": "kind"}], "datasetId": dataset["id"]}
    body = {"type": "RAW", "name": "raw", "enabled": True, **fields}
    reflection_id = client.http.post("/api/v3/reflection", json=body).json()["id"]
    until(lambda: [m["state"] for m in materializations(client, reflection_id)] == ["DONE"], "the first refresh")
    client.http.post("/faults", json={"refresh_delay": 30})
    client.run(f"insert into lake.{prefix}.t values (3, 'c')")
    client.http.post(f"/api/v3/catalog/{dataset['id']}/refresh")
    until(lambda: len(materializations(client, reflection_id)) == 2, "the second refresh")
    client = restarted(server)
    until(
        lambda: [m["state"] for m in materializations(client, reflection_id)] == ["DEPRECATED", "FAILED", "DONE"],
        "a refresh after the restart",
    )
    assert "server stopped" in materializations(client, reflection_id)[1]["failure_msg"]
    status = client.reflection(reflection_id)["status"]
    assert (status["failureCount"], status["combinedStatus"]) == (0, "CAN_ACCELERATE")
    job = client.run(f"select id, kind from lake.{prefix}.t order by id")
    relations = job["acceleration"]["reflectionRelationships"]
    assert [r["relationship"] for r in relations] == ["CHOSEN"]


def test_a_request_made_before_a_kill_is_carried_out_after_it(
    server: SqlProcess, object_store: ObjectStore, prefix: str
) -> None:
    client = server.client()
    client.create(rest_source(object_store, "lake"))
    client.run(f"create table lake.{prefix}.t as select 1 as id")
    dataset = client.entity("lake", prefix, "t")
    fields = {"displayFields": [{"name": "id"}], "datasetId": dataset["id"]}
    body = {"type": "RAW", "name": "raw", "enabled": True, **fields}
    reflection_id = client.http.post("/api/v3/reflection", json=body).json()["id"]
    until(lambda: [m["state"] for m in materializations(client, reflection_id)] == ["DONE"], "the first refresh")
    assert client.http.post(f"/api/v3/catalog/{dataset['id']}/refresh").status_code == 204
    client = restarted(server)
    until(
        # The kill may have met the second one in its work.
        lambda: (
            [m["state"] for m in materializations(client, reflection_id) if m["state"] != "FAILED"]
            == ["DEPRECATED", "DONE"]
        ),
        "a second refresh",
    )


def test_a_second_server_on_the_same_database_refuses(server: SqlProcess, make_server: Make) -> None:
    second = make_server(server.database_url)
    process = second.launch()
    assert process.wait(timeout=60) == 2
    assert "Another SQL server already serves this database" in second.log.read_text()
    assert server.client().value("select 1") == 1


def test_a_port_that_is_taken_is_named(server: SqlProcess, make_server: Make) -> None:
    other = make_server()
    other.port = server.port
    process = other.launch()
    assert process.wait(timeout=60) != 0
    assert f"{server.port}" in other.log.read_text()
    assert "address already in use" in other.log.read_text()


def test_wrong_settings_are_named_at_the_start(make_server: Make, object_store: ObjectStore) -> None:
    for environment, words in (
        ({"EDITION": "gold"}, "LAKEHOUSE_SQL_EDITION"),
        ({"ADMIN_PASSWORD": "short"}, "Invalid password"),
        ({"DATABASE_URL": f"postgresql://sqlserver:x@127.0.0.1:{free_port()}/none"}, "cannot start"),
    ):
        server = make_server(**environment)
        assert server.launch().wait(timeout=60) == 2
        assert words in server.log.read_text()


def test_sigterm_ends_cleanly(server: SqlProcess) -> None:
    client = server.client()
    client.value("select 1")
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()


def test_sigterm_during_work_leaves_a_clear_end(server: SqlProcess, object_store: ObjectStore, prefix: str) -> None:
    client = server.client()
    client.create(rest_source(object_store, "lake"))
    digits = numbers(client, f"lake.{prefix}")
    many = ", ".join(f"{digits} d{i}" for i in range(9))
    job_id = client.submit(f"select sum(d0.n) from {many}")
    until(lambda: client.job(job_id)["jobState"] not in ("PENDING", "METADATA_RETRIEVAL"), "the job's start")
    server.stop()
    server.start()
    job = server.client().job(job_id)
    assert job["jobState"] in ("CANCELED", "FAILED")
    assert job["cancellationReason"] or job["errorMessage"]


def test_the_server_survives_postgres_losing_its_connections(server: SqlProcess, platform_postgres: Any) -> None:
    import psycopg

    client = server.client()
    client.value("select 1")
    name = server.database_url.rsplit("/", 1)[1]
    with psycopg.connect(platform_postgres.superuser_dsn(), autocommit=True) as connection:
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,))
    until(lambda: client.http.get("/apiv2/server_status").status_code == 200, "readiness")
    assert client.value("select 2") == 2
    until(
        lambda: _lock_holders(platform_postgres, name) == 1,
        "the server's lock",
    )


def _lock_holders(postgres: Any, database: str) -> int:
    import psycopg

    with psycopg.connect(postgres.superuser_dsn(), autocommit=True) as connection:
        row = connection.execute(
            "select count(*) from pg_locks l join pg_database d on d.oid = l.database"
            " where l.locktype = 'advisory' and l.granted and d.datname = %s",
            (database,),
        ).fetchone()
    return int(row[0]) if row else 0


def test_scratch_that_cannot_be_written_is_named(make_server: Make, tmp_path: Any) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    server = make_server(SCRATCH=str(blocked / "scratch"))
    assert server.launch().wait(timeout=60) == 2
    assert os.fspath(blocked) in server.log.read_text()
