"""gunicorn's configuration for Superset, read inside Superset's own venv."""

from __future__ import annotations

import os
from typing import Any

bind = os.environ["LAKEHOUSE_SUPERSET_BIND"]
# Two processes use two cores while their charts are computed; threads wait for the SQL server.
workers = 2
worker_class = "gthread"
threads = 8
timeout = 120
graceful_timeout = 15
# Loaded once and shared by the workers: half the memory and half the start.
preload_app = True
# Heartbeats must not wait for a slow disk.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None
accesslog = None


def post_fork(server: Any, worker: Any) -> None:
    """Connections that the application made before it was forked belong to the parent."""
    from superset.extensions import db  # in another venv

    application = server.app.wsgi()
    with application.app_context():
        db.engine.dispose(close=False)
