"""Signs in to Superset, opens one dashboard, waits until all of it is drawn, and writes it as PDF and PNG.

Run by a Python that has Playwright (include/reports/browser.py), with the job as JSON on its input; answers with the
errors that the dashboard shows, as JSON. Imports nothing else of this project.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from playwright.sync_api import Browser, Page, Response, sync_playwright

# No sandbox: as root and in containers Chromium has none, and it opens our own Superset alone.
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
)
PATIENCE = 180_000  # milliseconds; a busy machine takes many times what an idle one does
# Nothing turns any more, and each chart is drawn or says why not.
SETTLED = """(charts) => document.querySelectorAll('[data-test="loading-indicator"], .loading').length === 0
    && document.querySelectorAll('.dashboard-component-chart-holder').length >= charts"""
FAULTS = '[data-test="chart-error"], .ant-alert-error, [data-test="error-message"], .error-boundary'
DRAWN = ".superset-legacy-chart-big-number, " + ", ".join(
    f".dashboard-component-chart-holder {drawn}" for drawn in ("canvas", "table")
)
# Without the frame of the page and the filters beside the charts.
ALONE = "?standalone=1&show_filters=0"
HEIGHT = 1200
WHOLE = "() => Math.max(...[...document.querySelectorAll('.dashboard-content, #app')].map(e => e.scrollHeight))"


def launch(chromium: Any, program: str) -> Browser:
    browser: Browser = chromium.launch(executable_path=program, args=list(ARGUMENTS))
    return browser


def sign_in(page: Page, url: str, user: str, password: str) -> None:
    page.goto(url)
    page.fill("input[name=username], input#username", user)
    page.fill("input[name=password], input#password", password)
    page.click("button[type=submit], input[type=submit]")
    page.wait_for_url(lambda address: "/login" not in address)


def settle(page: Page, charts: int) -> None:
    page.wait_for_load_state("networkidle")
    page.wait_for_function(SETTLED, arg=charts)


def rest(page: Page) -> None:
    """Lines are drawn moving: waits until two looks show the same, twenty seconds at most."""
    before = b""
    for _ in range(40):
        now = page.screenshot(full_page=True)
        if now == before:
            return
        before = now
        page.wait_for_timeout(500)


def faults(page: Page) -> list[str]:
    return [one.inner_text()[:300] for one in page.query_selector_all(FAULTS)]


def _write(page: Page, job: dict[str, Any]) -> None:
    """One page as long as the dashboard: it was laid out for a screen."""
    height = max(HEIGHT, int(page.evaluate(WHOLE)))
    page.set_viewport_size({"width": job["width"], "height": height})
    settle(page, 1)
    rest(page)
    path = f"{job['folder']}/{job['dashboard']}"
    if "png" in job["formats"]:
        page.screenshot(path=f"{path}.png", full_page=True)
    if "pdf" in job["formats"]:
        page.emulate_media(media="screen")
        size = {"width": f"{job['width']}px", "height": f"{height + 1}px"}
        page.pdf(path=f"{path}.pdf", print_background=True, **size)


def main() -> None:
    job = json.load(sys.stdin)
    refused: list[str] = []

    def note(response: Response) -> None:
        if "/api/v1/chart/data" in response.url and not response.ok:
            refused.append(f"a chart's query was answered {response.status}")

    with sync_playwright() as playwright:
        browser = launch(playwright.chromium, job["chromium"])
        try:
            page = browser.new_page(viewport={"width": job["width"], "height": HEIGHT})
            page.set_default_timeout(PATIENCE)
            page.on("response", note)
            sign_in(page, f"{job['url']}/login/", job["user"], job["password"])
            page.goto(f"{job['url']}/superset/dashboard/{job['dashboard']}/{ALONE}")
            page.wait_for_selector(f"{DRAWN}, {FAULTS}")
            settle(page, 1)
            _write(page, job)
            found = [*refused, *faults(page)]
        finally:
            browser.close()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
