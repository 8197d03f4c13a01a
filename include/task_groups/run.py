"""What opens and closes a run: its mode, its lease, its receipt."""

from __future__ import annotations

import datetime as dt
from typing import Any

from airflow.sdk import PokeReturnValue, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

from include import connections, ledger
from include.connections import LEDGER
from include.settings import SETTINGS
from include.specs.pipeline import Pipeline

# Where a run decides what it builds upon: where its change log is folded, or else where it begins.
LEASE_TASK, FOLD_TASK = "acquire_lease", "prepare_fold"
TURN = "turn"


def holder() -> str:
    """Who holds a lease: this DAG run, whichever task or try asks."""
    run = get_current_context()["dag_run"]
    return f"{run.dag_id}/{run.run_id}"


def run_type() -> str:
    """scheduled, manual, backfill or asset_triggered. Airflow gives tasks an enum whose str() is not its value."""
    return str(get_current_context()["dag_run"].run_type.value)


def is_backfill() -> bool:
    return run_type() == "backfill"


def hold(pipeline: str) -> int:
    """Takes or renews the pipeline's lease for this run; gives the fencing token, raises LeaseHeldError."""
    with connections.connect(LEDGER) as conn:
        return ledger.hold_lease(conn, pipeline, holder(), SETTINGS.lease_seconds)


class OvertakenError(AirflowFailException):
    """Another run held the lease since this one decided what to build; the message says from where to clear it.

    Another try would find the same, so there is none.
    """


def decide_turn(pipeline: str) -> int:
    """Takes or renews the lease for what this run decides now; `go_on` tells whether it still holds for that."""
    token = hold(pipeline)
    get_current_context()["ti"].xcom_push(key=TURN, value=token)
    return token


def go_on(pipeline: str) -> int:
    """Renews the lease for a step that builds upon what this run decided before; gives the fencing token.

    Raises LeaseHeldError, or OvertakenError when another run had the lease in between: it may have rolled silver back,
    or published, and what was decided before builds upon what is no more. So it is when an older run's red task is
    cleared.
    """
    token, ti = hold(pipeline), get_current_context()["ti"]
    decided = ti.xcom_pull(task_ids=FOLD_TASK, key=TURN)
    first = FOLD_TASK if decided is not None else LEASE_TASK
    if decided is None:
        decided = ti.xcom_pull(task_ids=LEASE_TASK)
    if decided != token:
        raise OvertakenError(
            f"another run of '{pipeline}' had the lease since this one decided what to build. Clear this run from its "
            f"task {first} on: it then builds upon what is published now"
        )
    return token


def acquire(pipeline: Pipeline) -> Any:
    @task.sensor(
        task_id=LEASE_TASK, mode="reschedule", poke_interval=5, timeout=pipeline.timeout.total_seconds(), retries=5
    )
    def acquire_lease() -> PokeReturnValue:
        """Waits until no other run of this pipeline builds or publishes."""
        try:
            return PokeReturnValue(is_done=True, xcom_value=hold(pipeline.name))
        except ledger.LeaseHeldError as error:
            print(f"waiting: {error}")
            return PokeReturnValue(is_done=False)

    return acquire_lease()


def release(pipeline: Pipeline) -> Any:
    @task(task_id="release_lease")
    def release_lease() -> None:
        with connections.connect(LEDGER) as conn:
            ledger.release_lease(conn, pipeline.name, holder())

    return release_lease()


def choose(ingest_tasks: list[str]) -> Any:
    @task.branch(task_id="choose_mode")
    def choose_mode() -> list[str]:
        """A backfill rebuilds its interval from bronze; only the param `resync` makes it touch the source."""
        context = get_current_context()
        if is_backfill() and not context["params"].get("resync"):
            print("backfill: the source is not touched, bronze is enough")
            return []
        return ingest_tasks

    return choose_mode()


def receipt(pipeline: Pipeline) -> Any:
    @task(task_id="receipt")
    def receipt() -> dict[str, Any]:
        """Sums up the run: inputs, counts, positions, snapshots, reflections, durations."""
        context = get_current_context()
        run, ti = context["dag_run"], context["ti"]

        def pull(task_id: str) -> Any:
            return ti.xcom_pull(task_ids=task_id)

        syncs = [fact for group in pipeline.groups for fact in (pull(f"ingest.{group.name}.record") or [])]
        facts = {
            "pipeline": pipeline.name,
            "dag_id": run.dag_id,
            "run_id": run.run_id,
            "run_type": run_type(),
            "interval": [str(context.get(f"data_interval_{end}") or "") for end in ("start", "end")],
            "started": run.start_date,
            "finished": dt.datetime.now(dt.UTC),
            "syncs": syncs,
            "streams": pull("reconcile"),
            "layers": pull("audit"),
            "reflections": pull("refresh_reflections"),
            "published": pull("publish"),
            "serving": pull("prepare_fold"),
            "locations": {
                "bronze": f"s3://lakehouse/{pipeline.bronze_source}/{pipeline.source_schema}/",
                "silver": "dremio://lakehouse/silver/",
                "gold": "dremio://lakehouse/gold/",
            },
        }
        with connections.connect(LEDGER) as conn:
            ledger.write_receipt(conn, run.dag_id, run.run_id, facts)
        return {key: value if isinstance(value, (list, dict)) else str(value) for key, value in facts.items()}

    return receipt()
