"""Sources of other people through the Airbyte protocol: types, states, failures, secrets, and the end of processes."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from psycopg.rows import dict_row

from tests.embedded.replication import scripted
from tests.embedded.replication.capture import Speed
from tests.embedded.replication.harness import NO_FAULTS, PROJECT, Bench, Lake, Server, Source, new_database, until

IDS = {"id": {"type": "integer"}}
AMOUNT = {"type": "number"}


@pytest.fixture(scope="module")
def connectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("connectors")
    scripted.install(folder)
    return folder


@pytest.fixture(scope="module")
def connector_server(
    platform_postgres: Any, connectors: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("connector-server")
    (folder / "scratch").mkdir(mode=0o700)
    with new_database(platform_postgres.superuser_dsn) as url:
        server = Server(url, folder / "server.log")
        server.start(
            connectors=str(connectors), scratch=str(folder / "scratch"), checkpoint_seconds="0", max_attempts="3"
        )
        yield server
        server.stop()
        assert list((folder / "scratch").iterdir()) == [], "nothing is left when the server stops"


@dataclass
class Place:
    """A server and a prefix of the bucket; the source is whatever the connector makes up."""

    server: Server
    lake: Lake


@pytest.fixture
def bench(connector_server: Server, object_store: Any) -> Place:
    return Place(connector_server, Lake(object_store))


@pytest.fixture
def own_bench(platform_postgres: Any, object_store: Any, tmp_path: Path) -> Iterator[Place]:
    """The same with a server that is not started yet, and that a test may kill."""
    (tmp_path / "scratch").mkdir(mode=0o700)
    with new_database(platform_postgres.superuser_dsn) as url:
        server = Server(url, tmp_path / "server.log")
        yield Place(server, Lake(object_store))
        server.stop()


def connect(
    bench: Place,
    configuration: dict[str, Any],
    *streams: dict[str, Any],
    destination: dict[str, Any] | None = None,
    **options: Any,
) -> str:
    workspace = bench.server.workspace()
    source = {"name": "scripted", "workspaceId": workspace, "configuration": configuration}
    lake = {"name": "lake", "workspaceId": workspace, "configuration": destination or bench.lake.configuration()}
    body = {
        "sourceId": bench.server.call("POST", "/sources", json=source)["sourceId"],
        "destinationId": bench.server.call("POST", "/destinations", json=lake)["destinationId"],
        "namespaceDefinition": "custom_format",
        "namespaceFormat": "api",
        "configurations": {"streams": list(streams)},
        **options,
    }
    return str(bench.server.call("POST", "/connections", json=body)["connectionId"])


def incremental(name: str) -> dict[str, Any]:
    return {"name": name, "syncMode": "incremental_append"}


def ids(bench: Place, stream: str, job: dict[str, Any]) -> list[int]:
    return sorted(row["id"] for row in bench.lake.rows(f"api/{stream}", [job["jobId"]]))


TYPED = {
    **IDS,
    "flag": {"type": ["null", "boolean"]},
    "amount": {"type": "number"},
    "exact": {"type": "string", "airbyte_type": "big_number"},
    "text": {"type": "string"},
    "at": {"type": "string", "format": "date-time", "airbyte_type": "timestamp_with_timezone"},
    "day": {"type": "string", "format": "date"},
    "time": {"type": "string", "format": "time"},
    "free": {"type": "object"},
    "either": {"type": ["string", "integer"]},
    "list": {"type": "array", "items": {"type": "integer"}},
    "address": {
        "type": "object",
        "properties": {"zip": {"type": "string"}, "since": {"type": "string", "format": "date-time"}},
    },
}  # fmt: skip


def test_what_postgres_cannot_hold_is_taken_out_and_named(bench: Place, platform_postgres: Any, tmp_path: Path) -> None:
    nested = {"type": "object", "properties": {"zip": {"type": "string"}, "sizes": {"type": "array", "items": AMOUNT}}}
    properties = {**IDS, "text": {"type": "string"}, "place": nested}
    rows: list[dict[str, Any]] = [
        {"id": 1, "text": "a\0b", "place": {"zip": "\0", "sizes": [math.inf, 1.5, None]}},
        {"id": 2, "text": "b", "place": {"zip": "1"}},
    ]
    steps = [
        {"raw": json.dumps({"type": "RECORD", "record": {"stream": "odd", "data": row, "emitted_at": 1}}) + "\n"}
        for row in rows
    ]
    configuration = scripted.configuration(tmp_path, [scripted.stream("odd", properties)], steps)
    with (
        new_database(platform_postgres.superuser_dsn) as url,
        psycopg.connect(url, autocommit=True, row_factory=dict_row) as db,
    ):
        target = Speed(url, db).configuration()
        target.pop("applied_lsn_table")
        bench.server.sync(connect(bench, configuration, incremental("odd"), destination=target))
        first, second = db.execute("select * from api.odd order by id").fetchall()
    assert (first["text"], first["place"]) == ("ab", {"zip": "", "sizes": [None, 1.5, None]})
    assert (second["text"], second["place"]) == ("b", {"zip": "1", "sizes": None})
    changes = {(item["field"], item["change"]) for item in first["_airbyte_meta"]["changes"]}
    assert changes == {("text", "TRUNCATED"), ("place.zip", "TRUNCATED"), ("place.sizes", "NULLED")}
    assert second["_airbyte_meta"]["changes"] == []


def test_types_are_exact_and_what_is_not_is_named(bench: Place, tmp_path: Path) -> None:
    rows = [
        '{"id":9223372036854775807,"flag":true,"amount":0.1,"exact":12345678901234567890.123,"text":"é","at":"2026-01-01T00:00:00",'
        '"day":"2026-01-02","time":"01:02:03.5","free":{"a":[1.10,null]},"either":3,"list":[1,null],'
        '"address":{"zip":"1","since":"2026-01-01T01:00:00+01:00","other":1}}',
        '{"id":2,"amount":"NaN","at":"2026-01-01T00:00:00.123456+02:00","either":"x","free":"text","address":{"zip":7}}',
        '{"id":3,"amount":-Infinity,"at":"2026-01-01T00:00:00.1234567Z","list":["x"],"address":"none"}',
        '{"id":4.0,"amount":0.12345678901234567891,"flag":"maybe","day":"2026-02-30","address":{"since":"soon"}}',
    ]
    steps = [
        {"raw": f'{{"type":"RECORD","record":{{"stream":"typed","data":{row},"emitted_at":1795455052018}}}}\n'}
        for row in rows
    ]
    configuration = scripted.configuration(tmp_path, [scripted.stream("typed", TYPED)], steps)
    job = bench.server.sync(connect(bench, configuration, incremental("typed")))
    (key,) = bench.lake.objects("api/typed")
    schema = bench.lake.file(key).schema_arrow
    zoned = pa.timestamp("us", "UTC")
    assert schema.field("at").type == zoned
    assert schema.field("amount").type == pa.float64()
    assert schema.field("address").type == pa.struct([("zip", pa.string()), ("since", zoned)])
    first, second, third, fourth = bench.lake.rows("api/typed", [job["jobId"]])
    midnight = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    assert (first["id"], first["amount"], first["at"]) == (2**63 - 1, 0.1, midnight)
    assert Decimal(first["exact"]) == Decimal("12345678901234567890.123")
    assert (first["day"], first["time"]) == (dt.date(2026, 1, 2), dt.time(1, 2, 3, 500000))
    assert first["free"] == '{"a":[1.10,null]}'
    assert first["address"] == {"zip": "1", "since": midnight}
    assert (first["either"], second["either"], second["free"]) == ("3", '"x"', '"text"')
    assert first["_airbyte_meta"]["changes"] == []
    assert math.isnan(second["amount"])
    assert third["amount"] == -math.inf
    assert second["at"] == midnight - dt.timedelta(hours=2) + dt.timedelta(microseconds=123456)
    assert second["address"] == {"zip": "7", "since": None}
    changes = [
        {(change["field"], change["change"]) for change in row["_airbyte_meta"]["changes"]} for row in (third, fourth)
    ]
    assert changes == [
        {("at", "TRUNCATED"), ("list", "NULLED"), ("address", "NULLED")},
        {("amount", "TRUNCATED"), ("flag", "NULLED"), ("day", "NULLED"), ("address.since", "NULLED")},
    ]
    assert first["_airbyte_extracted_at"] == dt.datetime.fromtimestamp(1795455052.018, dt.UTC)
    assert job["streams"][0]["nulled"] == 7


def test_odd_lines_and_records(bench: Place, tmp_path: Path) -> None:
    steps = [
        {"raw": "Traceback (most recent call last):\n"},
        {"records": "odd", "rows": [{"id": 1}], "at": 1795455052018.75},
        {"raw": '{"type": "RECORD", "record": {"emitted_at": 1795455052018, "data": {"id": 2}, "stream": "odd"}}\n'},
        {"raw": '{"type":"RECORD","record":{"stream":"odd","data":{"id":3},"emitted_at":1,"meta":{"changes":'
                '[{"field":"x","change":"NULLED","reason":"SOURCE_RETRIEVAL_ERROR"}]}}}\n'},
        {"records": "odd", "rows": [{"id": 4, "note": ',"emitted_at":5}}'}]},
        {"say": {"type": "LOG", "log": {"level": "WARN", "message": "careful"}}},
        {"say": {"type": "SOMETHING_NEW"}},
        {"raw": '{"type":"RECORD","record":{"stream":"odd","data":{"id":5'},
    ]  # fmt: skip
    streams = [scripted.stream("odd", {**IDS, "note": {"type": "string"}})]
    job = bench.server.sync(connect(bench, scripted.configuration(tmp_path, streams, steps), incremental("odd")))
    assert ids(bench, "odd", job) == [1, 2, 3, 4], "a last line that was cut off is no record"
    rows = {row["id"]: row for row in bench.lake.rows("api/odd", [job["jobId"]])}
    assert rows[3]["_airbyte_meta"]["changes"][0]["reason"] == "SOURCE_RETRIEVAL_ERROR"
    assert rows[4]["note"] == ',"emitted_at":5}}'
    lines = bench.server.log_lines(job["jobId"])
    assert any("Traceback" in line for line in lines)
    assert any("careful" in line for line in lines)


def test_a_garbled_message_is_a_failure_with_a_hint(bench: Place, tmp_path: Path) -> None:
    steps = [{"records": "s", "rows": [{"id": 1}]}, {"raw": '{"t****pe":"TRACE"}\n'}]
    configuration = scripted.configuration(tmp_path, [scripted.stream("s", IDS)], steps)
    job = bench.server.sync(connect(bench, configuration, incremental("s")), expect="failed")
    assert "use a longer one" in job["failureReason"]["message"]
    assert bench.lake.objects() == []


def test_states_are_handed_back(bench: Place, tmp_path: Path) -> None:
    first = [
        {"records": "a", "rows": [{"id": 1}]},
        {"state": "a", "is": {"after": 1}},
        {"records": "b", "rows": [{"id": 7}]},
    ]
    second = [{"records": "a", "rows": [{"id": 2}]}, {"state": "a", "is": {"after": 2}}]
    streams = [scripted.stream("a", IDS), scripted.stream("b", IDS, incremental=False)]
    configuration = scripted.configuration(tmp_path, streams, first, second)
    connection = connect(bench, configuration, incremental("a"), {"name": "b", "syncMode": "full_refresh_overwrite"})
    bench.server.sync(connection)
    assert scripted.notes(tmp_path)["state"] is None
    given = scripted.notes(tmp_path)["catalog"]["streams"]
    assert [(item["sync_mode"], item["cursor_field"]) for item in given] == [
        ("incremental", ["id"]),
        ("full_refresh", []),
    ]
    job = bench.server.sync(connection)
    descriptor = {"stream_descriptor": {"name": "a"}, "stream_state": {"after": 1}}
    assert scripted.notes(tmp_path)["state"] == [{"type": "STREAM", "stream": descriptor}]
    assert ids(bench, "a", job) == [2]
    assert bench.server.state(connection)["a"]["cursor"] == {"airbyte": {"after": 2}}
    assert bench.server.state(connection)["b"]["generationId"] == 2


def test_a_global_state_is_handed_back(bench: Place, tmp_path: Path) -> None:
    shared = {"shared_state": {"lsn": 5}, "stream_states": []}
    steps = [
        {"records": "a", "rows": [{"id": 1}]},
        {"say": {"type": "STATE", "state": {"type": "GLOBAL", "global": shared}}},
    ]
    configuration = scripted.configuration(tmp_path, [scripted.stream("a", IDS)], steps)
    connection = connect(bench, configuration, incremental("a"))
    bench.server.sync(connection)
    bench.server.sync(connection)
    assert scripted.notes(tmp_path)["state"] == [{"type": "GLOBAL", "global": shared}]


def test_a_stream_without_news_stays_where_it_was(bench: Place, tmp_path: Path) -> None:
    """No STATE came: in a sync of its own, and in an attempt that goes on from what was kept."""
    many = {"records": "a", "rows": [{"id": i} for i in range(5000)]}
    broken = [many, {"state": "a", "is": {"after": 4999}}, {"exit": 1}]
    configuration = scripted.configuration(tmp_path, [scripted.stream("a", IDS)], broken, [])
    connection = connect(bench, configuration, incremental("a"))
    job = bench.server.sync(connection)
    assert (len(job["attempts"]), job["rowsSynced"]) == (2, 5000)
    for _ in range(2):
        assert bench.server.sync(connection)["rowsSynced"] == 0
        assert scripted.notes(tmp_path)["state"][0]["stream"]["stream_state"] == {"after": 4999}
    assert bench.server.state(connection)["a"]["cursor"] == {"airbyte": {"after": 4999}}


def refresh(bench: Place, connection: str, *streams: str, expect: int = 200) -> dict[str, Any]:
    body = {"mode": "truncate", "streams": [{"name": name} for name in streams]}
    url = f"{bench.server.extension}/connections/{connection}/refresh"
    reply: dict[str, Any] = bench.server.call("POST", url, expect=expect, json=body)
    return bench.server.wait(reply["jobId"]) if expect == 200 else reply


def entry(name: str, **state: int) -> dict[str, Any]:
    return {"stream_descriptor": {"name": name}, "stream_state": state}


def test_a_stream_is_refreshed_without_its_part_of_a_global_state(bench: Place, tmp_path: Path) -> None:
    shared = {"shared_state": {"lsn": 5}, "stream_states": [entry("a", done=1), entry("b", done=1)]}
    steps = [
        {"records": "a", "rows": [{"id": 1}]},
        {"records": "b", "rows": [{"id": 1}]},
        {"say": {"type": "STATE", "state": {"type": "GLOBAL", "global": shared}}},
    ]
    configuration = scripted.configuration(tmp_path, [scripted.stream("a", IDS), scripted.stream("b", IDS)], steps)
    connection = connect(bench, configuration, incremental("a"), incremental("b"))
    bench.server.sync(connection)
    assert refresh(bench, connection, "a")["status"] == "succeeded"
    assert scripted.notes(tmp_path)["state"] == [
        {"type": "GLOBAL", "global": {**shared, "stream_states": [entry("b", done=1)]}}
    ]
    bench.server.sync(connection)
    assert scripted.notes(tmp_path)["state"] == [{"type": "GLOBAL", "global": shared}]
    assert refresh(bench, connection, "a", "b")["status"] == "succeeded"
    assert scripted.notes(tmp_path)["state"] is None


def test_a_state_of_all_streams_together_is_refreshed_whole(bench: Place, tmp_path: Path) -> None:
    steps = [{"records": "a", "rows": [{"id": 1}]}, {"say": {"type": "STATE", "state": {"data": {"after": 1}}}}]
    configuration = scripted.configuration(tmp_path, [scripted.stream("a", IDS), scripted.stream("b", IDS)], steps)
    connection = connect(bench, configuration, incremental("a"), incremental("b"))
    bench.server.sync(connection)
    bench.server.sync(connection)
    assert scripted.notes(tmp_path)["state"] == {"after": 1}
    assert "one state for all its streams" in str(refresh(bench, connection, "a", expect=400))


def test_what_was_kept_is_not_read_again(bench: Place, tmp_path: Path) -> None:
    """Rows before the last state stay, rows after it are undone and read again; all appear with the job's success."""
    many = [{"id": i} for i in range(5000)]
    broken = [
        {"records": "a", "rows": many}, {"state": "a", "is": {"after": 4999}},
        {"records": "a", "rows": [{"id": 5000}]},
        scripted.error("the network is gone", "transient_error"), {"exit": 1},
    ]  # fmt: skip
    rest = [{"records": "a", "rows": [{"id": 5000}, {"id": 5001}]}, {"state": "a", "is": {"after": 5001}}]
    configuration = scripted.configuration(tmp_path, [scripted.stream("a", IDS)], broken, rest)
    connection = connect(bench, configuration, incremental("a"))
    job = bench.server.sync(connection)
    assert [attempt["status"] for attempt in job["attempts"]] == ["failed", "succeeded"]
    assert job["attempts"][0]["failureReason"] == {
        "origin": "source", "type": "transient_error", "message": "the network is gone",
    }  # fmt: skip
    assert scripted.notes(tmp_path)["state"][0]["stream"]["stream_state"] == {"after": 4999}
    assert ids(bench, "a", job) == list(range(5002))
    assert job["rowsSynced"] == 5002
    assert bench.lake.uploads() == []


def test_streams_that_take_turns_keep_no_row_beyond_their_state(bench: Place, tmp_path: Path) -> None:
    """At the state of `a`, `b` has gone on since its own, `c` is over likewise, and `d` has ended with its state."""
    a, b, c, d = ([{"id": i} for i in range(count)] for count in (10_000, 5_500, 4_600, 10))
    broken = [
        {"records": "d", "rows": d}, {"state": "d", "is": {"after": 9}}, scripted.status("d", "COMPLETE"),
        {"records": "c", "rows": c[:4500]}, {"state": "c", "is": {"after": 4499}},
        {"records": "c", "rows": c[4500:]}, scripted.status("c", "COMPLETE"),
        {"records": "b", "rows": b[:5000]}, {"state": "b", "is": {"after": 4999}},
        {"records": "b", "rows": b[5000:5400]},
        {"records": "a", "rows": a[:5000]}, {"state": "a", "is": {"after": 4999}},
        {"exit": 1},
    ]  # fmt: skip
    rest = [
        {"records": "c", "rows": c[4500:]}, {"state": "c", "is": {"after": 4599}},
        {"records": "b", "rows": b[5000:]}, {"state": "b", "is": {"after": 5499}},
        {"records": "a", "rows": a[5000:]}, {"state": "a", "is": {"after": 9999}},
    ]  # fmt: skip
    streams = [scripted.stream(name, IDS) for name in "abcd"]
    configuration = scripted.configuration(tmp_path, streams, broken, rest)
    wanted = [incremental(name) for name in "acd"]
    connection = connect(bench, configuration, *wanted, {"name": "b", "syncMode": "full_refresh_overwrite"})
    job = bench.server.sync(connection)
    assert [attempt["status"] for attempt in job["attempts"]] == ["failed", "succeeded"]
    given = {
        item["stream"]["stream_descriptor"]["name"]: item["stream"]["stream_state"]["after"]
        for item in scripted.notes(tmp_path)["state"]
    }
    assert given == {"a": 4999, "b": 4999, "c": 4499, "d": 9}
    for name, rows in {"a": a, "b": b, "c": c, "d": d}.items():
        assert ids(bench, name, job) == [row["id"] for row in rows], name
    assert job["rowsSynced"] == sum(map(len, (a, b, c, d)))


@pytest.mark.faults
def test_a_failed_job_keeps_nothing(bench: Place, tmp_path: Path) -> None:
    steps = [
        {"records": "a", "rows": [{"id": i} for i in range(5000)]},
        {"state": "a", "is": {"after": 1}},
        {"exit": 1},
    ]
    configuration = scripted.configuration(tmp_path, [scripted.stream("a", IDS)], steps)
    connection = connect(bench, configuration, incremental("a"))
    job = bench.server.sync(connection, expect="failed")
    assert len(job["attempts"]) > 3, "attempts that make progress are more"
    assert "ended with code 1" in job["failureReason"]["message"]
    until(lambda: not bench.lake.uploads() and not bench.lake.objects(), "everything is undone")
    assert bench.server.state(connection) == {}


def test_a_configuration_error_is_not_retried(bench: Place, tmp_path: Path) -> None:
    steps = [scripted.error("the token has expired", "config_error"), {"exit": 1}]
    configuration = scripted.configuration(tmp_path, [scripted.stream("a", IDS)], steps)
    job = bench.server.sync(connect(bench, configuration, incremental("a")), expect="failed")
    assert len(job["attempts"]) == 1
    assert job["failureReason"]["message"] == "the token has expired"
    assert any("a trace" in line for line in bench.server.log_lines(job["jobId"]))


def test_a_stream_that_is_not_complete_is_a_failure(bench: Place, tmp_path: Path) -> None:
    steps = [scripted.status("a", "STARTED"), {"records": "a", "rows": [{"id": 1}]}, scripted.status("a", "INCOMPLETE")]
    configuration = scripted.configuration(tmp_path, [scripted.stream("a", IDS)], steps)
    job = bench.server.sync(connect(bench, configuration, incremental("a")), expect="failed")
    assert "without completing a" in job["failureReason"]["message"]


def test_secrets_stay_where_they_belong(bench: Place, tmp_path: Path) -> None:
    steps = [{"raw": "my key is a-real-secret\n"}, {"records": "a", "rows": [{"id": 1}]}]
    configuration = scripted.configuration(tmp_path, [scripted.stream("a", IDS)], steps)
    configuration["login"] = {"key": "a-real-secret"}
    connection = connect(bench, configuration, incremental("a"))
    job = bench.server.sync(connection)
    given = scripted.notes(tmp_path)
    assert given["modes"] == {"--config": "0o600", "--catalog": "0o600"}
    assert "a-real-secret" not in json.dumps([given["arguments"], given["environment"]])
    assert not [name for name in given["environment"] if name.startswith("LAKEHOUSE")]
    assert not os.path.exists(given["folder"])
    assert "a-real-secret" not in str(bench.server.log_lines(job["jobId"]))
    source = bench.server.call("GET", f"/connections/{connection}")["sourceId"]
    shown = bench.server.call("GET", f"/sources/{source}")
    assert shown["configuration"]["login"] == {"key": "**********"}
    assert "sourceType" not in shown["configuration"], "the SDK could not read a type it does not know"
    assert shown["sourceType"] == "scripted"
    kept = shown["configuration"]
    bench.server.call("PATCH", f"/sources/{source}", json={"configuration": kept})
    bench.server.sync(connection)
    assert bench.server.call("GET", f"/sources/{source}")["configuration"] == kept


@pytest.mark.parametrize(("secret", "words"), [("abc", "at least 5"), ("stream", "ordinary word")])
def test_a_secret_that_would_tear_messages_apart(bench: Place, tmp_path: Path, secret: str, words: str) -> None:
    configuration = {**scripted.configuration(tmp_path, []), "login": {"key": secret}}
    body = {"name": "s", "workspaceId": bench.server.workspace(), "configuration": configuration}
    problem = bench.server.call("POST", "/sources", expect=422, json=body)
    assert "login.key" in problem["data"]["message"]
    assert words in problem["data"]["message"]


def test_a_configuration_is_checked_against_the_specification(bench: Place) -> None:
    body = {
        "name": "s",
        "workspaceId": bench.server.workspace(),
        "configuration": {"sourceType": "scripted", "runs": 3},
    }
    problem = bench.server.call("POST", "/sources", expect=422, json=body)
    assert "needs streams" in problem["data"]["message"]
    assert "runs: must fit type 'array'" in problem["data"]["message"]


def test_a_connector_that_is_not_installed(bench: Place) -> None:
    known = {
        item["sourceType"]: item for item in bench.server.call("GET", f"{bench.server.extension}/connectors")["data"]
    }
    assert known["scripted"]["installed"]
    assert {"faker", "hardcoded-records", "s3", "file"} <= known.keys()
    assert "make connector NAME=source-s3" in known["s3"]["message"]
    body = {"name": "s", "workspaceId": bench.server.workspace(), "configuration": {"sourceType": "s3"}}
    problem = bench.server.call("POST", "/sources", expect=422, json=body)
    assert "make connector NAME=source-s3" in problem["data"]["message"]


def test_check_discover_and_the_streams_of_a_source(bench: Place, tmp_path: Path) -> None:
    configuration = scripted.configuration(tmp_path, [scripted.stream("a", IDS)], [])
    workspace = bench.server.workspace()
    body = {"name": "s", "workspaceId": workspace, "definitionId": "8e7a2f5a-0a52-4a1c-8a4e-0d0f2f9d7c11"}
    plain = {key: value for key, value in configuration.items() if key != "sourceType"}
    source = bench.server.call("POST", "/sources", json={**body, "configuration": plain})["sourceId"]
    check = f"{bench.server.extension}/sources/{source}/check"
    assert bench.server.call("POST", check)["status"] == "succeeded"
    (stream,) = bench.server.call("GET", "/streams", params={"sourceId": source})
    assert (stream["streamName"], stream["sourceDefinedCursorField"]) == ("a", True)
    assert (stream["defaultCursorField"], stream["sourceDefinedPrimaryKey"]) == (["id"], [["id"]])
    refused = {"check": {"status": "FAILED", "message": "no such account"}}
    bench.server.call("PATCH", f"/sources/{source}", json={"configuration": refused})
    assert bench.server.call("POST", check) == {"status": "failed", "message": "no such account"}


def test_a_changed_configuration_is_kept(bench: Place, tmp_path: Path) -> None:
    """A refreshed token that can be used once only must not be lost."""
    configuration = scripted.configuration(tmp_path, [scripted.stream("a", IDS)], [])
    plain = {key: value for key, value in configuration.items() if key != "sourceType"}
    control = {"type": "CONNECTOR_CONFIG", "connectorConfig": {"config": {**plain, "login": {"key": "a-newer-secret"}}}}
    configuration["runs"] = [[{"say": {"type": "CONTROL", "control": {**control, "emitted_at": 1}}}]]
    connection = connect(bench, configuration, incremental("a"))
    bench.server.sync(connection)
    source = bench.server.call("GET", f"/connections/{connection}")["sourceId"]
    assert bench.server.call("GET", f"/sources/{source}")["configuration"]["login"] == {"key": "**********"}


def rotated(configuration: dict[str, Any], key: str) -> dict[str, Any]:
    plain = {name: value for name, value in configuration.items() if name not in ("sourceType", "says")}
    changed = {"config": {**plain, "login": {"key": key}}}
    control = {"type": "CONNECTOR_CONFIG", "connectorConfig": changed, "emitted_at": 1}
    return {"type": "CONTROL", "control": control}


def test_a_token_that_check_or_discover_changed_is_kept(bench: Place, tmp_path: Path) -> None:
    """What a sync discovers with, it reads with."""
    configuration = scripted.configuration(tmp_path, [scripted.stream("a", IDS)], [])
    saying = {**configuration, "says": {"discover": [rotated(configuration, "second-secret")]}}
    connection = connect(bench, saying, incremental("a"))
    bench.server.sync(connection)
    assert scripted.notes(tmp_path)["login"] == {"key": "second-secret"}
    source = bench.server.call("GET", f"/connections/{connection}")["sourceId"]
    says = {"check": [rotated(configuration, "third-secret")]}
    bench.server.call("PATCH", f"/sources/{source}", json={"configuration": {"says": says}})
    bench.server.call("POST", f"{bench.server.extension}/sources/{source}/check")
    bench.server.sync(connection)
    assert scripted.notes(tmp_path)["login"] == {"key": "third-secret"}
    says = {"discover": [rotated(configuration, "fourth-secret")]}
    bench.server.call("PATCH", f"/sources/{source}", json={"configuration": {"says": says}})
    bench.server.sync(connection)
    assert scripted.notes(tmp_path)["login"] == {"key": "fourth-secret"}


def test_a_token_that_was_changed_stays_out_of_the_log(bench: Place, tmp_path: Path) -> None:
    configuration = scripted.configuration(tmp_path, [scripted.stream("a", IDS)], [])
    message = json.dumps(rotated(configuration, "a-newer-secret"))  # as text: no secret of the first configuration
    steps = [{"raw": f"{message}\n"}, {"raw": "my key is a-newer-secret\n"}]
    job = bench.server.sync(connect(bench, {**configuration, "runs": [steps]}, incremental("a")))
    lines = bench.server.log_lines(job["jobId"])
    assert any("my key is" in line for line in lines)
    assert "a-newer-secret" not in str(lines)


def test_schema_changes_of_a_connector(bench: Place, tmp_path: Path) -> None:
    steps = [{"records": "a", "rows": [{"id": 1, "note": "n"}]}]
    configuration = scripted.configuration(tmp_path, [scripted.stream("a", IDS)], steps)
    options: dict[str, Any] = {"nonBreakingSchemaUpdatesBehavior": "propagate_columns"}
    connection = connect(bench, configuration, incremental("a"), **options)
    source = bench.server.call("GET", f"/connections/{connection}")["sourceId"]
    wider = {"streams": [scripted.stream("a", {**IDS, "note": {"type": "string"}})]}
    bench.server.call("PATCH", f"/sources/{source}", json={"configuration": wider})
    job = bench.server.sync(connection)
    assert bench.lake.rows("api/a", [job["jobId"]])[0]["note"] == "n"
    other_key = {"streams": [{**wider["streams"][0], "source_defined_primary_key": [["note"]]}]}
    bench.server.call("PATCH", f"/sources/{source}", json={"configuration": other_key})
    failed = bench.server.sync(connection, expect="failed")
    assert "primary key of a changed from id to note" in failed["failureReason"]["message"]
    assert bench.server.call("GET", f"/connections/{connection}")["status"] == "inactive"
    assert bench.lake.rows("api/a", [job["jobId"]]), "nothing is ever deleted by a change of schema"


def stubborn(bench: Place, folder: Path) -> tuple[int, list[int], Path]:
    """A job whose connector ignores SIGTERM and has a child outside its group: its id, their pids, its folder."""
    steps = [{"orphan": str(folder / "pids")}, {"wait": str(folder / "never")}]
    configuration = scripted.configuration(folder, [scripted.stream("a", IDS)], steps)
    job_id = bench.server.submit(connect(bench, configuration, incremental("a")))
    until((folder / "pids").exists, "the connector runs")
    pids = [int(pid) for pid in (folder / "pids").read_text().split()]
    return job_id, pids, Path(scripted.notes(folder)["folder"])


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="looks at processes through /proc")
def test_cancelling_ends_the_whole_process_tree(bench: Place, tmp_path: Path) -> None:
    job_id, pids, folder = stubborn(bench, tmp_path)
    assert bench.server.call("DELETE", f"/jobs/{job_id}")["status"] == "cancelled"
    until(lambda: not any(map(scripted.alive, pids)), "the connector and its children are gone")
    until(lambda: not folder.exists(), "its files are removed")


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="looks at processes through /proc")
@pytest.mark.faults
def test_a_server_that_dies_takes_its_connectors_with_it(own_bench: Place, connectors: Path, tmp_path: Path) -> None:
    folders = {"scratch": str(tmp_path / "scratch"), "connectors": str(connectors)}
    server = own_bench.server.start(NO_FAULTS, **folders)
    _, pids, folder = stubborn(own_bench, tmp_path)
    server.kill()
    until(lambda: not any(map(scripted.alive, pids)), "the connector and its children are gone")
    server.start(NO_FAULTS, **folders)
    assert not folder.exists(), "the next server removes what the dead one left"


def test_a_silent_connector_is_given_up(own_bench: Place, connectors: Path, tmp_path: Path) -> None:
    server = own_bench.server.start(
        connectors=str(connectors), scratch=str(tmp_path / "scratch"), heartbeat_seconds="3", max_attempts="1"
    )
    steps = [{"records": "a", "rows": [{"id": 1}]}, {"wait": str(tmp_path / "never")}]
    configuration = scripted.configuration(tmp_path, [scripted.stream("a", IDS)], steps)
    job = server.sync(connect(own_bench, configuration, incremental("a")), expect="failed")
    assert job["failureReason"]["type"] == "transient_error"
    assert "sent nothing for" in job["failureReason"]["message"]


@pytest.mark.parametrize(
    "point",
    [
        "after_progress",
        *(
            pytest.param(point, marks=pytest.mark.faults)
            for point in ("after_snapshot", "after_read", "half_visible", "before_state")
        ),
    ],
)
def test_a_worker_that_dies_loses_and_doubles_nothing(
    own_bench: Place, connectors: Path, tmp_path: Path, point: str
) -> None:
    rule = {"point": point, "action": "crash", "attempt": 1}
    own_bench.server.start(
        {"sync": [rule]}, scratch=str(tmp_path / "scratch"), connectors=str(connectors), checkpoint_seconds="0"
    )
    many = [{"id": i} for i in range(5000)]
    whole = [
        {"records": "a", "rows": many}, {"state": "a", "is": {"after": 5000}},
        {"records": "a", "rows": [{"id": 5000}]}, {"state": "a", "is": {"after": 5001}},
    ]  # fmt: skip
    rest = {"after_progress": whole[2:], "after_read": []}  # the stream's last state is kept when it ends
    runs = [whole, rest.get(point, whole)]
    configuration = scripted.configuration(tmp_path, [scripted.stream("a", IDS)], *runs)
    job = own_bench.server.sync(connect(own_bench, configuration, incremental("a")))
    assert len(job["attempts"]) == 2
    assert ids(own_bench, "a", job) == list(range(5001))
    assert own_bench.lake.uploads() == []


FAKER = {
    "sourceType": "faker",
    "count": 30,
    "seed": 1,
    "records_per_slice": 10,
    "always_updated": False,
    "parallelism": 1,
}


def real(connectors: Path, name: str) -> None:
    """Install a real connector, unless it is, and let the server of this module see it."""
    subprocess.run(["make", "connector", f"NAME={name}"], cwd=PROJECT, check=True, capture_output=True)
    if not (connectors / name).exists():
        (connectors / name).symlink_to(PROJECT / ".venvs" / "connectors" / name)


def counts(job: dict[str, Any]) -> dict[str, int]:
    return {stream["name"]: stream["records"] for stream in job["streams"]}


def test_faker_into_bronze(bench: Place, connectors: Path, source_database: Source) -> None:
    """A real connector: its types, its states, and the columns that the PostgreSQL source gives for the same rows."""
    real(connectors, "source-faker")
    streams = [incremental("users"), {"name": "products", "syncMode": "full_refresh_overwrite"}]
    connection = connect(bench, FAKER, *streams)
    first = bench.server.sync(connection)
    assert counts(first) == {"users": 30, "products": 30}
    users = bench.lake.rows("api/users", [first["jobId"]])
    assert sorted(row["id"] for row in users) == list(range(1, 31))
    assert all(row["_airbyte_meta"]["changes"] == [] for row in users)
    assert isinstance(users[0]["address"]["city"], str)
    assert users[0]["created_at"].tzinfo is not None
    assert bench.server.state(connection)["users"]["cursor"]["airbyte"]
    second = bench.server.sync(connection)
    assert counts(second) == {"users": 0, "products": 30}
    products = bench.lake.rows("api/products", [second["jobId"]])

    source_database.reset()
    source_database.run(
        "create table shop.products (id bigint, make text, model text, year bigint, price float8,"
        " created_at timestamptz, updated_at timestamptz)"
    )
    names = ["id", "make", "model", "year", "price", "created_at", "updated_at"]
    for row in products:
        source_database.run("insert into shop.products values (%s, %s, %s, %s, %s, %s, %s)", *(row[n] for n in names))
    lake = Lake(bench.lake.store)
    table = Bench(bench.server, source_database, lake).connect({"name": "products"})
    job = bench.server.sync(table)
    (theirs,) = [file["key"] for file in bench.server.files(second["jobId"]) if file["name"] == "products"]
    (ours,) = lake.objects("shop/products")
    assert bench.lake.file(theirs).schema_arrow == lake.file(ours).schema_arrow
    copied = sorted(lake.rows("shop/products", [job["jobId"]]), key=lambda row: row["id"])
    assert [[row[n] for n in names] for row in copied] == [
        [row[n] for n in names] for row in sorted(products, key=lambda row: row["id"])
    ]


@pytest.mark.faults
def test_hardcoded_records(bench: Place, connectors: Path) -> None:
    real(connectors, "source-hardcoded-records")
    configuration = {"sourceType": "hardcoded-records", "count": 20_000}
    connection = connect(bench, configuration, {"name": "products"}, {"name": "dummy_fields"})
    job = bench.server.sync(connection)
    assert counts(job) == {
        "products": 20_000,
        "dummy_fields": 20_000,
    }
    source = bench.server.call("GET", f"/connections/{connection}")["sourceId"]
    assert bench.server.call("POST", f"{bench.server.extension}/sources/{source}/check")["status"] == "succeeded"


@pytest.mark.faults
def test_files(bench: Place, connectors: Path, tmp_path: Path) -> None:
    """source-file reads a CSV of this machine."""
    real(connectors, "source-file")
    (tmp_path / "prices.csv").write_text("id,price,name\n1,1.5,a\n2,,b\n")
    configuration = {
        "sourceType": "file",
        "dataset_name": "prices",
        "format": "csv",
        "url": str(tmp_path / "prices.csv"),
        "provider": {"storage": "local"},
    }
    job = bench.server.sync(connect(bench, configuration, {"name": "prices"}))
    rows = bench.lake.rows("api/prices", [job["jobId"]])
    assert sorted((row["id"], row["price"], row["name"]) for row in rows if row["price"]) == [(1, 1.5, "a")]
    assert len(rows) == 2


@pytest.mark.faults
def test_objects_of_s3(bench: Place, connectors: Path) -> None:
    """source-s3 reads JSON lines from the object store; a second sync finds nothing new."""
    real(connectors, "source-s3")
    lake = bench.lake.configuration()
    body = b'{"id": 1, "name": "a"}\n{"id": 2, "name": "b"}\n'
    bench.lake.s3.put_object(Bucket=bench.lake.bucket, Key=f"{bench.lake.path}/in/one.jsonl", Body=body)
    stream = {
        "name": "things", "globs": [f"{bench.lake.path}/in/*.jsonl"], "format": {"filetype": "jsonl"},
        "validation_policy": "Emit Record",
    }  # fmt: skip
    configuration = {
        "sourceType": "s3",
        "bucket": bench.lake.bucket,
        "aws_access_key_id": lake["access_key_id"],
        "aws_secret_access_key": lake["secret_access_key"],
        "endpoint": lake["s3_endpoint"],
        "streams": [stream],
    }
    connection = connect(bench, configuration, incremental("things"))
    job = bench.server.sync(connection)
    assert sorted((row["id"], row["name"]) for row in bench.lake.rows("api/things", [job["jobId"]])) == [
        (1, "a"),
        (2, "b"),
    ]
    again = bench.server.sync(connection)
    assert again["streams"][0]["records"] == 0
