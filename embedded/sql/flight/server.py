"""The Flight server: which call does what.

Statements are planned at GetFlightInfo; commands run at DoGet, as in Dremio. A query starts at GetFlightInfo and its
rows wait for DoGet; a ticket whose rows are gone runs its statement again.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyarrow import flight

from embedded.sql import acting
from embedded.sql.datasets import Path, Session
from embedded.sql.engine_port import Engine
from embedded.sql.faults import Faults
from embedded.sql.flight import messages, session
from embedded.sql.flight.actions import Actions
from embedded.sql.flight.complex_types import batch_as
from embedded.sql.flight.errors import InvalidArgument, Unimplemented, status, told
from embedded.sql.flight.metadata import Metadata, schema_of
from embedded.sql.flight.prepared import Prepared
from embedded.sql.flight.quoting import double_quoted
from embedded.sql.flight.session import Caller, caller_of
from embedded.sql.flight.statements import Statements, shown_to
from embedded.sql.identity import Identity
from embedded.sql.jobs.model import Job
from embedded.sql.jobs.service import working_on
from embedded.sql.jobs.streams import Stream, Streams

log = logging.getLogger(__name__)

STOP_PATIENCE = 3.0  # seconds: a reader that has stopped reading keeps its call open for ever


@dataclass(frozen=True)
class Tls:
    """PEM texts."""

    certificate: bytes
    key: bytes


class FlightServer(flight.FlightServerBase):  # type: ignore[misc]
    """Serves from its making on. Raises OSError when the port is taken."""

    def __init__(
        self,
        address: tuple[str, int],
        tls: Tls | None,
        identity: Identity,
        engine: Engine,
        streams: Streams,
        faults: Faults,
    ) -> None:
        sessions = session.Sessions()
        self._engine = engine
        self._streams = streams
        self._statements = Statements(engine, streams, sessions)
        self._prepared = Prepared()
        self._actions = Actions(self._statements, self._prepared, sessions)
        host, port = address
        super().__init__(
            f"grpc{'+tls' if tls else ''}://{host}:{port}",
            auth_handler=session.Handshake(),
            tls_certificates=[(tls.certificate, tls.key)] if tls else None,
            middleware={session.MIDDLEWARE: session.SessionMiddlewareFactory(identity, sessions, faults)},
        )

    def stop(self) -> None:
        """Refuse new calls; those whose client does not read are left behind."""
        ending = threading.Thread(target=self.shutdown, name="flight-shutdown", daemon=True)
        ending.start()
        self._streams.stop()
        ending.join(STOP_PATIENCE)

    # Queries ----------------------------------------------------------------------------------------------------

    def get_flight_info(self, context: Any, descriptor: Any) -> Any:
        with told():
            caller = caller_of(context)
            command = _command(descriptor)
            schema = schema_of(command)
            if schema is not None:
                # Dremio has no keys, and tells so by an answer without a place to fetch them.
                keys = isinstance(command, messages.GetKeys)
                return _info(schema, descriptor, [] if keys else [descriptor.command])
            sql = self._sql(command, caller)
            handle = messages.Handle(str(uuid.uuid4()), sql)
            schema = self._statements.begin(caller, handle, context.is_cancelled)
            return _info(schema, descriptor, [messages.statement_ticket(handle.pack())])

    def get_schema(self, context: Any, descriptor: Any) -> Any:
        with told():
            caller = caller_of(context)
            command = _command(descriptor)
            schema = schema_of(command)
            if schema is None:
                schema = self._statements.foresee(caller, self._sql(command, caller))
            return flight.SchemaResult(schema if schema is not None else pa.schema([]))

    def _sql(self, command: messages.Command, caller: Caller) -> str:
        """The statement of a command, its parameters filled in."""
        match command:
            case messages.StatementQuery(query):
                return double_quoted(query, caller.options.quoting)
            case messages.PreparedQuery(handle):
                return self._prepared.statement(caller.user, messages.Handle.unpack(handle))
            case messages.Unknown(name):
                raise Unimplemented(f"{name} is not supported.")
        raise InvalidArgument(f"{type(command).__name__} is not a query.")

    def do_get(self, context: Any, ticket: Any) -> Any:
        with told():
            caller = caller_of(context)
            command = messages.parse_command(ticket.ticket)
            table = self._metadata(caller).table(command)
            if table is not None:
                return flight.GeneratorStream(table.schema, _table_batches(table))
            if isinstance(command, messages.StatementTicket):
                stream = self._statements.attach(caller, messages.Handle.unpack(command.handle), context.is_cancelled)
            elif isinstance(command, messages.PreparedQuery):
                stream = self._statements.run(caller, self._sql(command, caller), context.is_cancelled)
            else:
                raise InvalidArgument("Invalid ticket: it was not made by this server.")
            schema = shown_to(caller, stream.schema)
            return flight.GeneratorStream(schema, _batches(stream, schema))

    def _metadata(self, caller: Caller) -> Metadata:
        job = Job(sql="", user=caller.user.name)  # not recorded: Dremio's metadata calls are no jobs either

        def query(sql: str) -> pa.Table:
            with working_on(job):
                return self._engine.execute(sql, Session(job.user), cancelled=threading.Event()).table

        def describe(path: Path) -> pa.Schema:
            quoted = ".".join('"' + part.replace('"', '""') + '"' for part in path)
            with working_on(job), acting.as_user(job.user):
                return self._engine.describe(f"SELECT * FROM {quoted}", ())

        return Metadata(query, describe)

    # Changes ----------------------------------------------------------------------------------------------------

    def do_put(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        with told():
            caller = caller_of(context)
            command = _command(descriptor)
            match command:
                case messages.StatementUpdate(query):
                    sql = double_quoted(query, caller.options.quoting)
                    answer = messages.update_result(self._update(caller, [sql], context))
                case messages.PreparedUpdate(packed):
                    handle = messages.Handle.unpack(packed)
                    statements = self._prepared.statements(caller.user, handle, reader)
                    answer = messages.update_result(self._update(caller, statements, context))
                case messages.PreparedQuery(packed):
                    self._prepared.bind(caller.user, messages.Handle.unpack(packed), reader)
                    answer = messages.bound(packed)
                case messages.Unknown(name):
                    raise Unimplemented(f"{name} is not supported.")
                case _:
                    raise Unimplemented("acceptPut is not implemented.")
            writer.write(pa.py_buffer(answer))

    def _update(self, caller: Caller, statements: list[str], context: Any) -> int:
        return sum(self._statements.update(caller, sql, context.is_cancelled) for sql in statements)

    # The rest ---------------------------------------------------------------------------------------------------

    def do_action(self, context: Any, action: Any) -> Iterator[Any]:
        with told():
            answers = self._actions.carry_out(caller_of(context), action.type, action.body.to_pybytes())
            return iter([flight.Result(pa.py_buffer(answer)) for answer in answers])

    def list_actions(self, context: Any) -> list[tuple[str, str]]:
        return self._actions.described()

    def list_flights(self, context: Any, criteria: bytes) -> Iterator[Any]:
        raise Unimplemented("listFlights is not implemented.") from None

    def do_exchange(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        raise Unimplemented("doExchange is not implemented.") from None


def _command(descriptor: Any) -> messages.Command:
    if descriptor.descriptor_type != flight.DescriptorType.CMD:
        raise Unimplemented("FlightDescriptor type Path is unimplemented.")
    return messages.parse_command(descriptor.command)


def _info(schema: pa.Schema | None, descriptor: Any, tickets: list[bytes]) -> Any:
    endpoints = [flight.FlightEndpoint(ticket, []) for ticket in tickets]
    return flight.FlightInfo(schema, descriptor, endpoints, -1, -1)


def _table_batches(table: pa.Table) -> Iterator[pa.RecordBatch]:
    return iter(table.to_batches() or [_empty(table.schema)])


def _batches(stream: Stream, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """All rows, at least one batch: pandas clients fail on a result without any. Ends the job when it ends."""
    count = 0
    try:
        while (batch := stream.next()) is not None:
            count += 1
            yield batch_as(batch, schema)
        if not count:
            yield _empty(schema)
    except GeneratorExit:
        raise
    except Exception as error:
        raise status(error) from None
    finally:
        stream.close()


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)
