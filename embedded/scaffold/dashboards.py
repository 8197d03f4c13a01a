"""A dashboard of a new pipeline in Superset's own export format: how many rows, and of which days."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import yaml

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "open-lakehouse/scaffold")
DATABASE = "c294b04f-88d9-5ff6-9a78-dda01330822f"  # include/platform/superset/databases/lakehouse.yaml
_CERTIFIED = {"certified_by": "Open Lakehouse", "certification_details": "Declared in include/platform/superset"}


def _uuid(name: str) -> str:
    """The same for the same name, wherever it is written: installations do not fork a dashboard."""
    return str(uuid.uuid5(_NAMESPACE, name))


def files(pipeline: str) -> Iterator[tuple[str, str]]:
    """Path below include/platform/superset, and text."""
    yield f"datasets/{pipeline}_activity.yaml", _dump(_dataset(pipeline))
    charts = {
        f"{pipeline}_rows": _big_number(pipeline),
        f"{pipeline}_days": _by_day(pipeline),
    }
    for name, body in charts.items():
        yield f"charts/{name}.yaml", _dump(body)
    yield f"dashboards/{pipeline}.yaml", _dump(_dashboard(pipeline, charts))


def _dump(content: object) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=115)


def _column(name: str, title: str, kind: str) -> dict[str, Any]:
    flags = {"is_active": True, "groupby": True, "filterable": True}
    return {"column_name": name, "verbose_name": title, "type": kind, "is_dttm": kind == "DATE", **flags}


def _dataset(pipeline: str) -> dict[str, Any]:
    return {
        "table_name": f"{pipeline}_activity",
        "main_dttm_col": "activity_date",
        "description": f"Rows of {pipeline} per stream and day",
        "offset": 0,
        "cache_timeout": None,
        "schema": "lakehouse.gold",
        "sql": None,
        "filter_select_enabled": True,
        "normalize_columns": False,
        "always_filter_main_dttm": False,
        "extra": {"certification": {"certified_by": "Open Lakehouse", "details": _CERTIFIED["certification_details"]}},
        "uuid": _uuid(f"{pipeline}/dataset"),
        "metrics": [
            {
                "metric_name": "rows",
                "verbose_name": "Rows",
                "expression": "SUM(stored_rows)",
                "d3format": ",d",
                "description": "Rows, each once",
            }
        ],
        "columns": [
            _column("activity_date", "Day", "DATE"),
            _column("stream_name", "Stream", "VARCHAR"),
            _column("stored_rows", "Rows", "BIGINT"),
        ],
        "version": "1.0.0",
        "database_uuid": DATABASE,
    }


def _chart(
    pipeline: str, name: str, title: str, text: str, params: dict[str, Any], query: dict[str, Any]
) -> dict[str, Any]:
    extra: dict[str, Any] = {"annotation_layers": [], "applied_time_extras": {}, "url_params": {}, "custom_params": {}}
    asked = {"filters": [], "extras": {"having": "", "where": ""}, **extra, "custom_form_data": {}, **query}
    context = {"queries": [asked], "result_format": "json", "result_type": "full"}
    return {
        "slice_name": title,
        "description": text,
        **_CERTIFIED,
        "viz_type": params["viz_type"],
        "params": {**params, "adhoc_filters": [], "extra_form_data": {}},
        "query_context": json.dumps(context, indent=1) + "\n",
        "cache_timeout": None,
        "uuid": _uuid(f"{pipeline}/{name}"),
        "version": "1.0.0",
        "dataset_uuid": _uuid(f"{pipeline}/dataset"),
    }


def _big_number(pipeline: str) -> dict[str, Any]:
    params = {"viz_type": "big_number_total", "metric": "rows", "subtitle": "rows", "y_axis_format": ",d"}
    title, text = f"Rows of {pipeline} (rows)", "All streams, each row once"
    return _chart(pipeline, f"{pipeline}_rows", title, text, params, {"columns": [], "metrics": ["rows"]})


def _by_day(pipeline: str) -> dict[str, Any]:
    params = {
        "viz_type": "table",
        "query_mode": "aggregate",
        "groupby": ["stream_name", "activity_date"],
        "metrics": ["rows"],
        "row_limit": 1000,
        "order_desc": True,
        "table_timestamp_format": "%Y-%m-%d",
    }
    query = {"columns": ["stream_name", "activity_date"], "metrics": ["rows"], "orderby": [["rows", False]]}
    title, text = f"Rows of {pipeline} per day (rows)", "By stream and day of the newest version (UTC)"
    return _chart(pipeline, f"{pipeline}_days", title, text, params, {**query, "row_limit": 1000, "order_desc": True})


def _dashboard(pipeline: str, charts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    rows = [f"ROW-{name}" for name in charts]
    position: dict[str, Any] = {
        "DASHBOARD_VERSION_KEY": "v2",
        "ROOT_ID": {"type": "ROOT", "id": "ROOT_ID", "children": ["GRID_ID"]},
        "GRID_ID": {"type": "GRID", "id": "GRID_ID", "children": rows, "parents": ["ROOT_ID"]},
        "HEADER_ID": {"type": "HEADER", "id": "HEADER_ID", "meta": {"text": pipeline.capitalize()}},
    }
    for number, (name, chart) in enumerate(charts.items(), 1):
        row, parents = f"ROW-{name}", ["ROOT_ID", "GRID_ID"]
        meta = {"chartId": number, "uuid": chart["uuid"], "sliceName": chart["slice_name"], "width": 12, "height": 50}
        background = {"background": "BACKGROUND_TRANSPARENT"}
        position[row] = {
            "type": "ROW",
            "id": row,
            "children": [f"CHART-{name}"],
            "parents": parents,
            "meta": background,
        }
        position[f"CHART-{name}"] = {
            "type": "CHART",
            "id": f"CHART-{name}",
            "children": [],
            "parents": [*parents, row],
            "meta": meta,
        }
    everywhere = {"rootPath": ["ROOT_ID"], "excluded": []}
    return {
        "dashboard_title": pipeline.capitalize(),
        "description": f"What the pipeline {pipeline} delivered",
        "css": "",
        "slug": pipeline,
        **_CERTIFIED,
        "published": True,
        "uuid": _uuid(f"{pipeline}/dashboard"),
        "position": position,
        "metadata": {
            "native_filter_configuration": [],
            "cross_filters_enabled": True,
            "refresh_frequency": 0,
            "color_scheme": "supersetColors",
            "label_colors": {},
            "expanded_slices": {},
            "timed_refresh_immune_slices": [],
            "chart_configuration": {},
            "global_chart_configuration": {"scope": everywhere},
        },
        "version": "1.0.0",
    }
