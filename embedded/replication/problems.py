"""Errors that a client sees: RFC 9457 problem JSON in Airbyte's words (reference: airbyte-platform, JobsController)."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

_ERRORS = "https://reference.airbyte.com/reference/errors"


class Problem(Exception):
    """An answer other than success. `slug` is the end of the type URL, where it differs from the title."""

    def __init__(
        self, status: int, title: str, detail: str, data: dict[str, Any] | None = None, slug: str | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.body = {
            "status": status,
            "type": f"{_ERRORS}#{slug or title}",
            "title": title,
            "detail": detail,
            "documentationUrl": None,
            "data": data,
        }

    def response(self) -> Response:
        headers = {"www-authenticate": 'Bearer realm="airbyte"'} if self.status == 401 else None
        return JSONResponse(self.body, self.status, headers, media_type="application/problem+json")


def bad_request(message: str) -> Problem:
    return Problem(400, "bad-request", "The request could not be understood.", {"message": message})


def unauthorized(message: str) -> Problem:
    return Problem(401, "invalid-api-key", "The request was not authorized.", {"message": message})


def not_found(resource_type: str, resource_id: str) -> Problem:
    data = {"resourceType": resource_type, "resourceId": resource_id}
    return Problem(404, "resource-not-found", "The requested resource could not be found.", data)


def no_such_call(method: str, path: str) -> Problem:
    return Problem(404, "resource-not-found", f"This server does not implement {method} {path}.", None)


def method_not_allowed(method: str, path: str) -> Problem:
    return Problem(405, "method-not-allowed", f"{method} is not a method of {path}.", None)


def already_running(connection_id: str) -> Problem:
    message = f"A sync is already running for: {connection_id}"
    return Problem(409, "try-again-later", "Please try again later.", {"message": message})


def state_conflict(message: str) -> Problem:
    detail = "The request could not be completed due to a conflict with the current state of the resource."
    return Problem(409, "state-conflict", detail, {"message": message}, slug="409-state-conflict")


def unprocessable(message: str) -> Problem:
    detail = "The body of the request was not understood."
    return Problem(422, "unprocessable-entity", detail, {"message": message})


def unavailable(message: str) -> Problem:
    return Problem(503, "service-unavailable", "The server cannot answer now.", {"message": message})


def internal_error() -> Problem:
    return Problem(500, "unexpected-problem", "An unexpected problem has occurred; see the server's log.", None)
