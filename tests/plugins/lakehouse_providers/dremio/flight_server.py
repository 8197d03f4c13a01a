"""A small real Flight SQL server: as much of the protocol as the ADBC driver uses, results as the test says."""

from __future__ import annotations

import base64
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from pyarrow import flight

TYPE = "type.googleapis.com/arrow.flight.protocol.sql."


def fields_of(data: bytes) -> dict[int, bytes]:
    """The length-delimited fields of a protobuf message; the last one of a number wins."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 2:
            size, at = varint(data, at)
            found[key >> 3] = data[at : at + size]
            at += size
        else:
            _, at = varint(data, at)
    return found


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        shift += 7
        if byte < 0x80:
            return value, at


def message(**fields: bytes) -> bytes:
    """`_1=b"..."`: length-delimited fields."""
    out = b""
    for name, value in fields.items():
        size, encoded = len(value), b""
        while size >= 0x80:
            encoded += bytes([size & 0x7F | 0x80])
            size >>= 7
        out += bytes([int(name[1:]) << 3 | 2]) + encoded + bytes([size]) + value
    return out


def wrapped(kind: str, body: bytes) -> bytes:
    return message(_1=(TYPE + kind).encode(), _2=body)


@dataclass
class FlightDremio:
    """`results`: by a part of the statement, an Arrow table, an exception, or a function of the statement."""

    users: dict[str, str] = field(default_factory=lambda: {"anna": "correct"})
    tokens: set[str] = field(default_factory=set)
    results: dict[str, Any] = field(default_factory=dict)
    statements: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def run(self, sql: str) -> pa.Table:
        self.statements.append(sql)
        for part, result in self.results.items():
            if part in sql:
                found = result(sql) if callable(result) else result
                if isinstance(found, Exception):
                    raise found
                return found
        return pa.table({"x": pa.array([1], pa.int32())})

    def sign_in(self, headers: dict[str, str]) -> str:
        kind, _, value = headers.get("authorization", "").partition(" ")
        if kind.lower() == "basic":
            # The driver leaves the padding out.
            user, _, password = base64.b64decode(value + "==").decode().partition(":")
            if self.users.get(user) == password:
                token = secrets.token_hex(8)
                self.tokens.add(token)
                return token
        elif kind.lower() == "bearer" and value in self.tokens:
            return value
        raise flight.FlightUnauthenticatedError("Unable to authenticate user, check login and password")


class _Middleware(flight.ServerMiddleware):  # type: ignore[misc]
    def __init__(self, token: str) -> None:
        self._token = token

    def sending_headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._token}"}


class _Factory(flight.ServerMiddlewareFactory):  # type: ignore[misc]
    def __init__(self, server: FlightServer) -> None:
        self._server = server

    def start_call(self, info: Any, headers: dict[str, list[str]]) -> _Middleware:
        plain = {name.lower(): values[0] for name, values in headers.items()}
        token = self._server.dremio.sign_in(plain)
        self._server.dremio.headers.append(plain)
        return _Middleware(token)


class _Anyone(flight.ServerAuthHandler):  # type: ignore[misc]
    """The middleware has already looked at the headers."""

    def authenticate(self, outgoing: Any, incoming: Any) -> None:
        pass

    def is_valid(self, token: Any) -> bytes:
        return b""


class FlightServer(flight.FlightServerBase):  # type: ignore[misc]
    """On a free port; `certificates`: (certificate, key) as PEM for TLS. `dremio` may be changed between tests."""

    dremio: FlightDremio

    def __init__(self, dremio: FlightDremio, certificates: tuple[str, str] | None = None) -> None:
        self.dremio = dremio
        scheme = "grpc+tls" if certificates else "grpc"
        super().__init__(
            f"{scheme}://127.0.0.1:0",
            auth_handler=_Anyone(),
            middleware={"auth": _Factory(self)},
            tls_certificates=[certificates] if certificates else [],
        )
        self._prepared: dict[bytes, str] = {}
        self._tables: dict[str, pa.Table] = {}
        threading.Thread(target=self.serve, daemon=True).start()

    def do_action(self, context: Any, action: flight.Action) -> Iterator[bytes]:
        body = fields_of(action.body.to_pybytes()) if action.body.size else {}
        inner = fields_of(body.get(2, b""))
        if action.type == "CreatePreparedStatement":
            handle = secrets.token_hex(8).encode()
            self._prepared[handle] = inner[1].decode()
            yield wrapped("ActionCreatePreparedStatementResult", message(_1=handle))
        elif action.type == "ClosePreparedStatement":
            self._prepared.pop(inner[1], None)
        else:
            raise NotImplementedError(action.type)

    def get_flight_info(self, context: Any, descriptor: flight.FlightDescriptor) -> flight.FlightInfo:
        outer = fields_of(descriptor.command)
        kind, inner = outer[1].decode().removeprefix(TYPE), fields_of(outer.get(2, b""))
        if kind == "CommandPreparedStatementQuery":
            sql = self._prepared[inner[1]]
        elif kind == "CommandStatementQuery":
            sql = inner[1].decode()
        else:
            raise NotImplementedError(kind)
        table = self.dremio.run(sql)
        key = secrets.token_hex(8)
        self._tables[key] = table
        endpoint = flight.FlightEndpoint(flight.Ticket(key.encode()), [])
        return flight.FlightInfo(table.schema, descriptor, [endpoint], -1, -1)

    def do_get(self, context: Any, ticket: flight.Ticket) -> flight.FlightDataStream:
        table = self._tables.pop(ticket.ticket.decode())
        batches = table.to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)]
        return flight.GeneratorStream(table.schema, iter(batches))
