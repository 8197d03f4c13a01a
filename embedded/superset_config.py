"""Superset's configuration, which it reads by SUPERSET_CONFIG_PATH inside its own venv; the stack gives the values."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

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
