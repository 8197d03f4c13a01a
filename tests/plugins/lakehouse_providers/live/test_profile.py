"""The profile that Cosmos gets is one that unmodified dbt-dremio logs in with."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lakehouse_providers.dremio.profile import DremioProfileMapping

pytestmark = pytest.mark.contract
DBT = Path(__file__).resolve().parents[4] / ".venvs" / "dbt" / "bin" / "dbt"


def test_dbt_connects_with_it(dremio_connection: Any, tmp_path: Path) -> None:
    mapping = DremioProfileMapping(
        conn_id="dremio",
        profile_args={
            "object_storage_source": "lake",
            "object_storage_path": "silver",
            "dremio_space": "lakehouse",
            "dremio_space_folder": "silver",
        },
    )
    (tmp_path / "profiles.yml").write_text(mapping.get_profile_file_contents("probe"))
    (tmp_path / "dbt_project.yml").write_text("name: probe\nversion: '1.0'\nprofile: probe\n")
    command: list[str | Path] = [DBT, "--no-use-colors", "--no-send-anonymous-usage-stats", "debug"]
    done = subprocess.run(
        [*command, "--profiles-dir", ".", "--project-dir", "."],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **mapping.env_vars},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All checks passed!" in done.stdout
