"""Dremio's REST as data: the requests, what their replies mean, and multi-step conversations as generators.

Nothing here does I/O, so that the client for tasks and the client for the triggerer share every line of it.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import httpx

from lakehouse_providers.dremio import errors
from lakehouse_providers.dremio.models import CANCELED, COMPLETED, Job, Row
from lakehouse_providers.dremio.results import Result, exact
from lakehouse_providers.transport import Call

V3 = "/api/v3"
PAGE = 500  # the most rows Dremio gives in one reply

Path = Sequence[str]


def sql(statement: str, context: Path | None = None, *, idempotent: bool = False, engine: str = "") -> Call:
    body: dict[str, Any] = {"sql": statement}
    if context:
        body["context"] = list(context)
    if engine:
        body["engineName"] = engine
    return Call("POST", f"{V3}/sql", json=body, idempotent=idempotent)


def job(job_id: str, tail: str = "", **params: Any) -> Call:
    return Call("GET", f"{V3}/job/{quote(job_id, safe='')}{tail}", params=params or None)


def cancel_job(job_id: str) -> Call:
    return Call("POST", f"{V3}/job/{quote(job_id, safe='')}/cancel")  # cancelling twice does no harm


def entity(entity_id: str, tail: str = "") -> Call:
    return Call("GET", f"{V3}/catalog/{quote(entity_id, safe='')}{tail}")


def by_path(path: Path) -> Call:
    return Call("GET", f"{V3}/catalog/by-path/" + "/".join(quote(part, safe="") for part in path))


def reflection(reflection_id: str) -> Call:
    return Call("GET", f"{V3}/reflection/{quote(reflection_id, safe='')}")


def reflections_of(dataset_id: str) -> Call:
    return Call("GET", f"{V3}/dataset/{quote(dataset_id, safe='')}/reflection")


def parsed(response: httpx.Response) -> Any:
    """The JSON body of a good reply, None for an empty one. Raises DremioResponseError otherwise."""
    # A refused token comes with an empty body, so a body is read only if there is one.
    body: Any = None
    if response.content:
        try:
            # Decimals in a result must not pass through a float; `results.exact` gives DOUBLE its type back.
            exact = response.request.url.path.endswith("/results")
            body = response.json(parse_float=Decimal) if exact else response.json()
        except ValueError:
            body = None
    if response.is_success:
        if response.content and body is None:
            raise errors.DremioRequestError(
                response.status_code, "the reply is not JSON; do host and port lead to Dremio?", where=_where(response)
            )
        return body
    if isinstance(body, dict):
        message, more = str(body.get("errorMessage") or ""), str(body.get("moreInfo") or "")
    else:
        message, more = response.text[:300], ""
    raise errors.error_for(response.status_code, message, more, _where(response))


def _where(response: httpx.Response) -> str:
    return f"{response.request.method} {response.request.url.path}"


def unreachable(error: httpx.TransportError, base_url: str) -> errors.DremioUnreachableError:
    return errors.DremioUnreachableError(f"Dremio at {base_url} gave no reply: {str(error) or type(error).__name__}")


@dataclass(frozen=True)
class Pause:
    seconds: float


Step = Call | Pause


def wait_for_job(job_id: str, url: str, timeout: float | None, longest: float) -> Generator[Step, Any, Job]:
    """Polls until the job has COMPLETED. Raises DremioJobError. `timeout`: seconds, None for none."""
    end = None if timeout is None else time.monotonic() + timeout
    pause = 0.01  # most statements of a run are done within milliseconds
    while True:
        found = Job.parse(job_id, (yield job(job_id)))
        if found.final:
            return ensure_completed(found, url)
        if end is not None and time.monotonic() >= end:
            raise errors.DremioJobTimeoutError(job_id, found.state, f"not finished after {timeout:g} s", url)
        yield Pause(pause)
        pause = min(pause * 2, longest)


def ensure_completed(found: Job, url: str) -> Job:
    if found.state == COMPLETED:
        return found
    kind = errors.DremioJobCanceledError if found.state in CANCELED else errors.DremioJobFailedError
    raise kind(found.id, found.state, found.error, url)


def result(job_id: str, limit: int | None) -> Generator[Step, Any, Result]:
    """Schema and rows of a completed job, page by page; at most `limit` rows."""
    rows: list[Row] = []
    while True:
        left = PAGE if limit is None else min(PAGE, limit - len(rows))
        page = yield job(job_id, "/results", offset=len(rows), limit=max(left, 1))  # none at all cannot be asked for
        rows.extend(exact(page["rows"][:left], page["schema"]))
        enough = limit is not None and len(rows) >= limit
        if enough or not page["rows"] or len(rows) >= page["rowCount"]:
            return Result(page["schema"], rows, page["rowCount"])
