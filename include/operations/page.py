"""The page's small web application, mounted into Airflow's API server by `plugins/lakehouse_page.py`.

Airflow does not guard the routes of a plugin's application: whoever opens this page must be signed in to Airflow and
allowed to see its DAGs. A browser that is not is sent to the sign-in form, any other client is refused.
"""

from __future__ import annotations

import datetime as dt
import secrets
from pathlib import Path
from urllib.parse import quote

import psycopg
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, select_autoescape
from starlette.concurrency import run_in_threadpool

from include import connections
from include.connections import LEDGER
from include.operations import proof, state, upkeep
from include.paths import PIPELINES
from include.retention import report
from include.specs import pipeline


def ago(age: dt.timedelta) -> str:
    """3 min, 5 h, 2 d: as much as a glance can use."""
    seconds = age.total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size or (unit == "min" and seconds >= size):
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def lasted(seconds: float | None) -> str:
    return "" if seconds is None else f"{int(seconds // 60)} min {int(seconds % 60):02} s"


def started(run_id: str) -> str:
    """scheduled, 2026-11-25 02:00 of Airflow's run id; other ids as they are."""
    kind, _, moment = run_id.partition("__")
    try:
        return f"{kind}, {dt.datetime.fromisoformat(moment):%Y-%m-%d %H:%M}"
    except ValueError:
        return run_id


_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=select_autoescape(), trim_blocks=True, lstrip_blocks=True
)
_templates.filters |= {
    "ago": ago,
    "lasted": lasted,
    "started": started,
    "size": report.size,
    "path": lambda text: quote(str(text), safe=""),
}


async def _may_read(request: Request) -> bool:
    """Raises 403 for a signed-in user without the right to read DAGs; False for nobody."""
    # Imported here: every task process loads plugins, only the API server answers requests.
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN
    from airflow.api_fastapi.core_api.security import resolve_user_from_token

    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    token = given if scheme.lower() == "bearer" else request.cookies.get(COOKIE_NAME_JWT_TOKEN)
    try:
        user = await resolve_user_from_token(token)
    except HTTPException:
        return False
    if not get_auth_manager().is_authorized_dag(method="GET", user=user):
        raise HTTPException(403, "Reading DAGs is not allowed to you.")
    return True


def pipelines() -> list[pipeline.Pipeline]:
    return [pipeline.load(path.stem) for path in sorted(PIPELINES.glob("*.yaml"))]


def render() -> str:
    """The page of every declared pipeline, or what keeps it from being shown."""
    states: list[state.State] = []
    problem = None
    backups: proof.Proof | None = None
    kept: upkeep.Upkeep | None = None
    try:
        with connections.connect(LEDGER) as conn:
            states = [state.read(conn, declared) for declared in pipelines()]
            backups = proof.read(conn)
            kept = upkeep.read(conn)
    except psycopg.errors.UndefinedTable:
        problem = "The ledger is empty: run apply_platform."
    except psycopg.OperationalError as error:
        problem = f"The ledger does not answer; check the Airflow connection `{LEDGER}` ({type(error).__name__})."
    return _templates.get_template("page.html").render(states=states, backups=backups, upkeep=kept, problem=problem)


def application(prefix: str) -> FastAPI:
    """The application with its one page; `prefix` is where Airflow mounts it."""
    app = FastAPI(title="Lakehouse", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/", response_class=HTMLResponse)
    async def page(request: Request) -> Response:
        if not await _may_read(request):
            if "text/html" in request.headers.get("accept", ""):
                return RedirectResponse(f"/auth/login/?next={quote(prefix + '/')}")
            raise HTTPException(401, "Sign in to Airflow first.")
        nonce = secrets.token_urlsafe(12)
        body = (await run_in_threadpool(render)).replace("__NONCE__", nonce)
        policy = f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'"
        return HTMLResponse(body, headers={"Cache-Control": "no-store", "Content-Security-Policy": policy})

    return app
