"""Looks at pages with a real browser: run as a module by a Python that has Playwright, with a job as JSON on its input.

The job: url, user, password, folder (for screenshots), chromium (its program), and steps, each {"do": name, ...}. The
answer is JSON: what each step saw. Playwright lives in a venv of its own, so tests start this and read its answer.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, Request, Response, sync_playwright

from include.reports import draw


class Visit:
    """One signed-in browser."""

    def __init__(self, page: Page, job: dict[str, Any]) -> None:
        self.page, self.job = page, job
        self.answers: list[dict[str, Any]] = []
        page.on("response", self._note)
        self.elsewhere: set[str] = set()
        page.on("request", self._watch)
        page.on("requestfailed", self._forget_if_refused)

    def _watch(self, request: Request) -> None:
        if request.url.startswith("http") and not request.url.startswith(self.job["url"]):
            self.elsewhere.add(request.url)

    def _forget_if_refused(self, request: Request) -> None:
        """A request that the page's policy refuses (csp) never leaves the browser."""
        if request.failure == "csp":
            self.elsewhere.discard(request.url)

    def _note(self, response: Response) -> None:
        if "/api/v1/chart/data" not in response.url:
            return
        asked = response.request.post_data_json or {}
        form = asked.get("form_data") or {}
        body: dict[str, Any] = response.json() if response.ok else {}
        results = body.get("result") or []
        self.answers.append(
            {
                "chart": form.get("slice_id"),
                "status": response.status,
                "cached": bool(results) and all(one.get("is_cached") for one in results),
                "errors": [one["error"] for one in results if one.get("error")],
                "data": results[0].get("data") if results else None,
            }
        )

    def shot(self, name: str) -> None:
        self.page.screenshot(path=f"{self.job['folder']}/{name}.png", full_page=True)

    def sign_in(self, step: dict[str, Any]) -> dict[str, Any]:
        draw.sign_in(self.page, f"{self.job['url']}{step['path']}", self.job["user"], self.job["password"])
        return {"url": self.page.url}

    def dashboard(self, step: dict[str, Any]) -> dict[str, Any]:
        """Opens a dashboard and waits until all of it is drawn."""
        self.answers.clear()
        began = time.monotonic()
        self.page.goto(f"{self.job['url']}/superset/dashboard/{step['slug']}/")
        self.page.wait_for_selector(draw.DRAWN)
        first = time.monotonic()
        draw.settle(self.page, step["charts"])
        taken = {"first_paint_seconds": first - began, "drawn_seconds": time.monotonic() - began}
        return self._seen(step["slug"]) | taken

    def _seen(self, name: str) -> dict[str, Any]:
        self.shot(name)
        return {
            "title": self.page.title(),
            "answers": list(self.answers),
            "faults": draw.faults(self.page),
            "asked_elsewhere": sorted(self.elsewhere),
            "big_numbers": [one.inner_text() for one in self.page.query_selector_all(".header-line")],
        }

    def filter(self, step: dict[str, Any]) -> dict[str, Any]:
        """Chooses a value in one of the filters beside the open dashboard, and applies it."""
        self.answers.clear()
        box = self.page.locator(f'[data-test="form-item-value"]:has-text("{step["filter"]}")')
        self.page.get_by_role("combobox", name=step["filter"]).or_(box.get_by_role("combobox")).first.click()
        self.page.keyboard.type(step["value"])
        self.page.locator(f'.ant-select-item-option[title="{step["value"]}"]').first.click()
        self.page.keyboard.press("Escape")
        self.page.get_by_role("button", name="Apply filters").click()
        self.page.wait_for_function("() => !document.querySelector('.loading')")
        draw.settle(self.page, step["charts"])
        return self._seen(f"{step['slug']}-{step['value'].lower()}")

    def page_shown(self, step: dict[str, Any]) -> dict[str, Any]:
        """Any page: what it answers, and its text."""
        response = self.page.goto(f"{self.job['url']}{step['path']}")
        self.page.wait_for_load_state("networkidle")
        self.shot(step["name"])
        boxes = "[document.documentElement, ...document.querySelectorAll('.table')]"
        overflow = f"() => Math.max(...{boxes}.map(box => box.scrollWidth - box.clientWidth))"
        return {
            "status": response.status if response else 0,
            "url": self.page.url,
            "text": self.page.inner_text("body")[:20_000],
            "overflow": self.page.evaluate(overflow),
        }


def main() -> None:
    job = json.load(sys.stdin)
    with sync_playwright() as playwright:
        browser = draw.launch(playwright.chromium, job["chromium"])
        page = browser.new_page(viewport={"width": job.get("width", 1500), "height": job.get("height", 2600)})
        page.set_default_timeout(draw.PATIENCE)
        visit = Visit(page, job)
        known: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "sign_in": visit.sign_in,
            "dashboard": visit.dashboard,
            "filter": visit.filter,
            "page": visit.page_shown,
        }
        seen = []
        try:
            for step in job["steps"]:
                seen.append(known[step["do"]](step))
        except Exception:
            visit.shot("where-it-failed")
            raise
        finally:
            browser.close()
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main()
