"""destination-postgres for one job.

From a CDC source rows are written at once, in transactions that end at checkpoints: repeating them is harmless, and
the applied LSN moves in the same transaction as the last rows. From any other source rows wait in tables of the job,
and one transaction publishes all streams.
"""

from __future__ import annotations

import json
from collections.abc import Collection

import pyarrow as pa
from psycopg import sql

from embedded.replication.failures import SyncError
from embedded.replication.pipeline import Job, Log, Reach, SourceStream, State, Target, Written
from embedded.replication.postgres_destination import merge
from embedded.replication.postgres_destination.database import Database
from embedded.replication.postgres_destination.fitting import fit
from embedded.replication.postgres_destination.layout import TableLayout, shortened, table_layout
from embedded.replication.postgres_destination.tables import LogTable, MergedTable, StagedTable, Table
from embedded.replication.protocol import session_name
from embedded.replication.records import Fit
from embedded.replication.store.database import Connection

_MINIMUM_VERSION = 150_000


class PostgresTables:
    """Implements pipeline.Destination."""

    def __init__(self, db: Connection, job: Job, log: Log, reach: Reach) -> None:
        self._job = job
        self._log = log
        self._reach = reach
        self._cdc = getattr(job.source, "cdc", None) is not None
        self.finishes_forward = not self._cdc
        self.fit: Fit | None = fit
        self._tables: list[Table] = []
        self._database: Database | None = None

    @property
    def _session(self) -> Database:
        if self._database is None:
            self._database = Database(self._job.destination, session_name(self._job.id))
        return self._database

    def check(self) -> None:
        options = self._job.destination
        version = self._session.connection.info.server_version
        if version < _MINIMUM_VERSION:
            message = f"The destination is PostgreSQL {version // 10_000}; version 15 or later is needed."
            raise SyncError("destination", "config_error", message)
        if options.applied_lsn_table:
            if not self._cdc:
                message = "applied_lsn_table: the source does not stream changes (replication_method CDC)."
                raise SyncError("destination", "config_error", message)
            self._session.require_applied_table(options.applied_lsn_table)
        self._session.commit()

    def column_name(self, name: str) -> str:
        return shortened(name)

    def address(self, namespace: str, name: str) -> tuple[str, ...]:
        return self._schema(namespace), shortened(name)

    def _schema(self, namespace: str) -> str:
        return shortened(namespace) if namespace else str(self._job.destination.schema_)

    def writer(self, stream: SourceStream, target: Target, schema: pa.Schema) -> Table:
        layout = self._layout(stream, target)
        deduplicated = stream.config["syncMode"] == "incremental_deduped_history"
        table: Table
        if self._cdc and deduplicated:
            self._session.prepare(layout, deduplicated=True, log=False)
            soft = self._job.destination.cdc_deletion_mode == "Soft delete"
            table = MergedTable(self._session, layout, self._reach, target.generation, soft_delete=soft)
        elif self._cdc:
            self._session.prepare(layout, deduplicated=False, log=True)
            table = LogTable(self._session, layout, self._reach, target.generation)
        else:
            table = self._staged(stream, target, layout)
        self._session.commit()
        self._tables.append(table)
        return table

    def _layout(self, stream: SourceStream, target: Target) -> TableLayout:
        key = stream.primary_key or tuple(path[0] for path in stream.config["primaryKey"])
        cursor = stream.config["cursorField"][0] if stream.config["cursorField"] else None
        names = {field.source: field.name for field in stream.fields}
        incremental = stream.config["syncMode"].startswith("incremental")
        return table_layout(
            self._schema(target.namespace),
            shortened(target.name),
            stream.fields,
            [names[name] for name in key if name in names],
            names.get(cursor, cursor) if cursor and incremental else None,
        )

    def _staged(self, stream: SourceStream, target: Target, layout: TableLayout) -> StagedTable:
        mode = stream.config["syncMode"]
        if mode != "full_refresh_overwrite":
            self._session.prepare(layout, deduplicated=mode == "incremental_deduped_history", log=False)
        self._session.ensure_schema(layout.schema)
        plan = {
            "connection": str(self._job.connection["id"]),
            "schema": layout.schema,
            "name": layout.name,
            "mode": mode,
            "minimum_generation": target.minimum_generation,
            "columns": layout.columns,
            "key": layout.key,
            "cursor": layout.cursor,
        }
        return StagedTable(self._session, layout, self._staging(len(self._tables), layout.schema), json.dumps(plan))

    def _staging(self, number: int, schema: str) -> sql.Identifier:
        return sql.Identifier(schema, f"_airbyte_job_{self._job.id}_{number}")

    def checkpoint(self, state: State) -> bool:
        if self.finishes_forward:
            return False
        self._flush()
        self._session.commit()
        return True

    def _flush(self) -> None:
        for table in self._tables:
            table.flush()

    def cut(self, targets: Collection[Target]) -> list[Written] | None:
        """An attempt's staging tables go with it."""
        return None

    def keep(self, targets: Collection[Target]) -> None:
        """Nothing was cut."""

    def publish(self, attempt: int, state: State | None) -> None:
        if self.finishes_forward:
            self._publish_staged()
        else:
            self._flush()
            if self._job.destination.applied_lsn_table and state is not None:
                self._move_applied(state)
            self._reach("before_commit")
        self._session.commit()

    def _move_applied(self, state: State) -> None:
        """The position up to which the tables hold everything; never backwards within an epoch."""
        table = sql.Identifier(*self._job.destination.applied_lsn_table.split("."))
        connection = self._job.connection
        forget = sql.SQL("delete from {} where connection = %s and connection_id <> %s").format(table)
        self._session.execute(forget, [connection["name"], connection["id"]])
        move = sql.SQL(
            "insert into {0} as a (connection_id, connection, epoch, snapshot_lsn, applied_lsn, job_id)"
            " values (%s, %s, %s, %s, %s, %s) on conflict (connection_id) do update set"
            " connection = excluded.connection, epoch = excluded.epoch, snapshot_lsn = excluded.snapshot_lsn,"
            " applied_lsn = excluded.applied_lsn, job_id = excluded.job_id, moved_at = clock_timestamp()"
            " where (a.epoch, a.applied_lsn) <= (excluded.epoch, excluded.applied_lsn)"
        ).format(table)
        values = [state["epoch"], state["snapshot_lsn"], state["lsn"], self._job.id]
        self._session.execute(move, [connection["id"], connection["name"], *values])

    def _publish_staged(self) -> None:
        staged = self._staged_tables()
        for identifier, plan in staged:
            merge.publish(self._session, identifier, plan, cascade=self._job.destination.drop_cascade)
            self._reach("half_visible")
        self._log("info", f"{len(staged)} tables are visible")

    def _staged_tables(self, jobs: str | None = None) -> list[tuple[sql.Identifier, dict[str, object]]]:
        """Tables that wait to be published, whichever attempt wrote them. jobs: pattern of job ids; None: this job."""
        rows = self._session.execute(
            "select n.nspname as schema, c.relname as name, obj_description(c.oid, 'pg_class') as plan"
            " from pg_class c join pg_namespace n on n.oid = c.relnamespace"
            " where c.relkind = 'r' and c.relname ~ %s order by c.oid",
            [f"^_airbyte_job_{jobs or self._job.id}_[0-9]+$"],
        )
        return [(sql.Identifier(row["schema"], row["name"]), json.loads(row["plan"])) for row in rows if row["plan"]]

    def confirm(self) -> None:
        """Nothing about it is kept in the state database."""

    def void(self, targets: Collection[Target]) -> None:
        """Empty the tables. What was captured stays until the next sync's epoch is complete: readers go by that."""
        if self._cdc:
            return
        for target in targets:
            layout = table_layout(self._schema(target.namespace), shortened(target.name), (), (), None)
            if "_airbyte_generation_id" in (self._session.columns_of(layout) or {}):
                merge.forget(self._session, layout, target.minimum_generation)
        self._session.commit()

    def undo(self, *, all_of_it: bool) -> None:
        """Drop what waits; before an attempt also what earlier jobs left, but not when one of these is undone late.

        Rows of a log stay: they lie beyond the applied LSN, and come again.
        """
        mine = str(self._job.connection["id"])
        staged = self._staged_tables(None if all_of_it else "[0-9]+")
        for identifier in [table for table, plan in staged if plan["connection"] == mine]:
            self._session.execute(sql.SQL("drop table {}").format(identifier))
        self._session.commit()
