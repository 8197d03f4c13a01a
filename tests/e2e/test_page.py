"""The operator's page as Airflow's API server serves it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(4000)]


def test_the_page_shows_every_published_dataset_to_those_who_are_signed_in(lakehouse: Any) -> None:
    url = f"{lakehouse.endpoints.airflow_url}/lakehouse/"
    refused = httpx.get(url, headers={"accept": "text/html"})
    assert refused.status_code == httpx.codes.TEMPORARY_REDIRECT
    assert "/auth/login/" in refused.headers["location"]
    page = lakehouse.airflow.page("/lakehouse/")
    with lakehouse.ledger() as conn:
        names = {row["dataset"] for row in conn.execute("select distinct dataset from lakehouse.publications")}
    assert names
    assert [name for name in names if name not in page] == []


def test_the_menu_leads_to_the_page(lakehouse: Any) -> None:
    plugins = lakehouse.airflow.json("GET", "/plugins")["plugins"]
    views = [view for plugin in plugins for view in plugin["external_views"]]
    assert {"name": "Lakehouse", "href": "/lakehouse/"}.items() <= next(
        view for view in views if view["name"] == "Lakehouse"
    ).items()
