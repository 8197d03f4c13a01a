"""Follows every dashboard down to the dbt models, offline: dashboard, chart, dataset, column, model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from include.paths import DBT_MANIFEST, PLATFORM
from include.publication import SPACE, PublicationError
from include.reconcile.superset.assets import Asset, charts_of, filter_targets

LEDGER = PLATFORM / "postgres" / "ledger"
_SERVING_STATUS = "serving_status"  # published beside the models, over the ledger's view of the same name
_TABLE = re.compile(r"\b(lakehouse|ledger)\.(\w+)\.(\w+)")
# Parameters of a chart that name columns or metrics of its dataset.
_NAMING = (
    *("metric", "metrics", "metrics_b", "groupby", "groupby_b", "all_columns", "groupbyRows", "groupbyColumns"),
    *("x_axis", "x_axis_sort", "series_limit_metric", "temporal_columns_lookup", "column_config"),
)


def broken(assets: Sequence[Asset], manifest: Path = DBT_MANIFEST) -> list[str]:
    """One line for each link that leads nowhere. Raises PublicationError without dbt's manifest."""
    models = _models(manifest)
    datasets = {asset.uuid: asset for asset in assets if asset.kind == "datasets"}
    charts = {asset.uuid for asset in assets if asset.kind == "charts"}
    found: list[str] = []
    for asset in assets:
        if asset.kind == "datasets":
            found += _dataset(asset, models)
        elif asset.kind == "charts":
            found += _chart(asset, datasets[str(asset.content["dataset_uuid"])])
        elif asset.kind == "dashboards":
            found += _dashboard(asset, datasets)
    shown = {str(part["uuid"]) for asset in assets if asset.kind == "dashboards" for part in charts_of(asset.content)}
    found += [f"{asset.label}: stands on no dashboard" for asset in assets if asset.uuid in charts - shown]
    return found


def _models(manifest: Path) -> dict[tuple[str, str], frozenset[str]]:
    """Columns by layer and name, of what dbt makes for readers. Empty where dbt does not list them."""
    if not manifest.exists():
        raise PublicationError(f"{manifest.name} is missing; run `make setup` (dbt parse) first")
    found = {}
    for node in json.loads(manifest.read_text(encoding="utf-8"))["nodes"].values():
        layer = next((tag for tag in node["config"].get("tags", []) if tag in ("silver", "gold", "serving")), None)
        if node["resource_type"] == "model" and layer is not None:
            name = str(node["alias"]).removeprefix("serving_")
            found[layer, name] = frozenset(column for column in node["columns"] if not column.startswith("_"))
    return found


def _dataset(asset: Asset, models: Mapping[tuple[str, str], frozenset[str]]) -> Iterator[str]:
    columns = _columns(asset)
    query = str(asset.content.get("sql") or "")
    tables = _TABLE.findall(query) if query else [_table(asset)]
    if not tables:
        yield f"{asset.label}: its SQL names no table as space.layer.name"
    for space, layer, name in tables:
        made = models.get((layer, name)) if space == SPACE else None
        if made is None and not _in_ledger(name, space, layer):
            yield f"{asset.label}: reads {space}.{layer}.{name}, which no dbt model and no script of the ledger makes"
        if made and not query:
            yield from (f"{asset.label}: column {one} is not in the dbt model {name}" for one in sorted(columns - made))
    for one in sorted(columns if query else ()):
        if not re.search(rf"\b{re.escape(one)}\b", query):
            yield f"{asset.label}: column {one} is not in its SQL"
    for metric in asset.content.get("metrics") or []:
        unknown = sorted(_names_in(str(metric["expression"])) - columns)
        yield from (f"{asset.label}: metric {metric['metric_name']} uses {one}, no column of it" for one in unknown)


def _table(asset: Asset) -> tuple[str, str, str]:
    space, _, layer = str(asset.content.get("schema") or "").partition(".")
    return space, layer, asset.title


def _in_ledger(name: str, space: str, layer: str) -> bool:
    if (space, layer) != ("ledger", "lakehouse") and name != _SERVING_STATUS:
        return False
    made = re.compile(rf"create (?:table|view) lakehouse\.{re.escape(name)}\b")
    return any(made.search(script.read_text(encoding="utf-8")) for script in LEDGER.glob("*.sql"))


def _names_in(expression: str) -> set[str]:
    """Columns in a metric: what is in lower case, outside of text; functions and keywords are written large."""
    return set(re.findall(r"\b[a-z_][a-z0-9_]*\b", re.sub(r"'[^']*'", "", expression)))


def _columns(dataset: Asset) -> set[str]:
    return {str(one["column_name"]) for one in dataset.content.get("columns") or []}


def _chart(asset: Asset, dataset: Asset) -> Iterator[str]:
    params = asset.content.get("params") or {}
    known = _columns(dataset) | {str(one["metric_name"]) for one in dataset.content.get("metrics") or []}
    for key in _NAMING:
        unknown = sorted(set(_named(params.get(key))) - known)
        yield from (f"{asset.label}: {key} names {one}, which dataset {dataset.name} lacks" for one in unknown)
    for one in params.get("adhoc_filters") or []:
        if one.get("expressionType") == "SIMPLE" and one.get("subject") not in known:
            yield f"{asset.label}: filters by {one.get('subject')}, which dataset {dataset.name} lacks"


def _named(value: Any) -> Iterator[str]:
    """Names in a parameter: text, lists of it, keys of a mapping, and the SQL of a renamed column."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _named(item)
    elif isinstance(value, Mapping) and "sqlExpression" in value:
        yield from _names_in(str(value["sqlExpression"]))
    elif isinstance(value, Mapping) and "expressionType" not in value:
        yield from (str(key) for key in value)


def _dashboard(asset: Asset, datasets: Mapping[str, Asset]) -> Iterator[str]:
    for target in filter_targets(asset.content):
        dataset = datasets[str(target["datasetUuid"])]
        column = str((target.get("column") or {}).get("name"))
        if column not in _columns(dataset):
            yield f"{asset.label}: a filter uses {column}, which dataset {dataset.name} lacks"
