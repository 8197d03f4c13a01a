from __future__ import annotations

from include.mirror.cli import app

app()
