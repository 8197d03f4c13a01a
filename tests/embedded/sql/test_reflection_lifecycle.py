"""Reflections over hours and days, over kills, and over one another. A server of its own: its clock is moved.

The kill comes first: a server that starts again is back in the present.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from pyiceberg.catalog.rest import RestCatalog

from tests.embedded.sql.process import Client, SqlProcess, rest_source, until
from tests.embedded.sql.test_reflections import aggregate, chosen, create, faults, materializations, settled, table

if TYPE_CHECKING:
    from embedded.object_store import ObjectStore

HOUR = 3600.0
WAIT = 240.0  # seconds: an upper bound for a loaded machine


@pytest.fixture(scope="module")
def aged(make_server: Callable[..., SqlProcess], object_store: ObjectStore, prefix: str) -> SqlProcess:
    server = make_server(FAULTS="{}").start()
    client = server.client()
    client.create(rest_source(object_store, "lake"))
    client.space("aged")
    return server


@pytest.fixture
def lake_of(prefix: str) -> str:
    return f"lake.{prefix}"


def later(server: SqlProcess, seconds: float) -> Client:
    """A client whose token is of the new time."""
    faults(server.client(), advance_clock=seconds)
    return server.client()


def keys(store: ObjectStore, reflection_id: str) -> list[str]:
    found = store.client("s3").list_objects_v2(Bucket="lakehouse-dist", Prefix=f"{reflection_id}/")
    return [item["Key"] for item in found.get("Contents", ())]


def done(client: Client, reflection_id: str, count: int) -> list[dict[str, Any]]:
    def probe() -> list[dict[str, Any]] | None:
        rows = materializations(client, reflection_id)
        good = [row for row in rows if row["state"] in ("DONE", "DEPRECATED", "DELETED")]
        return rows if len(good) >= count and rows[-1]["state"] == "DONE" else None

    return until(probe, f"{count} materializations", WAIT)


def test_a_kill_in_the_middle_of_a_refresh_leaves_nothing(
    aged: SqlProcess, object_store: ObjectStore, lake_of: str
) -> None:
    client = aged.client()
    dataset = table(client, lake_of, "killed")
    faults(client, refresh_hold=600)
    reflection_id = create(client, aggregate(dataset))
    until(lambda: any(key.endswith(".json") for key in keys(object_store, reflection_id)), "written files", WAIT)
    lost = {key.split("/")[1] for key in keys(object_store, reflection_id)}
    aged.kill()
    aged.start()
    client = aged.client()
    rows = done(client, reflection_id, 1)
    assert [row["state"] for row in rows] == ["FAILED", "DONE"]
    assert rows[0]["failure_msg"] == "The server stopped while the refresh was running"
    assert client.reflection(reflection_id)["status"]["failureCount"] == 0
    later(aged, HOUR)
    until(lambda: not lost & {k.split("/")[1] for k in keys(object_store, reflection_id)}, "a clean store", WAIT)
    assert keys(object_store, reflection_id)


def test_time_refreshes_expires_cleans_and_gives_up(aged: SqlProcess, object_store: ObjectStore, lake_of: str) -> None:
    client = aged.client()
    dataset = table(client, lake_of, "hourly")
    reflection_id = create(client, aggregate(dataset))
    done(client, reflection_id, 1)
    first = keys(object_store, reflection_id)
    client.run(f"insert into {lake_of}.hourly values (9, 'west', 9.00, date '2026-01-09')")
    # PERIOD, one hour by default; appended rows only are read, so the first file stays
    client = later(aged, HOUR + 60)
    done(client, reflection_id, 2)
    assert client.reflection(reflection_id)["status"]["refreshMethod"] == "INCREMENTAL"
    assert set(first) & set(keys(object_store, reflection_id))
    sql = f"select region, sum(amount) as s from {lake_of}.hourly group by region"
    assert chosen(client, sql) == [reflection_id]
    assert len(client.rows(sql)) == 3
    # 72 hours of failures are enough, however few; what was built expires meanwhile (three hours)
    faults(client, refresh_failures={"count": 10, "reason": "no"})
    client.http.post(f"/api/v3/catalog/{dataset['id']}/refresh")
    settled(client, reflection_id, lambda s: s["failureCount"] == 1)
    client = later(aged, 73 * HOUR)
    found = settled(client, reflection_id, lambda s: s["refresh"] == "GIVEN_UP")["status"]
    assert (found["failureCount"], found["combinedStatus"], found["availability"]) == (2, "FAILED", "NONE")
    assert chosen(client, sql) == []
    states = [row["state"] for row in materializations(client, reflection_id)]
    assert states == ["DEPRECATED", "DEPRECATED", "FAILED", "FAILED"]
    client = later(aged, HOUR)
    until(lambda: not keys(object_store, reflection_id), "the end of the files", WAIT)
    client.http.delete("/faults")


def test_a_commit_past_the_server_is_seen(aged: SqlProcess, object_store: ObjectStore, lake_of: str) -> None:
    client = aged.client()
    dataset = table(client, lake_of, "watched")
    policy = {"activePolicyType": "REFRESH_ON_DATA_CHANGES", "gracePeriodMs": 10_800_000}
    body = {k: v for k, v in dataset.items() if k != "fields"} | {"accelerationRefreshPolicy": policy}
    answer = client.http.put(f"/api/v3/catalog/{dataset['id']}", json=body)
    assert answer.status_code == 200, answer.text
    reflection_id = create(client, aggregate(dataset))
    done(client, reflection_id, 1)
    other = iceberg(object_store).load_table((lake_of.split(".")[1], "watched"))
    schema = other.schema().as_arrow()
    other.append(pa.table([[7], ["west"], [None], [None]], schema=schema))
    client = later(aged, 30)
    done(client, reflection_id, 2)
    assert client.reflection(reflection_id)["status"]["refreshMethod"] == "INCREMENTAL"


def iceberg(store: ObjectStore) -> RestCatalog:
    return RestCatalog(
        "other",
        **{
            "uri": store.iceberg_uri,
            "warehouse": store.warehouse,
            "credential": f"{store.access_key}:{store.secret_key}",
            "oauth2-server-uri": f"{store.iceberg_uri}/v1/oauth/tokens",
            "s3.endpoint": f"http://{store.endpoint.removeprefix('http://')}",
            "s3.access-key-id": store.access_key,
            "s3.secret-access-key": store.secret_key,
            "s3.region": "us-east-1",
        },
    )


def test_a_reflection_is_made_from_another_one(aged: SqlProcess, lake_of: str) -> None:
    client = aged.client()
    base = table(client, lake_of, "stacked")
    raw = {
        "type": "RAW",
        "name": "raw",
        "datasetId": base["id"],
        "enabled": True,
        "displayFields": [{"name": "region"}, {"name": "amount"}],
    }
    parent = create(client, raw)
    done(client, parent, 1)
    client.run(f"create view aged.above as select region, amount from {lake_of}.stacked where amount > 1")
    view = client.entity("aged", "above")
    child = create(client, aggregate(view))
    done(client, child, 1)
    rows = client.rows(f"select * from sys.reflection_dependencies where reflection_id = '{child}'")
    assert {(row["dependency_type"], row["dependency_id"]) for row in rows} == {
        ("REFLECTION", parent),
        ("DATASET", base["id"]),
    }
    # Its data is as old as its parent's.
    fetched = client.reflection(parent)["status"]["lastDataFetch"]
    assert client.reflection(child)["status"]["lastDataFetch"] == fetched
    lineage = client.rows(f"select * from table(sys.reflection_lineage('{parent}')) order by batch_number")
    assert [(row["batch_number"], row["reflection_id"]) for row in lineage] == [(0, parent), (1, child)]
    client.http.post(f"/api/v3/catalog/{base['id']}/refresh")
    newer = settled(client, parent, lambda s: s["lastDataFetch"] > fetched)["status"]["lastDataFetch"]
    settled(client, child, lambda s: s["lastDataFetch"] >= newer)
    assert chosen(client, "select region, avg(amount) as a from aged.above group by region") == [child]


def test_a_view_below_with_another_text_makes_the_reflection_stale(aged: SqlProcess, lake_of: str) -> None:
    client = aged.client()
    table(client, lake_of, "nested")
    client.run(f"create view aged.inner_view as select region, amount from {lake_of}.nested")
    client.run("create view aged.outer_view as select region, amount from aged.inner_view")
    reflection_id = create(client, aggregate(client.entity("aged", "outer_view")))
    done(client, reflection_id, 1)
    sql = "select region, sum(amount) as s from aged.outer_view group by region"
    assert chosen(client, sql) == [reflection_id]
    client.run(f"create or replace view aged.inner_view as select region, amount * 2 as amount from {lake_of}.nested")
    assert chosen(client, sql) == []
    assert sorted(row["s"] for row in client.rows(sql)) == [4.5, 11.0]
