"""Superset as people meet it: a browser looks at the dashboards, and their numbers are the source's, to the cent."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.superset_api import Superset, needs_superset

PROJECT = Path(__file__).resolve().parents[2]
PYTHON = PROJECT / ".venvs" / "browser" / "bin" / "python"
SCREENSHOTS = Path(__file__).with_name("screenshots")
CHROMIUM = os.environ.get("LAKEHOUSE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome") or ""
# How many charts each holds.
DASHBOARDS = {"executive": 8, "customers": 9, "promotions": 9, "live": 6, "health": 11}

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(4000), needs_superset]
needs_browser = pytest.mark.skipif(
    not CHROMIUM or not PYTHON.exists(),
    reason="no browser: install chromium (or set LAKEHOUSE_CHROMIUM), and `make browser`",
)


def look(
    url: str, user: str, password: str, steps: list[dict[str, Any]], login: str = "/login/", **job: Any
) -> list[dict[str, Any]]:
    """What a browser sees that signs in and takes the steps. Fails with its words."""
    SCREENSHOTS.mkdir(exist_ok=True)
    asked = {"url": url, "user": user, "password": password, "folder": str(SCREENSHOTS), "chromium": CHROMIUM, **job}
    done = subprocess.run(
        [str(PYTHON), "-m", "tests.e2e.browser"],
        cwd=PROJECT,
        input=json.dumps({**asked, "steps": [{"do": "sign_in", "path": login}, *steps]}),
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    seen: list[dict[str, Any]] = json.loads(done.stdout)
    return seen[1:]


def superset(lakehouse: Any) -> tuple[str, str, str]:
    environment = lakehouse.endpoints.environment()
    url, user, password = (environment[f"LAKEHOUSE_SUPERSET_{name}"] for name in ("URL", "USER", "PASSWORD"))
    return url, user, password


def no_chart_in_error(seen: dict[str, Any]) -> None:
    assert seen["faults"] == []
    assert [one for one in seen["answers"] if one["status"] != 200 or one["errors"]] == []


def figures(lakehouse: Any, department: str | None = None) -> list[str]:
    """Revenue, baskets, customers and average basket by SQL on the source, less the lines that broke a rule."""
    with lakehouse.source() as conn:
        lines = conn.execute(
            "select i.order_item_id, i.sales_value, o.order_id, o.household_id, p.department "
            "from retail.order_items i join retail.orders o using (order_id) "
            "left join retail.products p using (product_id)"
        ).fetchall()
    bad = {row["order_item_id"] for row in lakehouse.dremio.sql(_QUARANTINED)}
    good = [one for one in lines if one["order_item_id"] not in bad]
    if department:
        good = [one for one in good if one["department"] == department]
    revenue = sum(one["sales_value"] for one in good)
    baskets = len({one["order_id"] for one in good})
    customers = len({one["household_id"] for one in good})
    return [f"${revenue:,.2f}", f"{baskets:,}", f"{customers:,}", f"${float(revenue) / baskets:,.2f}"]


_QUARANTINED = "SELECT order_item_id FROM lakehouse.silver.order_items_quarantine"


def test_a_run_warms_every_chart_and_notes_how_long_they_take(lakehouse: Any, first_run: str) -> None:
    with lakehouse.ledger() as conn:
        (row,) = conn.execute(
            "select receipt -> 'dashboards' as facts from lakehouse.receipts where dag_id = 'retail_batch' "
            "and run_id = %s",
            [first_run],
        ).fetchall()
    facts = row["facts"]
    assert facts["charts"] >= 20
    assert facts["hits"] == facts["charts"]
    assert facts["p95_ms"] > 0
    assert facts["query_p95_ms"] > 0


@needs_browser
def test_executive_shows_the_sources_numbers_and_filters_them(lakehouse: Any) -> None:
    whole, grocery = look(
        *superset(lakehouse),
        [
            {"do": "dashboard", "slug": "executive", "charts": DASHBOARDS["executive"]},
            {"do": "filter", "slug": "executive", "filter": "Department", "value": "GROCERY", "charts": 8},
        ],
    )
    no_chart_in_error(whole)
    no_chart_in_error(grocery)
    assert whole["big_numbers"] == figures(lakehouse)
    assert grocery["big_numbers"] == figures(lakehouse, "GROCERY")
    # The first visitor after a run finds every chart ready.
    charts = [one for one in whole["answers"] if one["chart"]]
    assert len(charts) == DASHBOARDS["executive"]
    assert [one["chart"] for one in charts if not one["cached"]] == []


@needs_browser
@pytest.mark.faults
def test_every_dashboard_is_drawn_without_an_error(lakehouse: Any) -> None:
    steps = [{"do": "dashboard", "slug": slug, "charts": charts} for slug, charts in DASHBOARDS.items()]
    for slug, seen in zip(DASHBOARDS, look(*superset(lakehouse), steps), strict=True):
        no_chart_in_error(seen)
        assert len({one["chart"] for one in seen["answers"] if one["chart"]}) == DASHBOARDS[slug], slug
        assert seen["asked_elsewhere"] == [], "a dashboard asks nobody but Superset"


@needs_browser
@pytest.mark.faults
@pytest.mark.parametrize("width", [390, 1500])
def test_the_operators_page_is_readable(lakehouse: Any, width: int) -> None:
    """On a phone too: nothing is wider than the screen."""
    environment = lakehouse.endpoints.environment()
    (seen,) = look(
        lakehouse.endpoints.airflow_url,
        environment["LAKEHOUSE_AIRFLOW_USER"],
        environment["LAKEHOUSE_AIRFLOW_PASSWORD"],
        [{"do": "page", "path": "/lakehouse/", "name": f"operators-page-{width}"}],
        login="/auth/login/",
        width=width,
        height=900,
    )
    assert seen["status"] == 200
    assert "gold.daily_revenue" in seen["text"]
    assert seen["overflow"] <= 0


@pytest.mark.faults
def test_a_change_by_hand_is_named_and_undone(lakehouse: Any) -> None:
    admin = Superset(*superset(lakehouse))
    chart = admin.find("chart", "slice_name", "Revenue (USD)")
    admin.http.put(f"/chart/{chart['id']}", json={"slice_name": "Turnover"}).raise_for_status()
    lakehouse.airflow.unpause("drift")
    run_id, state = lakehouse.run("drift")
    assert state == "failed"
    log = lakehouse.failed_tasks(run_id, "drift")["superset"]
    assert "update chart executive_revenue" in log
    assert "Turnover" in log
    lakehouse.green("apply_platform")
    assert admin.find("chart", "id", chart["id"])["slice_name"] == "Revenue (USD)"
    lakehouse.green("drift")


@pytest.mark.faults
def test_a_viewer_sees_charts_and_nothing_behind_them(lakehouse: Any) -> None:
    url, *account = superset(lakehouse)
    admin, viewer = Superset(url, *account), Superset(url, "viewer", lakehouse.endpoints.logins()["viewer"])
    dashboard = admin.find("dashboard", "slug", "executive")["id"]
    chart = admin.find("chart", "slice_name", "Revenue (USD)")["id"]
    context = json.loads(admin.http.get(f"/chart/{chart}").json()["result"]["query_context"])
    context["form_data"] = {"slice_id": chart, "dashboardId": dashboard}
    shown = viewer.ask(context)
    assert shown.status_code == 200
    assert shown.json()["result"][0]["data"][0]["revenue"] > 0
    own = {"type": "NATIVE_FILTER", "native_filter_id": "NATIVE_FILTER-executive-department", "dashboardId": dashboard}
    assert viewer.ask(context, form_data=own, columns=["department"], metrics=[]).status_code == 200
    sql = {"expressionType": "SQL", "sqlExpression": "MAX(household_id)", "label": "x"}
    where = {"where": "household_id IN (SELECT household_id FROM lakehouse.silver.orders)", "having": ""}
    refused = [
        viewer.ask(context, columns=["household_id", "order_id"], metrics=[]),
        viewer.ask(context, metrics=[sql]),
        viewer.ask(context, extras=where),
        viewer.ask(context, form_data=own, columns=["household_id"], metrics=[]),
        viewer.ask(context, form_data={}),
        viewer.http.post("/chart/data", json={**context, "result_format": "csv"}),
        viewer.http.post("/sqllab/execute/", json={"database_id": 1, "sql": "SELECT 1", "queryLimit": 1}),
        *(viewer.http.get(path) for path in ("/dataset/", "/database/", "/assets/export/", "/security/users/")),
        viewer.http.get("/chart/export/", params={"q": f"!({chart})"}),
    ]
    assert [(one.request.url.path, one.status_code) for one in refused if one.status_code != 403] == []
    slugs = {one["slug"] for one in viewer.http.get("/dashboard/").json()["result"]}
    assert slugs - {"marketing"} == {"executive", "customers", "promotions", "live"}  # that one waits for its connector


@needs_browser
@pytest.mark.faults
def test_a_report_is_drawn_as_its_member_sees_it_and_kept(lakehouse: Any) -> None:
    lakehouse.airflow.wait_for_dag("dashboard_reports")
    lakehouse.airflow.unpause("dashboard_reports")
    run_id = lakehouse.green("dashboard_reports")
    told = lakehouse.airflow.xcom("dashboard_reports", run_id, "draw_executive")
    begins = {"pdf": b"%PDF-", "png": b"\x89PNG"}
    store = lakehouse.object_store()
    for address in told["objects"]:
        bucket, key = address.removeprefix("s3://").split("/", 1)
        body = store.get_object(Bucket=bucket, Key=key)["Body"].read()
        suffix = key.rsplit(".", 1)[1]
        assert body.startswith(begins.pop(suffix)), key
        (SCREENSHOTS / f"report-executive.{suffix}").write_bytes(body)
    assert begins == {}
    assert told["objects"] in [one.get("objects") for one in lakehouse.alerts()]
    assert isinstance(lakehouse.airflow.xcom("dashboard_reports", run_id, "check_gold_alerts"), list)
