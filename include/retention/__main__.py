from __future__ import annotations

from include.retention.cli import app

app()
