"""A small client of Airflow's public REST API (v2), for the demo and the end-to-end tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_exponential

FINISHED = frozenset({"success", "failed"})
# Airflow spends a tenth of a second on listing a run's tasks.
LOOK_SECONDS = 1.0
# It clears and makes all runs of a backfill before it answers: a month took a minute and a half.
BACKFILL_SECONDS = 900
DONE_TASKS = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


class RunTimeoutError(Exception):
    """A DAG run did not finish in time; the message lists its unfinished tasks."""


class AirflowClient:
    """Signs in with FAB's user and password; signs in again when the token has run out."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url.rstrip("/")
        self._credentials = {"username": user, "password": password}
        self._http = httpx.Client(base_url=self.url, timeout=60)

    def _sign_in(self) -> None:
        answer = self._http.post("/auth/token", json=self._credentials)
        answer.raise_for_status()
        self._http.headers["authorization"] = f"Bearer {answer.json()['access_token']}"

    @retry(
        retry=retry_if_exception_type(httpx.TransportError),
        stop=stop_after_delay(120),
        wait=wait_exponential(0.2, max=3),
        reraise=True,
    )
    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """One call below /api/v2; raises httpx.HTTPStatusError with Airflow's own words in it."""
        return self._request(method, f"/api/v2{path}", **arguments)

    def page(self, path: str) -> str:
        """A page that a plugin serves."""
        return self._request("GET", path).text

    def _request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        if "authorization" not in self._http.headers:
            self._sign_in()
        answer = self._http.request(method, path, **arguments)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            self._sign_in()
            answer = self._http.request(method, path, **arguments)
        if answer.is_error:
            raise httpx.HTTPStatusError(
                f"{method} {path}: {answer.status_code} {answer.text[:500]}", request=answer.request, response=answer
            )
        return answer

    def json(self, method: str, path: str, **arguments: Any) -> Any:
        return self.request(method, path, **arguments).json()

    def wait_for_dag(self, dag_id: str, timeout: float = 120) -> None:
        """Waits until the dag-processor has parsed the DAG; raises with its import errors when it does not come."""
        end = time.monotonic() + timeout
        while True:
            try:
                self.request("GET", f"/dags/{dag_id}")
                return
            except httpx.HTTPStatusError as error:
                if error.response.status_code != httpx.codes.NOT_FOUND:
                    raise
                if time.monotonic() > end:
                    broken = self.json("GET", "/importErrors")["import_errors"]
                    reasons = "\n".join(item["stack_trace"] for item in broken) or "no import error was reported"
                    raise RunTimeoutError(f"DAG {dag_id} did not appear in {timeout:.0f} s: {reasons}") from None
            time.sleep(0.5)

    def unpause(self, dag_id: str) -> None:
        self.request("PATCH", f"/dags/{dag_id}", json={"is_paused": False})

    def pause(self, dag_id: str) -> None:
        """Starts no more runs; those under way go on."""
        self.request("PATCH", f"/dags/{dag_id}", json={"is_paused": True})

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Starts a run now; gives its run id."""
        body = {"logical_date": None, "conf": dict(conf or {})}
        return str(self.json("POST", f"/dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        return dict(self.json("GET", f"/dags/{dag_id}/dagRuns/{run_id}"))

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        return list(self.json("GET", f"/dags/{dag_id}/dagRuns", params={"limit": 100})["dag_runs"])

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        answer = self.json("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances", params={"limit": 200})
        return list(answer["task_instances"])

    def wait_for_run(
        self,
        dag_id: str,
        run_id: str,
        timeout: float,
        on_tasks: Callable[[list[dict[str, Any]]], None] = lambda tasks: None,
    ) -> str:
        """Waits for the end of a run, showing `on_tasks` its tasks at every look; gives success or failed."""
        end = time.monotonic() + timeout
        while True:
            state = self.run(dag_id, run_id)["state"]
            tasks = self.tasks(dag_id, run_id)
            on_tasks(tasks)
            if state in FINISHED:
                return str(state)
            if time.monotonic() > end:
                open_tasks = {t["task_id"]: t["state"] for t in tasks if t["state"] not in DONE_TASKS}
                raise RunTimeoutError(f"{dag_id} {run_id} is {state} after {timeout:.0f} s; unfinished: {open_tasks}")
            time.sleep(LOOK_SECONDS)

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int) -> str:
        """The text of one try's log."""
        answer = self.json(
            "GET",
            f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}",
            params={"full_content": "true"},
        )
        lines = []
        for line in answer["content"]:
            event = line if isinstance(line, str) else line.get("event", "")
            detail = (
                ""
                if isinstance(line, str)
                else " ".join(
                    f"{e.get('exc_type', '')}: {e.get('exc_value', '')}" for e in line.get("error_detail") or []
                )
            )
            lines.append(f"{event} {detail}".rstrip())
        return "\n".join(lines)

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.json("GET", path, params={"deserialize": "true"})["value"]

    def backfill(self, dag_id: str, first: str, last: str, conf: Mapping[str, Any] | None = None) -> int:
        """Backfills all intervals from `first` to `last` (ISO times), done ones too; gives the backfill's id."""
        body = {
            "dag_id": dag_id,
            "from_date": first,
            "to_date": last,
            "reprocess_behavior": "completed",
            "max_active_runs": 1,
            "run_backwards": False,
            "dag_run_conf": dict(conf or {}),
        }
        return int(self.json("POST", "/backfills", json=body, timeout=BACKFILL_SECONDS)["id"])

    def backfill_done(self, backfill_id: int) -> bool:
        return self.json("GET", f"/backfills/{backfill_id}")["completed_at"] is not None
