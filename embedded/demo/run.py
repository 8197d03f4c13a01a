"""`make demo`: from a stopped machine to published gold tables, told while it happens.

    python -m embedded.demo.run --scale tiny|default|full

Safe to repeat: what runs is left running, what is loaded is not loaded again, and another run of the batch lane finds
nothing new to replicate.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import httpx
import psycopg
import typer
from rich.console import Console
from rich.markup import escape

from embedded.__main__ import EXPECTED
from embedded.airflow import USER
from embedded.airflow_client import AirflowClient, RunTimeoutError
from embedded.console import Progress
from embedded.demo import follow, source, summary
from embedded.demo.source import Scale, SourceError
from embedded.demo.storage import sizes
from embedded.endpoints import Endpoints
from embedded.stack import Stack
from embedded.superset import USER as SUPERSET_USER

APPLY = "apply_platform"
BATCH = "retail_batch"
SCHEDULED_SECONDS = 15.0  # within which Airflow starts the newest interval of a DAG that is switched on
RUN_SECONDS = 4 * 3600.0
SIGN_OF_LIFE = 5.0

console = Console(soft_wrap=True)


class DemoError(Exception):
    """The demo cannot go on; the message says why, and what to do."""


def say(text: str) -> None:
    console.print(text, markup=False, highlight=False)


def _heading(text: str) -> None:
    console.print(f"\n[bold]{escape(text)}[/]", highlight=False)


@contextlib.contextmanager
def _alive(what: str) -> Iterator[None]:
    """Names what is waited for, every few seconds, while the block runs."""
    ended = threading.Event()
    began = time.monotonic()

    def tell() -> None:
        while not ended.wait(SIGN_OF_LIFE):
            say(f"  ... {what}, {time.monotonic() - began:.0f} s")

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def load_source(dsn: str, scale: str) -> None:
    """Loads the sample. Raises DemoError when another scale was replicated from here before.

    Its rows keep their times of 2017: a cursor sync would not see those that a larger scale adds behind its cursor.
    """
    with psycopg.connect(dsn) as conn:
        there = source.loaded_scale(conn)
    if there not in (None, scale):
        raise DemoError(
            f"the platform holds the sample at scale {there}, and its layers were built from that.\n"
            f"`make demo SCALE={there}` goes on with it; `make reset` deletes it, then any scale can be loaded."
        )
    source.load(dsn, scale, lambda line: say(f"  {line.removeprefix('source: ')}"))


def choose_run(client: AirflowClient, dag_id: str) -> str:
    """The run to follow: one that is under way, or that Airflow starts as the DAG is switched on, or else a new one."""

    def under_way() -> str | None:
        params = {"state": ["queued", "running"], "order_by": "id"}
        runs = client.json("GET", f"/dags/{dag_id}/dagRuns", params=params)["dag_runs"]
        return str(runs[0]["dag_run_id"]) if runs else None

    dag = client.json("GET", f"/dags/{dag_id}")
    client.unpause(dag_id)
    end = time.monotonic() + SCHEDULED_SECONDS
    while dag["is_paused"] and dag["timetable_summary"] and not under_way() and time.monotonic() < end:
        time.sleep(0.5)
    return under_way() or client.trigger(dag_id)


def run_dag(client: AirflowClient, dag_id: str) -> str:
    """Follows a run to its end and gives its id. Raises DemoError with the end of the failed tasks' logs."""
    with _alive(f"Airflow reads the DAG {dag_id}"):
        client.wait_for_dag(dag_id)
        run_id = choose_run(client, dag_id)
    say(f"  {client.url}/dags/{dag_id}/runs/{run_id}")
    with follow.Follower(say) as follower:
        state = client.wait_for_run(dag_id, run_id, RUN_SECONDS, follower)
    if state != "success":
        raise DemoError(follow.failure(client, dag_id, run_id))
    return run_id


def _timed(heading: str, step: Callable[[], Any]) -> Any:
    _heading(heading)
    began = time.monotonic()
    result = step()
    say(f"  {heading.split(':')[0]} took {time.monotonic() - began:.1f} s")
    return result


def _up() -> Endpoints:
    with Progress(console) as progress:
        stack = Stack(report=progress)
        stack.up()
    return stack.endpoints()


def _show(client: AirflowClient, endpoints: Endpoints, run_id: str, seconds: float) -> None:
    receipt = client.xcom(BATCH, run_id, "receipt")
    # s3://<bucket>/<prefix>
    prefix = receipt["locations"]["bronze"].split("/", 3)[3]
    summary.show(console, receipt, client.tasks(BATCH, run_id), sizes(endpoints.object_store, prefix))
    _heading("Airflow is running")
    say(f"  {client.url}")
    say(f"  user {USER}, password {endpoints.secrets.airflow_admin_password}")
    if endpoints.superset_url:
        _heading("Superset is running")
        say(f"  {endpoints.superset_url}")
        say(f"  user {SUPERSET_USER}, password {endpoints.secrets.superset_admin_password}")
    _heading("Good to know")
    say(f"  data in {endpoints.home.root}")
    say("  make status shows every server, make down stops all of it and keeps the data")
    say(f"\nDone in {seconds:.0f} s")


def demo(scale: str) -> None:
    began = time.monotonic()
    endpoints: Endpoints = _timed("1 Platform: start what does not run yet", _up)
    client = AirflowClient(endpoints.airflow_url, USER, endpoints.secrets.airflow_admin_password)
    _timed(f"2 Source: The Complete Journey, scale {scale}", lambda: load_source(endpoints.source.dsn("retail"), scale))
    _timed(f"3 Declared state: DAG {APPLY}", lambda: run_dag(client, APPLY))
    run_id: str = _timed(f"4 Batch lane: DAG {BATCH}", lambda: run_dag(client, BATCH))
    _show(client, endpoints, run_id, time.monotonic() - began)


def main(scale: Annotated[Scale, typer.Option(help="How much of the sample is loaded.")] = Scale.default) -> None:
    """Start the platform, load the sample, run the batch lane, show the result."""
    try:
        demo(scale.value)
    except (DemoError, SourceError, RunTimeoutError, httpx.HTTPError, psycopg.Error, *EXPECTED) as error:
        Console(stderr=True, soft_wrap=True).print(f"\n{error}", style="red", markup=False, highlight=False)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        say("\ninterrupted; the platform and its run go on: make status shows it, make down stops it")
        raise typer.Exit(130) from None


if __name__ == "__main__":
    typer.run(main)
