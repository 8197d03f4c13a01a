"""The same judge over the real way: PostgreSQL's log, the replication server, the change log, the serving views."""

from __future__ import annotations

import datetime as dt
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from include import speed
from include.reconcile import capture as declared
from tests.dbt.test_replicated import airbyte, post  # noqa: F401 - a fixture
from tests.serving.history import History
from tests.serving.lanes import Lanes
from tests.serving.test_histories import FIRST, SEEDS

UNFINISHED = ("pending", "running", "incomplete")


class Captured(Lanes):
    """Lanes whose log is written by the replication server."""

    airbyte: Any
    connection: str
    reader_dsn: str

    def capture(self, stop_after: int | None = None) -> bool:
        """One sync that succeeds."""
        job = self.end(self.begin())
        assert job["status"] == "succeeded", job
        with self.connect() as conn:
            speed.make_views(conn, self.pipeline)
        return True

    snapshot = capture

    def begin(self) -> int:
        """Starts a sync; gives its job."""
        return int(post(self.airbyte, "/jobs", {"connectionId": self.connection, "jobType": "sync"})["jobId"])

    def end(self, job_id: int) -> dict[str, Any]:
        """Waits until the sync is over, however it ends."""
        while (job := self.airbyte.get(f"/jobs/{job_id}").json())["status"] in UNFINISHED:
            time.sleep(0.05)
        return dict(job)

    def lose_slot(self) -> None:
        """The source forgets what was not read yet."""
        assert self.pipeline.speed is not None
        with psycopg.connect(self.reader_dsn, autocommit=True) as conn:
            conn.execute("select pg_drop_replication_slot(%s)", [self.pipeline.speed.slot])

    def rebuild(self) -> None:
        """What the runbook says after a lost slot: a new one, and a new snapshot with the next sync."""
        _make_slot(self)
        extension = str(self.airbyte.base_url).replace("/api/public/v1", "/api/lakehouse/v1").rstrip("/")
        reply = self.airbyte.post(f"{extension}/connections/{self.connection}/rebuild")
        assert reply.is_success, reply.text


def _make_slot(lanes: Captured) -> None:
    with psycopg.connect(lanes.reader_dsn, row_factory=psycopg.rows.dict_row, autocommit=True) as conn:
        assert declared.slot(conn, lanes.pipeline, begun=False, apply=True)
        assert declared.slot(conn, lanes.pipeline, begun=True, apply=True) == []


def _parts(dsn: str, **more: Any) -> dict[str, Any]:
    parts = psycopg.conninfo.conninfo_to_dict(dsn)
    return {
        "host": parts["host"],
        "port": int(str(parts["port"])),
        "database": parts["dbname"],
        "username": parts["user"],
        "password": parts["password"],
        "ssl_mode": {"mode": "disable"},
        **more,
    }


@pytest.fixture
def captured(lanes, airbyte, source_postgres) -> Iterator[Captured]:  # noqa: F811
    """Source declared as the platform does it: publication, replica identities, slot, connection."""
    real = Captured(**{name: getattr(lanes, name) for name in ("dremio", "dbt", "s3", "source_dsn", "ledger_dsn")})
    plan = real.pipeline.speed
    assert plan is not None
    reader = source_postgres.dsn("retail", "airbyte")
    with real.source() as owner:
        owner.execute("grant usage on schema retail to airbyte")
        owner.execute("grant select on all tables in schema retail to airbyte")
        assert declared.run(owner, real.pipeline, apply=True)
        assert declared.run(owner, real.pipeline, apply=False) == [], "applied twice it changes nothing"
    real.reader_dsn = reader
    _make_slot(real)
    workspace = airbyte.get("/workspaces").json()["data"][0]["workspaceId"]
    method = {"method": "CDC", "replication_slot": plan.slot, "publication": plan.publication}
    origin = _parts(reader, sourceType="postgres", schemas=["retail"], replication_method=method)
    goal = _parts(
        real.ledger_dsn, destinationType="postgres", schema="speed", applied_lsn_table="lakehouse.applied_lsn"
    )
    made = post(airbyte, "/sources", {"name": plan.source, "workspaceId": workspace, "configuration": origin})
    there = post(airbyte, "/destinations", {"name": plan.destination, "workspaceId": workspace, "configuration": goal})
    streams = [
        {
            "name": stream.name,
            "namespace": "retail",
            "syncMode": "incremental_append",
            "primaryKey": [[column] for column in stream.key],
        }
        for stream in real.pipeline.cdc_streams
    ]
    body = {
        "name": plan.connection,
        "sourceId": made["sourceId"],
        "destinationId": there["destinationId"],
        "namespaceDefinition": "destination",
        "nonBreakingSchemaUpdatesBehavior": "propagate_columns",
        "configurations": {"streams": streams},
    }
    real.airbyte, real.connection = airbyte, post(airbyte, "/connections", body)["connectionId"]
    yield real
    for path in (
        f"connections/{real.connection}",
        f"sources/{made['sourceId']}",
        f"destinations/{there['destinationId']}",
    ):
        assert airbyte.delete(f"/{path}").is_success
    real.lose_slot()
    with psycopg.connect(source_postgres.superuser_dsn("retail"), autocommit=True) as conn:
        conn.execute(f"drop publication {plan.publication}")


@pytest.mark.timeout(1800)
def test_the_view_is_the_source_through_the_replication_server(captured):
    history = History(captured, seed=7)
    history.begin()
    for _ in range(5):
        history.transact()
    captured.snapshot()
    assert {fold.mode for fold in captured.batch().values()} == {"unified"}
    captured.check_silver()
    for _ in range(3):
        for _ in range(6):
            history.transact()
        captured.capture()
        assert len(captured.check()) == 3
    captured.batch()
    captured.check_silver()
    assert len(captured.check()) == 3


class Misfortunes:
    """What befalls the servers while changes are captured; after each one readers are compared with the source."""

    def __init__(self, lanes: Captured, seed: int) -> None:
        self.lanes, self.history = lanes, History(lanes, seed)
        self.random = random.Random(seed)
        self.seen: Counter[str] = Counter()

    def run(self) -> Counter[str]:
        self.history.begin()
        self._transact()
        self.lanes.snapshot()
        self.lanes.batch()
        todo = [self._source_crashes, self._log_crashes, self._slot_is_lost, self._clock_jumps, self._batch]
        self.random.shuffle(todo)
        for befall in todo:
            self._transact()
            befall()
            self.seen["views checked"] += len(self.lanes.check())
        self._batch()
        return self.seen

    def _transact(self) -> None:
        for _ in range(self.random.randint(2, 5)):
            self.history.transact()

    def _batch(self) -> None:
        self.lanes.batch()
        self.lanes.check_silver()

    def _source_crashes(self) -> None:
        self._crash_while_capturing(self.lanes.source_dsn)

    def _log_crashes(self) -> None:
        self._crash_while_capturing(self.lanes.ledger_dsn)

    def _crash_while_capturing(self, dsn: str) -> None:
        """A killed backend makes PostgreSQL end all sessions and recover from its log, as after a power cut."""
        job = self.lanes.begin()
        time.sleep(self.random.random())  # anywhere: whatever it does by then must not matter
        with psycopg.connect(dsn, autocommit=True) as victim:
            os.kill(victim.info.backend_pid, signal.SIGKILL)
        _wait_until_up(dsn)
        self.lanes.end(job)
        self.lanes.capture()
        self.seen["crashes"] += 1

    def _slot_is_lost(self) -> None:
        self.lanes.lose_slot()
        job = self.lanes.end(self.lanes.begin())
        assert job["status"] == "failed", "changes were passed over"
        # Readers stay exact where the log ends, until the new snapshot is whole.
        self.lanes.check()
        self.lanes.rebuild()
        self.lanes.snapshot()
        self.seen["slots lost"] += 1

    def _clock_jumps(self) -> None:
        self.history.moment -= dt.timedelta(days=31)
        self._transact()
        self.lanes.capture()


def _wait_until_up(dsn: str) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(dsn, connect_timeout=2).close()
        except psycopg.OperationalError:
            assert time.monotonic() < end, "PostgreSQL did not come back"
            time.sleep(0.05)
        else:
            return


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
def test_the_view_is_the_source_whatever_befalls_the_servers(captured, seed):
    seen = Misfortunes(captured, seed).run()
    assert seen["crashes"] == 2
    assert seen["slots lost"] == 1
    assert seen["views checked"] >= 5
