"""A run that is killed at any point is completed by the next: nothing twice, nothing left, nothing younger lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from include.retention.services import Services

PROJECT = Path(__file__).resolve().parents[3]
BUCKET = "lakehouse"
PROGRAM = """
import sys
from pathlib import Path
from include import upkeep
from include.retention import apply, rules
from include.retention.services import Services, connector, s3_client
apply.BATCH = 2
services = Services(ledger=connector(sys.argv[1]), s3=s3_client(*sys.argv[3:]))
with upkeep.turn(services.ledger, "test") as turn:
    apply.run(services, rules.load(Path(sys.argv[2])), turn)
"""


@pytest.mark.parametrize(
    ("point", "positions"),
    [
        ("retention.before_batch:2", {2}),
        ("retention.after_delete:2", {2}),
        pytest.param("retention.after_delete:1", {0}, marks=pytest.mark.faults),
        pytest.param("retention.after_position:3", {5}, marks=pytest.mark.faults),
    ],
)
def test_a_killed_run_is_completed_by_the_next(
    services: Services,
    keeper: Any,
    declare: Any,
    prefix: str,
    tmp_path: Path,
    platform_postgres: Any,
    object_store: Any,
    point: str,
    positions: set[int],
) -> None:
    for name in "abcde":
        services.s3.put_object(Bucket=BUCKET, Key=f"{prefix}{name}", Body=b"x")
    rules = declare(
        f"  old:\n    target: prefix\n    with: {{bucket: {BUCKET}, prefix: {prefix}, days: 1}}\n"
        "    grace_hours: 0\n    approve_fraction: 1.0\n    approve_count: 100\n"
    )
    number = keeper.plan(rules, days=2)["plan_id"]
    with services.ledger() as conn:  # the clocks of the other process are the real ones
        conn.execute("delete from lakehouse.retention_clock")
    store = (object_store.endpoint_url, object_store.access_key, object_store.secret_key)
    dsn = platform_postgres.dsn("lakehouse", "lakehouse")
    command = [sys.executable, "-c", PROGRAM, dsn, str(tmp_path / "retention.yaml"), *store]
    environment = {**os.environ, "PYTHONPATH": f"{PROJECT}:{PROJECT / 'plugins'}"}
    killed = subprocess.run(
        command, cwd=PROJECT, env={**environment, "LAKEHOUSE_UPKEEP_KILL_AT": point}, capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert keeper.read(number)["by_rule"]["old"]["position"] in positions
    # What was deleted in the batch that is repeated, and is there again by then, is somebody else's.
    services.s3.put_object(Bucket=BUCKET, Key=f"{prefix}e", Body=b"new")
    again = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, check=False)
    assert again.returncode == 0, again.stderr.decode()
    left = services.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", ())
    assert [item["Key"].removeprefix(prefix) for item in left] == ["e"]
    done = keeper.read(number)["by_rule"]["old"]
    assert done["position"] == 5
    assert done["status"] == "done"
    assert done["deleted"] + done["gone"] + done["spared"] == 5
