from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lakehouse_providers.dremio import errors
from lakehouse_providers.dremio.client import AsyncDremioClient, DremioClient
from lakehouse_providers.dremio.endpoint import Endpoint
from lakehouse_providers.transport import RetryPolicy


def test_one_login_serves_many_calls(dremio: Any) -> None:
    with dremio.client() as client:
        client.catalog()
        client.query("SELECT 1")
    assert dremio.logins == 1


def test_a_refused_token_with_an_empty_body_is_renewed(dremio: Any) -> None:
    with dremio.client() as client:
        client.catalog()
        dremio.tokens.clear()
        assert client.catalog() == []
    assert dremio.logins == 2


def test_an_expired_token_does_not_repeat_a_statement(dremio: Any) -> None:
    with dremio.client() as client:
        client.catalog()
        dremio.tokens.clear()
        client.submit("INSERT INTO a VALUES (1)")
    assert len([job for job in dremio.jobs.values() if "INSERT" in job["sql"]]) == 1


def test_a_wrong_password_is_said_once(dremio: Any) -> None:
    with (
        DremioClient(Endpoint(dremio.wire.url, user="anna", password="wrong")) as client,
        pytest.raises(errors.DremioAuthenticationError, match="Invalid username or password"),
    ):
        client.catalog()
    assert dremio.logins == 1


def test_a_personal_access_token_needs_no_login(dremio: Any) -> None:
    dremio.tokens.add("pat")
    with DremioClient(Endpoint(dremio.wire.url, token="pat")) as client:
        client.catalog()
    assert dremio.logins == 0
    assert dremio.wire.requests[0].headers["authorization"] == "Bearer pat"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_reading_survives_a_storm(dremio: Any, status: int) -> None:
    dremio.wire.fail(status, path="/catalog", count=3)
    with dremio.client() as client:
        assert client.catalog() == []


def test_a_storm_that_does_not_end_is_reported_as_transient(dremio: Any) -> None:
    dremio.wire.fail(503, {"errorMessage": "starting"}, path="/catalog", count=99)
    with dremio.client() as client, pytest.raises(errors.DremioUnavailableError, match="starting") as caught:
        client.catalog()
    assert caught.value.transient


def test_a_statement_that_may_have_run_is_not_repeated(dremio: Any) -> None:
    dremio.wire.fail(503, path="/sql")
    with dremio.client() as client, pytest.raises(errors.DremioUnavailableError):
        client.submit("INSERT INTO a VALUES (1)")
    dremio.wire.lose(path="/sql")
    with dremio.client() as client, pytest.raises(errors.DremioUnreachableError):
        client.submit("INSERT INTO a VALUES (1)")
    assert len(dremio.statements("INSERT")) == 2


def test_a_statement_that_was_turned_away_is_repeated(dremio: Any) -> None:
    dremio.wire.fail(429, path="/sql", count=2)
    with dremio.client() as client:
        client.submit("INSERT INTO a VALUES (1)")
    assert len(dremio.statements("INSERT")) == 3


def test_a_login_that_failed_before_a_statement_is_repeated(dremio: Any) -> None:
    dremio.wire.fail(503, path="/login")
    dremio.wire.lose(path="/login")
    with dremio.client() as client:
        client.submit("INSERT INTO a VALUES (1)")
    assert len(dremio.statements("INSERT")) == 1


def test_a_statement_marked_as_idempotent_is_repeated_when_its_reply_is_lost(dremio: Any) -> None:
    dremio.wire.lose(path="/sql")
    with dremio.client() as client:
        client.submit("SELECT 1", idempotent=True)
    assert len(dremio.statements("SELECT 1")) == 2


def test_a_server_that_never_answers_does_not_hang_the_client(wire: Any, reply: Any) -> None:
    import threading

    release = threading.Event()

    def silent(request: Any) -> Any:
        release.wait(20)
        return reply()

    server = wire(silent)
    endpoint = Endpoint(server.url, token="pat", timeout=0.2, retry=RetryPolicy(attempts=1))
    with DremioClient(endpoint) as client, pytest.raises(errors.DremioUnreachableError):
        client.catalog()
    release.set()


def test_all_pages_are_read_in_order(dremio: Any) -> None:
    dremio.results["numbers"] = [{"n": n, "a": None} for n in range(1203)]
    with dremio.client() as client:
        rows = client.query("SELECT n, a FROM numbers")
        assert [row["n"] for row in rows] == list(range(1203))
        assert list(rows[0]) == ["n", "a"]
        assert len(client.query("SELECT n, a FROM numbers", limit=501)) == 501
    offsets = [request.query["offset"] for request in dremio.wire.seen("GET", "/results")]
    assert offsets == [["0"], ["500"], ["1000"], ["0"], ["500"]]


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("FAILED", errors.DremioJobFailedError),
        ("INVALID_STATE", errors.DremioJobFailedError),
        ("CANCELED", errors.DremioJobCanceledError),
        ("CANCELLED", errors.DremioJobCanceledError),
    ],
)
def test_every_bad_end_ends_the_wait_with_reason_and_address(dremio: Any, state: str, kind: type[Exception]) -> None:
    dremio.jobs["j"] = {"jobState": state, "errorMessage": "Column 'x' not found"}
    with dremio.client() as client, pytest.raises(kind, match=r"Column 'x' not found.*/job/j"):
        client.wait("j")


def test_a_query_out_of_time_is_cancelled(dremio: Any) -> None:
    dremio.endless.add("slow")
    with dremio.client() as client, pytest.raises(errors.DremioJobTimeoutError):
        client.query("SELECT slow", timeout=0)
    assert len(dremio.cancelled) == 1


def test_a_killed_query_is_cancelled(dremio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    dremio.endless.add("slow")

    def killed(self: DremioClient, job_id: str, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(DremioClient, "wait", killed)
    with dremio.client() as client, pytest.raises(KeyboardInterrupt):
        client.query("SELECT slow")
    assert len(dremio.cancelled) == 1


def test_names_with_slashes_and_dots_stay_one_segment(dremio: Any) -> None:
    dremio.table("src", "a%2Fb", "c.parquet")
    with dremio.client() as client:
        assert client.by_path(["src", "a/b", "c.parquet"])["id"] == "id-src-a%2Fb-c.parquet"
        assert client.catalog_by_path(["src", "nothing"]) is None


def test_a_server_that_is_not_dremio_is_named_so(wire: Any, reply: Any) -> None:
    server = wire(lambda request: reply(body="<html>hello</html>"))
    with (
        DremioClient(Endpoint(server.url, token="pat")) as client,
        pytest.raises(errors.DremioRequestError, match="not JSON"),
    ):
        client.catalog()


def test_containers_are_made_once(dremio: Any) -> None:
    with dremio.client() as client:
        first = client.ensure_space("lakehouse")
        assert client.ensure_space("lakehouse")["id"] == first["id"]
        client.ensure_folder(["lakehouse", "gold"])
    assert len(dremio.wire.seen("POST", "/catalog")) == 2


def test_a_container_whose_reply_was_lost_is_found(dremio: Any) -> None:
    dremio.wire.lose(method="POST", path="/catalog")
    with dremio.client() as client, pytest.raises(errors.DremioUnreachableError):
        client.create_catalog({"entityType": "space", "name": "x"})
    with dremio.client() as client:
        assert client.ensure_space("x")["name"] == "x"


def test_a_source_is_created_then_replaced_with_its_tag(dremio: Any) -> None:
    with dremio.client() as client:
        client.apply_source({"name": "bronze", "type": "S3", "config": {"rootPath": "/a"}})
        changed = client.apply_source({"name": "bronze", "type": "S3", "config": {"rootPath": "/b"}})
    assert changed["config"] == {"rootPath": "/b"}


def test_a_source_changed_by_somebody_else_meanwhile_is_read_again(dremio: Any) -> None:
    with dremio.client() as client:
        client.apply_source({"name": "bronze", "type": "S3", "config": {}})
        dremio.wire.fail(409, {"errorMessage": "stale"}, method="PUT")
        client.apply_source({"name": "bronze", "type": "S3", "config": {"rootPath": "/b"}})
    assert dremio.entities["bronze"]["config"] == {"rootPath": "/b"}


def test_a_folder_is_promoted_once(dremio: Any) -> None:
    dremio.entities["bronze/orders"] = {
        "entityType": "folder",
        "id": "dremio:/bronze/orders",
        "path": ["bronze", "orders"],
        "tag": "t1",
    }
    with dremio.client() as client:
        assert client.promote(["bronze", "orders"], {"type": "Parquet"})["type"] == "PHYSICAL_DATASET"
        client.promote(["bronze", "orders"], {"type": "Parquet"})
    promotions = dremio.wire.seen("POST", "/catalog/")
    assert [request.path for request in promotions] == ["/api/v3/catalog/dremio%3A%2Fbronze%2Forders"]


def test_a_view_is_created_then_replaced(dremio: Any) -> None:
    with dremio.client() as client:
        client.apply_view(["lakehouse", "v"], "SELECT 1")
        client.apply_view(["lakehouse", "v"], "SELECT 2")
    assert dremio.entities["lakehouse/v"]["sql"] == "SELECT 2"


def test_deleting_a_reflection_twice_is_fine(dremio: Any) -> None:
    dremio.reflection("r", dremio.table("lake", "t"))
    with dremio.client() as client:
        client.delete_reflection("ref-r")
        client.delete_reflection("ref-r")
    assert not dremio.reflections


def test_the_client_for_event_loops_keeps_the_same_rules(dremio: Any) -> None:
    async def use() -> list[dict[str, Any]]:
        async with AsyncDremioClient(dremio.endpoint) as client:
            dremio.wire.fail(429, path="/sql", count=2)
            first = await client.query("SELECT CURRENT_TIMESTAMP")
            dremio.tokens.clear()
            dremio.wire.lose(path="/job")
            assert await client.query("SELECT CURRENT_TIMESTAMP") == first
            return first

    assert asyncio.run(use())[0]["server_time"].startswith("2026-01-01 12:00")
    assert dremio.logins == 2
