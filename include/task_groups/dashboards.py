"""After publication: what people see next is today's, and it is there at once."""

from __future__ import annotations

from typing import Any

from airflow.sdk import get_current_context, task

from include import connections, dashboards, ledger
from include.connections import LEDGER, SUPERSET
from include.publication import datasets
from include.specs.pipeline import Pipeline
from lakehouse_providers.superset.hook import SupersetHook


def warm(pipeline: Pipeline) -> Any:
    @task(task_id="warm_dashboards", retries=2)
    def warm_dashboards() -> dict[str, Any]:
        """Forgets what Superset has cached of the published datasets and asks each chart once.

        After the receipt, and noted there: what is published stays published when Superset is down.
        """
        reason = connections.absent(SUPERSET)
        if reason:
            facts: dict[str, Any] = {"skipped": reason}
        else:
            with SupersetHook(SUPERSET).client() as client:
                facts = dashboards.warm(client, {dataset.id for dataset in datasets(pipeline.name)})
        run = get_current_context()["dag_run"]
        with connections.connect(LEDGER) as conn:
            ledger.note_in_receipt(conn, run.dag_id, run.run_id, "dashboards", facts)
        print(facts)
        return facts

    return warm_dashboards()
