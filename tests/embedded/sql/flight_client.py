"""A plain pyarrow Flight client, as Dremio's own examples write it."""

from __future__ import annotations

from collections.abc import Mapping
from http.cookies import SimpleCookie
from typing import Any

import pyarrow as pa
from pyarrow import flight

from tests.embedded.sql.process import PASSWORD, USER


class _Cookies(flight.ClientMiddlewareFactory):  # type: ignore[misc]
    """Sends back what the server set, as Dremio's clients do."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def start_call(self, info: Any) -> flight.ClientMiddleware:
        return _CookieCall(self.known)


class _CookieCall(flight.ClientMiddleware):  # type: ignore[misc]
    def __init__(self, known: dict[str, str]) -> None:
        self._known = known

    def sending_headers(self) -> dict[str, str]:
        return {"cookie": "; ".join(f"{k}={v}" for k, v in self._known.items())} if self._known else {}

    def received_headers(self, headers: Mapping[str, list[str]]) -> None:
        for value in headers.get("set-cookie", []):
            self._known.update({key: morsel.value for key, morsel in SimpleCookie(value).items()})


class FlightClient:
    """Logged in by password, or with a token. `headers` go with every call."""

    def __init__(
        self,
        port: int,
        *,
        token: str = "",
        login: tuple[str, str] = (USER, PASSWORD),
        headers: Mapping[str, str] | None = None,
        cookies: bool = False,
        scheme: str = "grpc+tcp",
        **tls: Any,
    ) -> None:
        middleware = [_Cookies()] if cookies else None
        self.client = flight.FlightClient(f"{scheme}://localhost:{port}", middleware=middleware, **tls)
        if token:
            bearer = (b"authorization", f"Bearer {token}".encode())
        else:
            bearer = self.client.authenticate_basic_token(*login)
        sent = [bearer, *((key.encode(), value.encode()) for key, value in (headers or {}).items())]
        self.options = flight.FlightCallOptions(headers=sent)

    def info(self, sql: str) -> flight.FlightInfo:
        return self.client.get_flight_info(flight.FlightDescriptor.for_command(sql.encode()), self.options)

    def fetch(self, info: flight.FlightInfo) -> pa.Table:
        return self.client.do_get(info.endpoints[0].ticket, self.options).read_all()

    def reader(self, sql: str) -> flight.FlightStreamReader:
        return self.client.do_get(self.info(sql).endpoints[0].ticket, self.options)

    def table(self, sql: str) -> pa.Table:
        return self.fetch(self.info(sql))
