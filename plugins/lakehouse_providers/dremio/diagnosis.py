"""Which field of a connection to correct, from what went wrong. No Airflow."""

from __future__ import annotations

from lakehouse_providers.dremio import connection as fields
from lakehouse_providers.dremio import errors
from lakehouse_providers.dremio.endpoint import Endpoint


def of_flight(error: errors.DremioError, place: Endpoint) -> str:
    uri = place.flight.uri if place.flight else ""
    if isinstance(error, errors.DremioAuthenticationError):
        return f"Flight at {uri} refuses the credentials that REST takes. {error}"
    text = str(error).lower()
    if "tls" in text or "certificate" in text or "first record" in text or "handshake" in text:
        fields_of_tls = "use_encryption, disable_certificate_verification or verify_ssl in Extra"
        return f"{fields_of_tls} do not fit Flight at {uri}. {error}"
    return f"Flight does not answer at {uri}: check flight_port and flight_host in Extra. {error}"


def of_rest(error: errors.DremioError, connection: fields.Fields) -> str:
    if isinstance(error, errors.DremioAuthenticationError):
        return f"{_refused(connection)}. {error}"
    if isinstance(error, errors.DremioUnreachableError):
        text = str(error).lower()
        if "name or service" in text or "getaddrinfo" in text or "nodename" in text or "resolution" in text:
            return f"Host {connection.host!r} cannot be resolved. {error}"
        if "ssl" in text or "certificate" in text:
            return f"use_ssl or verify_ssl in Extra does not fit the server. {error}"
        if "disconnected" in text:
            return f"Port, or use_ssl in Extra, does not fit the server. {error}"
        return f"Nothing answers there: check Host and Port, and that Dremio runs. {error}"
    if isinstance(error, errors.DremioPermissionError):
        return f"Login is known but may not read the catalog. {error}"
    if isinstance(error, (errors.DremioNotFoundError, errors.DremioRequestError)):
        return f"Host and Port lead to a server that is not Dremio's REST. {error}"
    return str(error)


def _refused(connection: fields.Fields) -> str:
    return {
        "pat": "pat in Extra is refused: it is wrong, expired or revoked",
        "password": "Login or Password is wrong",
        "client_credentials": "Login (client id) or Password (client secret) is wrong",
        "token_exchange": "The subject token of the token exchange is refused",
    }[fields.way(connection)]
