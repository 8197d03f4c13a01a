"""Alerts as data: what must not be so, as a query over the ledger or gold, told when it begins and when it ends.

Plain psycopg, no Airflow: who is told is the caller's business.
"""

from __future__ import annotations

import datetime as dt
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from include.ledger import Connection
from include.paths import PLATFORM, PROJECT
from include.specs.reader import read

FOLDER = PLATFORM / "alerts"
GOLD = FOLDER / "gold"  # asked of the published tables
SEVERITIES = ("page", "ticket")
FIELDS = {"subject", "value"}
FIRING, RESOLVED = "alert_firing", "alert_resolved"

Tell = Callable[[Mapping[str, Any]], None]
Ask = Callable[[str], Sequence[Mapping[str, Any]]]


class AlertsError(Exception):
    """A query failed, or somebody could not be told; the message names the alert. The others were evaluated."""


@dataclass(frozen=True)
class Alert:
    """query: gives a row (subject, value) for each thing that is wrong. text: told, with both in it.

    repeat: how often it is told again while it lasts. runbook: a file of the project.
    """

    name: str
    severity: str
    runbook: str
    repeat: dt.timedelta
    text: str
    query: str


def load(folder: Path = FOLDER) -> list[Alert]:
    """One alert a file. Raises SpecError naming file, field and fix."""
    return [_alert(file) for file in sorted(folder.glob("*.yaml"))]


def _alert(file: Path) -> Alert:
    node = read(file)
    alert = Alert(
        name=file.stem,
        severity=node.one_of("severity", SEVERITIES),
        runbook=node.get("runbook", str),
        repeat=dt.timedelta(hours=node.get("repeat_hours", int)),
        text=node.get("text", str),
        query=node.get("query", str),
    )
    node.done()
    unknown = {name for _, name, _, _ in string.Formatter().parse(alert.text) if name is not None} - FIELDS
    if unknown:
        raise node.fail("text", f"names {', '.join(sorted(unknown))}; there are {', '.join(sorted(FIELDS))}")
    if not (PROJECT / alert.runbook).is_file():
        raise node.fail("runbook", f"must name a file of this project, found {alert.runbook!r}")
    return alert


def evaluate(conn: Connection, alerts: Sequence[Alert], tell: Tell, ask: Ask | None = None) -> list[str]:
    """Tells what began, lasts or ended; gives what was told. What could not be told is told the next time.

    `ask`: runs a query where its tables are; the ledger without it. Raises AlertsError after all were tried.
    """
    told, problems = [], []
    for alert in alerts:
        try:
            told += _evaluate(conn, alert, tell, ask or (lambda query: _ask_ledger(conn, query)))
        except Exception as error:  # one alert must not silence the others
            conn.rollback()
            problems.append(f"{alert.name}: {type(error).__name__}: {str(error).splitlines()[0]}")
    if problems:
        raise AlertsError("; ".join(problems))
    return told


def _ask_ledger(conn: Connection, query: str) -> Sequence[Mapping[str, Any]]:
    conn.commit()
    conn.execute("set transaction read only")
    rows = conn.execute(query.encode()).fetchall()
    conn.commit()
    return rows


def _evaluate(conn: Connection, alert: Alert, tell: Tell, ask: Ask) -> list[str]:
    wrong = {row["subject"]: str(row["value"]) for row in ask(alert.query)}
    known = conn.execute(
        "select subject, text, told_at < clock_timestamp() - make_interval(secs => %s) as again "
        "from lakehouse.alert_states where alert = %s",
        [alert.repeat.total_seconds(), alert.name],
    ).fetchall()
    again = {row["subject"]: row["again"] for row in known}
    told = []
    for subject, value in wrong.items():
        if again.get(subject, True):
            text = alert.text.format(subject=subject, value=value)
            tell(_message(FIRING, alert, subject, text))
            _remember(conn, alert, subject, text)
            told.append(f"{alert.name}: {text}")
    for row in known:
        if row["subject"] not in wrong:
            tell(_message(RESOLVED, alert, row["subject"], row["text"]))
            conn.execute(
                "delete from lakehouse.alert_states where alert = %s and subject = %s", [alert.name, row["subject"]]
            )
            conn.commit()
            told.append(f"{alert.name}: over: {row['text']}")
    return told


def _remember(conn: Connection, alert: Alert, subject: str, text: str) -> None:
    """After it was told: dying in between tells it twice, never not at all."""
    conn.execute(
        "insert into lakehouse.alert_states as a (alert, subject, text) values (%s, %s, %s) "
        "on conflict (alert, subject) do update set text = excluded.text, told_at = clock_timestamp()",
        [alert.name, subject, text],
    )
    conn.commit()


def _message(kind: str, alert: Alert, subject: str, text: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "alert": alert.name,
        "severity": alert.severity,
        "subject": subject,
        "reason": text,
        "runbook": alert.runbook,
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


def firing(conn: Connection) -> Sequence[dict[str, Any]]:
    """What is wrong now, as far as it was told."""
    try:
        return conn.execute("select alert, subject, text, since from lakehouse.alert_states order by since").fetchall()
    except psycopg.errors.UndefinedTable:
        conn.rollback()
        return []
