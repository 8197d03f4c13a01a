"""The dbt project as text: it parses offline, agrees with the declared pipeline, and says what to publish."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]
DBT = PROJECT / ".venvs" / "dbt" / "bin" / "dbt"
DBT_PROJECT = PROJECT / "dbt" / "lakehouse"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> dict[str, Any]:
    """Made as `make setup` makes it: no server, no profile but the shipped one, nothing in the environment."""
    if not DBT.exists():
        pytest.skip("the dbt venv is missing: make setup")
    target = tmp_path_factory.mktemp("dbt-target")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LAKEHOUSE_")}
    done = subprocess.run(
        [DBT, "--warn-error", "parse", "--project-dir", DBT_PROJECT, "--profiles-dir", DBT_PROJECT],
        env={**environment, "DBT_TARGET_PATH": str(target), "DBT_LOG_PATH": str(target), "DO_NOT_TRACK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return dict(json.loads((target / "manifest.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def models(manifest) -> dict[str, Any]:
    return {node["name"]: node for node in manifest["nodes"].values() if node["resource_type"] == "model"}


PIPELINES = {file.stem for file in (PROJECT / "include" / "pipelines").glob("*.yaml")}


@pytest.fixture(scope="module")
def streams() -> dict[str, Any]:
    pipeline = yaml.safe_load((PROJECT / "include" / "pipelines" / "retail.yaml").read_text(encoding="utf-8"))
    return {
        name: {**stream, "connection": group["connection"]}
        for group in pipeline["groups"].values()
        for name, stream in group["streams"].items()
    }


def test_sources_are_the_pipelines_streams(manifest, streams):
    tables = {source["name"] for source in manifest["sources"].values() if source["source_name"] == "retail"}
    assert tables == set(streams)


def test_bronze_views_filter_by_the_streams_connection_and_mode(models, streams):
    for name, stream in streams.items():
        text = models[f"retail_{name}"]["raw_code"]
        assert f"connection='{stream['connection']}'" in text
        whole = stream.get("mode", "incremental_append").startswith("full_refresh")
        assert ("full_refresh=true" in text) == whole, name


def test_silver_has_the_pipelines_keys_and_business_times(models, streams):
    for name, stream in streams.items():
        config = models[name]["config"]
        assert sorted(config["unique_key"]) == sorted(stream["key"]), name
        assert config["meta"].get("business_time") == stream.get("business_time"), name
        assert {"_quality_score", "_quarantine_reason", "_sync_id"} <= set(models[name]["columns"]), name


def test_published_models_are_silver_and_gold(models):
    published = {name for name, node in models.items() if node["config"]["meta"].get("publish")}
    layers = {name for name, node in models.items() if {"silver", "gold"} & set(node["config"]["tags"])}
    assert published == layers - {"sales_lines"}
    assert all(models[name]["config"]["materialized"].startswith("lake_") for name in published)


def test_every_model_lies_where_its_layer_says(models):
    for node in models.values():
        layer = next(tag for tag in node["config"]["tags"] if tag in ("bronze", "silver", "gold", "serving"))
        place = (node["database"], node["schema"])
        assert place == (("lakehouse", "build") if node["name"] == "sales_lines" else
                         ("lakehouse", "bronze") if layer == "bronze" else ("lake", layer))  # fmt: skip
        assert PIPELINES & set(node["config"]["tags"]), f"{node['name']}: tag it with its pipeline"


def test_every_captured_stream_has_its_serving_views(manifest, models):
    captured = yaml.safe_load((PROJECT / "include" / "pipelines" / "retail.yaml").read_text(encoding="utf-8"))["speed"]
    for stream in captured["streams"]:
        for kind in ("", "_batch", "_speed"):
            assert models[f"serving_{stream}{kind}"]["config"]["materialized"] == "serving_view"
        assert models[stream]["config"]["meta"]["changes"] == stream
    sources = {(source["source_name"], source["name"]) for source in manifest["sources"].values()}
    assert {("changes", f"{stream}__changes") for stream in captured["streams"]} <= sources
    assert {("speed", f"{stream}_latest") for stream in captured["streams"]} <= sources


def test_telemetry_is_off():
    project = yaml.safe_load((DBT_PROJECT / "dbt_project.yml").read_text(encoding="utf-8"))
    assert project["flags"]["send_anonymous_usage_stats"] is False


def test_dbt_is_no_python_package():
    assert not list((PROJECT / "dbt").rglob("__init__.py"))
    assert not list((PROJECT / "dbt").rglob("dbt_*.py"))
    assert importlib.util.find_spec("dbt_lakehouse") is None
