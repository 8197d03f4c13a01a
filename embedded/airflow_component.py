"""Runs inside Airflow's own environment: starts a component with the libraries that every task imports already loaded.

The scheduler forks a process for each task and the dag-processor one for each file. They share what they find imported;
otherwise each of them spends more than a CPU-second on Cosmos and the providers alone. Modules of the bundle itself are
left out: the next task must see a changed file. Run with `-P`: the modules beside this file must not shadow those of
others.
"""

from __future__ import annotations

import importlib
import sys

PRELOADED = (
    "airflow.providers.airbyte.operators.airbyte",
    "airflow.providers.amazon.aws.assets.s3",
    "airflow.providers.amazon.aws.hooks.s3",
    "airflow.providers.common.io.assets.file",
    "airflow.providers.postgres.assets.postgres",
    "airflow.providers.standard.decorators.branch_python",
    "airflow.providers.standard.decorators.python",
    "airflow.providers.standard.decorators.sensor",
    "cosmos.airflow.task_group",
    "cosmos.converter",
    "cosmos.operators.local",
    "cosmos.operators.watcher",
    "cosmos.plugin.airflow3",
    "cosmos.profiles",
    "psycopg",
)


def main() -> None:
    from airflow.__main__ import main as airflow  # type: ignore[import-not-found]  # in another venv

    for name in PRELOADED:
        importlib.import_module(name)
    sys.argv[0] = "airflow"
    airflow()


if __name__ == "__main__":
    main()
