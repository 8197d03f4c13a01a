"""rclone as a peer: from its wheel, in a throw-away venv of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]


def install(folder: Path) -> str:
    """The program's path."""
    venv = folder / "rclone"
    uv = PROJECT / ".venvs" / "uv" / "bin" / "uv"
    subprocess.run([uv, "venv", "--quiet", venv, "--python", sys.executable], check=True)
    requirements = Path(__file__).with_name("requirements.txt")
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", venv / "bin" / "python", "-r", requirements], check=True
    )
    return str(venv / "bin" / "rclone")


def environment(home: Path, stores: Mapping[str, Any]) -> dict[str, str]:
    """Its settings, with object stores as remotes by their (lower case) names."""
    found = {"PATH": os.environ["PATH"], "HOME": str(home), "RCLONE_CONFIG": "/dev/null"}
    for name, store in stores.items():
        values = {
            "TYPE": "s3",
            "PROVIDER": "Other",
            "ENDPOINT": store.endpoint_url,
            "ACCESS_KEY_ID": store.access_key,
            "SECRET_ACCESS_KEY": store.secret_key,
            "REGION": "us-east-1",
        }
        found |= {f"RCLONE_CONFIG_{name.upper()}_{key}": value for key, value in values.items()}
    return found
