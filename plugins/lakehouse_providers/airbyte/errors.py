"""What can go wrong with Airbyte.

AirbyteError
├── AirbyteConfigurationError        a connection's field or an operator's argument is wrong
├── AirbyteUnreachableError          no reply: refused, unresolved, timed out, broken off (transient)
├── AirbyteResponseError             the server refused a request; carries status, title, message
│   ├── AirbyteRequestError          400, 422 and other 4xx
│   ├── AirbyteAuthenticationError   401
│   ├── AirbytePermissionError       403
│   ├── AirbyteNotFoundError         404
│   ├── AirbyteConflictError         409: a sync runs already, or the connection is not active
│   └── AirbyteUnavailableError      408, 429, 5xx (transient)
└── AirbyteJobError                  a job ended badly; carries job_id, status, url
    ├── AirbyteJobFailedError
    ├── AirbyteJobCancelledError
    └── AirbyteJobTimeoutError
"""

from __future__ import annotations

from typing import ClassVar


class AirbyteError(Exception):
    """`transient`: the same call may succeed later without anybody mending anything."""

    transient: ClassVar[bool] = False


class AirbyteConfigurationError(AirbyteError):
    pass


class AirbyteUnreachableError(AirbyteError):
    transient = True


class AirbyteResponseError(AirbyteError):
    def __init__(self, status: int, title: str, message: str, where: str) -> None:
        self.status, self.title, self.message = status, title, message
        detail = ": ".join(part for part in (title, message) if part)
        super().__init__(f"Airbyte answered {status} to {where}" + (f": {detail}" if detail else ""))


class AirbyteRequestError(AirbyteResponseError):
    pass


class AirbyteAuthenticationError(AirbyteResponseError):
    pass


class AirbytePermissionError(AirbyteResponseError):
    pass


class AirbyteNotFoundError(AirbyteResponseError):
    pass


class AirbyteConflictError(AirbyteResponseError):
    pass


class AirbyteUnavailableError(AirbyteResponseError):
    transient = True


class AirbyteJobError(AirbyteError):
    def __init__(self, job_id: int, status: str, reason: str, url: str = "") -> None:
        self.job_id, self.status, self.reason, self.url = job_id, status, reason, url
        link = f" [{url}]" if url else ""
        super().__init__(f"Airbyte job {job_id} {status}{f': {reason}' if reason else ''}{link}")


class AirbyteJobFailedError(AirbyteJobError):
    pass


class AirbyteJobCancelledError(AirbyteJobError):
    pass


class AirbyteJobTimeoutError(AirbyteJobError):
    pass


def error_for(status: int, title: str, message: str, where: str) -> AirbyteResponseError:
    """The error class of an HTTP status."""
    kinds: dict[int, type[AirbyteResponseError]] = {
        401: AirbyteAuthenticationError,
        403: AirbytePermissionError,
        404: AirbyteNotFoundError,
        408: AirbyteUnavailableError,
        409: AirbyteConflictError,
        429: AirbyteUnavailableError,
    }
    kind = AirbyteUnavailableError if status >= 500 else kinds.get(status, AirbyteRequestError)
    return kind(status, title, message, where)
