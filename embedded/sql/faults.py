"""Failures on demand, for tests of clients. Nothing here is active unless LAKEHOUSE_SQL_FAULTS is set."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from embedded.sql import clock
from embedded.sql.errors import ValidationError

BACKOFF_UNIT = 60.0  # seconds: Dremio counts its back-off in minutes


@dataclass
class HttpFault:
    """Answer the next `count` matching requests with `status`, or do their work and lose the reply."""

    kind: str  # "status", "lost_reply" or "delay"
    count: int
    path: str = ""  # a part of the request's path
    method: str = ""
    status: int = 503
    seconds: float = 0.0
    retry_after: int | None = None

    def matches(self, method: str, path: str) -> bool:
        return self.count > 0 and self.path in path and self.method in ("", method)


class Faults:
    """What was asked for and not yet spent. `enabled` is False in normal operation."""

    def __init__(self, configured: Mapping[str, Any] | None, on_expire: Callable[[], None]) -> None:
        self.enabled = configured is not None
        self._guard = threading.Lock()
        self._on_expire = on_expire
        self._http: list[HttpFault] = []
        self._refresh_failures: list[str] = []
        self._refresh_delay = self._refresh_hold = 0.0
        self._job_delay = 0.0
        self.backoff_unit = BACKOFF_UNIT
        self.on_advance: Callable[[], None] = lambda: None  # the clock was moved
        if configured:
            self.add(configured)

    def add(self, request: Mapping[str, Any]) -> None:
        """Take up faults in this form; raises ValidationError for an unknown key.

        {"http": [{"kind": "status", "status": 429, "count": 2, "path": "/sql", "retry_after": 1}],
         "refresh_failures": {"count": 2, "reason": "disk is full"}, "refresh_delay": 0.5, "job_delay": 0.5,
         "refresh_hold": 5.0, "backoff_unit": 0.1, "advance_clock": 3600.0, "expire_tokens": true}
        """
        known: dict[str, Callable[[Any], None]] = {
            "http": self._add_http,
            "refresh_failures": self._add_refresh_failures,
            "refresh_delay": self._set_refresh_delay,
            "refresh_hold": self._set_refresh_hold,
            "job_delay": self._set_job_delay,
            "advance_clock": self._advance_clock,
            "backoff_unit": self._set_backoff_unit,
            "expire_tokens": lambda wanted: self._on_expire() if wanted else None,
        }
        for key, value in request.items():
            if key not in known:
                raise ValidationError(f"Invalid value found at: {key}")
            with self._guard:
                known[key](value)

    def clear(self) -> None:
        with self._guard:
            self._http.clear()
            self._refresh_failures.clear()
            self._refresh_delay = self._refresh_hold = self._job_delay = 0.0
            self.backoff_unit = BACKOFF_UNIT

    def _add_http(self, faults: Any) -> None:
        try:
            self._http.extend(HttpFault(**fault) for fault in faults)
        except TypeError as error:
            raise ValidationError(f"Invalid value found at: http ({error})") from None

    def _add_refresh_failures(self, fault: Mapping[str, Any]) -> None:
        reason = str(fault.get("reason", "Injected failure"))
        self._refresh_failures.extend([reason] * int(fault.get("count", 1)))

    def _set_refresh_delay(self, seconds: Any) -> None:
        self._refresh_delay = float(seconds)

    def _set_refresh_hold(self, seconds: Any) -> None:
        self._refresh_hold = float(seconds)

    def _advance_clock(self, seconds: Any) -> None:
        clock.advance(timedelta(seconds=float(seconds)))
        self.on_advance()

    def _set_job_delay(self, seconds: Any) -> None:
        self._job_delay = float(seconds)

    def _set_backoff_unit(self, seconds: Any) -> None:
        self.backoff_unit = float(seconds)

    def take_http(self, method: str, path: str) -> HttpFault | None:
        """The first fault for this request, spent once."""
        if not self._http:
            return None
        with self._guard:
            for fault in self._http:
                if fault.matches(method, path):
                    fault.count -= 1
                    return fault
        return None

    def before_job(self, cancelled: Callable[[], bool]) -> None:
        _pause(self._job_delay, cancelled)

    def before_refresh(self, cancelled: Callable[[], bool]) -> str | None:
        """Wait as asked; the reason with which this refresh must fail, if any."""
        _pause(self._refresh_delay, cancelled)
        with self._guard:
            return self._refresh_failures.pop(0) if self._refresh_failures else None

    def after_refresh(self, cancelled: Callable[[], bool]) -> None:
        """Wait as asked when all files are written and nothing says so yet."""
        _pause(self._refresh_hold, cancelled)


def _pause(seconds: float, cancelled: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not cancelled():
        time.sleep(0.02)
