"""The policy's squares in Airflow and Superset, tried live as each role: what is allowed works, the rest is refused."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from embedded.home import PROJECT
from tests.e2e.conftest import Lakehouse
from tests.e2e.superset_api import Superset, needs_superset

POLICY = yaml.safe_load((PROJECT / "include" / "platform" / "policy.yaml").read_text(encoding="utf-8"))
MEMBER = {fields["role"]: name for name, fields in POLICY["members"].items()}
FORBIDDEN = (401, 403)


def cells(service: str) -> list[Any]:
    return [
        pytest.param(role, action, role in roles, id=f"{role}-{action}")
        for action, roles in POLICY["services"][service].items()
        for role in POLICY["roles"]
    ]


class AirflowAs:
    """One login at Airflow's REST API."""

    def __init__(self, lakehouse: Lakehouse, member: str) -> None:
        self.lakehouse = lakehouse
        self.http = httpx.Client(base_url=lakehouse.endpoints.airflow_url, timeout=120)
        login = {"username": member, "password": lakehouse.endpoints.logins()[member]}
        token = self.http.post("/auth/token", json=login).raise_for_status().json()["access_token"]
        self.http.headers["Authorization"] = f"Bearer {token}"

    def tries(self, action: str) -> bool:
        reply = getattr(self, f"_{action}")()
        if reply.status_code in FORBIDDEN:
            return False
        refused_later = action == "run_dags" and reply.status_code == httpx.codes.BAD_REQUEST
        assert reply.is_success or refused_later, f"{action}: {reply.status_code} {reply.text}"
        return True

    def _read_dags(self) -> httpx.Response:
        reply = self.http.get("/api/v2/dags/apply_platform")
        listed = self.http.get("/api/v2/dags")
        assert listed.status_code in FORBIDDEN or reply.is_success is bool(listed.json()["dags"])
        return reply

    def _read_logs(self) -> httpx.Response:
        run = self.lakehouse.airflow.runs("apply_platform")[0]["dag_run_id"]
        return self.http.get(f"/api/v2/dags/apply_platform/dagRuns/{run}/taskInstances/apply_ledger/logs/1")

    def _run_dags(self) -> httpx.Response:
        """With a param that is wrong: who may trigger is told so, and no run takes time from other tests."""
        on = self.http.patch("/api/v2/dags/apply_platform", json={"is_paused": False})
        body = {"logical_date": None, "conf": {"plan_only": "perhaps"}}
        reply = self.http.post("/api/v2/dags/apply_platform/dagRuns", json=body)
        assert (on.status_code in FORBIDDEN) is (reply.status_code in FORBIDDEN)
        return reply

    def _manage_connections(self) -> httpx.Response:
        name = _probe()
        reply = self.http.post("/api/v2/connections", json={"connection_id": name, "conn_type": "generic"})
        seen = self.http.get("/api/v2/connections")
        assert (seen.status_code in FORBIDDEN) is (reply.status_code in FORBIDDEN)
        if reply.is_success:
            self.http.delete(f"/api/v2/connections/{name}").raise_for_status()
        return reply

    def _manage_users(self) -> httpx.Response:
        name = _probe()
        reply = self.http.post("/auth/fab/v1/roles", json={"name": name, "actions": []})
        if reply.is_success:
            self.http.delete(f"/auth/fab/v1/roles/{name}").raise_for_status()
        return reply


@pytest.fixture(scope="module")
def airflow_as(platform: Lakehouse) -> Iterator[dict[str, AirflowAs]]:
    found = {role: AirflowAs(platform, member) for role, member in MEMBER.items()}
    yield found
    for one in found.values():
        one.http.close()


@pytest.mark.parametrize(("role", "action", "allowed"), cells("airflow"))
def test_airflow(airflow_as: dict[str, AirflowAs], role: str, action: str, allowed: bool) -> None:
    assert airflow_as[role].tries(action) is allowed


class SupersetAs:
    """One login at Superset's REST API; `admin` knows the ids of what is tried."""

    def __init__(self, admin: Superset, url: str, member: str, password: str) -> None:
        self.admin, self.api = admin, Superset(url, member, password)
        self.http = self.api.http

    def tries(self, action: str) -> bool:
        reply = getattr(self, f"_{action}")()
        if reply.status_code in FORBIDDEN:
            return False
        assert reply.is_success, f"{action}: {reply.status_code} {reply.text}"
        return True

    def _made(self, kind: str, body: dict[str, Any]) -> httpx.Response:
        """Makes an object and takes it away again."""
        reply = self.http.post(f"/{kind}/", json=body)
        if reply.is_success:
            self.admin.http.delete(f"/{kind}/{reply.json()['id']}").raise_for_status()
        return reply

    def _of_gold(self, key: str) -> Any:
        return self.admin.find("dataset", "table_name", "basket_departments")[key]

    def _context(self, **query: Any) -> dict[str, Any]:
        asked = {"columns": ["department"], "metrics": [], "row_limit": 5, **query}
        return {"datasource": {"id": self._of_gold("id"), "type": "table"}, "queries": [asked]}

    def _view_dashboards(self) -> httpx.Response:
        reply = self.http.get("/dashboard/executive")
        listed = {one["slug"] for one in self.http.get("/dashboard/").json().get("result", [])}
        assert reply.is_success is ("executive" in listed)
        return reply

    def _query_datasets(self) -> httpx.Response:
        return self.http.post("/chart/data", json=self._context())

    def _edit_dashboards(self) -> httpx.Response:
        chart = {"slice_name": _probe(), "datasource_id": self._of_gold("id"), "datasource_type": "table"}
        made = self._made("chart", {**chart, "viz_type": "table", "params": "{}"})
        dashboard = self._made("dashboard", {"dashboard_title": _probe()})
        assert made.is_success is dashboard.is_success, f"{made.text} {dashboard.text}"
        return dashboard

    def _export_data(self) -> httpx.Response:
        return self.http.post("/chart/data", json={**self._context(), "result_format": "csv"})

    def _sql_lab(self) -> httpx.Response:
        database = self._of_gold("database")["id"]
        sql = 'select department from "lakehouse.gold"."basket_departments"'
        return self.http.post("/sqllab/execute/", json={"database_id": database, "sql": sql, "queryLimit": 1})

    def _manage_datasets(self) -> httpx.Response:
        database = self._of_gold("database")["id"]
        body = {"database": database, "schema": None, "table_name": _probe(), "sql": "select 1 n"}
        return self._made("dataset", body)

    def _manage_databases(self) -> httpx.Response:
        return self.http.put(f"/database/{self._of_gold('database')['id']}", json={"expose_in_sqllab": True})

    def _manage_users(self) -> httpx.Response:
        made = self._made("security/roles", {"name": _probe()})
        table = [self._of_gold("id")]
        body = {"name": _probe(), "filter_type": "Regular", "tables": table, "roles": [], "clause": "1 = 1"}
        rule = self._made("rowlevelsecurity", body)
        assert made.is_success is rule.is_success, f"{made.text} {rule.text}"
        return made


def _probe() -> str:
    return f"probe_{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def superset_as(platform: Lakehouse, first_run: str) -> Iterator[dict[str, SupersetAs]]:
    environment = platform.endpoints.environment()
    url, user, password = (environment[f"LAKEHOUSE_SUPERSET_{name}"] for name in ("URL", "USER", "PASSWORD"))
    admin, logins = Superset(url, user, password), platform.endpoints.logins()
    found = {role: SupersetAs(admin, url, member, logins[member]) for role, member in MEMBER.items()}
    yield found
    for one in (admin, *(each.api for each in found.values())):
        one.http.close()


@pytest.mark.faults
@needs_superset
@pytest.mark.parametrize(("role", "action", "allowed"), cells("superset"))
def test_superset(superset_as: dict[str, SupersetAs], role: str, action: str, allowed: bool) -> None:
    assert superset_as[role].tries(action) is allowed


@pytest.mark.faults
def test_a_second_plan_is_empty_and_drift_by_hand_is_put_back(platform: Lakehouse) -> None:
    """In Airflow itself: a role given a right by hand, a login given a role."""
    http = httpx.Client(base_url=platform.endpoints.airflow_url, timeout=120)
    admin = {"username": "admin", "password": platform.endpoints.secrets.airflow_admin_password}
    token = http.post("/auth/token", json=admin).raise_for_status().json()["access_token"]
    http.headers["Authorization"] = f"Bearer {token}"
    run = platform.green("apply_platform")
    for task in platform.airflow.tasks("apply_platform", run):
        assert differing(platform.airflow.xcom("apply_platform", run, task["task_id"])) == [], task["task_id"]
    http.patch("/auth/fab/v1/users/viewer", params={"update_mask": "roles"}, json={"roles": [{"name": "Admin"}]})
    platform.airflow.unpause("drift")
    drifted, state = platform.run("drift")
    assert state == "failed"
    (log,) = platform.failed_tasks(drifted, "drift").values()
    assert "update Airflow login viewer" in log
    assert "- Admin" in log
    platform.green("apply_platform")
    roles = http.get("/auth/fab/v1/users/viewer").raise_for_status().json()["roles"]
    assert [role["name"] for role in roles] == ["policy_viewer"]


def differing(lines: list[str]) -> list[str]:
    """Without what only waits for a first run."""
    return [line for line in lines if not line.startswith("await ")]
