"""Retries and polls: what is repeated, how long the pauses are, when they end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import tenacity

from lakehouse_providers import transport
from lakehouse_providers.polling import Pace, poll
from lakehouse_providers.transport import Call, RetryPolicy

WAIT = transport._wait  # before the tests' fixture takes the pauses away
log = logging.getLogger(__name__)


def pause(policy: RetryPolicy, attempt: int, headers: dict[str, str] | None = None) -> float:
    state = tenacity.RetryCallState(None, None, (), {})  # type: ignore[arg-type]
    state.attempt_number = attempt
    response = httpx.Response(429, headers=headers, request=httpx.Request("GET", "http://x"))
    state.set_exception((transport._Reply, transport._Reply(response), None))  # type: ignore[arg-type]
    return WAIT(policy)(state)


def test_pauses_grow_up_to_a_limit() -> None:
    policy = RetryPolicy(first=1.0, longest=8.0)
    longest = [max(pause(policy, attempt) for _ in range(200)) for attempt in (1, 2, 3, 9)]
    assert longest == sorted(longest)
    assert longest[-1] <= 8.0


def test_a_server_may_name_the_pause_within_limits() -> None:
    policy = RetryPolicy(longest=8.0)
    assert pause(policy, 1, {"retry-after": "3"}) == 3.0
    assert pause(policy, 1, {"retry-after": "3600"}) == 8.0
    assert pause(policy, 1, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}) <= 8.0


def test_an_async_storm_is_survived(wire: Any, reply: Any) -> None:
    server = wire(lambda request: reply(body={"ok": True}))
    server.fail(503, count=2)
    server.lose()

    async def get() -> int:
        async with httpx.AsyncClient(base_url=server.url) as client:
            return (await transport.asend(client, Call("GET", "/x"), RetryPolicy())).status_code

    assert asyncio.run(get()) == 200
    assert len(server.requests) == 4


class DownError(Exception):
    pass


def wait(answers: list[Any], *, deadline: float | None = None) -> Any:
    """Polls through `answers`: values, or exceptions to raise."""
    left = iter(answers)

    async def check() -> Any:
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def transient(error: Exception) -> bool:
        return isinstance(error, DownError)

    pace = Pace(0.0, 0.0, deadline)
    return asyncio.run(poll(check, pace, transient=transient, log=log))


def test_the_first_answer_ends_the_wait() -> None:
    assert wait([None, None, "done"]) == "done"


def test_an_outage_of_any_length_does_not() -> None:
    assert wait([DownError()] * 500 + ["done"]) == "done"


def test_three_refusals_in_a_row_do_and_two_do_not() -> None:
    refused = PermissionError("no")
    assert wait([refused, refused, None, refused, refused, DownError(), refused, "done"]) == "done"
    with pytest.raises(PermissionError):
        wait([None, refused, refused, refused, "never seen"])


def test_the_deadline_does_but_not_before_one_look() -> None:
    assert wait(["done"], deadline=time.time() - 1) == "done"
    assert wait([None], deadline=time.time() - 1) is None
    assert wait([DownError()], deadline=time.time() - 1) is None


@pytest.mark.parametrize(
    ("pace", "looks", "trouble", "least", "most"),
    [
        (Pace(10.0, 10.0), 0, 0, 8.0, 12.0),
        (Pace(10.0, 10.0), 99, 0, 8.0, 12.0),
        (Pace(2.0, 30.0), 99, 0, 24.0, 36.0),
        (Pace(2.0, 30.0), 0, 3, 12.8, 19.2),
        (Pace(2.0, 30.0), 0, 10_000, 48.0, 72.0),
        (Pace(10.0, 300.0), 10_000, 10_000, 240.0, 360.0),
    ],
)
def test_pauses_of_a_wait(pace: Pace, looks: int, trouble: int, least: float, most: float) -> None:
    found = [pace.pause(looks, trouble) for _ in range(100)]
    assert least <= min(found)
    assert max(found) <= most
    assert len(set(found)) > 50, "without jitter all waits of a triggerer look at the same moment"


def test_a_pause_never_reaches_beyond_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    now = [1000.0]

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("lakehouse_providers.polling.asyncio.sleep", sleep)
    monkeypatch.setattr("lakehouse_providers.polling.time.time", lambda: now[0])

    async def nothing() -> None:
        return None

    never: Callable[[Exception], bool] = lambda error: False  # noqa: E731
    assert asyncio.run(poll(nothing, Pace(60.0, 60.0, 1100.0), transient=never, log=log)) is None
    assert sum(slept) == pytest.approx(100.0)
