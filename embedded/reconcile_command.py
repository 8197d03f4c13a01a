"""`python -m embedded.reconcile_command plan|apply|drift ...`: `include.reconcile` on the embedded platform.

It gets the connections of `airflow_settings.yaml`, with the addresses and credentials of what runs here, in its
environment, as a terminal on a cluster would.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping

from embedded import connections
from embedded.airflow import API, Airflow, AirflowError
from embedded.endpoints import Endpoints
from embedded.home import PROJECT
from embedded.programs import INHERITED
from embedded.stack import Stack, StackError


def environment(endpoints: Endpoints) -> dict[str, str]:
    """AIRFLOW_CONN_* for every declared connection. Contains credentials."""
    items = connections.declared(connections.FILE, endpoints.connections())
    return {
        f"AIRFLOW_CONN_{item.name.upper()}": json.dumps(_fields(item.body))
        for item in items
        if item.kind == "connections"
    }


def _fields(body: Mapping[str, object]) -> dict[str, object]:
    given = {key: value for key, value in body.items() if key != "connection_id" and value not in (None, "")}
    return {**given, "extra": json.loads(str(body["extra"]))}


def main(arguments: list[str]) -> None:
    """Becomes the command. Exits with a message when the platform was never started."""
    try:
        endpoints = Stack().endpoints()
        airflow = Airflow(endpoints.home, endpoints.ports[API], endpoints.platform.dsn("airflow"), endpoints.secrets)
        python = airflow.venv / "bin" / "python"
        own = airflow.environment() | environment(endpoints)
    except (StackError, AirflowError, connections.SettingsError) as error:
        sys.exit(str(error))
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    os.chdir(PROJECT)
    os.execve(python, [str(python), "-m", "include.reconcile", *arguments], inherited | own)


if __name__ == "__main__":
    main(sys.argv[1:])
