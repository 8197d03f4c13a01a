"""dbt-dremio's own materialization: reflections, with every option it sends."""

from __future__ import annotations

import os
from typing import Any

import pytest
import requests
from dbt.tests.util import run_dbt, write_file

BASE = "{{ config(materialized='table') }} select 1 as id, 'a' as kind, timestamp '2024-01-01 00:00:00' as at_time"
RAW = """{{ config(materialized='reflection', name='by hand', reflection_type='raw', anchor='base',
    display=['id', 'kind', 'at_time'], partition_by=['at_time'], partition_transform=['MONTH'],
    localsort_by=['id'], distribute_by=['kind'], arrow_cache=false) }}
-- depends_on: {{ ref('base') }}"""
AGGREGATE = """{{ config(materialized='reflection', reflection_type='aggregate', anchor='base',
    dimensions=['at_time', 'kind'], dimensions_by_day=['at_time'], measures=['id'], computations=['SUM, COUNT, MAX'],
    partition_method='consolidated') }}
-- depends_on: {{ ref('base') }}"""


class TestReflections:
    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        return {"base.sql": BASE, "r_raw.sql": RAW, "r_agg.sql": AGGREGATE}

    @pytest.fixture(scope="class")
    def project_config_update(self) -> dict[str, Any]:
        return {"vars": {"dremio:reflections": "true"}}

    def reflections(self, schema: str) -> dict[str, dict[str, Any]]:
        base = f"http://127.0.0.1:{os.environ['CONFORMANCE_PORT']}"
        body = {"userName": os.environ["CONFORMANCE_USER"], "password": os.environ["CONFORMANCE_PASSWORD"]}
        token = requests.post(f"{base}/apiv2/login", json=body, timeout=60).json()["token"]
        headers = {"Authorization": f"_dremio{token}"}
        place = f"{base}/api/v3/catalog/by-path/{os.environ['CONFORMANCE_LAKE']}/{schema}/base"
        dataset = requests.get(place, headers=headers, timeout=60).json()["id"]
        found = requests.get(f"{base}/api/v3/dataset/{dataset}/reflection", headers=headers, timeout=60).json()["data"]
        return {reflection["name"]: reflection for reflection in found}

    def test_reflections_are_made_and_replaced(self, project: Any) -> None:
        assert len(run_dbt(["run"])) == 3
        found = self.reflections(project.test_schema)
        raw = found["by hand"]
        assert [field["name"] for field in raw["displayFields"]] == ["id", "kind", "at_time"]
        assert raw["partitionFields"][0]["transform"]["type"] == "MONTH"
        assert [field["name"] for field in raw["sortFields"]] == ["id"]
        assert [field["name"] for field in raw["distributionFields"]] == ["kind"]
        (aggregate,) = [reflection for reflection in found.values() if reflection["type"] == "AGGREGATION"]
        assert aggregate["partitionDistributionStrategy"] == "CONSOLIDATED"
        assert set(aggregate["measureFields"][0]["measureTypeList"]) == {"SUM", "COUNT", "MAX"}
        write_file(RAW.replace("'id', 'kind', 'at_time'", "'id', 'at_time'"), "models", "r_raw.sql")
        run_dbt(["run", "--select", "r_raw"])
        again = self.reflections(project.test_schema)["by hand"]
        assert again["id"] == raw["id"]
        assert [field["name"] for field in again["displayFields"]] == ["id", "at_time"]
