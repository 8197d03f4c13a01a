"""What starts the command line in tests, and the declaration that it reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from include.backup.settings import Backup, Login
from include.paths import PROJECT


class Command:
    """`python -m include.backup`, as a process of its own; `dies_at` names the point at which it is killed."""

    def __init__(self, backup: Backup, secret: str, **environment: str) -> None:
        store = backup.store
        login: Login = backup.instances["source"].login
        connections = {
            "backup_s3": {
                "login": store.access_key,
                "password": store.secret_key,
                "extra": {"endpoint_url": store.endpoint, "bucket": store.bucket},
            },
            "backup_key": {"password": secret},
            **{
                conn_id: {"host": one.host, "port": one.port, "login": one.login, "password": one.password}
                for conn_id, one in (("backup_source", login), ("admin_source", backup.admins["source"]))
                if one is not None
            },
        }
        self._environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            **{f"AIRFLOW_CONN_{name.upper()}": json.dumps(item) for name, item in connections.items()},
            **environment,
        }

    def run(self, file: Path, *arguments: str, dies_at: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "include.backup", *arguments],
            cwd=PROJECT,
            env=self._with(file, dies_at),
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )

    def start(self, file: Path, *arguments: str, dies_at: str = "") -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "include.backup", *arguments], cwd=PROJECT, env=self._with(file, dies_at)
        )

    def _with(self, file: Path, dies_at: str) -> dict[str, str]:
        return self._environment | {"LAKEHOUSE_BACKUP_FILE": str(file), "LAKEHOUSE_UPKEEP_KILL_AT": dies_at}


def declare(backup: Backup, folder: Path) -> Path:
    """A backup.yaml for the source alone."""
    file = folder / "backup.yaml"
    declared = {
        "store": {"connection": "backup_s3", "bucket": backup.store.bucket, "prefix": backup.store.prefix},
        "key": {"connection": "backup_key"},
        "postgres": {"source": {"connection": "backup_source", "admin": "admin_source"}},
    }
    file.write_text(json.dumps(declared))
    return file
