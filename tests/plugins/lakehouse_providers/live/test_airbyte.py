"""The Airbyte provider against our replication server, over the wire."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from airflow.sdk.exceptions import TaskDeferred

from lakehouse_providers.airbyte import errors
from lakehouse_providers.airbyte.client import AirbyteClient
from lakehouse_providers.airbyte.hook import AirbyteSyncHook
from lakehouse_providers.airbyte.operators import AirbyteSyncOperator
from lakehouse_providers.transport import Call

if TYPE_CHECKING:
    from embedded.object_store import ObjectStore
    from embedded.postgres import PostgresServer

pytestmark = pytest.mark.contract


@pytest.fixture
def client(airbyte_connection: Any) -> Iterator[AirbyteClient]:
    with AirbyteSyncHook("airbyte").client() as client:
        yield client
        faults(client)


def faults(client: AirbyteClient, **wanted: Any) -> None:
    """Our server's own end of the wire; the real product has none."""
    root = client.endpoint.base_url.partition("/api/")[0]
    client.call(Call("PUT", f"{root}/api/lakehouse/v1/faults", json=wanted, idempotent=False))


@pytest.fixture(scope="session")
def table(source_postgres: PostgresServer) -> str:
    name = f"t{uuid.uuid4().hex[:8]}"
    with psycopg.connect(source_postgres.dsn("retail")) as connection:
        columns = "id bigint primary key, updated_at timestamptz not null default now()"
        connection.execute(f"create table retail.{name} ({columns})".encode())
        connection.execute(f"insert into retail.{name} (id) select generate_series(1, 1000)".encode())
    return name


@pytest.fixture
def connection(client: AirbyteClient, source_postgres: PostgresServer, object_store: ObjectStore, table: str) -> str:
    """The name of a connection of its own, declared as the platform declares it: plain JSON, by name."""
    parts = psycopg.conninfo.conninfo_to_dict(source_postgres.dsn("retail", "airbyte"))
    workspace = client.workspace_id()
    source = {
        "sourceType": "postgres",
        "host": parts["host"],
        "port": int(str(parts["port"])),
        "database": parts["dbname"],
        "username": parts["user"],
        "password": parts["password"],
        "schemas": ["retail"],
        "ssl_mode": {"mode": "disable"},
        "replication_method": {"method": "Standard"},
    }
    destination = {
        "destinationType": "s3",
        "s3_bucket_name": "lakehouse",
        "s3_bucket_path": f"test-{uuid.uuid4().hex[:8]}",
        "s3_bucket_region": "us-east-1",
        "s3_endpoint": object_store.endpoint_url,
        "access_key_id": object_store.access_key,
        "secret_access_key": object_store.secret_key,
        "format": {"format_type": "Parquet", "compression_codec": "ZSTD"},
    }
    name = f"c{uuid.uuid4().hex[:8]}"
    made = {
        kind: client.upsert(kind, {"name": name, "workspaceId": workspace, "configuration": configuration})  # type: ignore[arg-type]
        for kind, configuration in (("source", source), ("destination", destination))
    }
    stream = {
        "name": table,
        "namespace": "retail",
        "syncMode": "incremental_append",
        "cursorField": ["updated_at"],
        "primaryKey": [["id"]],
    }
    body = {
        "name": name,
        "sourceId": made["source"]["sourceId"],
        "destinationId": made["destination"]["destinationId"],
        "configurations": {"streams": [stream]},
        "schedule": {"scheduleType": "manual"},
        "namespaceDefinition": "source",
        "status": "active",
    }
    client.upsert("connection", body)
    return name


def operator(name: str, **options: Any) -> AirbyteSyncOperator:
    defaults: dict[str, Any] = {"task_id": "sync", "airbyte_conn_id": "airbyte", "connection_name": name}
    defaults |= {"poll_interval": 0.1, "wait_seconds": 0.1, "timeout": 60}
    return AirbyteSyncOperator(**defaults | options)


def run(task: Any, context: dict[str, Any]) -> Any:
    step: Any = task.execute
    arguments: tuple[Any, ...] = (context,)
    while True:
        try:
            return step(*arguments)
        except TaskDeferred as deferred:
            event = asyncio.run(anext(aiter(deferred.trigger.run())))
            step, arguments = getattr(task, deferred.method_name), (context, event.payload)


def test_the_connection_test_logs_in(airbyte_connection: Any) -> None:
    ok, message = AirbyteSyncHook("airbyte").test_connection()
    assert ok, message


def test_declared_state_comes_back_as_it_was_sent(client: AirbyteClient, connection: str, table: str) -> None:
    found = client.find("connection", connection)
    assert found is not None
    assert [stream["name"] for stream in found["configurations"]["streams"]] == [table]
    source = client.get("source", found["sourceId"])
    assert source["configuration"]["schemas"] == ["retail"]
    assert "password" not in source["configuration"] or set(source["configuration"]["password"]) == {"*"}


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_sync_gives_its_facts(
    client: AirbyteClient, connection: str, context: Any, table: str, deferrable: bool
) -> None:
    facts = run(operator(connection, deferrable=deferrable), context)
    assert (facts["status"], facts["rows"], facts["adopted"]) == ("succeeded", 1000, False)
    assert facts["bytes"] > 0
    assert facts["connection"] == connection
    assert [stream["name"] for stream in facts["streams"]] == [table]
    again = run(operator(connection), context)
    assert again["job_id"] > facts["job_id"]
    jobs = AirbyteSyncHook("airbyte").finished_jobs(facts["connection_id"], after=facts["job_id"])
    assert [job["jobId"] for job in jobs] == [again["job_id"]]


def test_a_lost_reply_starts_one_sync(client: AirbyteClient, connection: str, context: Any) -> None:
    faults(client, http=[{"method": "POST", "path": "/jobs", "action": "lost_reply"}])
    facts = run(operator(connection), context)
    assert facts["adopted"]
    assert len(client.jobs(facts["connection_id"])) == 1


def test_an_outage_during_the_wait(client: AirbyteClient, connection: str, context: Any) -> None:
    with pytest.raises(TaskDeferred) as caught:
        operator(connection).execute(context)
    job_id = caught.value.trigger.serialize()[1]["job_id"]  # type: ignore[index]
    faults(client, http=[{"method": "GET", "path": f"/jobs/{job_id}", "action": "status", "status": 503, "times": 20}])
    event = asyncio.run(anext(aiter(caught.value.trigger.run())))  # type: ignore[arg-type]
    assert event.payload["status"] == "succeeded"


def test_a_second_run_adopts_the_first_ones_sync(client: AirbyteClient, connection: str, context: Any) -> None:
    faults(client, sync=[{"point": "before_state", "action": "hang", "seconds": 2}])
    with pytest.raises(TaskDeferred) as first:
        operator(connection).execute(context)
    facts = run(operator(connection), {})
    assert facts["adopted"]
    assert facts["job_id"] == first.value.trigger.serialize()[1]["job_id"]  # type: ignore[index]


def test_a_killed_task_cancels_its_sync(client: AirbyteClient, connection: str, context: Any) -> None:
    faults(client, sync=[{"point": "after_read", "action": "hang"}])
    task = operator(connection)
    with pytest.raises(TaskDeferred):
        task.execute(context)
    task.on_kill()
    with pytest.raises(errors.AirbyteJobCancelledError):
        task.execute_complete(context, {"status": "cancelled", "job_id": task.job_id})
    assert client.job(int(task.job_id or 0)).status == "cancelled"


def test_a_sync_out_of_time_is_cancelled(client: AirbyteClient, connection: str, context: Any) -> None:
    faults(client, sync=[{"point": "after_read", "action": "hang"}])
    task = operator(connection, timeout=1)
    with pytest.raises(errors.AirbyteJobTimeoutError):
        run(task, context)
    assert client.job(int(task.job_id or 0)).status == "cancelled"


def test_a_failure_names_the_reason(
    client: AirbyteClient, connection: str, context: Any, source_postgres: PostgresServer, table: str
) -> None:
    with psycopg.connect(source_postgres.dsn("retail")) as db:
        db.execute(f"alter table retail.{table} rename to {table}_gone".encode())
    try:
        with pytest.raises(errors.AirbyteJobFailedError, match=table):
            run(operator(connection), context)
    finally:
        with psycopg.connect(source_postgres.dsn("retail")) as db:
            db.execute(f"alter table retail.{table}_gone rename to {table}".encode())
    assert run(operator(connection), context)["status"] == "succeeded"


def test_a_killed_server_is_waited_for(
    client: AirbyteClient, connection: str, context: Any, replication_server: Any
) -> None:
    faults(client, sync=[{"point": "before_state", "action": "hang", "seconds": 1}])
    with pytest.raises(TaskDeferred) as caught:
        operator(connection).execute(context)
    replication_server.kill()
    restart = threading.Thread(target=replication_server.start)
    restart.start()
    event = asyncio.run(anext(aiter(caught.value.trigger.run())))  # type: ignore[arg-type]
    restart.join()
    assert event.payload["status"] == "succeeded", event.payload
