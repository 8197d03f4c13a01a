"""The public API on the wire: shapes, codes, paging, errors. The clients' own view is in tests/contracts."""

from __future__ import annotations

import datetime as dt
import re
import subprocess
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.embedded.replication.harness import (
    CLIENT_ID,
    CLIENT_SECRET,
    PROJECT,
    Bench,
    Server,
    embedded_python,
    overwrite,
)

ERRORS = "https://reference.airbyte.com/reference/errors"
MASK = "**********"


@pytest.fixture
def table(bench: Bench) -> Bench:
    bench.source.run("create table shop.t (id int primary key, name text, updated_at timestamptz)")
    bench.source.run("create table shop.u (a int, b jsonb)")
    return bench


def anonymous(server: Server, method: str, path: str, **request: Any) -> httpx.Response:
    return httpx.request(method, f"{server.base}{path}", **request)


class TestTokens:
    def test_form_and_json(self, shared_server: Server) -> None:
        fields = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        for body in (
            {"data": {**fields, "grant_type": "client_credentials"}},
            {"json": {**fields, "grant-type": "client_credentials"}},
            {"json": fields},
        ):
            reply = anonymous(shared_server, "POST", "/applications/token", **body)
            assert reply.status_code == 200
            assert reply.headers["content-type"] == "application/json"
            answer = reply.json()
            assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 900)
            headers = {"authorization": f"Bearer {answer['access_token']}"}
            assert anonymous(shared_server, "GET", "/jobs", headers=headers).status_code == 200

    def test_wrong_credentials(self, shared_server: Server) -> None:
        for body in ({"client_id": CLIENT_ID, "client_secret": "wrong"}, {"client_id": "x", "client_secret": "y"}, {}):
            reply = anonymous(shared_server, "POST", "/applications/token", data=body)
            assert reply.status_code == 401
            assert reply.headers["content-type"] == "application/problem+json"
            problem = reply.json()
            assert (problem["status"], problem["title"]) == (401, "invalid-api-key")
            assert problem["type"] == f"{ERRORS}#invalid-api-key"

    def test_calls_without_a_good_token(self, shared_server: Server) -> None:
        good = shared_server.token()
        header, claims, signature = good.split(".")
        for authorization in (
            None,
            "Basic abc",
            "Bearer",
            "Bearer x.y.z",
            f"Bearer {header}.{claims}.{signature[:-2]}AA",
        ):
            headers = {"authorization": authorization} if authorization else {}
            for method, path in (("GET", "/jobs"), ("POST", "/jobs"), ("DELETE", f"/connections/{uuid4()}")):
                reply = anonymous(shared_server, method, path, headers=headers)
                assert (reply.status_code, reply.json()["title"]) == (401, "invalid-api-key")

    def test_a_token_expires_and_outlives_a_restart(self, own_bench: Bench) -> None:
        server = own_bench.server.start(token_seconds="3")
        token = server.token()
        server.kill()
        server.start(token_seconds="3")
        headers = {"authorization": f"Bearer {token}"}
        reply = anonymous(server, "GET", "/jobs", headers=headers)
        while reply.status_code == 200:
            reply = anonymous(server, "GET", "/jobs", headers=headers)
        assert reply.status_code == 401
        assert "expired" in reply.json()["data"]["message"]


def test_health_needs_no_token(shared_server: Server) -> None:
    reply = anonymous(shared_server, "GET", "/health")
    assert (reply.status_code, reply.text) == (200, "Successful operation")


def test_unknown_calls_and_methods(shared_server: Server) -> None:
    assert shared_server.call("GET", "/nothing", expect=404)["title"] == "resource-not-found"
    assert shared_server.call("PUT", "/jobs", expect=405)["title"] == "method-not-allowed"


@pytest.mark.parametrize("kind", ["source", "destination", "connection", "workspace"])
def test_unknown_ids(shared_server: Server, kind: str) -> None:
    unknown = str(uuid4())
    for method in ("GET", "DELETE"):
        problem = shared_server.call(method, f"/{kind}s/{unknown}", expect=404)
        assert problem["type"] == f"{ERRORS}#resource-not-found"
        assert problem["data"] == {"resourceType": kind, "resourceId": unknown}
    assert shared_server.call("GET", f"/{kind}s/abc", expect=400)["title"] == "bad-request"


def test_unknown_jobs(shared_server: Server) -> None:
    assert shared_server.call("GET", "/jobs/987654321", expect=404)["data"]["resourceType"] == "job"
    shared_server.call("GET", "/jobs/99999999999999999999", expect=404)
    shared_server.call("DELETE", "/jobs/987654321", expect=404)
    shared_server.call("GET", "/jobs/abc", expect=400)
    body = {"connectionId": str(uuid4()), "jobType": "sync"}
    assert shared_server.call("POST", "/jobs", expect=404, json=body)["data"]["resourceType"] == "connection"


def test_workspaces(shared_server: Server) -> None:
    made = shared_server.call("POST", "/workspaces", json={"name": "one"})
    assert set(made) == {"workspaceId", "name", "dataResidency", "notifications"}
    path = f"/workspaces/{made['workspaceId']}"
    assert shared_server.call("GET", path) == made
    assert shared_server.call("PATCH", path, json={"name": "two"})["name"] == "two"
    shared_server.call("DELETE", path, expect=204)
    shared_server.call("GET", path, expect=404)
    found = shared_server.call(
        "GET", "/workspaces", params={"workspaceIds": made["workspaceId"], "includeDeleted": "true"}
    )
    assert [item["name"] for item in found["data"]] == ["two"]


class TestSources:
    def create(self, bench: Bench, **configuration: Any) -> dict[str, Any]:
        body = {
            "name": "shop",
            "workspaceId": bench.server.workspace(),
            "configuration": bench.source.configuration(**configuration),
        }
        made: dict[str, Any] = bench.server.call("POST", "/sources", json=body)
        return made

    def test_shape_and_masks(self, bench: Bench) -> None:
        made = self.create(bench, port=str(bench.source.port), ssl_mode={"mode": "prefer", "client_key": "PEM"})
        assert set(made) == {
            "sourceId", "name", "sourceType", "definitionId", "workspaceId", "createdAt", "configuration",
        }  # fmt: skip
        assert made["sourceType"] == "postgres"
        assert abs(made["createdAt"] - dt.datetime.now(dt.UTC).timestamp()) < 300
        configuration = made["configuration"]
        assert (configuration["sourceType"], configuration["password"]) == ("postgres", MASK)
        assert configuration["ssl_mode"] == {"mode": "prefer", "client_key": MASK}
        assert configuration["port"] == bench.source.port, "a number, as the SDK's model wants it"
        assert bench.server.call("GET", f"/sources/{made['sourceId']}") == made

    def test_a_masked_secret_keeps_its_value(self, bench: Bench) -> None:
        made = self.create(bench)
        path = f"/sources/{made['sourceId']}"
        changed = bench.server.call("PATCH", path, json={"name": "n", "configuration": {"schemas": ["shop", "x"]}})
        assert (changed["name"], changed["configuration"]["schemas"]) == ("n", ["shop", "x"])
        replaced = bench.server.call("PUT", path, json={"name": "m", "configuration": made["configuration"]})
        assert (replaced["name"], replaced["configuration"]["schemas"]) == ("m", ["shop"])
        check = bench.server.call("POST", f"{bench.server.extension}{path}/check")
        assert check == {"status": "succeeded", "message": None}

    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"host": None}, "host"),
            ({"port": 70000}, "port"),
            ({"ssl_mode": {"mode": "maybe"}}, "ssl_mode"),
            ({"replication_method": {"method": "CDC"}}, "replication_method"),
            ({"tunnel_method": {"tunnel_method": "SSH_KEY_AUTH"}}, "tunnel_method"),
            ({"sourceType": "mysql"}, "postgres"),
            ({"sourceType": None}, "postgres"),
        ],
    )
    def test_configurations_that_cannot_work(self, bench: Bench, changes: dict[str, Any], named: str) -> None:
        body = {
            "name": "x",
            "workspaceId": bench.server.workspace(),
            "configuration": bench.source.configuration(**changes),
        }
        problem = bench.server.call("POST", "/sources", expect=422, json=body)
        assert problem["title"] == "unprocessable-entity"
        assert named in problem["data"]["message"]
        assert bench.source.password not in problem["data"]["message"]

    def test_a_definition_id_can_stand_for_the_type(self, bench: Bench) -> None:
        configuration = bench.source.configuration()
        del configuration["sourceType"]
        definition = "decd338e-5647-4c0b-adf4-da0e75f5a750"
        body = {
            "name": "x",
            "workspaceId": bench.server.workspace(),
            "definitionId": definition,
            "configuration": configuration,
        }
        assert bench.server.call("POST", "/sources", json=body)["configuration"]["sourceType"] == "postgres"

    def test_delete(self, bench: Bench) -> None:
        made = self.create(bench)
        bench.server.call("DELETE", f"/sources/{made['sourceId']}", expect=204)
        bench.server.call("GET", f"/sources/{made['sourceId']}", expect=404)
        bench.server.call("DELETE", f"/sources/{made['sourceId']}", expect=404)


class TestDestinations:
    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"s3_bucket_region": "moon-1"}, "moon-1"),
            ({"s3_bucket_path": ""}, "s3_bucket_path"),
            ({"format": {"format_type": "CSV"}}, "format"),
            ({"format": {"format_type": "Parquet", "compression_codec": "LZO"}}, "compression_codec"),
            ({"s3_path_format": "${PLANET}/"}, "${PLANET}"),
            ({"file_name_pattern": "{moon}"}, "{moon}"),
            ({"s3_bucket_path": "a/../b"}, "'..'"),
            ({"destinationType": "snowflake"}, "s3"),
        ],
    )
    def test_configurations_that_cannot_work(self, bench: Bench, changes: dict[str, Any], named: str) -> None:
        body = {
            "name": "x",
            "workspaceId": bench.server.workspace(),
            "configuration": bench.lake.configuration(**changes),
        }
        problem = bench.server.call("POST", "/destinations", expect=422, json=body)
        assert named in problem["data"]["message"]

    def test_both_keys_are_masked(self, bench: Bench) -> None:
        body = {"name": "x", "workspaceId": bench.server.workspace(), "configuration": bench.lake.configuration()}
        made = bench.server.call("POST", "/destinations", json=body)
        assert made["destinationType"] == made["configuration"]["destinationType"] == "s3"
        assert made["configuration"]["access_key_id"] == made["configuration"]["secret_access_key"] == MASK
        check = f"{bench.server.extension}/destinations/{made['destinationId']}/check"
        assert bench.server.call("POST", check)["status"] == "succeeded"
        path = f"/destinations/{made['destinationId']}"
        bench.server.call("PATCH", path, json={"configuration": {"s3_bucket_name": "nosuchbucket"}})
        answer = bench.server.call("POST", check)
        assert answer["status"] == "failed"
        assert "nosuchbucket: the bucket does not exist" in answer["message"]


class TestConnections:
    def test_shape_and_defaults(self, table: Bench) -> None:
        connection = table.connect(namespaceDefinition="destination", configurations=None)
        body = table.server.call("GET", f"/connections/{connection}")
        assert {key: body[key] for key in ("name", "status", "schedule", "tags", "prefix", "namespaceDefinition")} == {
            "name": "test",
            "status": "active",
            "schedule": {"scheduleType": "manual"},
            "tags": [],
            "prefix": "",
            "namespaceDefinition": "destination",
        }
        assert body["nonBreakingSchemaUpdatesBehavior"] == "ignore"
        assert "statusReason" not in body
        streams = {stream["name"]: stream for stream in body["configurations"]["streams"]}
        assert set(streams) == {"t", "u"}, "no configurations: all streams"
        assert streams["t"] == {
            "name": "t",
            "namespace": "shop",
            "syncMode": "full_refresh_overwrite",
            "cursorField": [],
            "primaryKey": [["id"]],
            "selectedFields": [],
            "mappers": [],
        }

    def test_patch_merges_and_put_replaces(self, table: Bench) -> None:
        tag = {"tagId": str(uuid4()), "name": "x", "color": "FFFFFF", "workspaceId": table.server.workspace()}
        connection = table.connect(overwrite("t"), prefix="a_", tags=[tag])
        path = f"/connections/{connection}"
        patched = table.server.call("PATCH", path, json={"name": "new", "status": "inactive"})
        assert (patched["name"], patched["status"], patched["prefix"], patched["tags"]) == (
            "new",
            "inactive",
            "a_",
            [tag],
        )
        assert [s["name"] for s in patched["configurations"]["streams"]] == ["t"]
        patched = table.server.call("PATCH", path, json={"configurations": {"streams": [overwrite("u")]}})
        assert [s["name"] for s in patched["configurations"]["streams"]] == ["u"], "configurations are replaced whole"
        replaced = table.server.call("PUT", path, json={"configurations": {"streams": [overwrite("t")]}})
        assert (replaced["name"], replaced["status"], replaced["prefix"], replaced["tags"]) == ("new", "active", "", [])
        listed = table.server.call("GET", "/connections", params={"limit": 100})["data"]
        assert replaced in listed

    @pytest.mark.parametrize(
        ("stream", "message"),
        [
            ({"name": "nope"}, "Invalid stream found: nope. The source's streams: shop.t, shop.u."),
            ({"name": "t", "syncMode": "incremental_append"}, "No default cursor field"),
            ({"name": "t", "syncMode": "incremental_append", "cursorField": ["x"]}, "Invalid cursor field x"),
            ({"name": "u", "syncMode": "incremental_append", "cursorField": ["b"]}, "has no order to follow"),
            ({"name": "t", "syncMode": "incremental_deduped_history"}, "Valid sync modes are: full_refresh_overwrite"),
            ({"name": "t", "syncMode": "sideways"}, "syncMode"),
            ({"name": "t", "primaryKey": [["name"]]}, "already pre-defined: id"),
            ({"name": "u", "primaryKey": [["z"]]}, "Invalid primary key z"),
            ({"name": "t", "selectedFields": []}, "No fields selected"),
            ({"name": "t", "selectedFields": [{"fieldPath": ["a", "b"]}]}, "top-level"),
            ({"name": "t", "selectedFields": [{"fieldPath": ["z"]}]}, "Invalid selected field z"),
            ({"name": "t", "selectedFields": [{"fieldPath": ["id"]}, {"fieldPath": ["id"]}]}, "Duplicate fields"),
            (
                {
                    "name": "t",
                    "syncMode": "incremental_append",
                    "cursorField": ["updated_at"],
                    "selectedFields": [{"fieldPath": ["id"]}],
                },
                "must be selected",
            ),
            ({"name": "t", "mappers": [{"type": "hashing", "mapperConfiguration": {}}]}, "mappers are not available"),
            ({"name": "t", "destinationObjectName": "other"}, "destinationObjectName is not available"),
        ],
    )
    def test_streams_that_do_not_fit(self, table: Bench, stream: dict[str, Any], message: str) -> None:
        connection = table.connect(overwrite("t"))
        body = {"configurations": {"streams": [stream]}}
        problem = table.server.call("PATCH", f"/connections/{connection}", expect=400, json=body)
        assert problem["title"] == "bad-request"
        assert message in problem["data"]["message"]

    @pytest.mark.parametrize(
        ("expression", "status", "message"),
        [
            ("* * * * * ?", 400, "too frequent"),
            ("0 * * * * ?", 400, "too frequent"),
            ("0 0 12", 400, "Quartz"),
            ("0 0 12 * * ; drop", 400, "Quartz"),
            ("0 0 12 * * ? UTC", 422, "manual"),
        ],
    )
    def test_schedules(self, table: Bench, expression: str, status: int, message: str) -> None:
        connection = table.connect(overwrite("t"))
        body = {"schedule": {"scheduleType": "cron", "cronExpression": expression}}
        problem = table.server.call("PATCH", f"/connections/{connection}", expect=status, json=body)
        assert message in problem["data"]["message"]

    def test_closed_enums(self, table: Bench) -> None:
        connection = table.connect(overwrite("t"))
        for body in (
            {"status": "asleep"},
            {"namespaceDefinition": "x"},
            {"nonBreakingSchemaUpdatesBehavior": "x"},
            {"schedule": {"scheduleType": "basic"}},
        ):
            problem = table.server.call("PATCH", f"/connections/{connection}", expect=400, json=body)
            assert problem["title"] == "bad-request"


def test_streams(table: Bench) -> None:
    connection = table.server.call("GET", f"/connections/{table.connect(overwrite('t'))}")
    source, destination = connection["sourceId"], connection["destinationId"]
    (first, _) = table.server.call("GET", "/streams", params={"sourceId": source, "ignoreCache": "false"})
    assert first == {
        "streamName": "t",
        "streamnamespace": "shop",
        "syncModes": None,
        "defaultCursorField": [],
        "sourceDefinedCursorField": False,
        "sourceDefinedPrimaryKey": [["id"]],
        "propertyFields": [["id"], ["name"], ["updated_at"]],
    }
    params = {"sourceId": source, "destinationId": destination}
    modes = table.server.call("GET", "/streams", params=params)[0]["syncModes"]
    assert modes == ["full_refresh_overwrite", "full_refresh_append", "incremental_append"]
    table.server.call("GET", "/streams", expect=400)
    table.server.call("GET", "/streams", expect=404, params={"sourceId": str(uuid4())})


class TestJobs:
    def test_shape(self, table: Bench) -> None:
        connection = table.connect(overwrite("t"))
        made = table.server.call("POST", "/jobs", json={"connectionId": connection, "jobType": "sync"})
        assert made["status"] == "pending"
        assert set(made) == {"jobId", "status", "jobType", "startTime", "connectionId", "bytesSynced", "rowsSynced"}
        table.server.wait(made["jobId"])
        done = table.server.call("GET", f"/jobs/{made['jobId']}")
        assert set(done) == set(made) | {"lastUpdatedAt", "duration"}
        assert isinstance(done["jobId"], int)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", done["startTime"])
        assert re.fullmatch(r"PT(\d+H)?(\d+M)?(\d+S)?", done["duration"])
        problem = table.server.call("DELETE", f"/jobs/{made['jobId']}", expect=409)
        assert (problem["title"], problem["data"]) == ("state-conflict", {"message": "Job is not currently running"})

    def test_types(self, table: Bench) -> None:
        connection = table.connect(overwrite("t"))
        problem = table.server.call(
            "POST", "/jobs", expect=422, json={"connectionId": connection, "jobType": "refresh"}
        )
        assert problem["data"]["message"] == "Refreshes are not supported in the public API"
        table.server.call("POST", "/jobs", expect=400, json={"connectionId": connection, "jobType": "dance"})
        table.server.call("POST", "/jobs", expect=400, json={"connectionId": "x", "jobType": "sync"})
        table.server.call("POST", "/jobs", expect=400, content=b"{")

    def test_listing(self, table: Bench) -> None:
        connection = table.connect(overwrite("t"))
        done = [table.server.sync(connection)["jobId"] for _ in range(3)]
        server = table.server

        def found(**params: Any) -> list[int]:
            page = server.call("GET", "/jobs", params={"connectionId": connection, **params})
            return [job["jobId"] for job in page["data"]]

        assert found() == done[::-1], "the newest first"
        assert found(orderBy="createdAt|ASC") == done
        assert found(orderBy="updatedAt|DESC", limit=1) == done[-1:]
        assert found(status="succeeded", jobType="sync") == done[::-1]
        assert found(status="failed") == found(jobType="reset") == []
        assert found(workspaceIds=str(uuid4())) == []
        assert found(workspaceIds=server.workspace()) == done[::-1]
        assert found(createdAtStart="2020-01-01T00:00:00Z", createdAtEnd="2099-01-01T00:00:00Z") == done[::-1]
        assert found(updatedAtEnd="2020-01-01T00:00:00Z") == []
        wrong: list[dict[str, Any]] = [
            {"orderBy": "id|ASC"},
            {"orderBy": "createdAt"},
            {"status": "dancing"},
            {"jobType": "x"},
            {"limit": 0},
            {"limit": 101},
            {"offset": -1},
            {"createdAtStart": "yesterday"},
        ]
        for bad in wrong:
            assert server.call("GET", "/jobs", expect=400, params=bad)["title"] == "bad-request"

    def test_paging_ends_with_an_empty_page(self, table: Bench) -> None:
        connection = table.connect(overwrite("t"))
        done = [table.server.sync(connection)["jobId"] for _ in range(3)]
        params = {"connectionId": connection, "limit": 2, "orderBy": "createdAt|ASC"}
        page = table.server.call("GET", "/jobs", params=params)
        assert page["previous"] == ""
        seen = []
        pages = 0
        while page["next"]:
            pages += 1
            seen += [job["jobId"] for job in page["data"]]
            page = table.server.call("GET", page["next"])
        assert (seen, pages, page["data"]) == (done, 2, []), "next is a whole URL that keeps the filters"
        assert "offset=2" in page["previous"]


class TestFaults:
    def test_replies_on_demand(self, bench: Bench) -> None:
        rules = [
            {"method": "GET", "path": "/jobs", "action": "status", "status": 503, "times": 2},
            {"method": "GET", "path": "/jobs", "action": "status", "status": 401},
            {"method": "GET", "path": "/jobs", "action": "status", "status": 429},
        ]
        bench.server.faults(http=rules)
        replies = [bench.server.client.get(f"{bench.server.base}/jobs").status_code for _ in range(5)]
        assert replies == [503, 503, 401, 429, 200]

    def test_a_lost_reply_has_acted(self, table: Bench) -> None:
        connection = table.connect(overwrite("t"))
        table.server.faults(http=[{"method": "POST", "path": "/jobs", "action": "lost_reply"}])
        body = {"connectionId": connection, "jobType": "sync"}
        with pytest.raises(httpx.TransportError):
            table.server.client.post(f"{table.server.base}/jobs", json=body)
        (job,) = table.server.call("GET", "/jobs", params={"connectionId": connection})["data"]
        assert table.server.wait(job["jobId"])["status"] == "succeeded"

    def test_a_slow_create_and_a_hang(self, table: Bench) -> None:
        connection = table.connect(overwrite("t"))
        table.server.faults(
            http=[
                {"method": "POST", "path": "/jobs", "action": "slow_reply", "seconds": 30},
                {"method": "GET", "path": "/health", "action": "hang"},
            ]
        )
        body = {"connectionId": connection, "jobType": "sync"}
        with pytest.raises(httpx.ReadTimeout):
            table.server.client.post(f"{table.server.base}/jobs", json=body, timeout=1)
        assert len(table.server.call("GET", "/jobs", params={"connectionId": connection})["data"]) == 1
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{table.server.base}/health", timeout=0.3)
        assert httpx.get(f"{table.server.base}/health").status_code == 200

    def test_off_by_default(self, own_bench: Bench) -> None:
        server = own_bench.server.start(faults=None)
        server.call("PUT", f"{server.extension}/faults", expect=404, json={})


def test_settings_that_are_missing_are_named() -> None:
    run = subprocess.run(
        [embedded_python(), "-m", "embedded.replication"],
        cwd=PROJECT,
        env={},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert "LAKEHOUSE_REPLICATION_CLIENT_SECRET is not set" in run.stderr
