"""Prepared statements: the handle carries the SQL, here are only the values bound to it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import pyarrow as pa

from embedded.sql.errors import ResourceError, ValidationError
from embedded.sql.flight import parameters
from embedded.sql.flight.messages import Handle
from embedded.sql.identity import User

_MOST = 2000  # statements with bound values
MAX_BYTES = 64 * 1024 * 1024  # of one binding

Row = list[str]


class Prepared:
    """Values stay bound until the next binding, the statement's end, or until many newer ones were bound."""

    def __init__(self) -> None:
        self._bound: OrderedDict[tuple[str, str], list[Row]] = OrderedDict()
        self._guard = threading.Lock()

    def bind(self, user: User, handle: Handle, reader: Any) -> None:
        """Raises ValidationError for a value of a type that SQL cannot write, ResourceError for too many values."""
        rows = _rows(reader)
        with self._guard:
            self._bound[(user.id, handle.id)] = rows
            self._bound.move_to_end((user.id, handle.id))
            while len(self._bound) > _MOST:
                self._bound.popitem(last=False)

    def statement(self, user: User, handle: Handle) -> str:
        """A query with its values. Raises ValidationError when values are missing, or there are several rows."""
        with self._guard:
            rows = self._bound.get((user.id, handle.id), [])
        if len(rows) > 1:
            raise ValidationError(f"A query takes one row of parameters, but {len(rows)} are bound")
        return parameters.fill(handle.sql, rows[0] if rows else [])

    def statements(self, user: User, handle: Handle, reader: Any) -> list[str]:
        """An update with the values that come with it or were bound before: one statement a row, or one for all."""
        rows = _rows(reader)
        if not rows:
            with self._guard:
                rows = self._bound.get((user.id, handle.id), [])
        if len(rows) > 1 and (whole := parameters.several_rows(handle.sql, rows)):
            return [whole]
        return [parameters.fill(handle.sql, row) for row in rows or [[]]]

    def close(self, user: User, handle: Handle) -> None:
        with self._guard:
            self._bound.pop((user.id, handle.id), None)


def _rows(reader: Any) -> list[Row]:
    batches: list[pa.RecordBatch] = []
    size = 0
    for chunk in reader:
        batches.append(chunk.data)
        size += chunk.data.nbytes
        if size > MAX_BYTES:
            raise ResourceError(f"The bound values are larger than {MAX_BYTES} bytes")
    if not batches or not batches[0].num_columns:
        return []
    return parameters.literals(pa.Table.from_batches(batches))
