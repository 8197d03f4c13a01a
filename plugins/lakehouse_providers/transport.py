"""How every client here sends HTTP: time limits on all calls, retries with back-off where a repeat cannot do harm.

A request is repeated only if that is safe: always when the server certainly did not perform it (the connection was
never made, or the server said 429), otherwise only when the caller marks it as idempotent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx
import tenacity

log = logging.getLogger(__name__)

# httpx notes every request with its whole address at INFO: secrets of webhooks, and a line a second while waiting.
_ours: ContextVar[bool] = ContextVar("request_of_a_lakehouse_provider", default=False)
logging.getLogger("httpx").addFilter(lambda record: record.levelno > logging.INFO or not _ours.get())


@contextmanager
def _unheard() -> Iterator[None]:
    token = _ours.set(True)
    try:
        yield
    finally:
        _ours.reset(token)


RETRY_STATUS = frozenset({408, 429, 500, 502, 503, 504})
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True)
class Call:
    """One request. `path` is joined to the client's base URL and must already be quoted. `label`: its name in logs.

    `files` and `data` are the parts of a form, in place of `json`.
    """

    method: str
    path: str
    json: Any = None
    params: dict[str, Any] | None = None
    idempotent: bool = True
    label: str = ""
    files: Any = None
    data: Any = None


class Session:
    """Owns an HTTP client. Use as a context manager, or call close()."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()


class AsyncSession:
    """Owns an HTTP client of an event loop. Use as a context manager."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._http.aclose()


@dataclass(frozen=True)
class RetryPolicy:
    """`attempts` in all; waits grow from `first` to `longest` seconds, with jitter; `give_up` bounds their sum."""

    attempts: int = 6
    first: float = 0.5
    longest: float = 15.0
    give_up: float = 90.0


class _Reply(Exception):
    """Carries a reply that is worth another try through tenacity."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(f"HTTP {response.status_code}")
        self.response = response


class LoginReply(_Reply):
    """Raised by an auth flow: the login got this reply, so the request itself was never sent."""


def _never_performed(error: httpx.TransportError, call: Call) -> bool:
    """No connection was made, or what failed was the login that goes before the request."""
    if isinstance(error, NEVER_SENT):
        return True
    try:
        return not error.request.url.raw_path.decode().partition("?")[0].endswith(call.path)
    except RuntimeError:  # httpx: no request attached
        return False


def _worth_retrying(call: Call) -> Callable[[BaseException], bool]:
    def decide(error: BaseException) -> bool:
        if isinstance(error, LoginReply):
            return error.response.status_code in RETRY_STATUS
        if isinstance(error, _Reply):
            return call.idempotent or error.response.status_code == 429
        if isinstance(error, httpx.TransportError):
            return call.idempotent or _never_performed(error, call)
        return False

    return decide


def _wait(policy: RetryPolicy) -> Callable[[tenacity.RetryCallState], float]:
    backoff = tenacity.wait_random_exponential(multiplier=policy.first, max=policy.longest)

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.response.headers.get("retry-after", "") if isinstance(error, _Reply) else ""
        return min(float(asked), policy.longest) if asked.isdigit() else backoff(state)

    return wait


def _options(call: Call, policy: RetryPolicy) -> dict[str, Any]:
    return {
        "retry": tenacity.retry_if_exception(_worth_retrying(call)),
        "wait": _wait(policy),
        "stop": tenacity.stop_after_attempt(policy.attempts) | tenacity.stop_after_delay(policy.give_up),
        "before_sleep": _log_retry(call),
        "reraise": True,
    }


def _log_retry(call: Call) -> Callable[[tenacity.RetryCallState], None]:
    def note(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        what = f"HTTP {error.response.status_code}" if isinstance(error, _Reply) else repr(error)
        name = call.label or f"{call.method} {call.path}"
        log.info("%s: %s, attempt %s; trying again", name, what, state.attempt_number)

    return note


def _arguments(call: Call) -> dict[str, Any]:
    given = {"json": call.json, "files": call.files, "data": call.data}
    return {"params": call.params} | {name: value for name, value in given.items() if value is not None}


def _checked(response: httpx.Response) -> httpx.Response:
    if response.status_code in RETRY_STATUS:
        raise _Reply(response)
    return response


def send(client: httpx.Client, call: Call, policy: RetryPolicy) -> httpx.Response:
    """The last reply, whatever its status. Raises httpx.TransportError when no reply came."""
    try:
        for attempt in tenacity.Retrying(**_options(call, policy)):
            with attempt, _unheard():
                return _checked(client.request(call.method, call.path, **_arguments(call)))
    except _Reply as reply:
        return reply.response
    raise AssertionError("tenacity either returns or raises")


async def asend(client: httpx.AsyncClient, call: Call, policy: RetryPolicy) -> httpx.Response:
    """`send` for an event loop."""
    try:
        async for attempt in tenacity.AsyncRetrying(**_options(call, policy)):
            with attempt, _unheard():
                return _checked(await client.request(call.method, call.path, **_arguments(call)))
    except _Reply as reply:
        return reply.response
    raise AssertionError("tenacity either returns or raises")
