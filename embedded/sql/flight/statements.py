"""Runs the statements of Flight clients as jobs, with the caller's name and session."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pyarrow as pa

from embedded.sql.datasets import Session
from embedded.sql.engine import statements as st
from embedded.sql.engine.commands import parse_statement
from embedded.sql.engine_port import Engine
from embedded.sql.flight.complex_types import with_texts
from embedded.sql.flight.messages import Handle
from embedded.sql.flight.session import Caller, Sessions
from embedded.sql.jobs.model import Job
from embedded.sql.jobs.service import working_on
from embedded.sql.jobs.streams import Stream, Streams

QUERY_TYPE = "FLIGHT"
Gone = Callable[[], bool]  # has the caller left?


class Statements:
    def __init__(self, engine: Engine, streams: Streams, sessions: Sessions) -> None:
        self._engine = engine
        self._streams = streams
        self._sessions = sessions

    def foresee(self, caller: Caller, sql: str) -> pa.Schema | None:
        """The columns of the result, None when only the run tells them. Raises what planning raises."""
        with working_on(self._job(caller, sql)):
            schema, _ = self._engine.foresee(sql, Session(caller.user.name, caller.options.schema))
        return None if schema is None else shown_to(caller, schema)

    def begin(self, caller: Caller, handle: Handle, gone: Gone) -> pa.Schema | None:
        """GetFlightInfo: start a query under its handle's id; of a command only tell the columns. Raises SqlError."""
        if not self._engine.reads_only(handle.sql):
            return self.foresee(caller, handle.sql)
        return shown_to(caller, self._streams.open(self._job(caller, handle.sql, handle.id), gone).schema)

    def attach(self, caller: Caller, handle: Handle, gone: Gone) -> Stream:
        """DoGet: the rows that wait under this handle, else those of a new run."""
        return self._streams.claim(handle.id, caller.user.name) or self.run(caller, handle.sql, gone)

    def run(self, caller: Caller, sql: str, gone: Gone) -> Stream:
        """Run a statement for a reader who is there. Raises SqlError."""
        stream = self._streams.open(self._job(caller, sql), gone)
        stream.claimed = True
        statement = parse_statement(sql)
        if isinstance(statement, st.Use):
            self._sessions.set_schema(caller.user, caller.session_id, statement.path)
        return stream

    def update(self, caller: Caller, sql: str, gone: Gone) -> int:
        """Run a statement to its end; how many records it changed. Raises SqlError."""
        stream = self.run(caller, sql, gone)
        changed = 0
        try:
            while (batch := stream.next()) is not None:
                if batch.schema.names == ["Records"]:
                    changed += sum(batch.column(0).to_pylist())
        finally:
            stream.close()
        return changed

    def cancel(self, caller: Caller, handle: Handle) -> bool:
        """Stop what runs under a handle of this caller; False when nothing does."""
        return self._streams.cancel(handle.id, caller.user.name)

    def _job(self, caller: Caller, sql: str, job_id: str | None = None) -> Job:
        details = {"routing": dict(caller.options.routing)} if caller.options.routing else {}
        return Job(
            sql=sql,
            user=caller.user.name,
            context=caller.options.schema,
            query_type=QUERY_TYPE,
            id=job_id or str(uuid.uuid4()),
            details=details,
        )


def shown_to(caller: Caller, schema: pa.Schema) -> pa.Schema:
    """A result's columns as this caller's client reads them."""
    return schema if caller.options.complex_types else with_texts(schema)
