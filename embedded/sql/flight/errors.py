"""Errors as Flight statuses, as DremioFlightErrorMapper of dremio-oss 25.2 maps them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import pyarrow as pa
from pyarrow import flight

from embedded.sql.errors import SqlError
from embedded.sql.flight.wire import WireError

log = logging.getLogger(__name__)


class _Unprinted(Exception):
    """Arrow appends the formatted stack of every exception that is no FlightError to its text, with our file names.

    One that cannot be formatted leaves only its name there.
    """

    @property
    def __cause__(self) -> NoReturn:  # type: ignore[override]
        raise RuntimeError("not to be formatted")


class InvalidArgument(_Unprinted, pa.ArrowInvalid):  # type: ignore[misc]
    """INVALID_ARGUMENT, for which Flight's Python API has no class."""


class Unimplemented(_Unprinted, pa.ArrowNotImplementedError):  # type: ignore[misc]
    """UNIMPLEMENTED."""


_UNEXPECTED = "SYSTEM ERROR: something went wrong. Please check the server's log for details."
_STATUSES: dict[str, type[Exception]] = {
    "PARSE": InvalidArgument,
    "VALIDATION": InvalidArgument,
    "NOT_FOUND": InvalidArgument,  # an unknown table is a validation error in Dremio
    "PERMISSION": flight.FlightUnauthorizedError,
    "RESOURCE": flight.FlightUnavailableError,
    "CONCURRENT_MODIFICATION": flight.FlightUnavailableError,
    "CANCELLED": flight.FlightCancelledError,
}


def status(error: Exception) -> Exception:
    """What is raised to a client for an error of ours: the same text."""
    if isinstance(error, SqlError):
        kind: type[Exception] = _STATUSES.get(error.kind, flight.FlightInternalError)
        return kind(error.message)
    if isinstance(error, WireError):
        return InvalidArgument(f"Invalid Flight SQL message: {error}")
    if isinstance(error, (flight.FlightError, _Unprinted)):
        return error
    log.error("A Flight call failed unexpectedly", exc_info=error)
    unexpected: Exception = flight.FlightInternalError(_UNEXPECTED)
    return unexpected


@contextmanager
def told() -> Iterator[None]:
    """Errors inside reach the client as statuses."""
    try:
        yield
    except Exception as error:
        raise status(error) from None
