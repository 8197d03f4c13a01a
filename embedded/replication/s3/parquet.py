"""Parquet objects of bounded size out of a stream of batches, in bounded memory."""

from __future__ import annotations

from collections.abc import Set
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from embedded.replication.connectors import ParquetFormat
from embedded.replication.s3.uploads import PartSink

_ROW_GROUP_ROWS = 1024 * 1024
# A row group waits in memory as Arrow, several times larger than in the file. This bound keeps a worker under 300 MB
# and still makes groups of some 100,000 rows, which readers like; block_size_mb only matters when it is smaller.
_ROW_GROUP_MEMORY = 16 * 1024 * 1024
# A compression level where speed and size are both good; Airbyte's own default for ZSTD.
_LEVELS = {"ZSTD": 3}


class Part(Protocol):
    """One object being written."""

    sink: PartSink

    def finish(self, records: int) -> None:
        """All bytes are in the sink: upload the rest and write down what there is."""


class Parts(Protocol):
    """Where new objects come from."""

    def open(self) -> Part: ...


class ParquetStream:
    """Writes batches to one object after another. Close it at the end; on an error just drop it."""

    def __init__(
        self, parts: Parts, schema: pa.Schema, options: ParquetFormat, object_bytes: int, distinct: Set[str]
    ) -> None:
        """`distinct`: columns that are written without a dictionary."""
        self._object_bytes = object_bytes
        self._plain = {*distinct, "_airbyte_raw_id"}
        self._parts = parts
        self._schema = schema
        self._options = options
        self._row_group_bytes = min(options.block_size_mb * 1024 * 1024, _ROW_GROUP_MEMORY)
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_bytes = 0
        self._waiting_rows = 0
        self._part: Part | None = None
        self._writer: pq.ParquetWriter | None = None
        self._part_rows = 0
        self.records = 0
        self.bytes = 0
        self.objects = 0

    def write(self, batch: pa.RecordBatch) -> None:
        self._waiting.append(batch)
        self._waiting_bytes += batch.nbytes
        self._waiting_rows += batch.num_rows
        if self._waiting_bytes >= self._row_group_bytes or self._waiting_rows >= _ROW_GROUP_ROWS:
            self._row_group()
            if self._part is not None and self._part.sink.size >= self._object_bytes:
                self._end_part()

    def cut(self) -> None:
        """Write what waits and end the current object."""
        if self._waiting:
            self._row_group()
        self._end_part()

    def close(self, *, even_if_empty: bool) -> None:
        """Write what is left. Without any record there is no object, unless one is asked for."""
        if self._waiting or (even_if_empty and not self.objects and self._part is None):
            self._row_group()
        self._end_part()

    def _row_group(self) -> None:
        if self._writer is None:
            self._part = self._parts.open()
            self._writer = self._new_writer(self._part.sink)
        table = pa.Table.from_batches(self._waiting, self._schema)
        if table.num_rows:
            self._writer.write_table(table, row_group_size=_ROW_GROUP_ROWS)
        self._part_rows += table.num_rows
        self._waiting, self._waiting_bytes, self._waiting_rows = [], 0, 0

    def _new_writer(self, sink: PartSink) -> pq.ParquetWriter:
        options = self._options
        codec = options.compression_codec
        # Where nearly every value differs, a dictionary is built only to be thrown away.
        names = [field.name for field in self._schema if field.name not in self._plain]
        return pq.ParquetWriter(
            sink,
            self._schema,
            compression="NONE" if codec == "UNCOMPRESSED" else codec,
            compression_level=_LEVELS.get(codec),
            use_dictionary=names if options.dictionary_encoding else False,
            dictionary_pagesize_limit=options.dictionary_page_size_kb * 1024,
            data_page_size=options.page_size_kb * 1024,
            write_batch_size=8192,
            max_rows_per_page=_ROW_GROUP_ROWS,  # pages end by size, as Airbyte's do
            store_schema=False,  # what the file says is what Parquet's own types say
        )

    def _end_part(self) -> None:
        if self._writer is None or self._part is None:
            return
        self._writer.close()
        self._part.finish(self._part_rows)
        self.records += self._part_rows
        self.bytes += self._part.sink.size
        self.objects += 1
        self._writer, self._part, self._part_rows = None, None, 0
