"""Airbyte's API through other people's clients: airbyte-api 1.0.1 and the Airflow provider's hook, both unmodified.

Runs in Airflow's venv. Against our server by default; with LAKEHOUSE_REAL_AIRBYTE_URL (and _CLIENT_ID, _CLIENT_SECRET,
_CONNECTION_ID of a small connection) the assertions that need no schema of ours run against a real Airbyte too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

airbyte_api = pytest.importorskip("airbyte_api", reason="runs in Airflow's venv")

from airbyte_api import AirbyteAPI, api, models  # noqa: E402
from airbyte_api.errors import SDKError  # noqa: E402

from tests.embedded.replication.harness import (  # noqa: E402
    CLIENT_ID,
    CLIENT_SECRET,
    Bench,
    Lake,
    Server,
    new_database,
    new_source,
    overwrite,
)

REAL = os.environ.get("LAKEHOUSE_REAL_AIRBYTE_URL", "")


@pytest.fixture(scope="module")
def bench(platform_postgres: Any, source_postgres: Any, object_store: Any, tmp_path_factory: Any) -> Iterator[Bench]:
    log = tmp_path_factory.mktemp("replication") / "server.log"
    with (
        new_database(platform_postgres.superuser_dsn) as url,
        new_source(source_postgres.superuser_dsn, "127.0.0.1", source_postgres.port) as source,
    ):
        source.run("create table shop.orders (id int primary key, updated_at timestamptz)")
        source.run("insert into shop.orders select i, now() from generate_series(1, 50) i")
        bench = Bench(Server(url, log).start(), source, Lake(object_store))
        yield bench
        bench.server.stop()


def sdk(bench: Bench, secret: str = CLIENT_SECRET) -> AirbyteAPI:
    credentials = models.SchemeClientCredentials(
        client_id=CLIENT_ID, client_secret=secret, token_url="v1/applications/token"
    )
    return AirbyteAPI(server_url=bench.server.base, security=models.Security(client_credentials=credentials))


class TestSdk:
    def test_health_and_workspaces(self, bench: Bench) -> None:
        client = sdk(bench)
        assert client.health.get_health_check().status_code == 200
        found = client.workspaces.list_workspaces(request=api.ListWorkspacesRequest()).workspaces_response
        assert found is not None
        assert found.data[0].workspace_id == bench.server.workspace()

    def test_wrong_secret(self, bench: Bench) -> None:
        with pytest.raises(Exception, match="401"):
            sdk(bench, "not-the-secret").jobs.list_jobs(request=api.ListJobsRequest())

    def test_sources_and_destinations_keep_every_field(self, bench: Bench) -> None:
        """The SDK's closed unions take what they do not know for another connector, or break a whole page."""
        bench.connect(overwrite("orders"))
        client = sdk(bench)
        sources = client.sources.list_sources(request=api.ListSourcesRequest()).sources_response
        assert sources is not None
        source = sources.data[-1]
        assert source.source_type == "postgres"
        assert isinstance(source.configuration, models.SourcePostgres)
        assert (source.configuration.host, source.configuration.port) == (bench.source.host, bench.source.port)
        assert source.configuration.schemas == ["shop"]
        assert isinstance(source.configuration.ssl_mode, models.SourcePostgresDisable)
        destinations = client.destinations.list_destinations(
            request=api.ListDestinationsRequest()
        ).destinations_response
        assert destinations is not None
        destination = destinations.data[-1]
        assert isinstance(destination.configuration, models.DestinationS3)
        assert destination.configuration.s3_bucket_path == bench.lake.path
        assert isinstance(destination.configuration.format_, models.DestinationS3ParquetColumnarStorage)
        got = client.sources.get_source(request=api.GetSourceRequest(source_id=source.source_id)).source_response
        assert got == source

    def test_provisioning(self, bench: Bench) -> None:
        client = sdk(bench)
        workspace = bench.server.workspace()
        settings = bench.source.configuration()
        postgres = models.SourcePostgres(
            host=settings["host"],
            port=settings["port"],
            database=settings["database"],
            username=settings["username"],
            password=settings["password"],
            schemas=["shop"],
            ssl_mode=models.SourcePostgresDisable(),
        )
        made = client.sources.create_source(
            request=models.SourceCreateRequest(name="sdk", workspace_id=workspace, configuration=postgres)
        ).source_response
        assert made is not None
        assert isinstance(made.configuration, models.SourcePostgres)
        assert made.configuration.password == "**********"
        lake = bench.lake.configuration()
        s3 = models.DestinationS3(
            s3_bucket_name=lake["s3_bucket_name"],
            s3_bucket_path=lake["s3_bucket_path"],
            s3_bucket_region=models.DestinationS3S3BucketRegion.US_EAST_1,
            s3_endpoint=lake["s3_endpoint"],
            access_key_id=lake["access_key_id"],
            secret_access_key=lake["secret_access_key"],
            format_=models.DestinationS3ParquetColumnarStorage(),
        )
        target = client.destinations.create_destination(
            request=models.DestinationCreateRequest(name="sdk", workspace_id=workspace, configuration=s3)
        ).destination_response
        assert target is not None
        streams = client.streams.get_stream_properties(
            request=api.GetStreamPropertiesRequest(source_id=made.source_id, destination_id=target.destination_id)
        ).stream_properties_response
        assert streams is not None
        assert [(stream.stream_name, stream.streamnamespace) for stream in streams] == [("orders", "shop")]
        mode = models.ConnectionSyncModeEnum.INCREMENTAL_APPEND
        wanted = models.StreamConfiguration(name="orders", sync_mode=mode, cursor_field=["updated_at"])
        connection = client.connections.create_connection(
            request=models.ConnectionCreateRequest(
                source_id=made.source_id,
                destination_id=target.destination_id,
                name="sdk",
                configurations=models.StreamConfigurations(streams=[wanted]),
                schedule=models.AirbyteAPIConnectionSchedule(schedule_type=models.ScheduleTypeEnum.MANUAL),
            )
        ).connection_response
        assert connection is not None
        assert connection.configurations.streams is not None
        assert connection.configurations.streams[0].sync_mode == mode
        request = api.PatchConnectionRequest(
            connection_id=connection.connection_id,
            connection_patch_request=models.ConnectionPatchRequest(name="renamed"),
        )
        patched = client.connections.patch_connection(request=request).connection_response
        assert patched is not None
        assert patched.name == "renamed"
        listed = client.connections.list_connections(request=api.ListConnectionsRequest()).connections_response
        assert listed is not None
        assert connection.connection_id in [item.connection_id for item in listed.data]
        deletion = api.DeleteConnectionRequest(connection_id=connection.connection_id)
        assert client.connections.delete_connection(request=deletion).status_code == 204

    def test_jobs(self, bench: Bench) -> None:
        client = sdk(bench)
        connection = bench.connect(overwrite("orders"))
        request = models.JobCreateRequest(connection_id=connection, job_type=models.JobTypeEnum.SYNC)
        made = client.jobs.create_job(request=request).job_response
        assert made is not None
        bench.server.wait(made.job_id)
        done = client.jobs.get_job(request=api.GetJobRequest(job_id=made.job_id)).job_response
        assert done is not None
        assert (done.status, done.rows_synced) == (models.JobStatusEnum.SUCCEEDED, 50)
        with pytest.raises(SDKError, match="409"):
            client.jobs.cancel_job(request=api.CancelJobRequest(job_id=made.job_id))
        wanted = api.ListJobsRequest(
            connection_id=connection,
            job_type=models.JobTypeEnum.SYNC,
            status=models.JobStatusEnum.SUCCEEDED,
            order_by="createdAt|DESC",
        )
        listed = client.jobs.list_jobs(request=wanted).jobs_response
        assert listed is not None
        assert [job.job_id for job in listed.data] == [made.job_id]

    def test_refused_requests(self, bench: Bench) -> None:
        client = sdk(bench)
        with pytest.raises(SDKError, match="resource-not-found"):
            client.jobs.get_job(request=api.GetJobRequest(job_id=987654321))
        request = models.JobCreateRequest(
            connection_id=bench.connect(overwrite("orders")), job_type=models.JobTypeEnum.REFRESH
        )
        with pytest.raises(SDKError, match="Refreshes are not supported"):
            client.jobs.create_job(request=request)


class TestHook:
    @pytest.fixture
    def hook(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Any:
        from airflow.providers.airbyte.hooks.airbyte import AirbyteHook

        connection = {
            "conn_type": "airbyte",
            "host": bench.server.base,
            "login": CLIENT_ID,
            "password": CLIENT_SECRET,
            "extra": {"timeout": 60},
        }
        monkeypatch.setenv("AIRFLOW_CONN_AIRBYTE", json.dumps(connection))
        return AirbyteHook("airbyte")

    def test_connection_test(self, hook: Any) -> None:
        assert hook.test_connection() == (True, "Connection successfully tested")

    def test_a_sync_end_to_end(self, bench: Bench, hook: Any) -> None:
        connection = bench.connect(overwrite("orders"))
        job = hook.submit_sync_connection(connection)
        hook.wait_for_job(job.job_id, wait_seconds=0.2, timeout=120)
        assert hook.get_job_status(job.job_id) == models.JobStatusEnum.SUCCEEDED
        assert hook.get_job_details(job.job_id).rows_synced == 50
        assert len(bench.lake.rows("shop/orders", [job.job_id])) == 50

    def test_cancel(self, bench: Bench, hook: Any, tmp_path: Any) -> None:
        bench.server.faults(sync=[{"point": "after_snapshot", "action": "wait", "path": str(tmp_path / "never")}])
        job = hook.submit_sync_connection(bench.connect(overwrite("orders")))
        bench.server.wait(job.job_id, ("running",))
        hook.cancel_job(job.job_id)
        bench.server.faults()
        assert hook.get_job_status(job.job_id) == models.JobStatusEnum.CANCELLED

    def test_failures_reach_the_caller(self, bench: Bench, hook: Any) -> None:
        from airflow.providers.common.compat.sdk import AirflowException

        with pytest.raises(AirflowException, match="404"):
            hook.submit_sync_connection("00000000-0000-0000-0000-000000000000")
        bench.server.faults(http=[{"method": "POST", "path": "/jobs", "action": "status", "status": 503}])
        with pytest.raises(AirflowException, match="503"):
            hook.submit_sync_connection(bench.connect(overwrite("orders")))


class TestOperators:
    """The stock operator and sensor, deferred and not."""

    @pytest.fixture(autouse=True)
    def airflow_connection(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        connection = {"conn_type": "airbyte", "host": bench.server.base, "login": CLIENT_ID, "password": CLIENT_SECRET}
        monkeypatch.setenv("AIRFLOW_CONN_AIRBYTE", json.dumps({**connection, "extra": {"timeout": 60}}))

    def operator(self, connection: str, **options: Any) -> Any:
        from airflow.providers.airbyte.operators.airbyte import AirbyteTriggerSyncOperator

        return AirbyteTriggerSyncOperator(
            task_id="sync",
            airbyte_conn_id="airbyte",
            connection_id=connection,
            wait_seconds=0.2,
            timeout=120,
            **options,
        )

    def test_a_sync_waited_for(self, bench: Bench) -> None:
        job_id = self.operator(bench.connect(overwrite("orders"))).execute({})
        assert bench.server.job(job_id)["rowsSynced"] == 50

    def test_a_sync_deferred(self, bench: Bench) -> None:
        import asyncio

        from airflow.sdk.exceptions import TaskDeferred

        operator = self.operator(bench.connect(overwrite("orders")), deferrable=True)
        with pytest.raises(TaskDeferred) as deferred:
            operator.execute({})
        trigger = deferred.value.trigger
        bench.server.wait(trigger.job_id)  # before it looks: it then waits a minute
        event = asyncio.run(anext(aiter(trigger.run())))
        assert event.payload["status"] == "success"
        assert operator.execute_complete({}, event.payload) is None

    def test_a_sensor(self, bench: Bench) -> None:
        from airflow.providers.airbyte.sensors.airbyte import AirbyteJobSensor

        job_id = self.operator(bench.connect(overwrite("orders")), asynchronous=True).execute({})
        bench.server.wait(job_id)
        assert AirbyteJobSensor(task_id="wait", airbyte_conn_id="airbyte", airbyte_job_id=job_id).poke({})

    def test_a_failure_is_one(self, bench: Bench) -> None:
        connection = bench.connect(overwrite("orders"), destination={"s3_bucket_name": "nosuchbucket"})
        with pytest.raises(Exception, match="failed"):
            self.operator(connection).execute({})


def test_a_connector_of_pypi_through_the_sdk(bench: Bench) -> None:
    """Created with the SDK's own model if it is installed here; a page that lists it can be read either way."""
    listing = bench.server.call("GET", f"{bench.server.extension}/connectors")["data"]
    connectors = {item["sourceType"]: item for item in listing}
    if not connectors["faker"]["installed"]:
        pytest.skip("make connector NAME=source-faker")
    client = sdk(bench)
    faker = models.SourceFaker(count=5, seed=1, parallelism=1)
    wanted = models.SourceCreateRequest(name="faker", workspace_id=bench.server.workspace(), configuration=faker)
    made = client.sources.create_source(request=wanted).source_response
    assert made is not None
    assert isinstance(made.configuration, models.SourceFaker)
    assert (made.source_type, made.configuration.count) == ("faker", 5)
    assert made.definition_id == connectors["faker"]["definitionId"]
    listed = client.sources.list_sources(request=api.ListSourcesRequest()).sources_response
    assert listed is not None
    assert made.source_id in [source.source_id for source in listed.data]


def test_declared_state(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan, apply, nothing to do, drift by name, and back; over the public API in plain JSON."""
    import yaml

    from include.reconcile.airbyte import AirbyteState
    from lakehouse_providers.airbyte.client import AirbyteClient, Endpoint

    settings = bench.source.configuration(password="{{ conn.shop.password }}")
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", json.dumps({"conn_type": "postgres", "password": bench.source.password}))
    declared = {
        "sources": {"shop_declared": settings},
        "destinations": {"lake_declared": bench.lake.configuration()},
        "connections": {
            "shop_to_lake": {
                "source": "shop_declared", "destination": "lake_declared",
                "streams": [{"name": "orders", "syncMode": "incremental_append", "cursorField": ["updated_at"]}],
            }
        },
    }  # fmt: skip

    def write() -> None:
        for name, content in declared.items():
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))

    write()
    client = AirbyteClient(Endpoint(bench.server.base, client_id=CLIENT_ID, client_secret=CLIENT_SECRET))
    state = AirbyteState(client, [], tmp_path)

    def run(*, apply: bool) -> list[str]:
        return [" ".join((c.action, c.kind, c.name, *c.fields)) for c in state.run(apply=apply)]

    create = ["create source shop_declared", "create destination lake_declared", "create connection shop_to_lake"]
    assert run(apply=False) == create
    assert run(apply=False) == create, "a plan writes nothing"
    assert run(apply=True) == create
    assert run(apply=False) == []
    connection = client.connection_id("shop_to_lake")
    bench.server.sync(connection)
    before = bench.server.state(connection)
    client.update("connection", connection, {"prefix": "x_", "status": "inactive"})
    declared["connections"]["shop_to_lake"]["prefix"] = ""
    write()
    assert run(apply=False) == ["update connection shop_to_lake status prefix"]
    assert run(apply=True) == ["update connection shop_to_lake status prefix"]
    assert run(apply=False) == []
    assert bench.server.state(connection) == before, "nothing that was copied is forgotten"
    declared["sources"]["shop_declared"] = {**settings, "schemas": ["shop", "public"]}
    write()
    assert run(apply=False) == ["update source shop_declared configuration.schemas"]
    declared["connections"]["shop_to_lake"]["destination"] = "nowhere"
    write()
    with pytest.raises(ValueError, match=r"connections\.yaml: shop_to_lake: destination 'nowhere' is not declared"):
        run(apply=False)


@pytest.mark.real
@pytest.mark.skipif(not REAL, reason="needs LAKEHOUSE_REAL_AIRBYTE_URL")
def test_the_real_product_behaves_the_same() -> None:
    """The part of the contract that our clients rely on most: paging ends with an empty page, 404 and 422 as here."""
    credentials = models.SchemeClientCredentials(
        client_id=os.environ["LAKEHOUSE_REAL_AIRBYTE_CLIENT_ID"],
        client_secret=os.environ["LAKEHOUSE_REAL_AIRBYTE_CLIENT_SECRET"],
        token_url="v1/applications/token",
    )
    client = AirbyteAPI(server_url=REAL, security=models.Security(client_credentials=credentials))
    connection = os.environ["LAKEHOUSE_REAL_AIRBYTE_CONNECTION_ID"]
    page = client.jobs.list_jobs(request=api.ListJobsRequest(connection_id=connection, offset=100000)).jobs_response
    assert page is not None
    assert (page.data, page.next) == ([], "")
    with pytest.raises(SDKError, match="resource-not-found"):
        client.jobs.get_job(request=api.GetJobRequest(job_id=2**31 - 1))
    with pytest.raises(SDKError, match="unprocessable-entity"):
        client.jobs.create_job(
            request=models.JobCreateRequest(connection_id=connection, job_type=models.JobTypeEnum.REFRESH)
        )
