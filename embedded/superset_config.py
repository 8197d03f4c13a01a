"""Superset's configuration, which it reads by SUPERSET_CONFIG_PATH inside its own venv; the stack gives the values."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from flask_babel import gettext  # all of these: in Superset's venv
from superset.config import TALISMAN_CONFIG
from superset.errors import ErrorLevel, SupersetError, SupersetErrorType
from superset.exceptions import SupersetSecurityException
from superset.security.manager import SupersetSecurityManager

_FOLDER = Path(os.environ["SUPERSET_HOME"])

SECRET_KEY = os.environ["LAKEHOUSE_SUPERSET_SECRET_KEY"]
SQLALCHEMY_DATABASE_URI = os.environ["LAKEHOUSE_SUPERSET_DATABASE_URL"]
SQLALCHEMY_ENGINE_OPTIONS = {"pool_pre_ping": True}
WEBDRIVER_BASEURL = WEBDRIVER_BASEURL_USER_FRIENDLY = os.environ["LAKEHOUSE_SUPERSET_URL"] + "/"

APP_NAME = "Open Lakehouse"
# Viewers see the dashboards that name their role, without access to a dataset or to SQL.
FEATURE_FLAGS = {"DASHBOARD_RBAC": True}
# Both a query and a page give up before gunicorn does.
SQLLAB_TIMEOUT = SUPERSET_WEBSERVER_TIMEOUT = 60
ROW_LIMIT = 10_000
SQL_MAX_ROW = 100_000
# No example data, no maps that ask a server in the internet for their tiles.
MAPBOX_API_KEY = ""
PUBLIC_ROLE_LIKE = None
# Superset's pages report each view of theirs to its makers, as a picture from the internet: browsers refuse it.
TALISMAN_CONFIG["content_security_policy"] |= {
    "img-src": ["'self'", "blob:", "data:"],
    "connect-src": ["'self'"],
}
# A query in a source's own words would pass by the check of which tables a role may read.
DISALLOWED_SQL_FUNCTIONS = {"dremio": {"EXTERNAL_QUERY", "external_query"}}
# One counter a web worker is enough on one machine; a cluster gives a Redis here.
RATELIMIT_STORAGE_URI = "memory://"

DAY = 24 * 3600


def _cache(prefix: str, seconds: int) -> dict[str, Any]:
    """Files that all web workers share; a batch run replaces what it holds of the datasets that it published."""
    return {
        "CACHE_TYPE": "FileSystemCache",
        "CACHE_DIR": str(_FOLDER / "cache" / prefix),
        "CACHE_DEFAULT_TIMEOUT": seconds,
        "CACHE_THRESHOLD": 2000,
        "CACHE_KEY_PREFIX": f"{prefix}_",
    }


# One for both: Superset forgets a dataset's answers (/api/v1/cachekey/invalidate) in the first one alone.
CACHE_CONFIG = DATA_CACHE_CONFIG = _cache("data", DAY)
STORE_CACHE_KEYS_IN_METADATA_DB = True
FILTER_STATE_CACHE_CONFIG = _cache("filters", 90 * DAY)
EXPLORE_FORM_DATA_CACHE_CONFIG = _cache("explore", 7 * DAY)


class LakehouseSecurityManager(SupersetSecurityManager):  # type: ignore[misc]
    """Who may ask for what, beyond Superset's roles.

    Whoever may look at dashboards and not explore gets the answers to their charts and filters, and to nothing else.

    Superset lets them ask the dataset of a chart on their dashboard for any column: it compares what is asked with what
    is shown for its guests alone.
    """

    def is_item_public(self, *_: str) -> bool:
        """Nobody sees anything before signing in. Superset reads its Public role at each request, a tenth of it."""
        return False

    def raise_for_access(self, *args: Any, **kwargs: Any) -> None:
        super().raise_for_access(*args, **kwargs)
        query_context = kwargs.get("query_context")
        if query_context is None or self.can_access("can_explore", "Superset") or _is_shown(query_context):
            return
        raise SupersetSecurityException(
            SupersetError(
                error_type=SupersetErrorType.DASHBOARD_SECURITY_ACCESS_ERROR,
                message=gettext("You may look at this dashboard's charts, and not query their dataset"),
                level=ErrorLevel.WARNING,
            )
        )


def _is_shown(query_context: Any) -> bool:
    form_data = query_context.form_data or {}
    if form_data.get("type") == "NATIVE_FILTER":
        return _fills_filter(query_context, form_data)
    return _draws_chart(query_context, form_data)


def _draws_chart(query_context: Any, form_data: dict[str, Any]) -> bool:
    """It asks for the columns and metrics of that very chart, filtered by nothing but values."""
    from superset.extensions import db
    from superset.models.slice import Slice

    chart = db.session.query(Slice).filter_by(id=form_data.get("slice_id")).one_or_none()
    if chart is None or chart.datasource_id != query_context.datasource.id:
        return False
    stored = json.loads(chart.query_context or "{}").get("queries") or []
    shown = {_named(one) for query in stored for key in ("columns", "metrics") for one in query.get(key) or []}
    words = {(query.get("extras") or {}).get(key) or "" for query in stored for key in ("where", "having")} | {""}
    return all(
        {_named(one) for one in [*(query.columns or []), *(query.metrics or [])]} <= shown
        and {query.extras.get(key) or "" for key in ("where", "having")} <= words
        for query in query_context.queries
    )


def _named(asked: Any) -> str:
    """A column or metric by name; one written as SQL, by all of its words."""
    if isinstance(asked, dict):
        return json.dumps({key: asked.get(key) for key in ("sqlExpression", "column", "aggregate")}, sort_keys=True)
    return str(asked)


def _fills_filter(query_context: Any, form_data: dict[str, Any]) -> bool:
    """It asks for the values of that very filter's own column."""
    from superset.extensions import db
    from superset.models.dashboard import Dashboard

    found = db.session.query(Dashboard).filter_by(id=form_data.get("dashboardId")).one_or_none()
    filters = (found.params_dict if found else {}).get("native_filter_configuration") or []
    columns = {
        target["column"]["name"]
        for one in filters
        if one.get("id") == form_data.get("native_filter_id")
        for target in one.get("targets") or []
        if target.get("column")
    }
    return all(set(query.columns or []) <= columns and not query.metrics for query in query_context.queries)


CUSTOM_SECURITY_MANAGER = LakehouseSecurityManager
