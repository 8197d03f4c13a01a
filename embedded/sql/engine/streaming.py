"""Rows of a statement as they come: record batches of bounded size with Dremio's types, in constant memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from embedded.sql.datasets import Path, Relationship
from embedded.sql.engine.database import Job, translate_error
from embedded.sql.engine.datatypes import normalise
from embedded.sql.engine.results import cast_column
from embedded.sql.errors import DataReadError, SqlError

ROWS = 65_536  # of a batch at most: a message has a fixed cost
CELLS = 8 * ROWS  # so that a batch of many columns is no larger
BYTES = 4_000_000  # of a message; ADBC's Flight SQL driver refuses messages above 16 MiB by default

# DuckDB's errors come through Arrow's C interface as text only: "Conversion Error: ...".
_ERRORS: dict[str, type[duckdb.Error]] = {
    "INTERRUPT": duckdb.InterruptException,
    "Conversion": duckdb.ConversionException,
    "Out of Memory": duckdb.OutOfMemoryException,
    "Out of Range": duckdb.OutOfRangeException,
    "Invalid Input": duckdb.InvalidInputException,
    "Not implemented": duckdb.NotImplementedException,
    "HTTP": duckdb.HTTPException,
    "IO": duckdb.IOException,
}


class Rows:
    """The result of one statement, read once. `scanned` and `reflections` are known from the start.

    One thread at a time reads; `close` may come from any thread at any time, and again.
    """

    def __init__(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch], job: Job) -> None:
        self.schema = schema
        self.scanned: list[Path] = []
        self.reflections: list[Relationship] = []
        self.resources = ExitStack()  # what goes with `close`
        self._batches = batches
        self._job = job
        self._reading = threading.Lock()
        self._closed = False

    def next(self) -> pa.RecordBatch | None:
        """The next batch, None after the last. Raises SqlError subclasses only; Cancelled once it was closed."""
        with self._reading:
            self._job.check()
            return next(self._batches, None)

    def close(self) -> None:
        """Stop what still runs and let go of everything that it holds."""
        self._job.interrupted = True
        with suppress(duckdb.Error):  # closed already
            self._job.connection.interrupt()
        with self._reading:
            if not self._closed:
                self._closed = True
                self._batches = iter(())
                self.resources.close()


def from_table(table: pa.Table, job: Job) -> Rows:
    """A result that is there already, such as the row that tells of a command."""
    batches = (part for batch in table.to_batches(max_chunksize=ROWS) for part in _pieces(batch))
    return Rows(table.schema, batches, job)


def from_query(sql: str, job: Job, resources: ExitStack, rename: Callable[[Sequence[str]], Sequence[str]]) -> Rows:
    """The rows of generated SQL, computed while they are read; `rename` makes the names of its columns."""
    reader, wide = job.reader(sql, lambda columns: max(1, min(ROWS, CELLS // max(1, columns))))
    resources.callback(reader.close)
    types = [pa.int64() if i in wide else normalise(f.type) for i, f in enumerate(reader.schema)]
    names = rename(reader.schema.names)
    schema = pa.schema([pa.field(name, kind) for name, kind in zip(names, types, strict=True)])
    return Rows(schema, _read(reader, schema, job), job)


def _read(reader: pa.RecordBatchReader, schema: pa.Schema, job: Job) -> Iterator[pa.RecordBatch]:
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        except (OSError, pa.ArrowException) as error:
            job.check()
            raise stream_error(str(error)) from None
        columns = [_cast(column, field) for column, field in zip(batch.columns, schema, strict=True)]
        yield from _pieces(pa.RecordBatch.from_arrays(columns, schema=schema))


def _cast(column: pa.Array, field: pa.Field) -> pa.Array:
    if column.type == field.type:
        return column
    if pa.types.is_decimal(column.type) and pa.types.is_int64(field.type):
        try:
            return pc.cast(column, field.type)
        except pa.ArrowInvalid:
            raise DataReadError(f"Numeric overflow in column '{field.name}'") from None
    return cast_column(column, field.type)


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch in slices of about BYTES, but of one row at least."""
    rows = max(1, batch.num_rows * BYTES // max(batch.nbytes, BYTES))
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def stream_error(text: str) -> SqlError:
    """Dremio's words for a DuckDB error of which only the text is left."""
    kind = next((found for prefix, found in _ERRORS.items() if text.startswith(f"{prefix} Error:")), duckdb.Error)
    return translate_error(kind(text))
