"""kill -9 in the middle of a statement: the table is the old one or the new one, and the next statement works."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from embedded.object_store import ObjectStore
    from tests.embedded.sql.engine.conftest import Bench

PROJECT = Path(__file__).resolve().parents[4]
OLD = [(1, "a"), (2, "b"), (3, "c")]
MERGE = (
    "MERGE INTO $ns.t t USING (SELECT 2 AS id, 'B' AS s UNION ALL SELECT 4, 'd') q ON t.id = q.id "
    "WHEN MATCHED THEN UPDATE SET s = q.s WHEN NOT MATCHED THEN INSERT *"
)
MERGED = [(1, "a"), (2, "B"), (3, "c"), (4, "d")]
OPTIMIZE = "OPTIMIZE TABLE $ns.t (MIN_INPUT_FILES = 2)"
VACUUM = "VACUUM TABLE $ns.t EXPIRE SNAPSHOTS OLDER_THAN '2100-01-01 00:00:00'"
INSERT = "INSERT INTO $ns.t VALUES (4, 'd')"
Rows = list[tuple[int, str]]
# statement, where it dies, what the table holds then (and what a CTAS has made)
CASES: list[tuple[str, str, Rows]] = [
    ("CREATE TABLE $ns.new AS SELECT 1 AS id, 'x' AS s", "before commit", []),
    (INSERT, "after data", OLD),
    (MERGE, "before commit", OLD),
    (MERGE, "after commit", MERGED),
    (OPTIMIZE, "before commit", OLD),
    (VACUUM, "before delete", OLD),
]
MORE: list[tuple[str, str, Rows]] = [
    ("CREATE TABLE $ns.new AS SELECT 1 AS id, 'x' AS s", "after data", []),
    ("CREATE TABLE $ns.new AS SELECT 1 AS id, 'x' AS s", "after commit", [(1, "x")]),
    (INSERT, "before data", OLD),
    (INSERT, "before commit", OLD),
    (INSERT, "after commit", [*OLD, (4, "d")]),
    (MERGE, "after data", OLD),
    ("DELETE FROM $ns.t WHERE id = 1", "before commit", OLD),
    ("DELETE FROM $ns.t WHERE id = 1", "after commit", OLD[1:]),
    ("UPDATE $ns.t SET s = 'z'", "before commit", OLD),
    ("TRUNCATE TABLE $ns.t", "before commit", OLD),
    ("TRUNCATE TABLE $ns.t", "after commit", []),
    (OPTIMIZE, "after data", OLD),
    (OPTIMIZE, "after commit", OLD),
    (VACUUM, "after commit", OLD),
]


def dies(bench: Bench, store: ObjectStore, scratch: Path, sql: str, step: str, expected: Rows) -> None:
    bench.run("CREATE TABLE $ns.t AS SELECT 1 AS id, 'a' AS s")
    bench.run("INSERT INTO $ns.t VALUES (2, 'b'), (3, 'c')")
    given = {
        "endpoint": store.endpoint,
        "iceberg_uri": store.iceberg_uri,
        "access_key": store.access_key,
        "secret_key": store.secret_key,
        "namespace": bench.namespace,
        "scratch": str(scratch),
        "step": step,
        "sql": sql.replace("$ns", f'"lake"."{bench.namespace}"'),
    }
    ended = subprocess.run(
        [sys.executable, "-m", "tests.embedded.sql.engine.dying", json.dumps(given)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stdout + ended.stderr
    created = "CREATE" in sql
    name = "new" if created else "t"
    if created and not expected:
        assert not bench.catalog.iceberg.table_exists((bench.namespace, name))
        bench.run(sql)
    else:
        assert bench.rows(f"SELECT * FROM $ns.{name} ORDER BY id") == expected
        bench.run(f"INSERT INTO $ns.{name} VALUES (9, 'next')")
        assert bench.rows(f"SELECT * FROM $ns.{name} ORDER BY id") == [*expected, (9, "next")]
    bench.run(f"VACUUM TABLE $ns.{name} REMOVE ORPHAN FILES OLDER_THAN '2100-01-01 00:00:00'")
    assert bench.one(f"SELECT COUNT(*) FROM $ns.{name}") in (len(expected) + 1, 1)


@pytest.mark.parametrize(("sql", "step", "expected"), CASES, ids=[f"{s.split()[0]} {w}" for s, w, _ in CASES])
def test_old_or_new(
    bench: Bench, object_store: ObjectStore, tmp_path: Path, sql: str, step: str, expected: Rows
) -> None:
    dies(bench, object_store, tmp_path, sql, step, expected)


@pytest.mark.faults
@pytest.mark.parametrize(("sql", "step", "expected"), MORE, ids=[f"{s.split()[0]} {w}" for s, w, _ in MORE])
def test_old_or_new_everywhere(
    bench: Bench, object_store: ObjectStore, tmp_path: Path, sql: str, step: str, expected: Rows
) -> None:
    dies(bench, object_store, tmp_path, sql, step, expected)
