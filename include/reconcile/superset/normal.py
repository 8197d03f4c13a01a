"""Brings an asset into the one form in which two of them can be compared, wherever they were written.

Left out is what Superset derives or what only one installation knows: numeric ids, charts in a filter's reach, colours
that it remembers for labels. Empty values equal missing ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

# Keys of `params` and of a query that name rows of one installation's database.
_OF_ONE_INSTALLATION = frozenset({"datasource", "slice_id", "dashboards", "dashboardId", "form_data", "force"})
_DERIVED = frozenset({"chartsInScope", "tabsInScope", "map_label_colors", "shared_label_colors", "color_scheme_domain"})
# Plumbing of the export itself, and the password, which no export shows.
_PLUMBING = frozenset({"version", "password", "uuid", "is_managed_externally", "external_url"})


def normal(kind: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The comparable form of a declared or an exported asset."""
    body = {key: value for key, value in content.items() if key not in _PLUMBING}
    special = _SPECIAL.get(kind)
    kept = _kept(special(body) if special else body)
    return kept if isinstance(kept, dict) else {}


def _dataset(body: dict[str, Any]) -> dict[str, Any]:
    return body | {
        "columns": {one["column_name"]: _without(one, {"uuid"}) for one in body.get("columns") or []},
        "metrics": {one["metric_name"]: _without(one, {"uuid"}) for one in body.get("metrics") or []},
    }


def _chart(body: dict[str, Any]) -> dict[str, Any]:
    context = json.loads(body.get("query_context") or "{}")
    return body | {
        "params": _without(body.get("params") or {}, _OF_ONE_INSTALLATION),
        "query_context": _without(context, _OF_ONE_INSTALLATION),
    }


def _dashboard(body: dict[str, Any]) -> dict[str, Any]:
    position = body.get("position") or {}
    uuids = {
        str(part["meta"].get("chartId")): part["meta"].get("uuid")
        for part in position.values()
        if isinstance(part, Mapping) and part.get("type") == "CHART"
    }
    metadata = dict(body.get("metadata") or {})
    own = metadata.pop("chart_configuration", None) or {}
    filters = metadata.pop("native_filter_configuration", None) or []
    return body | {
        "position": {key: _place(part) for key, part in position.items()},
        "metadata": metadata
        | {
            "native_filter_configuration": {one["id"]: one for one in filters},
            # Charts whose cross-filters reach no further and no less than the dashboard's are as good as not named.
            "chart_configuration": {
                uuids.get(str(key), key): _without(one, {"id"})
                for key, one in own.items()
                if (one.get("crossFilters") or {}).get("scope") not in ("global", None)
            },
        },
    }


def _place(part: Any) -> Any:
    if not isinstance(part, Mapping):
        return part
    kept = {key: value for key, value in part.items() if key != "parents"}
    return kept | {"meta": _without(part.get("meta") or {}, {"chartId"})}


_SPECIAL: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "datasets": _dataset,
    "charts": _chart,
    "dashboards": _dashboard,
}


def _without(value: Mapping[str, Any], keys: frozenset[str] | set[str]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key not in keys}


def _kept(value: Any) -> Any:
    """Without derived keys and empty values; None where nothing is left."""
    if isinstance(value, Mapping):
        items = {str(key): _kept(item) for key, item in value.items() if key not in _DERIVED}
        return {key: item for key, item in items.items() if item is not None} or None
    if isinstance(value, list):
        return [_kept(item) for item in value] or None
    return None if value in ("", False) else value


def differences(wanted: Any, actual: Any, field: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Field, actual and wanted value of everything that one side has otherwise or alone."""
    if isinstance(wanted, Mapping) and isinstance(actual, Mapping):
        for key in [*wanted, *(key for key in actual if key not in wanted)]:
            yield from differences(wanted.get(key), actual.get(key), f"{field}.{key}" if field else str(key))
    elif wanted != actual and str(wanted) != str(actual):
        yield field, actual, wanted
