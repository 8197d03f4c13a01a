"""`python -m embedded.replication`: serve until SIGTERM."""

from __future__ import annotations

import logging
import sys

import psycopg
import uvicorn

from embedded.replication.app import create_app
from embedded.replication.scratch import ScratchError
from embedded.replication.settings import SettingsError, load


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # its retries are reported by the calls that fail
    try:
        settings = load()
        app = create_app(settings)
    except (SettingsError, ScratchError) as error:
        print(f"replication server: {error}", file=sys.stderr)
        return 2
    except psycopg.Error as error:
        print(f"replication server: the state database cannot be used: {error}", file=sys.stderr)
        return 1
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=30,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
