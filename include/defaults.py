"""Arguments every DAG shares; a DAG shows only what is special about it."""

from __future__ import annotations

import datetime as dt
from typing import Any

from airflow.sdk import Param

from include.alerts import on_failure

TASK_DEFAULTS: dict[str, Any] = {
    "owner": "data-platform",
    "retries": 2,
    "retry_delay": dt.timedelta(seconds=15),
    "retry_exponential_backoff": True,
    "max_retry_delay": dt.timedelta(minutes=5),
    "execution_timeout": dt.timedelta(hours=2),
}

DAG_DEFAULTS: dict[str, Any] = {
    "default_args": TASK_DEFAULTS,
    "catchup": False,
    "max_active_runs": 1,
    "on_failure_callback": on_failure,
}

# What the building blocks of a batch lane read (run.choose, transform.ENVIRONMENT).
BATCH_PARAMS: dict[str, Param] = {
    "resync": Param(False, type="boolean", description="A backfill also replicates from the source"),
    "full_rebuild": Param(False, type="boolean", description="Rebuild every interval of silver and gold"),
}
