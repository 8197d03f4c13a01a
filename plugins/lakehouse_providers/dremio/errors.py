"""What can go wrong with Dremio.

DremioError
├── DremioConfigurationError        a connection's field or an operator's argument is wrong
├── DremioUnreachableError          no reply: refused, unresolved, timed out, broken off (transient)
├── DremioResponseError             the server refused a request; carries status, message, more_info
│   ├── DremioRequestError          400, 422 and other 4xx
│   ├── DremioAuthenticationError   401
│   ├── DremioPermissionError       403
│   ├── DremioNotFoundError         404
│   ├── DremioConflictError         409
│   └── DremioUnavailableError      408, 429, 5xx (transient)
├── DremioStatementError            a statement failed over Flight, in Dremio's words
├── DremioJobError                  a job ended badly; carries job_id, state, url
│   ├── DremioJobFailedError
│   ├── DremioJobCanceledError
│   └── DremioJobTimeoutError
└── DremioReflectionError           a reflection cannot be, or was not, refreshed
"""

from __future__ import annotations

from typing import ClassVar


class DremioError(Exception):
    """`transient`: the same call may succeed later without anybody mending anything."""

    transient: ClassVar[bool] = False


class DremioConfigurationError(DremioError):
    pass


class DremioUnreachableError(DremioError):
    transient = True


class DremioResponseError(DremioError):
    def __init__(self, status: int, message: str, *, more_info: str = "", where: str = "") -> None:
        self.status, self.message, self.more_info = status, message, more_info
        detail = f": {message}" if message else ""
        extra = f" ({more_info})" if more_info and more_info not in message else ""
        super().__init__(f"Dremio answered {status} to {where or 'a request'}{detail}{extra}")


class DremioRequestError(DremioResponseError):
    pass


class DremioAuthenticationError(DremioResponseError):
    pass


class DremioPermissionError(DremioResponseError):
    pass


class DremioNotFoundError(DremioResponseError):
    pass


class DremioConflictError(DremioResponseError):
    pass


class DremioUnavailableError(DremioResponseError):
    transient = True


class DremioStatementError(DremioError):
    pass


class DremioJobError(DremioError):
    def __init__(self, job_id: str, state: str, reason: str, url: str = "") -> None:
        self.job_id, self.state, self.reason, self.url = job_id, state, reason, url
        link = f" [{url}]" if url else ""
        super().__init__(f"Dremio job {job_id} {state}: {reason or 'no reason given'}{link}")


class DremioJobFailedError(DremioJobError):
    pass


class DremioJobCanceledError(DremioJobError):
    pass


class DremioJobTimeoutError(DremioJobError):
    pass


class DremioReflectionError(DremioError):
    pass


def error_for(status: int, message: str, more_info: str, where: str) -> DremioResponseError:
    """The error class of an HTTP status."""
    kinds: dict[int, type[DremioResponseError]] = {
        401: DremioAuthenticationError,
        403: DremioPermissionError,
        404: DremioNotFoundError,
        408: DremioUnavailableError,
        409: DremioConflictError,
        429: DremioUnavailableError,
    }
    kind = DremioUnavailableError if status >= 500 else kinds.get(status, DremioRequestError)
    return kind(status, message, more_info=more_info, where=where)
