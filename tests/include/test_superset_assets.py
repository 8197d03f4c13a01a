"""The declared dashboards, offline: they lead down to the dbt models, and a wrong file is named."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.dashboards import percentile
from include.reconcile.superset import chain
from include.reconcile.superset.assets import FOLDER, load, reading
from include.reconcile.superset.normal import differences, normal
from include.specs.reader import SpecError

ASSETS = load()
CHARTS = [asset for asset in ASSETS if asset.kind == "charts"]
UNIT = re.compile(r"\((USD|UTC|s|h|ms|%|times|USD per household|% of households with a basket)\)")
# What is counted is its own unit.
COUNTED = re.compile(r"\b(baskets?|customers|households|lines|rows|datasets|coupons|campaigns|mode|days|sets)\b", re.I)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "superset"))


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = yaml.safe_load(file.read_text())
    change(content)
    file.write_text(yaml.safe_dump(content, sort_keys=False))


def test_every_dashboard_leads_to_dbt_models() -> None:
    assert chain.broken(ASSETS) == []
    shipped = {"executive", "customers", "promotions", "live", "health"}
    assert shipped <= {asset.name for asset in ASSETS if asset.kind == "dashboards"}


def test_what_shows_a_view_that_nothing_fills_is_found_up_to_the_dashboard() -> None:
    found = {asset.label for asset in ASSETS if asset.uuid in reading(ASSETS, {"gold.promotion_lift"})}
    assert {"dataset promotion_lift", "chart promotions_display", "dashboard promotions"} <= found
    assert not found & {"dataset sales", "chart executive_revenue", "dashboard executive", "database lakehouse"}
    assert reading(ASSETS, set()) == set()


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_every_chart_says_what_it_shows_and_in_which_unit(chart: Any) -> None:
    assert UNIT.search(chart.title) or COUNTED.search(chart.title), f"{chart.title}: no unit"
    assert chart.content["description"]
    context = json.loads(chart.content["query_context"] or "{}")
    assert context.get("queries"), "without its query no cache can be warmed: save it in Superset and export"


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        (
            "datasets/sales.yaml",
            lambda body: body["columns"].append({"column_name": "profit"}),
            "dataset sales: column profit is not in the dbt model basket_departments",
        ),
        (
            "datasets/sales.yaml",
            lambda body: body["metrics"][0].update(expression="SUM(profit)"),
            "dataset sales: metric revenue uses profit, no column of it",
        ),
        (
            "datasets/sales.yaml",
            lambda body: body.update(table_name="sold"),
            "dataset sales: reads lakehouse.gold.sold, which no dbt model and no script of the ledger makes",
        ),
        (
            "charts/executive_revenue.yaml",
            lambda body: body["params"].update(metric="turnover"),
            "chart executive_revenue: metric names turnover, which dataset sales lacks",
        ),
        (
            "dashboards/executive.yaml",
            lambda body: body["metadata"]["native_filter_configuration"][1]["targets"][0]["column"].update(name="shop"),
            "dashboard executive: a filter uses shop, which dataset sales lacks",
        ),
        (
            "dashboards/executive.yaml",
            lambda body: body["position"].pop("CHART-executive_trend"),
            "chart executive_trend: stands on no dashboard",
        ),
    ],
)
def test_a_broken_link_is_named(copied: Path, file: str, change: Any, told: str) -> None:
    edit(copied / file, change)
    assert told in chain.broken(load(copied))


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        ("charts/live_lag.yaml", lambda body: body.pop("uuid"), "superset/charts/live_lag.yaml: 'uuid' is missing"),
        ("charts/live_lag.yaml", lambda body: body.update(uuid="lag"), "'uuid' 'lag' is no UUID"),
        (
            "charts/live_lag.yaml",
            lambda body: body.update(dataset_uuid="0c2ea1a5-0000-4000-8000-000000000000"),
            "refers to dataset 0c2ea1a5-0000-4000-8000-000000000000, which no file declares",
        ),
    ],
)
def test_a_wrong_file_is_named(copied: Path, file: str, change: Any, told: str) -> None:
    edit(copied / file, change)
    with pytest.raises(SpecError, match=re.escape(told)):
        load(copied)


def test_two_files_with_one_uuid_are_refused(copied: Path) -> None:
    shutil.copy(copied / "charts" / "live_lag.yaml", copied / "charts" / "zweite.yaml")
    with pytest.raises(SpecError, match=r"charts/zweite.yaml: 'uuid' is that of charts/live_lag.yaml"):
        load(copied)


def test_a_file_that_is_no_yaml_is_named(copied: Path) -> None:
    (copied / "charts" / "live_lag.yaml").write_text("a: [")
    with pytest.raises(SpecError, match=r"superset/charts/live_lag.yaml is not valid YAML"):
        load(copied)


def test_what_one_installation_knows_is_no_difference() -> None:
    """Ids, charts in a filter's reach and cross-filters at their default are Superset's own."""
    declared = next(asset for asset in ASSETS if asset.name == "executive").content
    exported = json.loads(json.dumps(declared))
    for number, part in enumerate(exported["position"].values()):
        if isinstance(part, dict) and part["type"] == "CHART":
            part["meta"]["chartId"] = 700 + number
    exported["metadata"]["native_filter_configuration"][0]["chartsInScope"] = [700, 701]
    exported["metadata"]["chart_configuration"] = {"700": {"id": 700, "crossFilters": {"scope": "global"}}}
    exported["metadata"]["map_label_colors"] = {"GROCERY": "#1FA8C9"}
    exported["theme_uuid"] = None
    assert list(differences(normal("dashboards", declared), normal("dashboards", exported))) == []
    exported["position"]["CHART-executive_trend"]["meta"]["width"] = 6
    (found,) = differences(normal("dashboards", declared), normal("dashboards", exported))
    assert found == ("position.CHART-executive_trend.meta.width", 6, 12)


def test_what_somebody_added_is_a_difference() -> None:
    declared = next(asset for asset in CHARTS if asset.name == "executive_revenue").content
    exported = json.loads(json.dumps(declared))
    exported["params"]["time_range"] = "Last week"
    exported["cache_timeout"] = 5
    found = {field for field, *_ in differences(normal("charts", declared), normal("charts", exported))}
    assert found == {"params.time_range", "cache_timeout"}


@pytest.mark.parametrize(("values", "p95"), [([], 0.0), ([7], 7), (list(range(1, 101)), 95), ([1, 2, 3], 3)])
def test_a_percentile_is_a_measured_value(values: list[float], p95: float) -> None:
    assert percentile(values, 95) == p95
