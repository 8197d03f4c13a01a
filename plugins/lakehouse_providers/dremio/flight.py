"""Queries as Arrow, over Flight SQL by the ADBC driver. No Airflow; the driver and pyarrow load when first used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse_providers.dremio import errors
from lakehouse_providers.dremio.endpoint import Endpoint

if TYPE_CHECKING:
    from adbc_driver_flightsql.dbapi import Connection


def connect(endpoint: Endpoint) -> Connection:
    """A DB-API connection; every statement commits by itself, since Dremio has no transactions.

    Raises DremioConfigurationError when the endpoint has no Flight, or what `translated` raises.
    """
    if endpoint.flight is None:
        raise errors.DremioConfigurationError("The endpoint has no Flight port")
    from adbc_driver_flightsql import dbapi

    with translated(endpoint):
        # `autocommit`: the driver would otherwise warn, on every connection, that it cannot be switched off.
        return dbapi.connect(endpoint.flight.uri, db_kwargs=options(endpoint), autocommit=True)


def options(endpoint: Endpoint) -> dict[str, str]:
    """The driver's settings."""
    from adbc_driver_flightsql import DatabaseOptions

    place = endpoint.flight
    assert place is not None, "checked by connect"
    found = {
        # Dremio keeps a session behind a cookie; without it each call of a session may meet another coordinator.
        DatabaseOptions.WITH_COOKIE_MIDDLEWARE.value: "true",
        # The wait for a result's first batch is the query itself; a client-side limit would leave it running.
        DatabaseOptions.WITH_MAX_MSG_SIZE.value: str(256 * 1024 * 1024),
    }
    found |= {DatabaseOptions.RPC_CALL_HEADER_PREFIX.value + name: value for name, value in place.headers.items()}
    if place.encrypted and place.verify is False:
        found[DatabaseOptions.TLS_SKIP_VERIFY.value] = "true"
    elif place.encrypted and isinstance(place.verify, str):
        found[DatabaseOptions.TLS_ROOT_CERTS.value] = _certificates(place.verify)
    bearer = endpoint.bearer()
    if bearer is None:
        found |= {"username": endpoint.user, "password": endpoint.password}
    else:
        found[DatabaseOptions.AUTHORIZATION_HEADER.value] = f"Bearer {bearer}"
    return found


def _certificates(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise errors.DremioConfigurationError(f"verify_ssl in Extra names no readable PEM file: {error}") from None


@contextmanager
def translated(endpoint: Endpoint) -> Iterator[None]:
    """Turns the driver's errors into this provider's.

    Raises DremioAuthenticationError, DremioPermissionError, DremioUnreachableError, DremioStatementError.
    """
    from adbc_driver_flightsql import dbapi

    try:
        yield
    except dbapi.Error as error:
        raise _error_for(error, endpoint) from error


def _error_for(error: Any, endpoint: Endpoint) -> errors.DremioError:
    from adbc_driver_manager import AdbcStatusCode

    place = endpoint.flight.uri if endpoint.flight else ""
    code, text = error.status_code, _short(str(error))
    if code == AdbcStatusCode.UNAUTHENTICATED:
        return errors.DremioAuthenticationError(401, text, where=f"Flight at {place}")
    if code == AdbcStatusCode.UNAUTHORIZED:
        return errors.DremioPermissionError(403, text, where=f"Flight at {place}")
    # gRPC says UNAVAILABLE both for "nobody there" and for "out of resources": either may pass.
    if code in (AdbcStatusCode.IO, AdbcStatusCode.TIMEOUT) or "unavailable" in text.lower()[:120]:
        return errors.DremioUnreachableError(f"Dremio's Flight at {place} gave no answer: {text}")
    return errors.DremioStatementError(text)


def _short(text: str, limit: int = 2000) -> str:
    return text if len(text) <= limit else text[:limit] + " ..."
