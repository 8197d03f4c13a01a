"""The writers of destination-postgres: a log, a merged table, a table that waits to be published."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from embedded.replication.pipeline import Reach, Written
from embedded.replication.postgres_destination import merge
from embedded.replication.postgres_destination.database import Database
from embedded.replication.postgres_destination.encoding import encode
from embedded.replication.postgres_destination.layout import TableLayout

_FLUSH_BYTES = 4 * 1024 * 1024


class Table:
    """Implements pipeline.Writer. Encoded rows are collected, then copied; subclasses say where to."""

    def __init__(self, database: Database, layout: TableLayout) -> None:
        self._database = database
        self._layout = layout
        self._columns = layout.column_list()
        self._waiting: list[bytes] = []
        self._size = 0
        self._written = Written()

    def write(self, batch: pa.RecordBatch) -> None:
        encoded = encode(batch, self._layout.types)
        self._waiting.append(encoded)
        self._size += len(encoded)
        self._written.records += batch.num_rows
        self._written.bytes += len(encoded)
        if self._size >= _FLUSH_BYTES:
            self._copy()

    def _copy(self) -> None:
        if self._waiting:
            self._send(self._waiting)
            self._waiting, self._size = [], 0

    def _send(self, rows: list[bytes]) -> None:
        raise NotImplementedError

    def supersede(self, snapshot: int) -> None:
        """Only a merged table has anything older."""

    def flush(self) -> None:
        """All rows are in the open transaction."""
        self._copy()

    def close(self) -> Written:
        self.flush()
        return self._written


class LogTable(Table):
    """Appends changes, each of them once however often it comes."""

    def __init__(self, database: Database, layout: TableLayout, reach: Reach, generation: int) -> None:
        super().__init__(database, layout)
        self._reach = reach
        rows = database.execute(
            sql.SQL("select max(_ab_cdc_commit_lsn) as high from {} where _airbyte_generation_id = %s").format(
                layout.identifier
            ),
            [generation],
        )
        # Only up to here can a change be one that came before: an attempt wrote it and did not live to say so.
        self._high: int | None = rows[0]["high"]
        self._repeats = False

    def write(self, batch: pa.RecordBatch) -> None:
        if self._high is not None:
            low = pc.min(batch.column(batch.schema.get_field_index("_ab_cdc_commit_lsn"))).as_py()
            repeats = low <= self._high
            if repeats != self._repeats:
                self._copy()
                self._repeats = repeats
        super().write(batch)

    def _send(self, rows: list[bytes]) -> None:
        if self._repeats:
            temporary = merge.temporary(self._database, self._layout)
            self._database.copy(temporary, self._columns, rows)
            insert = sql.SQL("insert into {} ({}) select {} from {} on conflict do nothing")
            self._database.execute(insert.format(self._layout.identifier, self._columns, self._columns, temporary))
            self._database.execute(sql.SQL("drop table {}").format(temporary))
        else:
            self._database.copy(self._layout.identifier, self._columns, rows)
        self._reach("mid_append")


class MergedTable(Table):
    """Keeps the latest version of each row: changes are collected in a temporary table and merged by key."""

    def __init__(
        self, database: Database, layout: TableLayout, reach: Reach, generation: int, *, soft_delete: bool
    ) -> None:
        super().__init__(database, layout)
        self._reach = reach
        self._generation = generation
        self._soft_delete = soft_delete
        self._temporary: sql.Identifier | None = None

    def _send(self, rows: list[bytes]) -> None:
        if self._temporary is None:
            self._temporary = merge.temporary(self._database, self._layout)
        self._database.copy(self._temporary, self._columns, rows)
        self._reach("mid_append")

    def supersede(self, snapshot: int) -> None:
        """In the open transaction, which ends with the sync: until then readers keep the rows of before."""
        self.flush()
        merge.supersede(self._database, self._layout, self._generation, snapshot)

    def flush(self) -> None:
        super().flush()
        if self._temporary is not None:
            merge.changes(self._database, self._layout, self._temporary, soft_delete=self._soft_delete)
            self._temporary = None


class StagedTable(Table):
    """A table of the job's own. Its comment says what to do with it, for whoever publishes it."""

    def __init__(self, database: Database, layout: TableLayout, staging: sql.Identifier, plan: str) -> None:
        super().__init__(database, layout)
        self._staging = staging
        database.execute(layout.create(staging))
        database.execute(sql.SQL("comment on table {} is {}").format(staging, sql.Literal(plan)))

    def _send(self, rows: list[bytes]) -> None:
        self._database.copy(self._staging, self._columns, rows)

    def close(self) -> Written:
        written: Any = super().close()
        self._database.commit()
        assert isinstance(written, Written)
        return written
