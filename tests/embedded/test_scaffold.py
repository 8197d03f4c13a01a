"""A new pipeline, from a connector's catalog to files: complete, parsed by dbt without a warning, never overwriting."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedded.home import PROJECT
from embedded.scaffold import __main__ as scaffold
from embedded.scaffold.catalog import Column, ScaffoldError, read

DBT = PROJECT / ".venvs" / "dbt" / "bin" / "dbt"
TODAY = dt.date(2026, 1, 2)
CATALOG: dict[str, Any] = {
    "name": "visits",
    "json_schema": {
        "properties": {
            "id": {"type": "integer"},
            "price": {"type": ["null", "number"]},
            "seen_at": {"type": "string", "format": "date-time"},
            "born_on": {"type": "string", "format": "date"},
            "paid": {"type": "boolean"},
            "address": {"type": "object", "properties": {"city": {"type": "string"}}},
        }
    },
    "supported_sync_modes": ["full_refresh", "incremental"],
    "source_defined_primary_key": [["id"]],
    "default_cursor_field": ["seen_at"],
}
WHOLE = {**CATALOG, "name": "shops", "supported_sync_modes": ["full_refresh"]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What a pipeline is written into: a copy of the declarations and of the dbt project."""
    for path in (scaffold.SOURCES, scaffold.REFLECTIONS):
        (tmp_path / path).parent.mkdir(parents=True)
        shutil.copy(PROJECT / path, tmp_path / path)
    ignored = shutil.ignore_patterns("target", "logs")
    shutil.copytree(PROJECT / "dbt" / "lakehouse", tmp_path / "dbt" / "lakehouse", ignore=ignored)
    return tmp_path


def write(root: Path, name: str = "shop", streams: tuple[dict[str, Any], ...] = (CATALOG, WHOLE)) -> list[str]:
    return scaffold.write(root, name, "source-x", {"count": 5}, [read(one) for one in streams], TODAY)


def test_everything_is_written_and_dbt_finds_no_fault(root: Path) -> None:
    written = write(root)
    assert all((root / path).exists() for path in written)
    pipeline = yaml.safe_load((root / "include/pipelines/shop.yaml").read_text())
    assert pipeline["groups"]["all"]["streams"] == {
        "visits": {"key": ["id"], "cursor": "seen_at", "table": "shop__visits"},
        "shops": {"key": ["id"], "cursor": "seen_at", "mode": "full_refresh_append", "table": "shop__shops"},
    }
    sources = yaml.safe_load((root / scaffold.SOURCES).read_text())
    assert sources["shop"] == {"sourceType": "x", "count": 5}
    assert "retail" in sources
    assert yaml.safe_load((root / scaffold.REFLECTIONS).read_text())["shop"][0]["dataset"][-1] == "shop_activity"
    compile((root / "dags/batch/shop_batch.py").read_text(), "shop_batch.py", "exec")
    target = root / "target"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LAKEHOUSE_")}
    done = subprocess.run(
        [
            DBT,
            "--warn-error",
            "parse",
            "--project-dir",
            root / "dbt/lakehouse",
            "--profiles-dir",
            root / "dbt/lakehouse",
        ],
        env={**environment, "DBT_TARGET_PATH": str(target), "DBT_LOG_PATH": str(target), "DO_NOT_TRACK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    nodes = json.loads((target / "manifest.json").read_text())["nodes"].values()
    made = {
        node["name"]: node for node in nodes if node["resource_type"] == "model" and "shop" in node["config"]["tags"]
    }
    assert set(made) == {"shop_visits", "shop_shops", "shop__visits", "shop__shops", "shop_activity"}
    assert {name for name, node in made.items() if node["config"]["meta"]["publish"]} == {
        *("shop__visits", "shop__shops", "shop_activity")
    }


def test_a_second_time_changes_nothing_and_says_why(root: Path) -> None:
    write(root)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with pytest.raises(ScaffoldError, match=r"shop\.yaml has shop already; choose another NAME"):
        write(root)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["Shop", "shop-1", "../shop", "dbt_shop", ""])
def test_a_name_that_cannot_be_one_is_refused(root: Path, name: str) -> None:
    with pytest.raises(ScaffoldError, match="NAME="):
        write(root, name)
    assert not (root / "dags").exists()


def test_types_are_those_of_the_connectors_schema() -> None:
    assert read(CATALOG).columns == (
        Column("id", "bigint"),
        Column("price", "double"),
        Column("seen_at", "timestamp"),
        Column("born_on", "date"),
        Column("paid", "boolean"),
        Column("address", None),
    )


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"source_defined_primary_key": []}, "stream visits: the connector names no primary key"),
        ({"default_cursor_field": ["address"]}, "stream visits: the connector names no cursor"),
        ({"name": "Visits; drop"}, "stream 'Visits; drop': its name must match"),
        ({"json_schema": {"properties": {'a"b': {"type": "string"}}}}, "column 'a\"b' is no plain name"),
    ],
)
def test_a_stream_that_cannot_be_replicated_is_named(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ScaffoldError, match=complaint):
        read({**CATALOG, **change})
