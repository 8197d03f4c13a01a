"""Superset's REST API as any script uses it; no code of ours."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from embedded import superset

needs_superset = pytest.mark.skipif(
    not superset.is_installed(), reason="Superset 6.1 needs Python 3.11 or 3.12 (Makefile: superset)"
)


class Superset:
    """Its REST API as any script uses it; no code of ours."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.http = httpx.Client(base_url=f"{url}/api/v1", timeout=120)
        body = {"username": user, "password": password, "provider": "db"}
        token = self.http.post("/security/login", json=body).raise_for_status().json()["access_token"]
        self.http.headers["authorization"] = f"Bearer {token}"
        self.http.headers["x-csrftoken"] = self.http.get("/security/csrf_token/").json()["result"]

    def find(self, kind: str, key: str, value: str) -> dict[str, Any]:
        found = self.http.get(f"/{kind}/", params={"q": "(page_size:100)"}).raise_for_status().json()["result"]
        return next(dict(one) for one in found if one[key] == value)

    def ask(self, context: dict[str, Any], **changed: Any) -> httpx.Response:
        """The chart's first query, changed."""
        form = changed.pop("form_data", context["form_data"])
        first = {**context["queries"][0], **changed}
        return self.http.post("/chart/data", json={**context, "queries": [first], "form_data": form})
