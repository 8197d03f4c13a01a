"""What can go wrong with Superset.

SupersetError
├── SupersetConfigurationError      a connection's field is wrong
├── SupersetUnreachableError        no reply: refused, unresolved, timed out, broken off (transient)
├── SupersetQueryError              a chart's query failed in the database, in its words
└── SupersetResponseError           the server refused a request; carries status and message
    ├── SupersetRequestError        400, 422 and other 4xx
    ├── SupersetAuthenticationError 401
    ├── SupersetPermissionError     403
    ├── SupersetNotFoundError       404
    └── SupersetUnavailableError    408, 429, 5xx (transient)
"""

from __future__ import annotations

from typing import ClassVar


class SupersetError(Exception):
    """`transient`: the same call may succeed later without anybody mending anything."""

    transient: ClassVar[bool] = False


class SupersetConfigurationError(SupersetError):
    pass


class SupersetUnreachableError(SupersetError):
    transient = True


class SupersetQueryError(SupersetError):
    pass


class SupersetResponseError(SupersetError):
    def __init__(self, status: int, message: str, *, where: str = "") -> None:
        self.status, self.message = status, message
        super().__init__(f"Superset answered {status} to {where or 'a request'}{f': {message}' if message else ''}")


class SupersetRequestError(SupersetResponseError):
    pass


class SupersetAuthenticationError(SupersetResponseError):
    pass


class SupersetPermissionError(SupersetResponseError):
    pass


class SupersetNotFoundError(SupersetResponseError):
    pass


class SupersetUnavailableError(SupersetResponseError):
    transient = True


def of_status(status: int, message: str, where: str) -> SupersetResponseError:
    """The error class of an HTTP status."""
    kinds: dict[int, type[SupersetResponseError]] = {
        401: SupersetAuthenticationError,
        403: SupersetPermissionError,
        404: SupersetNotFoundError,
        408: SupersetUnavailableError,
        429: SupersetUnavailableError,
    }
    kind = SupersetUnavailableError if status >= 500 else kinds.get(status, SupersetRequestError)
    return kind(status, message, where=where)
