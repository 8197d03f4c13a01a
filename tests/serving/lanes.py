"""Both lanes without Airflow: a source in PostgreSQL, its change log, bronze, silver by dbt, serving views.

The functions under test are those of include/ that the DAGs call, in the DAGs' order. What Airflow would do between
them, a kill may do here.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import sql

from include import fold as folding
from include import ledger, serving, source, speed
from include.paths import PLATFORM
from include.publication import LAKE, head_snapshot_sql
from include.specs import pipeline as specs
from include.specs.pipeline import Pipeline, Stream
from tests.dbt.conftest import DBT_PROJECT, META, PROJECT
from tests.sql_server import Dremio

# Streams whose models hang on few others: a household has none, its memberships have a key of two columns.
STREAMS = ("households", "campaign_households", "orders")
EPOCH = dt.datetime(2017, 1, 1, tzinfo=dt.UTC)
DECLARED = {
    "households": (
        "household_id", "age_range", "income_range", "home_ownership", "marital_status", "household_size",
        "household_composition", "kids_count", "created_at", "updated_at",
    ),
    "campaign_households": ("campaign_id", "household_id", "created_at", "updated_at"),
    "orders": ("order_id", "household_id", "store_id", "ordered_at", "created_at", "updated_at"),
}  # fmt: skip
LOG_TYPES = {"text": "varchar", "timestamp with time zone": "timestamptz", "integer": "bigint", "smallint": "bigint"}


class Killed(Exception):
    """The lane's process died here; nothing after this line happened."""


def retail() -> Pipeline:
    """The declared pipeline, less the streams that these tests do not use."""
    declared = specs.load("retail")
    assert declared.speed is not None
    return replace(declared, speed=replace(declared.speed, streams=STREAMS, grace=dt.timedelta(0)))


class Dbt:
    """The process of warm_dbt.py."""

    def __init__(self, dremio: Dremio, target: Path) -> None:
        self._environment = {
            "LAKEHOUSE_DREMIO_PORT": str(dremio.port),
            "LAKEHOUSE_DREMIO_USER": dremio.user,
            "LAKEHOUSE_DREMIO_PASSWORD": dremio.password,
            "DBT_TARGET_PATH": str(target),
            "DBT_LOG_PATH": str(target / "logs"),
            "DBT_PROJECT_DIR": str(DBT_PROJECT),
            "DBT_PROFILES_DIR": str(DBT_PROJECT),
            "DBT_USE_COLORS": "False",
            "DO_NOT_TRACK": "1",
        }
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [str(PROJECT / ".venvs/dbt/bin/python"), str(Path(__file__).parent / "warm_dbt.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **self._environment},
        )
        assert self._reply()["ok"]

    def _reply(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"dbt ended with {self._process.wait()}")
        return dict(json.loads(line))

    def run(self, *arguments: str, **settings: str) -> dict[str, Any]:
        if self._process is None or self._process.poll() is not None:
            self.start()
        assert self._process is not None
        assert self._process.stdin is not None
        environment = {f"LAKEHOUSE_{name.upper()}": value for name, value in settings.items()}
        self._process.stdin.write(json.dumps({"arguments": list(arguments), "environment": environment}) + "\n")
        self._process.stdin.flush()
        return self._reply()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@dataclass
class Change:
    """One row for the log, as a CDC sync would append it. `row` None: a tombstone; key None: a truncation."""

    stream: str
    commit: int
    lsn: int
    key: tuple[Any, ...] | None
    row: dict[str, Any] | None


@dataclass
class Lanes:
    """One lakehouse, its source, and what the source was at every commit."""

    dremio: Dremio
    dbt: Dbt
    s3: Any
    source_dsn: str = field(repr=False)
    ledger_dsn: str = field(repr=False)
    pipeline: Pipeline = field(default_factory=retail)
    job: int = 100
    wal: list[Change] = field(default_factory=list)
    history: list[tuple[int, dict[str, list[tuple[Any, ...]]]]] = field(default_factory=list)
    connection_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    reached: list[str] = field(default_factory=list)
    reads: list[dict[str, folding.Read]] = field(default_factory=list)  # of the runs that ended
    traffic: Any = None
    meanwhile: dict[str, Callable[[], None]] = field(default_factory=dict)  # by named point: what happens there, once
    incremental: bool = False  # a sync delivers what is newer than the one before had, and not all rows
    cursors: dict[str, dt.datetime] = field(default_factory=dict)
    kill_at: str | None = None
    kill_after: float = 2.0  # seconds into a dbt run

    @property
    def streams(self) -> tuple[Stream, ...]:
        return self.pipeline.cdc_streams

    def connect(self) -> psycopg.Connection[dict[str, Any]]:
        return psycopg.connect(self.ledger_dsn, row_factory=psycopg.rows.dict_row)

    def source(self) -> psycopg.Connection[dict[str, Any]]:
        return psycopg.connect(self.source_dsn, row_factory=psycopg.rows.dict_row, autocommit=True)

    def point(self, name: str) -> None:
        """A named place where the lane's process may die, or others may do something."""
        self.reached.append(name)
        self.meanwhile.pop(name, lambda: None)()
        if self.kill_at == name:
            self.kill_at = None
            raise Killed(name)

    # --- source -----------------------------------------------------------------------------------------------------

    def remember(self, conn: psycopg.Connection[dict[str, Any]]) -> int:
        """Called right after a commit, with nothing else running: the source's tables and the LSN they stand at."""
        lsn = speed.lsn_number(source.position_before(conn))
        self.history.append((lsn, {s.name: self.rows(conn, s) for s in self.streams}))
        return lsn

    def rows(self, conn: psycopg.Connection[dict[str, Any]], stream: Stream) -> list[tuple[Any, ...]]:
        """The source's rows as silver's declared types have them: trimmed upper-case text, whole milliseconds."""
        names = list(speed_columns(conn, stream.name))
        found = conn.execute(
            sql.SQL("select {} from {}").format(
                sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier("retail", stream.name)
            )
        )
        return sorted((tuple(_as_silver(row[name]) for name in names) for row in found), key=repr)

    # --- speed lane -------------------------------------------------------------------------------------------------

    def make_log(self) -> None:
        """The tables that destination-postgres makes of a CDC source's streams; widened like it does."""
        with self.connect() as conn, self.source() as origin:
            for stream in self.streams:
                there = speed.columns(conn, stream.name)
                wanted = speed_columns(origin, stream.name)
                table = sql.Identifier("speed", stream.name)
                if not there:
                    conn.execute(
                        sql.SQL(
                            "create table {} (_airbyte_raw_id varchar not null, "
                            "_airbyte_extracted_at timestamptz not null, _airbyte_meta jsonb not null, "
                            "_airbyte_generation_id bigint, {}, _ab_cdc_lsn bigint not null, "
                            "_ab_cdc_updated_at varchar, _ab_cdc_deleted_at varchar, "
                            "_ab_cdc_commit_lsn bigint not null)"
                        ).format(table, sql.SQL(", ").join(_column(n, k) for n, k in wanted.items()))
                    )
                for name in set(wanted) - set(there) if there else ():
                    conn.execute(sql.SQL("alter table {} add column {}").format(table, _column(name, wanted[name])))
            speed.make_views(conn, self.pipeline)

    def append(self, change: Change, epoch: int) -> None:
        """One row of the log, in a transaction of its own; delivered twice it stands there twice."""
        row = change.row or dict(zip(self._key(change.stream), change.key or (), strict=False))
        values = {
            **row,
            "_airbyte_raw_id": str(uuid.uuid4()),
            "_airbyte_extracted_at": dt.datetime(2018, 1, 2, tzinfo=dt.UTC),
            "_airbyte_meta": json.dumps({"sync_id": epoch, "changes": []}),
            "_airbyte_generation_id": epoch,
            "_ab_cdc_lsn": change.lsn,
            "_ab_cdc_commit_lsn": change.commit,
            "_ab_cdc_updated_at": "2018-01-02T00:00:00Z",
            "_ab_cdc_deleted_at": "2018-01-02T00:00:00Z" if change.row is None else None,
        }
        with self.connect() as conn:
            conn.execute(
                sql.SQL("insert into {} ({}) values ({})").format(
                    sql.Identifier("speed", change.stream),
                    sql.SQL(", ").join(map(sql.Identifier, values)),
                    sql.SQL(", ").join(map(sql.Placeholder, values)),
                ),
                values,
            )

    def _key(self, stream: str) -> tuple[str, ...]:
        return next(s.key for s in self.streams if s.name == stream)

    def applied(self) -> folding.Position | None:
        assert self.pipeline.speed is not None
        with self.connect() as conn:
            return speed.position(conn, self.pipeline.speed.connection)

    def move(self, lsn: int, epoch: int, snapshot: int) -> None:
        assert self.pipeline.speed is not None
        with self.connect() as conn:
            conn.execute(
                "insert into lakehouse.applied_lsn as a "
                "(connection_id, connection, epoch, snapshot_lsn, applied_lsn, job_id) "
                "values (%s, %s, %s, %s, %s, %s) on conflict (connection_id) do update set epoch = excluded.epoch, "
                "snapshot_lsn = excluded.snapshot_lsn, applied_lsn = excluded.applied_lsn, job_id = excluded.job_id, "
                "moved_at = clock_timestamp()",
                [self.connection_id, self.pipeline.speed.connection, epoch, snapshot, lsn, self.job],
            )

    def capture(self, stop_after: int | None = None) -> bool:
        """One CDC sync: every change above S, then S; False when it died after `stop_after` rows."""
        self.make_log()
        log = self.applied()
        assert log is not None
        target = self.history[-1][0]
        todo = [c for c in self.wal if log.applied < c.commit <= target]
        for number, change in enumerate(todo):
            if stop_after is not None and number >= stop_after:
                return False
            self.append(change, log.epoch)
        self.move(max(target, log.applied), log.epoch, log.snapshot)
        return True

    def snapshot(self, stop_after: int | None = None) -> bool:
        """A CDC snapshot at the newest commit: a truncation and every row, visible by one move under a new epoch."""
        self.make_log()
        log = self.applied()
        epoch, point = (log.epoch if log else 0) + 1, self.history[-1][0]
        rows = []
        with self.source() as conn:
            for stream in self.streams:
                rows.append(Change(stream.name, point, 0, None, None))
                for number, row in enumerate(
                    conn.execute(sql.SQL("select * from {}").format(sql.Identifier("retail", stream.name)))
                ):
                    rows.append(Change(stream.name, point, number + 1, tuple(row[k] for k in stream.key), dict(row)))
        for number, change in enumerate(rows):
            if stop_after is not None and number >= stop_after:
                return False
            self.append(change, epoch)
        self.move(point, epoch, point)
        return True

    # --- batch lane -------------------------------------------------------------------------------------------------

    def sync(self, stream: Stream) -> int:
        """A cursor sync of a stream into bronze; without `incremental` all rows, as from a cursor at the start."""
        with self.source() as conn:
            names = DECLARED.get(stream.name) or tuple(speed_columns(conn, stream.name))
            listed = sql.SQL(", ").join(map(sql.Identifier, names))
            since = self.cursors.get(stream.name, EPOCH) if self.incremental else EPOCH
            rows = conn.execute(
                sql.SQL("select {} from {} where updated_at > %s").format(
                    listed, sql.Identifier("retail", stream.name)
                ),
                [since],
            ).fetchall()
        self.cursors[stream.name] = max([since, *(row["updated_at"] for row in rows)])
        self.job += 1
        count = len(rows)
        head = {
            "_airbyte_raw_id": pa.array([str(uuid.uuid4()) for _ in range(count)], pa.string()),
            "_airbyte_extracted_at": pa.array([EPOCH + dt.timedelta(days=400)] * count, pa.timestamp("ms", "UTC")),
            "_airbyte_meta": pa.array([{"sync_id": self.job, "changes": []}] * count, META),
            "_airbyte_generation_id": pa.array([self.job] * count, pa.int64()),
        }
        body = {name: pa.array([row[name] for row in rows], _arrow(name)) for name in names}
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(head | body), sink)
        key = f"bronze/retail/{stream.name}/2018_01_02_{self.job}_0.parquet"
        self.s3.put_object(Bucket="lakehouse", Key=key, Body=sink.getvalue().to_pybytes())
        group = next(g for g in self.pipeline.groups if stream in g.streams)
        with self.connect() as conn:
            conn.execute(
                "insert into lakehouse.sync_ledger "
                "(connection_id, job_id, connection, pipeline, lane, status, dag_run, started_at, rows_committed, "
                "bytes_committed) values (%s, %s, %s, 'retail', 'batch', 'succeeded', 'test', now(), %s, 0)",
                [str(uuid.uuid4()), self.job, group.connection, count],
            )
        self.dremio.sql(f'alter table bronze.retail."{stream.name}" refresh metadata auto promotion')
        return self.job

    def build_bronze(self) -> None:
        """Everything that the models read, once."""
        for stream in self.pipeline.streams:
            if stream.name in (*STREAMS, "stores", "campaigns"):
                self.sync(stream)
        wanted = [f"retail_{name}" for name in (*STREAMS, "stores", "campaigns")]
        self.build("run", "--select", *wanted, "stores", "campaigns", fold={})

    def build(self, *arguments: str, fold: dict[str, folding.Fold], ok: bool = True, **settings: str) -> dict[str, Any]:
        """One invocation of dbt with the settings of a run; gives warm_dbt.py's reply."""
        given = {"run_mode": "scheduled", "interval_start": "", "interval_end": "", "full_rebuild": "", **settings}
        done = self.dbt.run(*arguments, fold=folding.as_environment(fold), **given)
        assert done["ok"] == ok, done
        return done

    @contextlib.contextmanager
    def _killing_dbt(self) -> Iterator[None]:
        """At the failpoint `in the middle of silver` dbt is killed while it builds; its statement may go on."""
        name = "in the middle of silver"
        if self.kill_at != name:
            yield
            return
        killer = threading.Timer(self.kill_after, self.dbt.kill)
        killer.start()
        try:
            yield
        except (RuntimeError, BrokenPipeError) as error:
            self.reached.append(name)
            raise Killed(name) from error
        finally:
            killer.cancel()
            self.kill_at = None

    def run_sql(self, statement: str) -> list[dict[str, Any]]:
        self.point(f"before {statement.split()[0].lower()} {statement.split()[1].lower()}")
        return self.dremio.sql(statement)

    def batch(
        self, *, patient: bool = True, backfill: bool = False, reads: dict[str, folding.Read] | None = None
    ) -> dict[str, folding.Fold]:
        """One run of the batch lane in the order of the rule. Raises Killed at the point named by `kill_at`.

        `reads`: of a run of before that is repeated from its wait on.
        """
        reads = reads or ({} if backfill else self._read_and_sync())
        log = self.applied()
        needed = max((r.after for r in reads.values()), default=0)
        if log is not None and not backfill and log.applied < needed and patient:
            self.capture()
            log = self.applied()
        waited = "the log did not come" if reads and log is not None and log.applied < needed else ""
        self.point("after the wait")
        with self.connect() as conn:
            pins = speed.pins(conn, self.pipeline.name)
            speed.make_views(conn, self.pipeline)
        folds = {}
        for stream in self.streams:
            decided = folding.decide(stream.name, reads.get(stream.name), log, pins.get(stream.name), waited)
            folds[stream.name] = serving.prepare(self.run_sql, stream, decided, DECLARED[stream.name])
        self.point("after the slices")
        interval: dict[str, Any] = {
            "run_mode": "backfill",
            "interval_start": "2017-01-01T00:00:00Z",
            "interval_end": "2017-01-03T00:00:00Z",
        }
        with self._killing_dbt():
            self.build("run", "--select", *STREAMS, fold=folds, **(interval if backfill else {}))
        self.point("after silver")
        for stream in self.streams:
            self._publish(stream, folds[stream.name])
        if reads:
            self.reads.append(reads)
        return folds

    def _publish(self, stream: Stream, fold: folding.Fold) -> None:
        head = self.dremio.sql(head_snapshot_sql((LAKE, "silver", stream.name)))
        snapshot = int(head[0]["snapshot_id"])
        serving.publish(self.run_sql, fold, snapshot)
        self.point("after the view")
        with self.connect() as conn:
            speed.record(conn, self.pipeline, fold, snapshot, "test")
        self.point("after the record")

    def _read_and_sync(self) -> dict[str, folding.Read]:
        with self.source() as conn:
            before = speed.lsn_number(source.position_before(conn))
        self.point("after lsn_before")
        jobs = {stream.name: self.sync(stream) for stream in self.streams}
        self.point("after the sync")
        with self.source() as conn:
            after = speed.lsn_number(source.position_after(conn))
            # The heartbeat is the last thing in the log: a sync that has read it has read everything before.
            self.history.append((speed.lsn_number(source.position_before(conn)), self.history[-1][1]))
        return {name: folding.Read(before, after, job) for name, job in jobs.items()}

    def prune(self) -> None:
        with self.connect() as conn:
            for _ in speed.prune(conn, self.pipeline):
                conn.commit()
                self.point("in the middle of pruning")

    # --- judge ------------------------------------------------------------------------------------------------------

    def view(self, stream: Stream, kind: str = "unified") -> list[tuple[Any, ...]]:
        path = ".".join(serving.view_path(stream.name, kind))
        rows = self.dremio.sql(f"select * from {path}")
        return sorted(
            (tuple(_as_silver(_parsed(name, value)) for name, value in row.items()) for row in rows), key=repr
        )

    def expected(self, stream: Stream, lsn: int) -> list[tuple[Any, ...]]:
        """The source's table at an LSN: the newest commit at or below it."""
        return next(tables[stream.name] for at, tables in reversed(self.history) if at <= lsn)

    def check(self) -> list[str]:
        """Every unified serving view against the source at S; nothing moves S meanwhile. Gives the views checked."""
        log = self.applied()
        checked = []
        with self.connect() as conn:
            pins = speed.pins(conn, self.pipeline.name)
        for stream in self.streams:
            if log is None or stream.name not in pins or pins[stream.name].mode != "unified":
                continue
            got, wanted = self.view(stream), self.expected(stream, log.applied)
            assert got == wanted, f"{stream.name} at S={log.applied}, W={pins[stream.name].watermark}:\n{got}\n{wanted}"
            checked.append(stream.name)
        return checked

    def check_silver(self) -> None:
        """Published silver against the source at W."""
        with self.connect() as conn:
            pins = speed.pins(conn, self.pipeline.name)
        for stream in self.streams:
            if stream.name in pins and pins[stream.name].mode == "unified":
                got = self.view(stream, "batch")
                wanted = self.expected(stream, pins[stream.name].watermark)
                assert got == wanted, f"silver {stream.name} at W={pins[stream.name].watermark}:\n{got}\n{wanted}"


def speed_columns(conn: psycopg.Connection[dict[str, Any]], table: str) -> dict[str, str]:
    rows = conn.execute(
        "select attname, format_type(atttypid, atttypmod) as kind from pg_attribute "
        "where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped order by attnum",
        [f"retail.{table}"],
    )
    return {row["attname"]: row["kind"] for row in rows}


def _column(name: str, kind: str) -> sql.Composed:
    return sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(LOG_TYPES.get(kind, kind)))  # type: ignore[arg-type]


def _arrow(name: str) -> pa.DataType:
    if name.endswith("_at"):
        return pa.timestamp("us", "UTC")
    if name.endswith("_date"):
        return pa.date32()
    return pa.int64() if name.endswith("_id") else pa.string()


def _as_silver(value: Any) -> Any:
    if isinstance(value, str):
        return value.strip().upper() or None
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).replace(microsecond=value.microsecond // 1000 * 1000)
    return Decimal(value) if isinstance(value, Decimal) else value


def _parsed(name: str, value: Any) -> Any:
    if name.endswith("_at") and isinstance(value, str):
        return dt.datetime.fromisoformat(value).replace(tzinfo=dt.UTC)
    return int(value) if name.endswith("_id") and isinstance(value, str) else value


def migrate(dsn: str) -> None:
    with psycopg.connect(dsn, row_factory=psycopg.rows.dict_row) as conn:
        ledger.migrate(conn, PLATFORM / "postgres" / "ledger")
