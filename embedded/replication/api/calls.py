"""One request on its way: what a handler gets, and how its answer or its failure becomes a response.

Handlers are plain functions that run in a thread: they may block on PostgreSQL. A handler returns a JSON value, a
Response, or raises Problem.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlencode
from uuid import UUID

import anyio
import psycopg
from psycopg_pool import PoolTimeout
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from embedded.replication.auth import Tokens
from embedded.replication.connectors import explain
from embedded.replication.faults import Faults, HttpFault
from embedded.replication.problems import Problem, bad_request, internal_error, unavailable
from embedded.replication.runner import Runner
from embedded.replication.scratch import Scratch
from embedded.replication.settings import Settings
from embedded.replication.store.database import Pool

log = logging.getLogger(__name__)

PUBLIC = "/api/public/v1"
EXTENSION = "/api/lakehouse/v1"
MAX_PAGE = 100
_MAX_BODY = 8 * 1024 * 1024

_M = TypeVar("_M", bound=BaseModel)


@dataclass(frozen=True)
class Services:
    """What every handler can reach."""

    settings: Settings
    pool: Pool
    tokens: Tokens
    runner: Runner
    faults: Faults
    scratch: Scratch


@dataclass(frozen=True)
class Page:
    """A window of a listing."""

    limit: int
    offset: int


@dataclass(frozen=True)
class Call:
    """One request, read completely."""

    services: Services
    method: str
    url: str
    path: dict[str, str]
    query: QueryParams
    content_type: str
    body: bytes

    def json(self) -> Any:
        try:
            return json.loads(self.body or b"{}")
        except ValueError as error:
            raise bad_request(f"The body is not JSON: {error}.") from None

    def parse(self, model: type[_M]) -> _M:
        """The body as a model; raises a 400 problem that names each wrong field."""
        try:
            return model.model_validate(self.json())
        except ValidationError as error:
            raise bad_request(explain(error)) from None

    def path_id(self, name: str) -> UUID:
        return as_uuid(name, self.path[name])

    def uuids(self, name: str) -> list[UUID]:
        return [as_uuid(name, text) for text in self.values(name)]

    def values(self, name: str) -> list[str]:
        """A repeated or comma-separated parameter."""
        return [part for text in self.query.getlist(name) for part in text.split(",") if part]

    def flag(self, name: str) -> bool:
        text = self.query.get(name, "false").lower()
        if text not in ("true", "false"):
            raise bad_request(f"{name} must be true or false, not {text!r}.")
        return text == "true"

    def choice(self, name: str, choices: tuple[str, ...]) -> str | None:
        text = self.query.get(name)
        if text and text not in choices:
            raise bad_request(f"{name} must be one of {', '.join(choices)}, not {text!r}.")
        return text or None

    def time(self, name: str) -> datetime | None:
        text = self.query.get(name)
        if not text:
            return None
        try:
            value = datetime.fromisoformat(text)
        except ValueError:
            raise bad_request(f"{name} must be an ISO 8601 time, not {text!r}.") from None
        return value if value.tzinfo else value.replace(tzinfo=UTC)

    def page(self) -> Page:
        return Page(self._number("limit", 20, 1, MAX_PAGE), self._number("offset", 0, 0, 2**31 - 1))

    def _number(self, name: str, default: int, low: int, high: int) -> int:
        text = self.query.get(name, str(default))
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise bad_request(f"{name} must be a number from {low} to {high}, not {text!r}.")
        return int(text)

    def listing(self, page: Page, data: list[Any]) -> dict[str, Any]:
        """Airbyte's envelope: `next` is empty only when the page is, so a client reads on until it gets nothing."""
        following = self._at(page.limit, page.offset + page.limit) if data else ""
        preceding = self._at(page.limit, max(0, page.offset - page.limit)) if page.offset else ""
        return {"data": data, "previous": preceding, "next": following}

    def _at(self, limit: int, offset: int) -> str:
        kept = [(name, value) for name, value in self.query.multi_items() if name not in ("limit", "offset")]
        return f"{self.url}?{urlencode([*kept, ('limit', limit), ('offset', offset)])}"


Handler = Callable[[Call], Any]


def as_uuid(name: str, text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise bad_request(f"{name} must be a UUID, not {text!r}.") from None


def route(services: Services, method: str, path: str, handler: Handler, *, open_: bool = False) -> Route:
    """A route. `open_` ones need no token."""

    async def endpoint(request: Request) -> Response:
        begun = time.monotonic()
        fault = services.faults.take(request.method, request.url.path) if services.faults.enabled else None
        response = await _answer(services, request, handler, open_=open_, fault=fault)
        spent = (time.monotonic() - begun) * 1000
        level = logging.DEBUG if request.method == "GET" and response.status_code < 400 else logging.INFO  # polling
        log.log(level, "%s %s %s %.0f ms", request.method, request.url.path, response.status_code, spent)
        return response

    return Route(path, endpoint, methods=[method])


async def _answer(
    services: Services, request: Request, handler: Handler, *, open_: bool, fault: HttpFault | None
) -> Response:
    async def act() -> Response:
        return await _handle(services, request, handler, open_=open_)

    return await act() if fault is None else await _faulty(fault, act)


async def _faulty(fault: HttpFault, act: Callable[[], Awaitable[Response]]) -> Response:
    match fault.action:
        case "status":
            return Problem(fault.status, "injected-fault", "A fault was injected.", None).response()
        case "hang":
            await anyio.sleep_forever()
        case "delay":
            await anyio.sleep(fault.seconds)
            return await act()
        case "slow_reply":
            response = await act()
            await anyio.sleep(fault.seconds)
            return response
    await act()
    return LostReply()


class LostReply(Response):
    """Begins an answer and ends there: the server then cuts the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})


async def _handle(services: Services, request: Request, handler: Handler, *, open_: bool) -> Response:
    try:
        if not open_:
            services.tokens.check(request.headers.get("authorization"))
        call = Call(
            services=services,
            method=request.method,
            url=str(request.url.replace(query="", fragment="")),
            path={name: str(value) for name, value in request.path_params.items()},
            query=request.query_params,
            content_type=request.headers.get("content-type", "").split(";")[0].strip().lower(),
            body=await _body(request),
        )
        answer = await run_in_threadpool(handler, call)
    except Problem as problem:
        return problem.response()
    except ClientDisconnect:
        return Response(status_code=499)
    except (psycopg.OperationalError, PoolTimeout) as error:
        log.warning("the state database does not answer: %s", error)
        return unavailable("The state database does not answer.").response()
    except Exception:
        log.exception("%s %s failed", request.method, request.url.path)
        return internal_error().response()
    return answer if isinstance(answer, Response) else JSONResponse(answer)


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY:
            raise Problem(413, "request-too-large", f"A body may have {_MAX_BODY} bytes.", None)
    return body


NO_CONTENT = Response(status_code=204)
