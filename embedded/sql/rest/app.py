"""Routing, authentication, errors and injected faults around the handlers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from embedded.sql import acting
from embedded.sql.errors import SqlError
from embedded.sql.faults import Faults, HttpFault
from embedded.sql.identity import Identity, TokenRefused, User
from embedded.sql.rest.calls import Call, Handler, answer_error, problem

log = logging.getLogger(__name__)

MAX_BODY = 64 * 1024 * 1024  # bytes: a dbt seed is one statement


@dataclass(frozen=True)
class Endpoint:
    """`path` may hold {names} and end in {tail:path}. `public`: no token needed; `partial`: what it cannot do."""

    method: str
    path: str
    handler: Handler
    public: bool = False
    partial: str = ""


def build(
    endpoints: Sequence[Endpoint], identity: Identity, faults: Faults, cloud_project: str | None = None
) -> ASGIApp:
    """The ASGI application; with a `cloud_project` it answers the paths of Dremio Cloud too."""
    routes: dict[str, dict[str, Endpoint]] = {}
    for endpoint in endpoints:
        routes.setdefault(endpoint.path, {})[endpoint.method] = endpoint
    app = Starlette(
        routes=[Route(path, _dispatcher(methods, identity), methods=list(methods)) for path, methods in routes.items()],
        exception_handlers={404: _http_error, 405: _http_error},
    )
    return _Outer(app, faults, cloud_project)


def _dispatcher(methods: dict[str, Endpoint], identity: Identity) -> Any:
    async def endpoint(request: Request) -> Response:
        chosen = methods.get(request.method) or methods["GET"]  # HEAD is GET
        user: User | None = None
        if not chosen.public:
            try:
                user = identity.authenticate(request.headers.get("authorization", ""))
            except TokenRefused:
                return Response(status_code=401)  # with an empty body, as Dremio's DACAuthFilter
        content = await request.body()
        if len(content) > MAX_BODY:
            return problem(413, f"The request is larger than {MAX_BODY} bytes")
        parameters = {name: unquote(str(value)) for name, value in request.path_params.items() if name != "tail"}
        tail = tuple(unquote(part) for part in str(request.path_params.get("tail", "")).split("/") if part)
        cloud = bool(request.scope.get("cloud"))
        call = Call(user, parameters, tail, request.query_params, request.headers, content, cloud)
        return await run_in_threadpool(_answer, chosen.handler, call)

    return endpoint


def _answer(handler: Handler, call: Call) -> Response:
    try:
        with acting.as_user(call.user.name if call.user else None):
            return handler(call)
    except SqlError as error:
        return answer_error(error, cloud=call.cloud)
    except Exception:
        log.exception("A request failed unexpectedly")
        return problem(500, "Something went wrong. Please check the log file for details, see the server's log.")


async def _http_error(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 500)
    words = {404: "HTTP 404 Not Found", 405: "HTTP 405 Method Not Allowed"}
    return problem(status, words.get(status, "error"), f"{request.method} {request.url.path} is not implemented")


class _Outer:
    """Keeps encoded slashes in path segments apart, and plays the faults that tests ask for."""

    def __init__(self, app: ASGIApp, faults: Faults, cloud_project: str | None) -> None:
        self._app = app
        self._faults = faults
        self._cloud = f"/v0/projects/{cloud_project}/" if cloud_project else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        # Routes match the raw path, so that %2F stays inside its segment; handlers get each segment decoded.
        scope = {**scope, "path": scope["raw_path"].decode("latin-1")}
        if self._cloud and scope["path"].startswith(self._cloud):
            scope |= {"path": "/api/v3/" + scope["path"].removeprefix(self._cloud), "cloud": True}
        fault = self._faults.take_http(scope["method"], scope["path"]) if self._faults.enabled else None
        if fault is None:
            return await self._app(scope, receive, send)
        await self._play(fault, scope, receive, send)

    async def _play(self, fault: HttpFault, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.seconds:
            await asyncio.sleep(fault.seconds)
        if fault.kind == "status":
            response: Response = problem(fault.status, f"Injected fault: HTTP {fault.status}")
            if fault.status == 401:
                response = Response(status_code=401)
            if fault.retry_after is not None:
                response.headers["Retry-After"] = str(fault.retry_after)
            await response(scope, receive, send)
        elif fault.kind == "lost_reply":
            await self._app(scope, receive, _swallow)
            # Half an answer and no more: the server closes the connection.
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000000")]})
        else:
            await self._app(scope, receive, send)


async def _swallow(message: Message) -> None:
    return
