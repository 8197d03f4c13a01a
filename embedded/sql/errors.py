"""Errors a client of the SQL server sees, in Dremio's words (HTTP codes: GenericExceptionMapper of dremio-oss 25.2)."""

from __future__ import annotations


class SqlError(Exception):
    """Base. `status` is the HTTP code when the error reaches REST; `kind` is Dremio's UserException type."""

    status = 500
    kind = "SYSTEM"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ParseError(SqlError):
    status, kind = 400, "PARSE"


class ValidationError(SqlError):
    status, kind = 400, "VALIDATION"


class UnsupportedError(SqlError):
    status, kind = 400, "UNSUPPORTED_OPERATION"


class PermissionDenied(SqlError):
    status, kind = 403, "PERMISSION"


class NotFound(SqlError):
    status, kind = 404, "NOT_FOUND"


class ConcurrentModification(SqlError):
    status, kind = 409, "CONCURRENT_MODIFICATION"


class NameTaken(ConcurrentModification):
    """Something of that path exists already."""


class DataReadError(SqlError):
    status, kind = 500, "DATA_READ"


class FileGoneError(DataReadError):
    """A file that the metadata named a moment ago is no longer there."""


class ResourceError(SqlError):
    status, kind = 503, "RESOURCE"


class Cancelled(SqlError):
    """The job was cancelled; it ends CANCELED, not FAILED."""

    status, kind = 400, "CANCELLED"
