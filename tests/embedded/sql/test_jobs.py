"""Jobs: asynchronous, one final state, results in pages, cancel, limits, retention."""

from __future__ import annotations

import json

import pytest

from tests.embedded.sql.process import Client, JobError, until

LONG = "select count(*) from (select a.n from %s a, %s b, %s c where a.n + b.n + c.n > 5) t"


@pytest.fixture(scope="module")
def numbers(client: Client, lake: str) -> str:
    digits = ", ".join(f"({n})" for n in range(10))
    client.run(f"create table {lake}.digits as select n from (values {digits}) t(n)")
    product = ", ".join(f"{lake}.digits d{i}" for i in range(4))
    total = " + ".join(f"d{i}.n * {10**i}" for i in range(4))
    client.run(f"create table {lake}.numbers as select {total} as n from {product}")
    return f"{lake}.numbers"


def test_an_error_shows_in_the_job_not_in_the_submission(client: Client) -> None:
    for sql in ("selec 1", "select * from nowhere.at.all", "", "drop galaxy", "select 1; select 2"):
        job = client.wait(client.submit(sql))
        assert job["jobState"] == "FAILED"
        assert job["errorMessage"]
        assert "endedAt" in job


def test_a_finished_job_has_all_fields(client: Client) -> None:
    job = client.run("select 1 as one")
    assert job["jobState"] == "COMPLETED"
    assert job["rowCount"] == 1
    assert (job["errorMessage"], job["cancellationReason"]) == ("", "")
    assert {"startedAt", "endedAt", "queryType", "queueName", "resourceSchedulingStartedAt"} <= set(job)


def test_results_come_in_pages_of_at_most_500(client: Client, numbers: str) -> None:
    job_id = client.submit(f"select n, cast(n as varchar) as s from {numbers} order by n")
    assert client.wait(job_id)["rowCount"] == 10_000
    page = client.http.get(f"/api/v3/job/{job_id}/results", params={"offset": 9_800, "limit": 500}).json()
    assert (page["rowCount"], len(page["rows"]), page["rows"][0]) == (10_000, 200, {"n": 9800, "s": "9800"})
    assert len(client.http.get(f"/api/v3/job/{job_id}/results").json()["rows"]) == 100
    answer = client.http.get(f"/api/v3/job/{job_id}/results", params={"limit": 501})
    assert (answer.status_code, answer.json()["errorMessage"]) == (400, "limit can not exceed 500 rows")
    assert client.http.get(f"/api/v3/job/{job_id}/results", params={"offset": 20_000}).json()["rows"] == []
    assert client.http.get(f"/api/v3/job/{job_id}/results", params={"offset": -1}).status_code == 400


def test_keys_keep_the_order_of_the_columns(client: Client) -> None:
    job_id = client.submit("select 1 as zebra, 2 as ant, cast(null as varchar) as middle")
    client.wait(job_id)
    row = json.loads(client.http.get(f"/api/v3/job/{job_id}/results").text)["rows"][0]
    assert list(row.items()) == [("zebra", 1), ("ant", 2), ("middle", None)]


def test_big_numbers_can_be_asked_for_as_text(client: Client) -> None:
    job_id = client.submit("select cast(9007199254740993 as bigint) as b")
    client.wait(job_id)
    header = {"x-dremio-job-data-number-format": "number-as-string"}
    rows = client.http.get(f"/api/v3/job/{job_id}/results", headers=header).json()["rows"]
    assert rows == [{"b": "9007199254740993"}]


def test_an_unknown_job_is_404_in_dremios_words(client: Client) -> None:
    for job_id in ("00000000-0000-0000-0000-000000000000", "nonsense"):
        answer = client.http.get(f"/api/v3/job/{job_id}")
        assert answer.status_code == 404
        assert answer.json()["errorMessage"] == f"Could not find a job with id [{job_id}]"


def test_a_running_job_has_no_results_and_can_be_cancelled(client: Client, numbers: str) -> None:
    job_id = client.submit(LONG % (numbers, numbers, numbers))
    until(lambda: client.job(job_id)["jobState"] == "RUNNING", "the job's start")
    answer = client.http.get(f"/api/v3/job/{job_id}/results")
    assert answer.status_code == 400
    assert answer.json()["errorMessage"] == "Can not fetch details for a job that is in [RUNNING] state."
    running = client.job(job_id)
    assert "endedAt" not in running
    assert "rowCount" not in running
    assert client.http.post(f"/api/v3/job/{job_id}/cancel").status_code == 204
    job = client.wait(job_id)
    assert job["jobState"] == "CANCELED"
    assert job["cancellationReason"] == "Query cancelled by user 'admin'"
    assert client.http.post(f"/api/v3/job/{job_id}/cancel").status_code == 204  # nothing happens to an ended job
    assert client.job(job_id) == job


def test_a_waiting_job_is_cancelled_at_once(client: Client, numbers: str) -> None:
    busy = [client.submit(LONG % (numbers, numbers, numbers)) for _ in range(5)]
    waiting = client.submit("select 1")
    client.http.post(f"/api/v3/job/{waiting}/cancel")
    assert client.job(waiting)["jobState"] == "CANCELED"
    for job_id in busy:
        client.http.post(f"/api/v3/job/{job_id}/cancel")
    assert {client.wait(job_id)["jobState"] for job_id in busy} == {"CANCELED"}


def test_a_query_that_takes_too_long_fails_with_the_limit(make_server, numbers: str, object_store) -> None:  # type: ignore[no-untyped-def]
    from tests.embedded.sql.process import rest_source

    client = make_server(QUERY_TIMEOUT="1").start().client()
    client.create(rest_source(object_store, "lake"))
    with pytest.raises(JobError, match="time limit of 1 seconds"):
        client.run(LONG % (numbers, numbers, numbers))
    assert client.value("select 1") == 1


def test_old_results_and_jobs_go_away(make_server) -> None:  # type: ignore[no-untyped-def]
    server = make_server(RESULT_RETENTION="0.001", JOB_RETENTION="3600").start()
    client = server.client()
    job_id = client.submit("select 1")
    client.wait(job_id)
    server.stop()
    server.start()  # keeps house at its start
    client = server.client()
    answer = until(
        lambda: a if (a := client.http.get(f"/api/v3/job/{job_id}/results")).status_code == 404 else None, "expiry"
    )
    assert "run the query again" in answer.json()["errorMessage"]
    assert client.job(job_id)["jobState"] == "COMPLETED"


def test_context_is_where_short_names_are_looked_for(client: Client, numbers: str) -> None:
    assert client.rows("select count(*) as c from numbers", numbers.split(".")[:2]) == [{"c": 10_000}]


def test_jobs_are_in_sys_jobs_recent(client: Client) -> None:
    job_id = client.submit("select 42 as answer")
    client.wait(job_id)
    rows = client.rows(f"select status, query from sys.jobs_recent where job_id = '{job_id}'")
    assert rows == [{"status": "COMPLETED", "query": "select 42 as answer"}]
