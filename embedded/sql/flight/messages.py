"""Flight SQL's commands as data, and its answers as bytes (field numbers: Arrow's FlightSql.proto and Flight.proto)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from embedded.sql.flight import wire


@dataclass(frozen=True)
class StatementQuery:
    query: str


@dataclass(frozen=True)
class StatementUpdate:
    query: str


@dataclass(frozen=True)
class PreparedQuery:
    handle: bytes


@dataclass(frozen=True)
class PreparedUpdate:
    handle: bytes


@dataclass(frozen=True)
class StatementTicket:
    handle: bytes


@dataclass(frozen=True)
class GetSqlInfo:
    wanted: tuple[int, ...]


@dataclass(frozen=True)
class GetTypeInfo:
    data_type: int | None


@dataclass(frozen=True)
class GetCatalogs:
    pass


@dataclass(frozen=True)
class GetSchemas:
    catalog: str | None
    schema_pattern: str | None


@dataclass(frozen=True)
class GetTables:
    catalog: str | None
    schema_pattern: str | None
    table_pattern: str | None
    types: tuple[str, ...]
    include_schema: bool


@dataclass(frozen=True)
class GetTableTypes:
    pass


@dataclass(frozen=True)
class GetKeys:
    """Primary, exported and imported keys and cross references: Dremio has none of them."""

    kind: str


@dataclass(frozen=True)
class Unknown:
    """A command of Flight SQL that this server does not carry out."""

    name: str


Command = (
    StatementQuery | StatementUpdate | PreparedQuery | PreparedUpdate | StatementTicket | GetSqlInfo | GetTypeInfo
    | GetCatalogs | GetSchemas | GetTables | GetTableTypes | GetKeys | Unknown
)  # fmt: skip


def _statement(kind: type[StatementQuery] | type[StatementUpdate]) -> Callable[[wire.Fields], Command]:
    return lambda fields: kind(wire.text(fields, 1) or "")


def _handle(kind: type[PreparedQuery | PreparedUpdate | StatementTicket]) -> Callable[[wire.Fields], Command]:
    return lambda fields: kind(wire.last_bytes(fields, 1) or b"")


def _tables(fields: wire.Fields) -> GetTables:
    return GetTables(
        catalog=wire.text(fields, 1),
        schema_pattern=wire.text(fields, 2),
        table_pattern=wire.text(fields, 3),
        types=tuple(wire.texts(fields, 4)),
        include_schema=wire.flag(fields, 5),
    )


COMMANDS: Mapping[str, Callable[[wire.Fields], Command]] = {
    "CommandStatementQuery": _statement(StatementQuery),
    "CommandStatementUpdate": _statement(StatementUpdate),
    "CommandPreparedStatementQuery": _handle(PreparedQuery),
    "CommandPreparedStatementUpdate": _handle(PreparedUpdate),
    "TicketStatementQuery": _handle(StatementTicket),
    "CommandGetSqlInfo": lambda fields: GetSqlInfo(tuple(wire.integers(fields, 1))),
    "CommandGetXdbcTypeInfo": lambda fields: GetTypeInfo(wire.integer(fields, 1)),
    "CommandGetCatalogs": lambda fields: GetCatalogs(),
    "CommandGetDbSchemas": lambda fields: GetSchemas(wire.text(fields, 1), wire.text(fields, 2)),
    "CommandGetTables": _tables,
    "CommandGetTableTypes": lambda fields: GetTableTypes(),
    "CommandGetPrimaryKeys": lambda fields: GetKeys("primary"),
    "CommandGetExportedKeys": lambda fields: GetKeys("foreign"),
    "CommandGetImportedKeys": lambda fields: GetKeys("foreign"),
    "CommandGetCrossReference": lambda fields: GetKeys("foreign"),
}


def parse_command(data: bytes) -> Command:
    """The command of a descriptor or ticket; what is not packed as Flight SQL is a legacy client's SQL.

    Raises WireError for a broken message, or SQL that is not UTF-8.
    """
    unpacked = wire.unpack(data)
    if unpacked is None:
        try:
            return StatementQuery(data.decode())
        except UnicodeDecodeError:
            raise wire.WireError("neither a Flight SQL command nor SQL in UTF-8") from None
    name, content = unpacked
    read = COMMANDS.get(name)
    return Unknown(name) if read is None else read(wire.read(content))


def statement_ticket(handle: bytes) -> bytes:
    return wire.pack("TicketStatementQuery", wire.write((1, handle)))


# Actions ------------------------------------------------------------------------------------------------------------


def action_body(name: str, body: bytes) -> wire.Fields:
    """The content of an action that is packed as `name`. Raises WireError when it is another message."""
    unpacked = wire.unpack(body)
    if unpacked is None or unpacked[0] != name:
        raise wire.WireError(f"{name} is expected")
    return wire.read(unpacked[1])


def prepared(handle: bytes, result: pa.Schema | None, parameters: pa.Schema | None) -> bytes:
    """ActionCreatePreparedStatementResult."""
    schemas = [None if schema is None else schema.serialize().to_pybytes() for schema in (result, parameters)]
    return wire.pack("ActionCreatePreparedStatementResult", wire.write((1, handle), (2, schemas[0]), (3, schemas[1])))


def update_result(count: int) -> bytes:
    """DoPutUpdateResult."""
    return wire.write((1, count))


def bound(handle: bytes) -> bytes:
    """DoPutPreparedStatementResult."""
    return wire.write((1, handle))


def tickets_of(info: bytes) -> list[bytes]:
    """The tickets inside a serialized FlightInfo."""
    endpoints = [value for value in wire.read(info).get(3, ()) if isinstance(value, bytes)]
    tickets = [wire.last_bytes(wire.read(endpoint), 1) for endpoint in endpoints]
    return [wire.last_bytes(wire.read(ticket), 1) or b"" for ticket in tickets if ticket is not None]


def options_set(body: bytes) -> dict[str, str | None]:
    """SetSessionOptionsRequest: texts by name; None for a value of another type, or one to be unset."""
    return {name: wire.text(wire.read(value), 1) for name, value in wire.mapping(wire.read(body), 1)}


def option_errors(errors: Mapping[str, int]) -> bytes:
    """SetSessionOptionsResult: 1 an unknown name, 2 a wrong value."""
    return wire.write(*((1, wire.write((1, name), (2, wire.write((1, code))))) for name, code in errors.items()))


def options_shown(options: Mapping[str, str]) -> bytes:
    """GetSessionOptionsResult."""
    return wire.write(*((1, wire.write((1, name), (2, wire.write((1, text))))) for name, text in options.items()))


def status_result(code: int) -> bytes:
    """CloseSessionResult, CancelFlightInfoResult, ActionCancelQueryResult: one number."""
    return wire.write((1, code))


# Handles ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Handle:
    """What a ticket and a prepared statement carry: enough to run the statement again, as Dremio's do."""

    id: str
    sql: str

    def pack(self) -> bytes:
        return b"\x01" + struct.pack(">H", len(self.id)) + self.id.encode() + self.sql.encode()

    @staticmethod
    def unpack(data: bytes) -> Handle:
        """Raises WireError for what is no handle of ours."""
        try:
            if data[:1] != b"\x01":
                raise ValueError
            end = 3 + struct.unpack(">H", data[1:3])[0]
            return Handle(data[3:end].decode(), data[end:].decode())
        except (ValueError, struct.error):
            raise wire.WireError("the statement handle is invalid") from None
