"""What a run does for the people who look at dashboards: forgets old answers, asks the new ones once, times them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from include.reconcile.superset.assets import Asset, load
from lakehouse_providers.superset.client import SupersetClient
from lakehouse_providers.superset.errors import SupersetQueryError


class DashboardsError(Exception):
    """Charts cannot be shown; the message names each of them, and why."""


@dataclass(frozen=True)
class Warmed:
    """Of one chart, in milliseconds: its answer from the SQL server, and then from the cache. `hit`: it was one."""

    name: str
    query_ms: float
    cached_ms: float
    hit: bool


def warm(client: SupersetClient, published: Collection[str], assets: Sequence[Asset] | None = None) -> dict[str, Any]:
    """Warms the charts on `published` datasets (layer.name); gives the facts for the receipt.

    `query_p95_ms`: with nothing cached; `p95_ms`: as the next person gets it. Raises DashboardsError.
    """
    declared = list(assets if assets is not None else load())
    datasets = {asset.uuid: asset for asset in declared if asset.kind == "datasets" and asset.view in published}
    charts = [asset for asset in declared if asset.kind == "charts" and asset.content["dataset_uuid"] in datasets]
    ids = _ids(client, "dataset", datasets)
    client.invalidate(sorted(ids.values()))
    done, broken = [], []
    for chart in charts:
        try:
            done += _warm(client, chart, ids[str(chart.content["dataset_uuid"])])
        except (SupersetQueryError, KeyError) as error:
            broken.append(f"{chart.name}: {error}")
    if broken:
        raise DashboardsError("These charts cannot be shown:\n" + "\n".join(broken))
    return {
        "datasets": len(ids),
        "charts": len(charts),
        "hits": sum(one.hit for one in done),
        "query_p95_ms": percentile([one.query_ms for one in done], 95),
        "p95_ms": percentile([one.cached_ms for one in done], 95),
    }


def _ids(client: SupersetClient, kind: str, wanted: Mapping[str, Asset]) -> dict[str, int]:
    """Superset's own id by UUID."""
    found = {str(item["uuid"]): int(item["id"]) for item in client.items(kind, ("id", "uuid")) if item.get("uuid")}
    missing = [asset.label for uuid, asset in wanted.items() if uuid not in found]
    if missing:
        raise DashboardsError(f"Superset lacks {', '.join(missing)}: run apply_platform")
    return {uuid: found[uuid] for uuid in wanted}


def query_of(chart: Asset, dataset_id: int) -> dict[str, Any]:
    """What a browser asks to show the chart, for this installation's dataset."""
    context = json.loads(chart.content.get("query_context") or "{}")
    if not context.get("queries"):
        raise KeyError("its file has no query_context; save the chart in Superset and run `make export-dashboards`")
    return {**context, "datasource": {"id": dataset_id, "type": "table"}}


def _warm(client: SupersetClient, chart: Asset, dataset_id: int) -> list[Warmed]:
    context = query_of(chart, dataset_id)
    began = time.perf_counter()
    client.chart_data(context, force=True)
    asked = time.perf_counter()
    answers = client.chart_data(context)
    ended = time.perf_counter()
    hit = all(answer.cached for answer in answers)
    return [Warmed(chart.name, (asked - began) * 1000, (ended - asked) * 1000, hit)]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` percent of all do not exceed, to a tenth; 0 of none."""
    ordered = sorted(values)
    return round(ordered[max(0, math.ceil(len(ordered) * share / 100) - 1)], 1) if ordered else 0.0
