"""Reports as data, what keeps them from being drawn, and the alerts on gold, which fire and end on the SQL server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from include import ledger, upkeep_alerts
from include.reports import browser, spec
from include.settings import Settings
from include.specs import policy
from include.specs.reader import SpecError
from lakehouse_providers.dremio.hook import DremioHook
from tests.include.test_upkeep_alerts import Told

# Days before the newest, and what each department sold: fires, and is over.
CASES = {
    "revenue_fell": ([("GROCERY", day, 10 if day < 7 else 100) for day in range(14)], "revenue", "10 %"),
    "department_silent": (
        [("GROCERY", day, 100) for day in range(35)] + [("DELI", day, 1) for day in range(7, 35)],
        "DELI",
        "28",
    ),
}
QUIET = [(department, day, 100) for department in ("GROCERY", "DELI") for day in range(35)]


def test_every_shipped_report_is_for_a_member() -> None:
    reports = spec.load(policy.load())
    assert [(one.name, one.dashboard, one.member.name) for one in reports] == [("executive", "executive", "viewer")]


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("member", "nobody", "'reports.weekly.member' must be one of administrator"),
        ("width", 10, "'reports.weekly.width' must be 800 to 4000 pixels, found 10"),
        ("formats", "[gif]", "'reports.weekly.formats' must list one or more of pdf, png"),
        ("dashboard", '"../x"', "'reports.weekly.dashboard' must match"),
        ("colour", "red", "'reports.weekly.colour' is not known here"),
    ],
)
def test_a_mistake_is_named_with_its_field(tmp_path: Path, field: str, value: object, complaint: str) -> None:
    fields = {"dashboard": "executive", "member": "viewer", "width": 1500, "formats": "[pdf]", field: value}
    lines = "".join(f"    {key}: {text}\n" for key, text in fields.items())
    file = tmp_path / "reports.yaml"
    file.write_text(f"reports:\n  weekly:\n{lines}")
    with pytest.raises(SpecError) as caught:
        spec.load(policy.load(), file)
    assert str(caught.value).startswith(f"reports.yaml: {complaint}")


def test_what_is_missing_is_named() -> None:
    def settings(**programs: str) -> Settings:
        return Settings(dbt_executable="dbt", lease_seconds=1, deadline_minutes=None, **programs)

    assert "there is no Chromium: install it" in browser.absent(settings(browser_python="python"))
    assert "run `make browser`" in browser.absent(settings(chromium="chromium"))
    assert browser.absent(settings(chromium="chromium", browser_python="python")) == ""


def test_every_gold_alert_is_tried_here() -> None:
    assert {alert.name for alert in upkeep_alerts.load(upkeep_alerts.GOLD)} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_gold_alert_fires_once_and_ends(conn: ledger.Connection, dremio_connection: Any, name: str) -> None:
    hook = DremioHook()
    rows, subject, value = CASES[name]
    (alert,) = [one for one in upkeep_alerts.load(upkeep_alerts.GOLD) if one.name == name]

    def told_of(sold: list[tuple[str, int, int]]) -> list[dict[str, Any]]:
        days = " union all ".join(
            f"select date_sub(date '2017-12-31', {day}) as order_date, '{department}' as department, "
            f"cast({revenue} as decimal(18, 2)) as revenue"
            for department, day, revenue in sold
        )

        def ask(query: str) -> list[dict[str, Any]]:
            return hook.run_sql(query.replace("lakehouse.gold.daily_revenue", f"({days})"))

        told = Told()
        for _ in range(2):
            upkeep_alerts.evaluate(conn, [alert], told, ask)
        return [dict(message) for message in told]

    (fired,) = told_of(rows)
    assert (fired["kind"], fired["subject"]) == ("alert_firing", subject)
    assert value in fired["reason"]
    (over,) = told_of(QUIET)
    assert (over["kind"], over["subject"]) == ("alert_resolved", subject)
