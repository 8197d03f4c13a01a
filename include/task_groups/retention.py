"""Retention's tasks: plan, apply what is due, ask a person for the rest. The library is include/retention."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import get_current_context, task

from include import connections, ledger, upkeep
from include.connections import DREMIO, LEDGER, OFFSITE, STORE
from include.retention import apply as application
from include.retention import plan as plans
from include.retention import report, rules
from include.retention.model import RetentionError
from include.retention.services import Connect, Services, backup_store, connector
from include.task_groups.run import holder
from include.task_groups.turns import PATIENT

POOL = "upkeep"
METADATA, ELASTICSEARCH = "airflow_metadata", "elasticsearch"


class PlanBlockedError(RetentionError):
    """A guard forbids what a rule would delete; the message names rule and reason."""


def _optional(conn_id: str) -> Any:
    """The connection, or None where nobody has made it: its rules are skipped then."""
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return Connection.get(conn_id)
    except AirflowNotFoundException:
        return None


def store(conn_id: str) -> Any:
    """A boto3 client of an `aws` connection, or None."""
    from include.retention.services import s3_client

    found = _optional(conn_id)
    if found is None:
        return None
    extra = found.extra_dejson
    return s3_client(
        str(extra.get("endpoint_url") or ""),
        found.login or "",
        found.password or "",
        str(extra.get("region_name") or "us-east-1"),
    )


def _sql() -> Any:
    from lakehouse_providers.dremio.hook import DremioHook

    return DremioHook(DREMIO).run_sql if _optional(DREMIO) is not None else None


def _elasticsearch() -> Any:
    import httpx

    found = _optional(ELASTICSEARCH)
    if found is None:
        return None
    host = str(found.host or "")
    url = host if "://" in host else f"{found.schema or 'https'}://{host}:{found.port or 9200}"
    return httpx.Client(base_url=url, auth=(found.login, found.password or "") if found.login else None, timeout=60)


def _metadata() -> Connect | None:
    return connector(connections.dsn(METADATA)) if _optional(METADATA) is not None else None


def _clean(before: str) -> None:
    """`airflow db clean` in a process of its own: a task itself may not open Airflow's database."""
    found = _optional(METADATA)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("_AIRFLOW_")},
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": found.get_uri().replace("postgres://", "postgresql+psycopg2://", 1),
    }
    command = [str(Path(sys.executable).with_name("airflow")), "db", "clean", "--clean-before-timestamp", before]
    done = subprocess.run(
        [*command, "--skip-archive", "--yes"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=3600,
    )
    print(done.stdout[-4000:])
    if done.returncode:
        raise RetentionError(f"`airflow db clean` failed: {done.stderr.strip()[-1000:]}")


def _logs() -> Path | None:
    from airflow.sdk.configuration import conf

    folder = Path(str(conf.get("logging", "base_log_folder", fallback="") or ""))
    return folder if folder.is_absolute() and folder.is_dir() else None


def services() -> Services:
    """Everything that retention works on, from Airflow's connections; what is not there is None."""
    return Services(
        ledger=lambda: connections.connect(LEDGER),
        s3=store(STORE),
        offsite=store(OFFSITE),
        sql=_sql(),
        airflow=_metadata(),
        clean_airflow=_clean,
        airflow_logs=_logs(),
        elasticsearch=_elasticsearch(),
        backups=backup_store(),
    )


def make_plan() -> Any:
    @task(task_id="plan", pool=POOL, **PATIENT)
    def plan() -> dict[str, Any]:
        """Looks at everything and stores what may go, for a person to read. Deletes nothing."""
        use, declared = services(), rules.load()
        with upkeep.turn(use.ledger, holder()) as turn:
            number = plans.make(use, declared, holder(), turn)
        return _facts(use, number)

    return plan()


def _facts(use: Services, number: int) -> dict[str, Any]:
    with use.ledger() as conn:
        made = report.read(conn, number)
    text = report.markdown(made)
    print(text)
    return {"plan": number, "asks": report.asks(made), "blocked": report.blocked(made), "text": text}


def apply_due(task_id: str) -> Any:
    @task(task_id=task_id, pool=POOL, trigger_rule="none_failed", **PATIENT)
    def apply_due() -> dict[str, Any]:
        """Deletes what is planned, allowed and due, of this plan and of earlier ones."""
        use, declared = services(), rules.load()
        with upkeep.turn(use.ledger, holder()) as turn:
            freed = application.run(use, declared, turn)
        for name, outcome in freed:
            print(f"{name}: {outcome.deleted} deleted, {report.size(outcome.bytes)} freed")
        return {name: vars(outcome) for name, outcome in freed}

    return apply_due()


def choose(ask: str, otherwise: str) -> Any:
    @task.branch(task_id="choose")
    def choose(made: dict[str, Any]) -> str:
        """Only what exceeds a rule's limits waits for a person."""
        return ask if made["asks"] else otherwise

    return choose


def ask() -> Any:
    """The plan on Airflow's page of required actions. No answer within the time is a refusal; so is a rejection."""
    return ApprovalOperator(
        task_id="approve",
        subject="Retention asks: may plan {{ ti.xcom_pull(task_ids='plan')['plan'] }} delete what exceeds its limits?",
        body="{{ ti.xcom_pull(task_ids='plan')['text'] }}",
        defaults="Reject",
        response_timeout=dt.timedelta(hours=20),
        retries=0,
    )


def record_approval() -> Any:
    @task(task_id="record_approval")
    def record_approval(made: dict[str, Any], answer: dict[str, Any]) -> list[str]:
        """Writes into the ledger who allowed it; only then is it due."""
        user = answer.get("responded_by_user") or {}
        who = str(user.get("name") or user.get("id") or "Airflow")
        with connections.connect(LEDGER) as conn:
            return plans.decide(conn, int(made["plan"]), who, approve=True)

    return record_approval


def finish() -> Any:
    @task(task_id="report", trigger_rule="all_done")
    def report_(made: dict[str, Any] | None) -> None:
        """The plan with what was freed, as a receipt. Fails when a guard blocked a rule: somebody has to look."""
        run = get_current_context()["dag_run"]
        if not made:
            raise RetentionError("there is no plan: see the task `plan`")
        with connections.connect(LEDGER) as conn:
            done = report.read(conn, int(made["plan"]))
            print(report.markdown(done))
            ledger.write_receipt(conn, run.dag_id, run.run_id, {"plan": made["plan"], "sections": done["sections"]})
        if made["blocked"]:
            raise PlanBlockedError(
                f"plan {made['plan']} is blocked for {', '.join(made['blocked'])}: docs/runbooks/retention.md"
            )

    return report_
