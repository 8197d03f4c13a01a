"""Where things of this project lie, found from this file so that versioned bundles and images agree."""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
INCLUDE = PROJECT / "include"
PIPELINES = INCLUDE / "pipelines"
PLATFORM = INCLUDE / "platform"
DBT_PROJECT = PROJECT / "dbt" / "lakehouse"
DBT_MANIFEST = DBT_PROJECT / "target" / "manifest.json"
