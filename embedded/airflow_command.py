"""`python -m embedded.airflow_command ...`: any `airflow` command with the settings of the embedded platform's Airflow.

For example `backfill create --dag-id retail_batch --from-date 2017-03-01 --to-date 2017-03-02`.
"""

from __future__ import annotations

import os
import sys

from embedded.airflow import API, Airflow, AirflowError
from embedded.programs import INHERITED
from embedded.stack import Stack, StackError


def main(arguments: list[str]) -> None:
    """Becomes the command. Exits with a message when the platform was never started."""
    try:
        endpoints = Stack().endpoints()
        airflow = Airflow(endpoints.home, endpoints.ports[API], endpoints.platform.dsn("airflow"), endpoints.secrets)
        program = airflow.venv / "bin" / "airflow"
    except (StackError, AirflowError) as error:
        sys.exit(str(error))
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    os.execve(program, ["airflow", *arguments], inherited | airflow.environment())


if __name__ == "__main__":
    main(sys.argv[1:])
