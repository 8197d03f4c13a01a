"""`python -m embedded.sql`: the Dremio-compatible server. Configuration: LAKEHOUSE_SQL_* (settings.py)."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

import psycopg
import uvicorn

from embedded.sql.catalog.vault import VaultError
from embedded.sql.database import DatabaseError
from embedded.sql.datasets import Catalog
from embedded.sql.engine import Engine as DuckEngine
from embedded.sql.engine_port import Engine
from embedded.sql.errors import SqlError
from embedded.sql.server import SqlServer
from embedded.sql.settings import SettingsError, from_environment

log = logging.getLogger("embedded.sql")


def make_engine(catalog: Catalog, scratch: Path, memory_limit: str, threads: int) -> Engine:
    return DuckEngine(catalog, scratch=scratch, memory_limit=memory_limit, threads=threads)


def main() -> int:
    """Serve until SIGTERM. Exit code 2: it could not start, and the last line says why."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("botocore", "boto3", "urllib3", "pyiceberg", "psycopg.pool"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        settings = from_environment()
        server = SqlServer(settings, make_engine)
        server.start(on_lost=_leave)
    except (SettingsError, DatabaseError, VaultError, SqlError, psycopg.Error, OSError) as error:
        print(f"The SQL server cannot start: {str(error).strip()}", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn stops at these and raises them again afterwards: then it is our turn to stop cleanly.
        signal.signal(number, _noted)
    try:
        log.info("Serving on http://%s:%d, edition %s", settings.host, settings.port, settings.edition)
        uvicorn.run(
            server.application(),
            host=settings.host,
            port=settings.port,
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=5,
            # Clients keep their connections between statements: closing one just as it is used again loses a request,
            # and dbt-dremio does not repeat it (seen with uvicorn's default of 5 s).
            timeout_keep_alive=600,
            server_header=False,
        )
    finally:
        server.stop()
    return 0


def _noted(number: int, frame: FrameType | None) -> None:
    log.info("Stopping: %s", signal.Signals(number).name)


def _leave(reason: str) -> None:
    log.critical("Stopping: %s", reason)
    os.kill(os.getpid(), signal.SIGTERM)


def _leave_now(code: int) -> NoReturn:
    """End at once: a Flight client that has stopped reading keeps a thread of gRPC's for ever, and a normal end waits.

    Everything is stopped and durable by now.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    try:
        status = main()
    except SystemExit as refused:  # uvicorn's, when it cannot serve
        status = refused.code if isinstance(refused.code, int) else 1
    _leave_now(status)
