"""Times as Dremio writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

NEVER = "1969-12-31T23:59:59.999Z"  # -1 ms, Dremio's "never"


_ahead = timedelta(0)


def advance(by: timedelta) -> None:
    """Let all that follows happen so much later: for tests of what takes hours or days."""
    global _ahead
    _ahead += by


def now() -> datetime:
    """UTC, cut to milliseconds: what the REST API can express, so that a value survives a round trip."""
    moment = datetime.now(UTC) + _ahead
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def iso(moment: datetime | None) -> str:
    """`2026-01-31T23:59:59.123Z`; None is Dremio's never."""
    if moment is None:
        return NEVER
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def epoch_ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
