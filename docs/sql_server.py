"""Writes docs/sql-server.md from the SQL server's own tables; a test fails when the page is not what this would write.

.venvs/embedded/bin/python -m docs.sql_server
"""

from __future__ import annotations

import tempfile
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from embedded.sql.catalog.information_schema import TABLES
from embedded.sql.catalog.sources import KNOWN_TYPES
from embedded.sql.catalog.system_tables import SCHEMAS
from embedded.sql.engine import coverage
from embedded.sql.flight import actions, messages
from embedded.sql.rest.app import Endpoint
from embedded.sql.rest.refused import REFUSED
from embedded.sql.server import SqlServer
from embedded.sql.settings import from_environment

PAGE = Path(__file__).resolve().parent / "sql-server.md"

HEAD = """# The SQL server: what it implements

Generated from the server's code by `make docs`. *Implemented* is tested against Dremio's documented behaviour,
*partial* says what is missing, *refused* answers with Dremio's error shape and never with a silent success.
The server speaks Dremio's REST v3 (and the parts of v2 that clients use) and Arrow Flight SQL; it is not Dremio.
"""

FLIGHT = """\
A descriptor holds SQL, as Dremio's older clients send it, or a command of Flight SQL. Basic handshake,
login, OAuth and personal access tokens; the headers schema, quoting, routing_queue, routing_tag,
routing_engine, supports_complex_types; a session by cookie, which USE changes; TLS with
`LAKEHOUSE_SQL_FLIGHT_CERTIFICATE` and `LAKEHOUSE_SQL_FLIGHT_KEY`. A query is planned and started at
GetFlightInfo, a command runs at DoGet.
Rows are streamed while they are computed; a query that nobody fetches for
`LAKEHOUSE_SQL_UNCLAIMED_TIMEOUT` (60) seconds or whose client reads nothing for
`LAKEHOUSE_SQL_READER_TIMEOUT` (900) seconds is cancelled. Unlike Dremio 25 it takes parameters of
prepared statements and answers updates over DoPut."""
_FLIGHT_REFUSED = (
    "CommandStatementIngest",
    "CommandStatementSubstraitPlan",
    "BeginTransaction, EndTransaction, BeginSavepoint, EndSavepoint",
    "ListFlights, DoExchange",
)

_SETTINGS = {
    "DATABASE_URL": "postgresql://nowhere/none",
    "ADMIN_USER": "x",
    "ADMIN_PASSWORD": "x",
    "DIST": "s3://x",
    "DIST_ENDPOINT": "x",
    "DIST_ACCESS_KEY": "x",
    "DIST_SECRET_KEY": "x",
    "SECRET_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
}


def endpoints(edition: str) -> list[Endpoint]:
    """What a server of this edition would answer; nothing is started."""
    with tempfile.TemporaryDirectory() as scratch:
        values = _SETTINGS | {"EDITION": edition, "SCRATCH": scratch}
        settings = from_environment({f"LAKEHOUSE_SQL_{name}": value for name, value in values.items()})
        server = SqlServer(settings, lambda *_: cast(Any, types.SimpleNamespace(close=None)))
        server.make_parts()
        return server.endpoints()


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [
        "| " + " | ".join(heads) + " |",
        "|" + " --- |" * len(heads),
        *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows),
        "",
    ]


def _endpoint_rows() -> Iterable[tuple[str, ...]]:
    everywhere = {(e.method, e.path) for e in endpoints("community")}
    for endpoint in sorted(endpoints("enterprise"), key=lambda e: (e.path, e.method)):
        state = f"partial: {endpoint.partial}" if endpoint.partial else "implemented"
        edition = "both" if (endpoint.method, endpoint.path) in everywhere else "Enterprise"
        yield (f"`{endpoint.method} {endpoint.path.replace('{tail:path}', '{path}')}`", state, edition)
    for path, reason in REFUSED:
        yield (f"`{path}`", f"refused: {reason}", "")


def _command_rows() -> Iterable[tuple[str, ...]]:
    return [(f"`{form.syntax}`", _state(form.status, form.note)) for form in coverage.FORMS]


def _function_rows() -> Iterable[tuple[str, ...]]:
    return [(f"`{name}`", _state(*coverage.function_status(name))) for name in coverage.DOCUMENTED]


def _state(status: str, note: str) -> str:
    return f"{status}: {note}" if note else status


def _flight_rows() -> Iterable[tuple[str, ...]]:
    empty = "implemented; always empty, as in Dremio"
    for name in messages.COMMANDS:
        keys = name.endswith(("Keys", "CrossReference", "GetCatalogs"))
        yield (f"`{name}`", empty if keys else "implemented")
    for name, text in actions.DESCRIPTIONS.items():
        yield (f"`{name}`: {text[0].lower()}{text[1:].rstrip('.')}", "implemented")
    for name in _FLIGHT_REFUSED:
        yield (f"`{name}`", "refused")


def render() -> str:
    """The whole page."""
    lines = [HEAD, "## Endpoints", ""]
    lines += _table(("endpoint", "state", "edition"), _endpoint_rows())
    lines += [
        "With `LAKEHOUSE_SQL_CLOUD_PROJECT` every v3 path also answers below Dremio Cloud's `/v0/projects/{id}`.",
        "",
    ]
    lines += ["## Arrow Flight", "", FLIGHT, ""]
    lines += _table(("command or action of Flight SQL", "state"), _flight_rows())
    lines += ["## Sources", "", ", ".join(f"`{kind}`" for kind in KNOWN_TYPES), ""]
    lines += ["## System tables", "", ", ".join(f"`sys.{name}`" for name in sorted(SCHEMAS)), ""]
    lines += [", ".join(f"`INFORMATION_SCHEMA.{name}`" for name in TABLES), ""]
    lines += ["## Commands", ""]
    lines += _table(("command", "state"), _command_rows())
    lines += ["## Functions", ""]
    lines += _table(("function", "state"), _function_rows())
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
