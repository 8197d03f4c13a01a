"""The same judge over the real way: PostgreSQL's log, the replication server, the change log, the serving views."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from include import speed
from include.reconcile import capture as declared
from tests.dbt.test_replicated import airbyte, post  # noqa: F401 - a fixture
from tests.serving.history import History
from tests.serving.lanes import Lanes


class Captured(Lanes):
    """Lanes whose log is written by the replication server."""

    airbyte: Any
    connection: str

    def capture(self, stop_after: int | None = None) -> bool:
        """One sync; before it a heartbeat, so that S reaches what `lsn_after` asks for."""
        job = post(self.airbyte, "/jobs", {"connectionId": self.connection, "jobType": "sync"})
        while (job := self.airbyte.get(f"/jobs/{job['jobId']}").json())["status"] in (
            "pending",
            "running",
            "incomplete",
        ):
            pass
        assert job["status"] == "succeeded", job
        with self.connect() as conn:
            speed.make_views(conn, self.pipeline)
        return True

    snapshot = capture


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
def captured(lanes, airbyte, source_postgres) -> Captured:  # noqa: F811
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
    with psycopg.connect(reader, row_factory=psycopg.rows.dict_row, autocommit=True) as conn:
        assert declared.slot(conn, real.pipeline, begun=False, apply=True)
        assert declared.slot(conn, real.pipeline, begun=True, apply=True) == []
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
    return real


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
