"""The one-row results of statements that are not queries (dremio.md 1.3)."""

from __future__ import annotations

import pyarrow as pa


def ok(summary: str, *, success: bool = True) -> pa.Table:
    """DDL: {ok, summary}."""
    return pa.table({"ok": pa.array([success], pa.bool_()), "summary": pa.array([summary], pa.string())})


def records(count: int) -> pa.Table:
    """DML and CTAS: {Records}."""
    return pa.table({"Records": pa.array([count], pa.int64())})
