"""Reflections on the wire: refreshed by Dremio's rules, really built, really used, honest about failures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.embedded.sql.process import Client, JobError, SqlProcess, rest_source, until

if TYPE_CHECKING:
    from embedded.object_store import ObjectStore

NEVER = "1969-12-31T23:59:59.999Z"


@pytest.fixture(autouse=True)
def _no_faults(client: Client) -> Iterator[None]:
    yield
    client.http.delete("/faults")
    faults(client, backoff_unit=0.2)


def faults(client: Client, **asked: Any) -> None:
    answer = client.http.post("/faults", json=asked)
    assert answer.status_code == 200, answer.text


def table(client: Client, lake: str, name: str) -> dict[str, Any]:
    client.run(
        f"create table {lake}.{name} as select * from (values"
        " (1, 'north', cast(1.50 as decimal(12, 2)), date '2026-01-01'),"
        " (2, 'south', 2.25, date '2026-01-02'), (3, 'north', 4.00, date '2026-01-02')) t(id, region, amount, day_of)"
    )
    return client.entity(*lake.split("."), name)


def aggregate(dataset: dict[str, Any], name: str = "agg", **more: Any) -> dict[str, Any]:
    return {
        "type": "AGGREGATION",
        "name": name,
        "datasetId": dataset["id"],
        "enabled": True,
        "dimensionFields": [{"name": "region", "granularity": "NORMAL"}],
        "measureFields": [{"name": "amount", "measureTypeList": ["SUM", " COUNT"]}],
        "partitionDistributionStrategy": "STRIPED",
        "entityType": "reflection",
        **more,
    }


def create(client: Client, body: dict[str, Any]) -> str:
    answer = client.http.post("/api/v3/reflection", json=body)
    assert answer.status_code == 200, answer.text
    reflection_id: str = answer.json()["id"]
    return reflection_id


def settled(client: Client, reflection_id: str, test: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    def probe() -> dict[str, Any] | None:
        found = client.reflection(reflection_id)
        return found if test(found["status"]) else None

    return until(probe, f"the awaited state of reflection {reflection_id}")


def available(client: Client, reflection_id: str) -> dict[str, Any]:
    return settled(client, reflection_id, lambda s: s["availability"] == "AVAILABLE" and s["refresh"] != "RUNNING")


def materializations(client: Client, reflection_id: str) -> list[dict[str, Any]]:
    return client.rows(
        "select materialization_id, state, init_refresh_job_id, failure_msg, last_refresh_from_pds"
        f" from sys.materializations where reflection_id = '{reflection_id}' order by created"
    )


def chosen(client: Client, sql: str) -> list[str]:
    job = client.run(sql)
    found = job.get("acceleration", {}).get("reflectionRelationships", [])
    return [item["reflectionId"] for item in found if item["relationship"] == "CHOSEN"]


def test_a_reflection_is_built_and_used(client: Client, lake: str, object_store: ObjectStore) -> None:
    dataset = table(client, lake, "built")
    reflection_id = create(client, aggregate(dataset))
    found = available(client, reflection_id)
    assert found["status"]["combinedStatus"] == "CAN_ACCELERATE"
    assert found["status"]["refresh"] == "SCHEDULED"
    assert found["measureFields"] == [{"name": "amount", "measureTypeList": ["SUM", "COUNT"]}]
    assert found["currentSizeBytes"] > 0
    sql = f"select region, sum(amount) as total from {lake}.built group by region order by region"
    assert chosen(client, sql) == [reflection_id]
    assert client.rows(sql) == [{"region": "north", "total": 5.5}, {"region": "south", "total": 2.25}]
    (refresh,) = materializations(client, reflection_id)
    job = client.job(refresh["init_refresh_job_id"])
    assert (job["queryType"], job["jobState"]) == ("ACCELERATOR_CREATE", "COMPLETED")
    listing = object_store.client("s3").list_objects_v2(Bucket="lakehouse-dist", Prefix=f"{reflection_id}/")
    kinds = sorted(item["Key"].rsplit(".", 1)[-1] for item in listing["Contents"])
    assert kinds == ["avro", "avro", "json", "parquet"]  # an Iceberg table
    assert [r["id"] for r in client.http.get(f"/api/v3/dataset/{dataset['id']}/reflection").json()["data"]] == [
        reflection_id
    ]


def test_a_request_refreshes_what_is_stale_and_advances_what_is_not(client: Client, lake: str) -> None:
    dataset = table(client, lake, "requested")
    reflection_id = create(client, aggregate(dataset))
    first = available(client, reflection_id)["status"]["lastDataFetch"]
    sql = f"select region, count(amount) as n from {lake}.requested group by region order by region"
    client.run(f"insert into {lake}.requested values (4, 'east', 1.00, date '2026-01-03')")
    assert chosen(client, sql) == []  # the reflection stands at the old snapshot
    assert client.http.post(f"/api/v3/catalog/{dataset['id']}/refresh").status_code == 204
    second = settled(client, reflection_id, lambda s: s["lastDataFetch"] > first)["status"]["lastDataFetch"]
    assert chosen(client, sql) == [reflection_id]
    assert len(client.rows(sql)) == 3
    # Nothing changed: still a new DONE materialization, and a newer fetch.
    client.http.post(f"/api/v3/catalog/{dataset['id']}/refresh")
    third = settled(client, reflection_id, lambda s: s["lastDataFetch"] > second)
    assert third["status"]["refreshMethod"] == "NONE"
    states = [row["state"] for row in materializations(client, reflection_id)]
    assert (states[-1], set(states[:-1])) == ("DONE", {"DEPRECATED"})
    assert chosen(client, sql) == [reflection_id]


def test_a_request_during_a_refresh_brings_a_second_one(client: Client, lake: str) -> None:
    dataset = table(client, lake, "twice")
    faults(client, refresh_delay=1.0)
    reflection_id = create(client, aggregate(dataset))
    until(lambda: materializations(client, reflection_id), "the first refresh")
    client.http.post(f"/api/v3/catalog/{dataset['id']}/refresh")
    until(
        lambda: [m["state"] for m in materializations(client, reflection_id)] == ["DEPRECATED", "DONE"],
        "a second refresh",
    )


def test_failures_are_counted_and_the_old_data_stays(client: Client, lake: str) -> None:
    dataset = table(client, lake, "failing")
    reflection_id = create(client, aggregate(dataset))
    available(client, reflection_id)
    faults(client, refresh_failures={"count": 2, "reason": "the disk is full"}, backoff_unit=2.0)
    client.http.post(f"/api/v3/catalog/{dataset['id']}/refresh")
    failed = settled(client, reflection_id, lambda s: s["failureCount"] == 1)["status"]
    assert failed["lastFailureMessage"] == "the disk is full"
    assert failed["combinedStatus"] == "CAN_ACCELERATE_WITH_FAILURES"
    assert failed["availability"] == "AVAILABLE"
    (row,) = client.rows(f"select num_failures, status from sys.reflections where reflection_id = '{reflection_id}'")
    assert row == {"num_failures": 1, "status": "CAN_ACCELERATE_WITH_FAILURES"}
    # A request does not wait for the back-off.
    client.http.post(f"/api/v3/catalog/{dataset['id']}/refresh")
    settled(client, reflection_id, lambda s: s["failureCount"] == 2)
    # And without one the next try follows by itself.
    healthy = settled(client, reflection_id, lambda s: s["failureCount"] == 0)["status"]
    assert healthy["combinedStatus"] == "CAN_ACCELERATE"
    assert "lastFailureMessage" not in healthy
    states = [row["state"] for row in materializations(client, reflection_id)]
    assert states == ["DEPRECATED", "FAILED", "FAILED", "DONE"]


def test_it_gives_up_after_24_failures_and_comes_back_by_an_edit(client: Client, lake: str) -> None:
    dataset = table(client, lake, "hopeless")
    faults(client, refresh_failures={"count": 24, "reason": "no"}, backoff_unit=0.0001)
    reflection_id = create(client, aggregate(dataset))
    given_up = settled(client, reflection_id, lambda s: s["refresh"] == "GIVEN_UP")
    assert given_up["status"]["combinedStatus"] == "FAILED"
    assert given_up["status"]["failureCount"] == 24
    assert given_up["status"]["lastDataFetch"] == NEVER
    count = len(materializations(client, reflection_id))
    client.http.post(f"/api/v3/catalog/{dataset['id']}/refresh")
    client.run("select 1")
    assert len(materializations(client, reflection_id)) == count  # a request does not revive it
    for enabled in (False, True):
        current = client.reflection(reflection_id)
        body = {**current, "enabled": enabled}
        answer = client.http.put(f"/api/v3/reflection/{reflection_id}", json=body)
        assert answer.status_code == 200, answer.text
        if not enabled:
            assert answer.json()["status"]["combinedStatus"] == "DISABLED"
    assert available(client, reflection_id)["status"]["failureCount"] == 0


def test_a_cancelled_refresh_counts_as_a_failure(client: Client, lake: str) -> None:
    dataset = table(client, lake, "cancelled")
    faults(client, refresh_delay=30, backoff_unit=60)
    reflection_id = create(client, aggregate(dataset))
    rows = until(lambda: materializations(client, reflection_id), "the refresh")
    job_id = rows[0]["init_refresh_job_id"]
    until(lambda: client.job(job_id)["jobState"] == "METADATA_RETRIEVAL", "the job's start")
    assert client.http.post(f"/api/v3/job/{job_id}/cancel").status_code == 204
    found = settled(client, reflection_id, lambda s: s["failureCount"] == 1)
    assert found["status"]["combinedStatus"] == "CANNOT_ACCELERATE_SCHEDULED"
    assert materializations(client, reflection_id)[0]["state"] == "CANCELED"
    assert client.job(job_id)["jobState"] == "CANCELED"


def test_definitions_are_checked(client: Client, lake: str) -> None:
    dataset = table(client, lake, "checked")
    bad = [
        aggregate(dataset, dimensionFields=[{"name": "nothing"}]),
        aggregate(dataset, measureFields=[{"name": "region", "measureTypeList": ["SUM"]}]),
        aggregate(dataset, measureFields=[{"name": "amount", "measureTypeList": ["MEDIAN"]}]),
        aggregate(dataset, type="EXTERNAL"),
        aggregate(dataset, dimensionFields=[], measureFields=[]),
        aggregate(dataset, colour="red"),
        {k: v for k, v in aggregate(dataset).items() if k != "enabled"},
        {"type": "RAW", "name": "r", "datasetId": dataset["id"], "enabled": True},
    ]
    for body in bad:
        answer = client.http.post("/api/v3/reflection", json=body)
        assert answer.status_code == 400, body
        assert answer.json()["errorMessage"]
    missing = {**aggregate(dataset), "datasetId": "00000000-0000-0000-0000-000000000000"}
    assert client.http.post("/api/v3/reflection", json=missing).status_code == 404


def test_tags_guard_changes(client: Client, lake: str) -> None:
    dataset = table(client, lake, "guarded")
    reflection_id = create(client, aggregate(dataset))
    before = available(client, reflection_id)
    same = client.http.put(f"/api/v3/reflection/{reflection_id}", json=before).json()
    assert same["tag"] == before["tag"]  # nothing changed, nothing is rebuilt
    changed = {**before, "measureFields": [{"name": "amount", "measureTypeList": ["MAX"]}]}
    after = client.http.put(f"/api/v3/reflection/{reflection_id}", json=changed)
    assert after.status_code == 200
    assert after.json()["tag"] != before["tag"]
    stale = client.http.put(f"/api/v3/reflection/{reflection_id}", json=changed)
    assert stale.status_code == 409
    assert "modified by another flow" in stale.json()["errorMessage"]
    available(client, reflection_id)
    assert chosen(client, f"select region, max(amount) as m from {lake}.guarded group by region") == [reflection_id]
    assert client.http.delete(f"/api/v3/reflection/{reflection_id}").status_code == 200
    assert client.http.get(f"/api/v3/reflection/{reflection_id}").status_code == 404


def test_sql_forms(client: Client, lake: str) -> None:
    dataset = table(client, lake, "by_sql")
    name = f"{lake}.by_sql"
    client.run(f"alter table {name} create raw reflection raw1 using display (id, region, amount) localsort by (id)")
    client.run(f"alter table {name} create aggregate reflection agg1 using dimensions (region) measures (amount (sum))")
    listed = client.http.get(f"/api/v3/dataset/{dataset['id']}/reflection").json()["data"]
    ids = {item["name"]: item["id"] for item in listed}
    for reflection_id in ids.values():
        available(client, reflection_id)
    assert chosen(client, f"select id, amount from {name} where id = 2") == [ids["raw1"]]
    summary = client.rows(f"alter dataset {name} refresh reflections")[0]["summary"]
    assert "by_sql" in summary
    client.run(f"alter table {name} disable aggregate acceleration")
    assert client.reflection(ids["agg1"])["status"]["combinedStatus"] == "DISABLED"
    client.run(f"alter table {name} drop reflection raw1")
    assert client.http.get(f"/api/v3/reflection/{ids['raw1']}").status_code == 404
    with pytest.raises(JobError):
        client.run(f"alter table {name} drop reflection raw1")


def test_a_dropped_table_takes_its_reflections_along(client: Client, lake: str) -> None:
    dataset = table(client, lake, "dropped")
    reflection_id = create(client, aggregate(dataset))
    available(client, reflection_id)
    client.run(f"drop table {lake}.dropped")
    assert client.http.get(f"/api/v3/reflection/{reflection_id}").status_code == 404
    again = table(client, lake, "dropped")
    assert client.http.get(f"/api/v3/dataset/{again['id']}/reflection").json()["data"] == []


def test_a_dropped_column_makes_a_reflection_invalid(client: Client, lake: str) -> None:
    dataset = table(client, lake, "narrowed")
    reflection_id = create(client, aggregate(dataset))
    available(client, reflection_id)
    client.run(f"alter table {lake}.narrowed drop column amount")
    found = settled(client, reflection_id, lambda s: s["config"] == "INVALID")
    assert found["status"]["combinedStatus"] == "INVALID"
    assert "amount" in found["status"]["lastFailureMessage"]
    assert chosen(client, f"select region, count(*) as n from {lake}.narrowed group by region") == []


def test_a_reflection_on_a_view_follows_its_tables(client: Client, lake: str) -> None:
    base = table(client, lake, "below")
    client.space("refl")
    client.run(f"create view refl.above as select region, amount from {lake}.below where id < 10")
    view = client.entity("refl", "above")
    on_table = create(client, aggregate(base, "on_table"))
    on_view = create(client, aggregate(view, "on_view"))
    available(client, on_table)
    first = available(client, on_view)["status"]["lastDataFetch"]
    rows = client.rows(f"select * from sys.reflection_dependencies where reflection_id = '{on_view}'")
    assert [(row["dependency_id"], row["dependency_type"]) for row in rows] == [(base["id"], "DATASET")]
    client.http.post(f"/api/v3/catalog/{base['id']}/refresh")
    second = settled(client, on_view, lambda s: s["lastDataFetch"] > first)["status"]["lastDataFetch"]
    assert second >= client.reflection(on_table)["status"]["lastDataFetch"]  # parents first
    client.http.post(f"/api/v3/catalog/{view['id']}/refresh")  # enterprise: all below it
    settled(client, on_table, lambda s: s["lastDataFetch"] > second)
    settled(client, on_view, lambda s: s["lastDataFetch"] > second)
    client.run(f"create or replace view refl.above as select region, amount from {lake}.below where id < 2")
    until(lambda: len(materializations(client, on_view)) >= 4, "the rebuild for the view's new text")


def test_policies_are_checked(client: Client, lake: str) -> None:
    dataset = table(client, lake, "scheduled")
    base = {k: v for k, v in dataset.items() if k != "fields"}
    for policy in (
        {"activePolicyType": "HOURLY"},
        {"activePolicyType": "SCHEDULE"},
        {"activePolicyType": "SCHEDULE", "refreshSchedule": "0 */5 * * * *"},
        {"gracePeriodMs": -1},
        {"colour": "red"},
    ):
        body = base | {"accelerationRefreshPolicy": policy}
        answer = client.http.put(f"/api/v3/catalog/{dataset['id']}", json=body)
        assert answer.status_code == 400, policy
    policy = {"activePolicyType": "SCHEDULE", "refreshSchedule": "0 30 4 * * MON"}
    answer = client.http.put(f"/api/v3/catalog/{dataset['id']}", json=base | {"accelerationRefreshPolicy": policy})
    assert answer.json()["accelerationRefreshPolicy"] == policy


def test_materializations_expire(client: Client, lake: str) -> None:
    dataset = table(client, lake, "expiring")
    policy = {"activePolicyType": "NEVER", "gracePeriodMs": 1500, "neverExpire": False, "neverRefresh": True}
    body = {k: v for k, v in dataset.items() if k != "fields"} | {"accelerationRefreshPolicy": policy}
    answer = client.http.put(f"/api/v3/catalog/{dataset['id']}", json=body)
    assert answer.status_code == 200, answer.text
    reflection_id = create(client, aggregate(dataset))
    assert available(client, reflection_id)["status"]["refresh"] == "MANUAL"
    gone = settled(client, reflection_id, lambda s: s["availability"] == "NONE")
    assert gone["status"]["combinedStatus"] == "CANNOT_ACCELERATE_MANUAL"
    assert chosen(client, f"select region, sum(amount) as s from {lake}.expiring group by region") == []
    # A refresh that takes longer than the grace period is worth nothing, and that is said.
    faults(client, refresh_delay=2.0)
    client.http.post(f"/api/v3/catalog/{dataset['id']}/refresh")
    until(
        lambda: "already expired" in (materializations(client, reflection_id)[-1]["failure_msg"] or ""),
        "an expired success",
    )
    assert client.reflection(reflection_id)["status"]["failureCount"] == 0


def test_the_summary_has_key_names_of_its_own(client: Client, lake: str) -> None:
    dataset = table(client, lake, "summed")
    reflection_id = create(client, aggregate(dataset, "summed_up"))
    available(client, reflection_id)
    answer = client.http.get(
        "/api/v3/reflection-summary", params={"filter": f'{{"reflectionIds": ["{reflection_id}"]}}', "maxResults": 10}
    )
    (line,) = answer.json()["data"]
    assert line["datasetPath"] == [*lake.split("."), "summed"]
    assert {"configStatus", "refreshStatus", "availabilityStatus", "lastDataFetchAt"} <= set(line["status"])
    assert client.http.get("/api/v3/reflection-summary", params={"filter": "{nonsense"}).status_code == 400
    assert len(client.http.get("/api/v3/reflection-summary", params={"maxResults": 1}).json()["data"]) == 1


def test_one_reflection_can_be_refreshed_alone(client: Client, lake: str) -> None:
    dataset = table(client, lake, "alone")
    one, other = create(client, aggregate(dataset, "one")), create(client, aggregate(dataset, "other"))
    first = available(client, one)["status"]["lastDataFetch"]
    available(client, other)
    assert client.http.post(f"/api/v3/reflection/{one}/refresh").status_code == 200
    settled(client, one, lambda s: s["lastDataFetch"] > first)
    assert len(materializations(client, other)) == 1


def test_the_community_edition_refreshes_tables_only(
    make_server: Callable[..., SqlProcess], object_store: ObjectStore, lake: str
) -> None:
    client = make_server(EDITION="community").start().client()
    client.create(rest_source(object_store, "lake"))
    client.space("s")
    base = table(client, lake, "community")
    client.run(f"create view s.v as select region, amount from {lake}.community")
    view = client.entity("s", "v")
    reflection_id = create(client, aggregate(view))
    first = available(client, reflection_id)["status"]["lastDataFetch"]
    assert client.http.post(f"/api/v3/catalog/{view['id']}/refresh").status_code == 204
    with pytest.raises(JobError, match="REFRESH REFLECTIONS command is not supported"):
        client.run("alter view s.v refresh reflections")
    assert client.http.post(f"/api/v3/reflection/{reflection_id}/refresh").status_code == 404
    assert client.http.get("/api/v3/reflection-summary").status_code == 404
    assert len(materializations(client, reflection_id)) == 1
    client.http.post(f"/api/v3/catalog/{base['id']}/refresh")
    settled(client, reflection_id, lambda s: s["lastDataFetch"] > first)
