"""How long people wait for dashboards: each chart's query, uncached and cached, and each page in a browser.

    make demo && make browser
    .venvs/embedded/bin/python benchmarks/superset/run.py [--repeat N] [--no-browser]

Asks the running platform (LAKEHOUSE_HOME) and changes nothing there but Superset's cache. Three ways of asking a
chart's query stand side by side: the same SQL over Flight without Superset, through Superset one after the other, and
through Superset with all charts of a dashboard at once, as a page does. Wall times depend on the machine's other work:
the load is printed beside them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pyarrow import flight

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

from embedded.stack import Stack  # noqa: E402
from tests.e2e.superset_api import Superset  # noqa: E402

BROWSER = PROJECT / ".venvs" / "browser" / "bin" / "python"
QUERY_BAR_MS, LOAD_BAR_SECONDS = 300, 5
WELCOME = {"do": "page", "path": "/superset/welcome/", "name": "welcome"}


@dataclass(frozen=True)
class Chart:
    """`context`: what a browser asks to show it. `sql`: what the SQL server is then asked."""

    name: str
    dashboard: str
    context: dict[str, Any]
    sql: tuple[str, ...]


def charts(api: Superset) -> list[Chart]:
    found = []
    for listed in api.http.get("/chart/", params={"q": "(page_size:100)"}).raise_for_status().json()["result"]:
        one = api.http.get(f"/chart/{listed['id']}").raise_for_status().json()["result"]
        context = json.loads(one["query_context"] or "{}")
        if not context or not one["dashboards"]:
            continue
        context["datasource"] = {"id": listed["datasource_id"], "type": "table"}
        sql = tuple(query["query"].rstrip("; \n") for query in ask(api, context, force=False))
        found.append(Chart(one["slice_name"], one["dashboards"][0]["dashboard_title"], context, sql))
    return found


def ask(api: Superset, context: dict[str, Any], *, force: bool) -> list[dict[str, Any]]:
    reply = api.http.post("/chart/data", json={**context, "force": force})
    reply.raise_for_status()
    result: list[dict[str, Any]] = reply.json()["result"]
    return result


class Flight:
    """The SQL server without Superset: one signed-in connection."""

    def __init__(self, address: str, user: str, password: str) -> None:
        self._client = flight.FlightClient(address)
        self._options = flight.FlightCallOptions(headers=[self._client.authenticate_basic_token(user, password)])

    def read(self, queries: Sequence[str]) -> None:
        for sql in queries:
            info = self._client.get_flight_info(flight.FlightDescriptor.for_command(sql.encode()), self._options)
            self._client.do_get(info.endpoints[0].ticket, self._options).read_all()


def milliseconds(do: Callable[[], Any]) -> float:
    began = time.perf_counter()
    do()
    return (time.perf_counter() - began) * 1000


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share / 100) - 1)]


def show(what: str, values: Sequence[float]) -> None:
    figures = [percentile(values, share) for share in (50, 95, 100)]
    print(f"{what:44} p50 {figures[0]:7.1f} ms   p95 {figures[1]:7.1f} ms   max {figures[2]:7.1f} ms")


def queries(api: Superset, server: Flight, known: list[Chart], repeat: int) -> None:
    direct: list[float] = []
    alone: dict[str, list[float]] = {}
    cached: list[float] = []
    for chart in known:
        for _ in range(repeat):
            direct.append(milliseconds(partial(server.read, chart.sql)))
            took = milliseconds(partial(ask, api, chart.context, force=True))
            alone.setdefault(chart.name, []).append(took)
            cached.append(milliseconds(partial(ask, api, chart.context, force=False)))
    together = [took for _ in range(repeat) for took in _at_once(api, known)]
    uncached = [took for taken in alone.values() for took in taken]
    show("the SQL alone, over Flight", direct)
    show("through Superset, uncached", uncached)
    show("through Superset, cached", cached)
    show("uncached, all charts of a page at once", together)
    print(f"Superset adds {percentile(uncached, 50) / percentile(direct, 50):.1f} times the query itself (medians)")
    p95 = percentile(uncached, 95)
    print(f"bar: p95 uncached {p95:.0f} ms {'<=' if p95 <= QUERY_BAR_MS else '> (NOT MET)'} {QUERY_BAR_MS} ms")
    slowest = sorted(alone, key=lambda name: -percentile(alone[name], 50))[:5]
    print("slowest: " + ", ".join(f"{name} {percentile(alone[name], 50):.0f} ms" for name in slowest))


def _at_once(api: Superset, known: list[Chart]) -> list[float]:
    taken: list[float] = []
    for dashboard in sorted({chart.dashboard for chart in known}):
        page = [chart for chart in known if chart.dashboard == dashboard]
        with ThreadPoolExecutor(6) as pool:  # as many connections as a browser opens to one host
            asked = [partial(ask, api, chart.context, force=True) for chart in page]
            taken += pool.map(milliseconds, asked)
    return taken


def pages(variables: dict[str, str], known: list[Chart], slugs: dict[str, str]) -> None:
    """Each dashboard in a browser that has never seen it (the first one also loads what all share), and again.

    The page after signing in is drawn first: a person sees it, and what it asks must not be counted as a dashboard's.
    """
    held = {slugs[title]: sum(chart.dashboard == title for chart in known) for title in slugs}
    once = [{"do": "dashboard", "slug": slug, "charts": charts} for slug, charts in held.items() if charts]
    with tempfile.TemporaryDirectory() as folder:
        job = {
            "url": variables["LAKEHOUSE_SUPERSET_URL"],
            "user": variables["LAKEHOUSE_SUPERSET_USER"],
            "password": variables["LAKEHOUSE_SUPERSET_PASSWORD"],
            "folder": folder,
            "chromium": os.environ.get("LAKEHOUSE_CHROMIUM") or shutil.which("chromium"),
            "steps": [{"do": "sign_in", "path": "/login/"}, WELCOME, *once, *once],
        }
        done = subprocess.run(
            [str(BROWSER), "-m", "tests.e2e.browser"],
            cwd=PROJECT,
            input=json.dumps(job),
            capture_output=True,
            text=True,
            check=True,
        )
    seen = json.loads(done.stdout)[2:]
    print(f"\n{'dashboard':14} {'first paint':>12} {'all drawn':>10}   {'again':>8} {'all drawn':>10}   (seconds)")
    for step, first, again in zip(once, seen, seen[len(once) :], strict=False):
        figures = [one[key] for one in (first, again) for key in ("first_paint_seconds", "drawn_seconds")]
        print(f"{step['slug']:14} {figures[0]:12.2f} {figures[1]:10.2f}   {figures[2]:8.2f} {figures[3]:10.2f}")
    slowest = max(one["first_paint_seconds"] for one in seen[: len(once)])
    met = "<=" if slowest <= LOAD_BAR_SECONDS else "> (NOT MET)"
    print(f"bar: slowest first paint {slowest:.1f} s {met} {LOAD_BAR_SECONDS} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--no-browser", action="store_true")
    given = parser.parse_args()
    variables = Stack().endpoints().environment()
    api = Superset(*(variables[f"LAKEHOUSE_SUPERSET_{name}"] for name in ("URL", "USER", "PASSWORD")))
    server = Flight(
        variables["LAKEHOUSE_DREMIO_FLIGHT_URL"],
        variables["LAKEHOUSE_DREMIO_USER"],
        variables["LAKEHOUSE_DREMIO_PASSWORD"],
    )
    listed = api.http.get("/dashboard/", params={"q": "(page_size:100)"}).raise_for_status().json()["result"]
    known = charts(api)
    print(f"{len(known)} charts, {given.repeat} times each; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs\n")
    queries(api, server, known, given.repeat)
    if not given.no_browser:
        pages(variables, known, {one["dashboard_title"]: one["slug"] for one in listed})
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
