"""Shows how the lakehouse stands inside Airflow's web UI: menu entry *Lakehouse*, page `/lakehouse/`."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from airflow.plugins_manager import AirflowPlugin

PREFIX = "/lakehouse"


@lru_cache
def _application() -> Any:
    # On the first request, so in the API server only: the scheduler loads plugins too, and what it imports of `include`
    # its forked tasks would go on using after a file has changed.
    from include.operations import page

    return page.application(PREFIX)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """ASGI."""
    await _application()(scope, receive, send)


class LakehousePage(AirflowPlugin):
    name = "lakehouse_page"
    fastapi_apps = [{"app": application, "url_prefix": PREFIX, "name": "Lakehouse"}]  # noqa: RUF012  # as the base class
    external_views = [  # noqa: RUF012
        {"name": "Lakehouse", "href": f"{PREFIX}/", "destination": "nav", "url_route": "lakehouse"},
    ]
