"""One whole platform for all end-to-end tests: every server, Airflow, the tiny source, and one finished batch run."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import boto3
import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from embedded.airflow_client import AirflowClient
from embedded.demo import source
from embedded.stack import Stack

DAG = "retail_batch"
RUN_SECONDS = 900  # a busy machine takes several minutes for what an idle one does in one
GOLD = (
    "basket_analysis",
    "basket_departments",
    "campaign_effect",
    "cohort_retention",
    "customer_lifetime_value",
    "daily_revenue",
    "product_performance",
    "promotion_lift",
    "store_performance",
)


class Dremio:
    """Reads as a BI tool would: plain REST, no code of ours."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=60)
        self._credentials = {"userName": user, "password": password}

    def _sign_in(self) -> None:
        token = self._http.post("/apiv2/login", json=self._credentials).raise_for_status().json()["token"]
        self._http.headers["authorization"] = f"_dremio{token}"

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        answer = self._http.request(method, path, **arguments)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            self._sign_in()
            answer = self._http.request(method, path, **arguments)
        return answer.raise_for_status().json()

    def inject(self, faults: dict[str, Any] | None) -> None:
        """Faults that the server is to show from now on; None ends them all."""
        answer = self._http.request("POST" if faults else "DELETE", "/faults", json=faults)
        answer.raise_for_status()

    def job(self, sql: str) -> tuple[str, dict[str, Any]]:
        """Runs a statement to its end; gives the job's id and description."""
        job_id = self._call("POST", "/api/v3/sql", json={"sql": sql})["id"]
        while True:
            job = self._call("GET", f"/api/v3/job/{job_id}")
            if job["jobState"] in ("COMPLETED", "FAILED", "CANCELED"):
                return job_id, job

    def sql(self, sql: str) -> list[dict[str, Any]]:
        job_id, job = self.job(sql)
        assert job["jobState"] == "COMPLETED", f"{sql}: {job['errorMessage']}"
        rows: list[dict[str, Any]] = []
        while len(rows) < job["rowCount"]:
            path = f"/api/v3/job/{job_id}/results"
            rows += self._call("GET", path, params={"offset": len(rows), "limit": 500})["rows"]
        return rows


class Lakehouse:
    """The platform under test, and what a test wants to know of it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.refresh_endpoints()

    def refresh_endpoints(self) -> None:
        self.endpoints = self.stack.endpoints()
        environment = self.endpoints.environment()
        self.airflow = AirflowClient(
            self.endpoints.airflow_url, environment["LAKEHOUSE_AIRFLOW_USER"], environment["LAKEHOUSE_AIRFLOW_PASSWORD"]
        )
        self.dremio = Dremio(
            self.endpoints.sql_url, environment["LAKEHOUSE_DREMIO_USER"], environment["LAKEHOUSE_DREMIO_PASSWORD"]
        )

    def source(self) -> psycopg.Connection[dict[str, Any]]:
        return psycopg.connect(self.endpoints.source.dsn("retail"), row_factory=dict_row)

    def ledger(self) -> psycopg.Connection[dict[str, Any]]:
        return psycopg.connect(self.endpoints.platform.dsn("lakehouse"), row_factory=dict_row)

    def run(self, dag_id: str = DAG, conf: dict[str, Any] | None = None) -> tuple[str, str]:
        """Triggers a run and waits for its end; gives its id and state."""
        run_id = self.airflow.trigger(dag_id, conf)
        return run_id, self.airflow.wait_for_run(dag_id, run_id, RUN_SECONDS)

    def green(self, dag_id: str = DAG) -> str:
        """A run that must succeed; its failed tasks' logs are the message when it does not."""
        run_id, state = self.run(dag_id)
        assert state == "success", self.why(run_id, dag_id)
        return run_id

    def failed_tasks(self, run_id: str, dag_id: str = DAG) -> dict[str, str]:
        """The failed tasks of a run and the log of their last try."""
        return {
            task["task_id"]: self.airflow.log(dag_id, run_id, task["task_id"], task["try_number"])
            for task in self.airflow.tasks(dag_id, run_id)
            if task["state"] == "failed"
        }

    def why(self, run_id: str, dag_id: str = DAG) -> str:
        return "\n".join(f"--- {task}\n{log[-3000:]}" for task, log in self.failed_tasks(run_id, dag_id).items())

    def backfill(self, first: str, last: str) -> list[str]:
        """Backfills the intervals from `first` to `last` and waits; gives the states of all backfill runs."""
        number = self.airflow.backfill(DAG, first, last)
        days = (dt.datetime.fromisoformat(last) - dt.datetime.fromisoformat(first)).days + 1
        end = time.monotonic() + RUN_SECONDS * days
        while not self.airflow.backfill_done(number):
            assert time.monotonic() < end, f"backfill {number} of {days} days did not end"
            time.sleep(1)
        return [run["state"] for run in self.airflow.runs(DAG) if run["run_type"] == "backfill"]

    def rows_hash(self, view: Sequence[str]) -> str:
        path = ".".join(f'"{part}"' for part in view)
        rows = self.dremio.sql(f"SELECT * FROM {path}")
        lines = sorted(json.dumps(row, sort_keys=True) for row in rows)
        assert len(lines) == len(set(lines)), f"{path} holds a row twice"
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def gold(self) -> dict[str, str]:
        """A hash of the rows of every published gold view."""
        return {name: self.rows_hash(("lakehouse", "gold", name)) for name in GOLD}

    def kill(self, service: str) -> None:
        """kill -9 of a service's main process; gives nobody time to tidy up."""
        os.kill(self.stack.pid(service), signal.SIGKILL)

    def running_jobs(self) -> list[dict[str, Any]]:
        """Syncs that Airbyte's API says are not finished."""
        environment = self.endpoints.environment()
        with httpx.Client(base_url=environment["LAKEHOUSE_AIRBYTE_URL"], timeout=30) as http:
            form = {
                "grant_type": "client_credentials",
                "client_id": environment["LAKEHOUSE_AIRBYTE_CLIENT_ID"],
                "client_secret": environment["LAKEHOUSE_AIRBYTE_CLIENT_SECRET"],
            }
            token = http.post("/applications/token", data=form).raise_for_status().json()["access_token"]
            jobs = http.get("/jobs", params={"limit": 100}, headers={"authorization": f"Bearer {token}"})
            return [job for job in jobs.json()["data"] if job["status"] in ("pending", "running", "incomplete")]

    def object_store(self) -> Any:
        """A plain S3 client."""
        environment = self.endpoints.environment()
        return boto3.client(
            "s3",
            endpoint_url=environment["LAKEHOUSE_S3_ENDPOINT_URL"],
            aws_access_key_id=environment["LAKEHOUSE_S3_ACCESS_KEY"],
            aws_secret_access_key=environment["LAKEHOUSE_S3_SECRET_KEY"],
            region_name=environment["LAKEHOUSE_S3_REGION"],
        )

    def alerts(self) -> list[dict[str, Any]]:
        file = Path(self.endpoints.environment()["LAKEHOUSE_ALERTS_FILE"])
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lakehouse]:
    """LAKEHOUSE_TEST_HOME keeps a platform between test sessions; without it one is made and removed."""
    kept = os.environ.get("LAKEHOUSE_TEST_HOME")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("platform") / "home"
    os.environ.setdefault("LAKEHOUSE_SQL_FAULTS", "{}")
    stack = Stack(folder)
    stack.up()
    lakehouse = Lakehouse(stack)
    try:
        source.load(stack.endpoints().source.dsn("retail"), "tiny")
        for dag_id in ("apply_platform", DAG):
            lakehouse.airflow.wait_for_dag(dag_id)
        lakehouse.airflow.unpause("apply_platform")
        lakehouse.green("apply_platform")
        lakehouse.airflow.unpause(DAG)
        yield lakehouse
    finally:
        stack.down() if kept else stack.reset()


@pytest.fixture(scope="session")
def first_run(platform: Lakehouse) -> str:
    """The run that unpausing schedules for the last interval, or, on a kept platform, one of our own."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        unfinished = [run for run in platform.airflow.runs(DAG) if run["state"] in ("queued", "running")]
        if unfinished:
            run_id = str(unfinished[0]["dag_run_id"])
            assert platform.airflow.wait_for_run(DAG, run_id, RUN_SECONDS) == "success", platform.why(run_id)
            return run_id
        time.sleep(0.5)
    return platform.green()


@pytest.fixture
def lakehouse(platform: Lakehouse, first_run: str) -> Lakehouse:
    """The platform with a published gold layer."""
    return platform
