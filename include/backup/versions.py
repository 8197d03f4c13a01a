"""The configuration part of a set: what was declared and installed, and fingerprints of the keys kept elsewhere."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from include.backup.drill import fingerprint
from include.backup.manifest import File
from include.backup.programs import Programs
from include.backup.sets import SetWriter
from include.backup.settings import Backup
from include.paths import INCLUDE, PROJECT

PART = "configuration"
_PACKAGES = ("apache-airflow", "apache-airflow-providers-fab", "astronomer-cosmos", "psycopg", "cryptography", "boto3")
_DECLARED = (
    "include/platform",
    "include/pipelines",
    "include/backup.yaml",
    "airflow_settings.yaml",
    "requirements.txt",
)
# Secrets that a restore needs and no set holds: the variable each is read from.
_SECRETS = {
    "superset_secret_key": "SUPERSET_SECRET_KEY",
    "airflow_api_secret_key": "AIRFLOW__API__SECRET_KEY",
}


def part(writer: SetWriter, files: list[File], backup: Backup, programs: Programs) -> Mapping[str, Any]:
    """Writes the declared state as one JSON file; gives versions, fingerprints and the bundle's commit."""
    declared = {name: text for root in _DECLARED for name, text in _texts(root)}
    with writer.file(PART, "declared.json", files) as file:
        file.write(json.dumps(declared, sort_keys=True).encode())
    secrets = {name: os.environ.get(variable, "") for name, variable in _SECRETS.items()}
    secrets["fernet_key"] = backup.fernet_key.split(",")[0]
    return {
        "fingerprints": {name: fingerprint(secret) for name, secret in secrets.items() if secret},
        "commit": commit(),
        "tools": tools(programs),
        "declared_sha256": hashlib.sha256(json.dumps(declared, sort_keys=True).encode()).hexdigest(),
    }


def tools(programs: Programs) -> dict[str, str]:
    """Versions of what makes and restores sets."""
    found = {"python": platform.python_version(), "postgres programs": str(programs.major)}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Of the bundle, empty where it is no checkout: an image's version is that of its requirements."""
    if given := os.environ.get("LAKEHOUSE_BUNDLE_COMMIT"):
        return given
    done = (
        subprocess.run(["git", "-C", str(PROJECT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        if (PROJECT / ".git").exists()
        else None
    )
    return done.stdout.strip() if done and done.returncode == 0 else ""


def _texts(root: str) -> list[tuple[str, str]]:
    place = PROJECT / root
    found = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
    return [(str(path.relative_to(INCLUDE.parent)), path.read_text(encoding="utf-8")) for path in found]
