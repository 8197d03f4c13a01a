"""DoAction: prepared statements, sessions, cancelling."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from embedded.sql.datasets import Path
from embedded.sql.errors import SqlError
from embedded.sql.flight import messages, parameters, wire
from embedded.sql.flight.errors import Unimplemented
from embedded.sql.flight.prepared import Prepared
from embedded.sql.flight.quoting import double_quoted
from embedded.sql.flight.session import Caller, Sessions, parse_schema
from embedded.sql.flight.statements import Statements

_CANCELLED, _NOT_CANCELLABLE = 1, 3
_CLOSED = 1
_UNKNOWN_NAME, _WRONG_VALUE = 1, 2
DESCRIPTIONS = {
    "CreatePreparedStatement": "Plans a statement; gives a handle, its columns and its parameters.",
    "ClosePreparedStatement": "Forgets the values bound to a prepared statement.",
    "CancelFlightInfo": "Cancels the query of a FlightInfo.",
    "CancelQuery": "The same, for older clients.",
    "SetSessionOptions": "Sets the session's schema.",
    "GetSessionOptions": "Gives the session's options.",
    "CloseSession": "Ends the session of the cookie.",
}


class Actions:
    def __init__(self, statements: Statements, prepared: Prepared, sessions: Sessions) -> None:
        self._statements = statements
        self._prepared = prepared
        self._sessions = sessions
        self._known: dict[str, Callable[[Caller, bytes], list[bytes]]] = {
            "CreatePreparedStatement": self._create,
            "ClosePreparedStatement": self._close,
            "CancelFlightInfo": self._cancel_info,
            "CancelQuery": self._cancel_query,
            "SetSessionOptions": self._set_options,
            "GetSessionOptions": self._get_options,
            "CloseSession": self._close_session,
        }

    def described(self) -> list[tuple[str, str]]:
        return [(name, DESCRIPTIONS[name]) for name in self._known]

    def carry_out(self, caller: Caller, name: str, body: bytes) -> list[bytes]:
        """The action's results. Raises Unimplemented for an unknown one, SqlError and WireError for a wrong one."""
        action = self._known.get(name)
        if action is None:
            raise Unimplemented(f"Action {name} is not implemented.")
        return action(caller, body)

    def _create(self, caller: Caller, body: bytes) -> list[bytes]:
        request = messages.action_body("ActionCreatePreparedStatementRequest", body)
        if wire.last_bytes(request, 2):
            raise Unimplemented("Transactions are not supported.")
        sql = double_quoted(wire.text(request, 1) or "", caller.options.quoting)
        count = len(parameters.places(sql))
        schema = None
        try:
            schema = self._statements.foresee(caller, parameters.fill(sql, ["NULL"] * count))
        except SqlError:
            if not count:
                raise
            # With NULL for a value some statements have no type (LIMIT ?): their columns show when they run.
        handle = messages.Handle(str(uuid.uuid4()), sql).pack()
        return [messages.prepared(handle, schema, parameters.schema_of(count) if count else None)]

    def _close(self, caller: Caller, body: bytes) -> list[bytes]:
        request = messages.action_body("ActionClosePreparedStatementRequest", body)
        self._prepared.close(caller.user, messages.Handle.unpack(wire.last_bytes(request, 1) or b""))
        return []

    def _cancel_info(self, caller: Caller, body: bytes) -> list[bytes]:
        return [self._cancel(caller, wire.last_bytes(wire.read(body), 1) or b"")]

    def _cancel_query(self, caller: Caller, body: bytes) -> list[bytes]:
        request = messages.action_body("ActionCancelQueryRequest", body)
        result = self._cancel(caller, wire.last_bytes(request, 1) or b"")
        return [wire.pack("ActionCancelQueryResult", result)]

    def _cancel(self, caller: Caller, info: bytes) -> bytes:
        stopped = False
        for ticket in messages.tickets_of(info):
            command = messages.parse_command(ticket)
            if isinstance(command, messages.StatementTicket):
                stopped |= self._statements.cancel(caller, messages.Handle.unpack(command.handle))
        return messages.status_result(_CANCELLED if stopped else _NOT_CANCELLABLE)

    def _set_options(self, caller: Caller, body: bytes) -> list[bytes]:
        errors: dict[str, int] = {}
        for name, value in messages.options_set(body).items():
            if name.lower() != "schema":
                errors[name] = _UNKNOWN_NAME
                continue
            try:
                self._sessions.set_schema(caller.user, caller.session_id, parse_schema(value or ""))
            except SqlError:
                errors[name] = _WRONG_VALUE
        return [messages.option_errors(errors)]

    def _get_options(self, caller: Caller, body: bytes) -> list[bytes]:
        return [messages.options_shown({"schema": _quoted(caller.options.schema)})]

    def _close_session(self, caller: Caller, body: bytes) -> list[bytes]:
        self._sessions.close(caller.user, caller.session_id)
        return [messages.status_result(_CLOSED)]


def _quoted(path: Path) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in path)
