"""A job as a page for a browser: why it failed, its attempts, streams and log. The link itself is the permission."""

from __future__ import annotations

import hashlib
import hmac
from html import escape
from typing import Any

from psycopg.rows import DictRow
from starlette.responses import HTMLResponse

from embedded.replication.api import jobs as job_calls
from embedded.replication.api.calls import EXTENSION, Call
from embedded.replication.problems import not_found
from embedded.replication.store import jobs

_LINES = 2000
_STYLE = (
    "body{font:14px system-ui,sans-serif;margin:2em;max-width:80em}table{border-collapse:collapse;margin:1em 0}"
    "td,th{padding:.2em .8em;border-bottom:1px solid #ccc;text-align:left;vertical-align:top}"
    "pre{background:#f6f6f6;padding:1em;white-space:pre-wrap}.failed,.error{color:#b00}.succeeded{color:#070}"
)


def key(secret: str, job_id: int) -> str:
    """What makes the link of a job's page; it opens nothing else."""
    return hmac.digest(secret.encode(), f"page of job {job_id}".encode(), hashlib.sha256).hex()[:40]


def link(call: Call, job_id: int) -> str:
    root = call.url.partition("/api/")[0]
    return f"{root}{EXTENSION}/jobs/{job_id}/page?key={key(call.services.settings.client_secret, job_id)}"


def page(call: Call) -> HTMLResponse:
    """The page; reloads itself while the job is open. Raises a 404 problem for a wrong key, as for an unknown job."""
    text = call.path["jobId"]
    right = text.isascii() and text.isdigit() and key(call.services.settings.client_secret, int(text))
    if not right or not hmac.compare_digest(right, call.query.get("key", "")):
        raise not_found("job", text)
    with call.services.pool.connection() as db:
        row = job_calls.existing(db, call)
        attempts = jobs.get_attempts(db, row["id"])
        streams = jobs.job_streams(db, row["id"])
        lines = jobs.get_log(db, row["id"], 0, _LINES)
    return HTMLResponse(_html(row, attempts, streams, lines))


def _html(row: DictRow, attempts: list[DictRow], streams: list[DictRow], lines: list[DictRow]) -> str:
    reload = '<meta http-equiv="refresh" content="5">' if row["status"] in jobs.OPEN else ""
    title = f"Job {row['id']}: {row['type']} {row['status']}"
    log = "\n".join(
        f'<span class="{escape(line["level"])}">{line["at"]:%H:%M:%S} {escape(line["message"])}</span>'
        for line in lines
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{reload}<title>{escape(title)}</title>'
        f'<style>{_STYLE}</style></head><body><h1 class="{row["status"]}">{escape(title)}</h1>'
        f"<p>Begun {row['created_at']:%Y-%m-%d %H:%M:%S %Z}, {row['records']} records, {row['bytes']} bytes</p>"
        f"{_table(['attempt', 'status', 'started', 'ended', 'reason'], [_attempt(item) for item in attempts])}"
        f"{_table(['stream', 'mode', 'generation', 'records', 'bytes'], [_stream(item) for item in streams])}"
        f"<pre>{log}</pre></body></html>"
    )


def _attempt(row: DictRow) -> list[Any]:
    failure = row["failure"] or {}
    reason = ": ".join(str(failure[key]) for key in ("origin", "type", "message") if failure.get(key))
    return [row["number"], row["status"], row["started_at"], row["ended_at"] or "", reason]


def _stream(row: DictRow) -> list[Any]:
    name = ".".join(filter(None, (row["namespace"], row["name"])))
    stats = row["stats"]
    records = stats.get("records", stats.get("recordsRead", ""))
    return [name, row["sync_mode"], row["generation_id"], records, stats.get("bytes", "")]


def _table(head: list[str], rows: list[list[Any]]) -> str:
    def line(cells: list[Any], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{line(head, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"
