"""Where reports are kept: one object a report, day and format; drawing a day again replaces it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BUCKET = "lakehouse"
PREFIX = "reports"
_TYPES = {".pdf": "application/pdf", ".png": "image/png"}


def keep(s3: Any, report: str, day: dt.date, files: Sequence[Path]) -> list[str]:
    """Uploads the files with a boto3 client; gives their addresses."""
    kept = []
    for file in files:
        key = f"{PREFIX}/{report}/{day.isoformat()}{file.suffix}"
        s3.put_object(Bucket=BUCKET, Key=key, Body=file.read_bytes(), ContentType=_TYPES[file.suffix])
        kept.append(f"s3://{BUCKET}/{key}")
    return kept
