"""Whose time counts: the servers'. This machine's clock is only compared with theirs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from include.ledger import Connection
from include.retention.model import Finding
from include.retention.rules import Limits
from include.retention.services import Services


@dataclass(frozen=True)
class Reading:
    """The same moment on three clocks; `store` is None where the object store says nothing."""

    own: dt.datetime
    ledger: dt.datetime
    store: dt.datetime | None


Clock = Callable[[Services], Reading]


def read(services: Services) -> Reading:
    with services.ledger() as conn:
        row = conn.execute("select clock_timestamp() as at").fetchone()
    assert row is not None
    own = dt.datetime.now(dt.UTC)
    store = None
    if services.s3 is not None:
        reply = services.s3.list_objects_v2(Bucket=services.bucket, MaxKeys=1)
        sent = reply["ResponseMetadata"]["HTTPHeaders"].get("date")
        store = parsedate_to_datetime(sent) if sent else None
    return Reading(own, row["at"], store)


def findings(conn: Connection, reading: Reading, limits: Limits) -> list[Finding]:
    """What is wrong with the time: then nothing's age can be trusted."""
    found = []
    for name, other in (("this machine", reading.own), ("the object store", reading.store)):
        if other is not None and abs(other - reading.ledger) > limits.skew:
            found.append(
                Finding(
                    "blocks",
                    "clock",
                    f"the clock of {name} says {_at(other)}, the ledger's {_at(reading.ledger)}: "
                    f"set the wrong one (time service), they may differ by {limits.skew.total_seconds():.0f} s",
                )
            )
    last = conn.execute("select seen_at from lakehouse.retention_clock").fetchone()
    if last is None:
        return found
    moved = reading.ledger - last["seen_at"]
    if moved < -limits.skew:
        text = f"the ledger's clock went back from {_at(last['seen_at'])} to {_at(reading.ledger)}"
        found.append(Finding("blocks", "clock", f"{text}: nothing's age can be trusted until it is right"))
    elif moved > limits.jump:
        text = f"{moved.days} days passed since the last look at {last['seen_at']:%Y-%m-%d %H:%M}"
        found.append(
            Finding("asks", "clock", f"{text}: did the clock jump, or was retention off? Approve if it was off")
        )
    return found


def _at(moment: dt.datetime) -> str:
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S}"


def remember(conn: Connection, reading: Reading) -> None:
    """The clock that the next plan is compared with; it never goes back."""
    conn.execute(
        "insert into lakehouse.retention_clock as c (seen_at) values (%s) "
        "on conflict (only_row) do update set seen_at = greatest(c.seen_at, excluded.seen_at)",
        [reading.ledger],
    )
