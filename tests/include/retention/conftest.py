"""Retention over the session's PostgreSQL and object store, each test with an empty ledger and a prefix of its own."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from include import ledger, upkeep
from include.retention import apply, clock, plan, report, rules
from include.retention.services import Services, connector, s3_client

BUCKET = "lakehouse"


@pytest.fixture
def s3(object_store: Any) -> Any:
    return s3_client(object_store.endpoint_url, object_store.access_key, object_store.secret_key)


@pytest.fixture
def services(conn: ledger.Connection, platform_postgres: Any, s3: Any) -> Services:
    """`conn` has made the ledger anew."""
    conn.commit()
    return Services(ledger=connector(platform_postgres.dsn("lakehouse", "lakehouse")), bucket=BUCKET, s3=s3)


@pytest.fixture
def prefix(s3: Any) -> Iterator[str]:
    """A folder in the bucket that is emptied afterwards."""
    folder = f"retention-test-{uuid.uuid4().hex}/"
    yield folder
    for item in s3.list_objects_v2(Bucket=BUCKET, Prefix=folder).get("Contents", ()):
        s3.delete_object(Bucket=BUCKET, Key=item["Key"])


Declare = Callable[..., rules.Rules]


@pytest.fixture
def declare(tmp_path: Path) -> Declare:
    """Rules from a file: limits that a test does not care about are wide."""

    def write(text: str, **limits: int) -> rules.Rules:
        wide = {"clock_skew_seconds": 3600, "clock_jump_hours": 10000, "plan_age_hours": 72}
        file = tmp_path / "retention.yaml"
        lines = [f"  {name}: {value}" for name, value in {**wide, **limits}.items()]
        file.write_text("limits:\n" + "\n".join(lines) + "\nrules:\n" + text)
        return rules.load(file)

    return write


def later(days: int) -> clock.Clock:
    """Everybody's clock stands `days` ahead, as time itself would have it."""

    def read(services: Services) -> clock.Reading:
        now, ahead = clock.read(services), dt.timedelta(days=days)
        return clock.Reading(now.own + ahead, now.ledger + ahead, now.store and now.store + ahead)

    return read


class Keeper:
    """Plans and applies as the DAG does, each under the lease. `days`: how far ahead the clocks stand from then on."""

    def __init__(self, services: Services) -> None:
        self.services, self.days = services, 0

    def plan(self, declared: rules.Rules, *, days: int | None = None, **options: Any) -> dict[str, Any]:
        self.days = self.days if days is None else days
        with upkeep.turn(self.services.ledger, "test") as turn:
            number = plan.make(self.services, declared, "test", turn, **{"read_clock": later(self.days), **options})
        return self.read(number)

    def apply(self, declared: rules.Rules, **options: Any) -> dict[str, Any]:
        with upkeep.turn(self.services.ledger, "test") as turn:
            return dict(apply.run(self.services, declared, turn, **{"read_clock": later(self.days), **options}))

    def decide(self, number: int, *, approve: bool) -> list[str]:
        with self.services.ledger() as conn:
            return plan.decide(conn, number, "somebody", approve=approve)

    def read(self, number: int) -> dict[str, Any]:
        with self.services.ledger() as conn:
            found = report.read(conn, number)
        return {**found, "by_rule": {section["rule"]: section for section in found["sections"]}}


@pytest.fixture
def keeper(services: Services) -> Keeper:
    return Keeper(services)
