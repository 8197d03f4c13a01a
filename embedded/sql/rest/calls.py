"""One request: who, which path, which body; and the answers with their error shape."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel
from pydantic import ValidationError as BodyError
from starlette.responses import JSONResponse, Response

from embedded.sql.errors import NameTaken, SqlError, ValidationError
from embedded.sql.identity import User

B = TypeVar("B", bound=BaseModel)


@dataclass(frozen=True)
class Call:
    """Path parameters are percent-decoded one by one; a `tail` keeps its segments apart."""

    user: User | None
    parameters: Mapping[str, str]
    tail: tuple[str, ...]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    content: bytes
    cloud: bool = False  # asked with a path of Dremio Cloud

    @property
    def caller(self) -> User:
        assert self.user is not None, "the route needs authentication"
        return self.user

    def body(self, model: type[B]) -> B:
        """The body as this model. Raises ValidationError in Dremio's words: `Invalid value found at: a.b`."""
        try:
            return model.model_validate(self.json())
        except BodyError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the body"
            raise BadBody(f"Invalid value found at: {place}", first["msg"]) from None

    def json(self) -> Any:
        if not self.content:
            return {}
        try:
            return json.loads(self.content)
        except ValueError as error:
            raise BadBody("Invalid value found at: the body", f"not JSON: {error}") from None

    def integer(self, name: str, default: int, least: int = 0) -> int:
        text = self.query.get(name)
        if text is None:
            return default
        try:
            value = int(text)
        except ValueError:
            raise ValidationError(f"Invalid value found at: {name}") from None
        if value < least:
            raise ValidationError(f"Invalid value found at: {name}")
        return value


class BadBody(ValidationError):
    def __init__(self, message: str, more: str) -> None:
        super().__init__(message)
        self.more = more


Handler = Callable[[Call], Response]


def problem(status: int, message: str, more: str = "") -> JSONResponse:
    """Dremio's error shape."""
    return JSONResponse({"errorMessage": message, "moreInfo": more}, status)


def answer_error(error: SqlError, *, cloud: bool = False) -> Response:
    # Cloud answers 400 where Software answers 409 for a name that is taken.
    status = 400 if cloud and isinstance(error, NameTaken) else error.status
    response = problem(status, error.message, getattr(error, "more", ""))
    if error.status == 503:
        response.headers["Retry-After"] = "1"
    return response


def empty() -> Response:
    return Response(status_code=204)
