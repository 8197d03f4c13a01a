"""The server as a Starlette application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from embedded.replication.api import capture, connections, extension, jobs, page, tokens, workspaces
from embedded.replication.api.actors import Actors
from embedded.replication.api.calls import EXTENSION, PUBLIC, Handler, Services, route
from embedded.replication.auth import Tokens
from embedded.replication.faults import Faults
from embedded.replication.problems import method_not_allowed, no_such_call
from embedded.replication.runner import Runner
from embedded.replication.scratch import Scratch
from embedded.replication.settings import Settings
from embedded.replication.store.database import migrate, open_pool

_sources, _destinations = Actors("source"), Actors("destination")

# What is implemented, in one place.
OPEN_CALLS: list[tuple[str, str, Handler]] = [
    ("POST", f"{PUBLIC}/applications/token", tokens.issue),
    ("GET", f"{PUBLIC}/health", tokens.health),
    ("GET", f"{EXTENSION}/jobs/{{jobId}}/page", page.page),
]
CALLS: list[tuple[str, str, Handler]] = [
    ("GET", f"{PUBLIC}/workspaces", workspaces.list_),
    ("POST", f"{PUBLIC}/workspaces", workspaces.create),
    ("GET", f"{PUBLIC}/workspaces/{{workspaceId}}", workspaces.get),
    ("PATCH", f"{PUBLIC}/workspaces/{{workspaceId}}", workspaces.patch),
    ("DELETE", f"{PUBLIC}/workspaces/{{workspaceId}}", workspaces.delete),
    *(
        (method, f"{PUBLIC}/{kind}s{path}", handler)
        for kind, actors in (("source", _sources), ("destination", _destinations))
        for method, path, handler in (
            ("GET", "", actors.list_),
            ("POST", "", actors.create),
            ("GET", f"/{{{kind}Id}}", actors.get),
            ("PUT", f"/{{{kind}Id}}", actors.put),
            ("PATCH", f"/{{{kind}Id}}", actors.patch),
            ("DELETE", f"/{{{kind}Id}}", actors.delete),
        )
    ),
    ("GET", f"{PUBLIC}/connections", connections.list_),
    ("POST", f"{PUBLIC}/connections", connections.create),
    ("GET", f"{PUBLIC}/connections/{{connectionId}}", connections.get),
    ("PUT", f"{PUBLIC}/connections/{{connectionId}}", connections.put),
    ("PATCH", f"{PUBLIC}/connections/{{connectionId}}", connections.patch),
    ("DELETE", f"{PUBLIC}/connections/{{connectionId}}", connections.delete),
    ("GET", f"{PUBLIC}/streams", connections.streams),
    ("GET", f"{PUBLIC}/jobs", jobs.list_),
    ("POST", f"{PUBLIC}/jobs", jobs.create),
    ("GET", f"{PUBLIC}/jobs/{{jobId}}", jobs.get),
    ("DELETE", f"{PUBLIC}/jobs/{{jobId}}", jobs.cancel),
    ("GET", f"{EXTENSION}/health", extension.health),
    ("GET", f"{EXTENSION}/jobs/{{jobId}}", extension.job),
    ("GET", f"{EXTENSION}/jobs/{{jobId}}/files", extension.files),
    ("GET", f"{EXTENSION}/jobs/{{jobId}}/log", extension.log),
    ("GET", f"{EXTENSION}/connections/{{connectionId}}/state", extension.state),
    ("GET", f"{EXTENSION}/connections/{{connectionId}}/slot", capture.slot),
    ("POST", f"{EXTENSION}/connections/{{connectionId}}/rebuild", capture.rebuild),
    ("GET", f"{EXTENSION}/connectors", extension.list_connectors),
    ("POST", f"{EXTENSION}/connections/{{connectionId}}/refresh", extension.refresh),
    ("POST", f"{EXTENSION}/connections/{{connectionId}}/clear", extension.clear),
    ("POST", f"{EXTENSION}/sources/{{sourceId}}/check", extension.check_source),
    ("POST", f"{EXTENSION}/destinations/{{destinationId}}/check", extension.check_destination),
    ("PUT", f"{EXTENSION}/faults", extension.set_faults),
]


def create_app(settings: Settings) -> Starlette:
    """Migrate the database, open the pool, and build the application.

    Raises psycopg.Error without a database, ScratchError without a folder for its files.
    """
    migrate(settings.database_url)
    pool = open_pool(settings.database_url)
    faults = Faults(settings.faults)
    scratch = Scratch(settings.scratch)
    services = Services(settings, pool, Tokens(settings), Runner(settings, pool, faults, scratch), faults, scratch)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        services.runner.start()
        yield
        services.runner.stop()
        pool.close()
        scratch.remove()

    return Starlette(
        routes=_routes(services),
        lifespan=lifespan,
        exception_handlers={404: _not_found, 405: _wrong_method},
    )


def _routes(services: Services) -> list[Route]:
    return [
        *(route(services, method, path, handler, open_=True) for method, path, handler in OPEN_CALLS),
        *(route(services, method, path, handler) for method, path, handler in CALLS),
    ]


async def _not_found(request: Request, error: Exception) -> Response:
    return no_such_call(request.method, request.url.path).response()


async def _wrong_method(request: Request, error: Exception) -> Response:
    response = method_not_allowed(request.method, request.url.path).response()
    if isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)
    return response
