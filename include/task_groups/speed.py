"""The speed lane's runs, and what the batch lane asks of the log before it folds."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from airflow.sdk import get_current_context, task

from include import connections, schedules, serving, source, speed
from include.connections import AIRBYTE, DREMIO, LEDGER
from include.fold import Fold, Read, decide, from_xcom
from include.publication import dataset_columns
from include.specs.pipeline import Pipeline
from include.task_groups.ingest import POOL
from include.task_groups.run import FOLD_TASK, decide_turn, is_backfill
from lakehouse_providers.airbyte.operators import AirbyteSyncOperator
from lakehouse_providers.dremio.hook import DremioHook
from lakehouse_providers.postgres.operators import PostgresConditionOperator

# Also over when there is no log at all: then there is nothing to wait for.
_COMPLETE = """
select coalesce((select applied_lsn >= %s from lakehouse.applied_lsn where connection = %s), true)
"""


class NoReadError(Exception):
    """A run that read the source has no position of it; the message names the group and what to clear."""


class LogLimitError(Exception):
    """The change log outgrew its limits; the message says what to look at."""


def capture(pipeline: Pipeline) -> Any:
    """One micro-batch: changes since the last position, appended, then the position moved by the server."""
    assert pipeline.speed is not None
    return AirbyteSyncOperator(
        task_id="capture",
        airbyte_conn_id=AIRBYTE,
        connection_name=pipeline.speed.connection,
        deferrable=True,
        poll_interval=0.5,
        defer_after=10.0,  # a micro-batch takes a second or two; deferring it would double the time readers wait
        timeout=pipeline.timeout.total_seconds(),
        pool=POOL,
    )


def position(pipeline: Pipeline) -> Any:
    @task(task_id="read_position")
    def read_position() -> int:
        """Where the source stands, and a heartbeat: an idle source's log must still reach it."""
        assert pipeline.speed is not None
        assert pipeline.source_connection is not None
        with connections.connect(pipeline.source_connection) as conn:
            lsn = speed.lsn_number(source.position_after(conn))
        with connections.connect(LEDGER) as conn:
            speed.note_source(conn, pipeline.speed.connection, lsn, schedules.speed_deadline(pipeline))
        return lsn

    return read_position()


def settle(pipeline: Pipeline) -> Any:
    @task(task_id="settle")
    def settle() -> list[dict[str, Any]]:
        """Views over new columns, log rows that nobody needs any more, and the status of every serving view."""
        assert pipeline.speed is not None
        with connections.connect(LEDGER) as conn:
            for name in speed.make_views(conn, pipeline):
                print(f"made {name}")
        with connections.connect(LEDGER) as conn:
            for name, pruned in speed.prune(conn, pipeline):
                print(f"pruned {pruned} rows of {name}")
            size = speed.log_size(conn, pipeline)
            rows = speed.status(conn, pipeline.name)
        for row in rows:
            print(f"{row['entity']}: {row['mode']}, {row['lag_seconds']:.0f} s behind {row['reason']}".rstrip())
        limit, age = pipeline.speed.log_max_bytes, pipeline.speed.log_max_age
        if size.bytes > limit or size.oldest_seconds > age.total_seconds():
            raise LogLimitError(
                f"the change log holds {size.bytes / 1e6:.0f} MB, folded {size.oldest_seconds / 3600:.1f} h ago; "
                f"its limits are {limit / 1e6:.0f} MB and {age}. "
                "Look why the batch lane does not fold: docs/runbooks/speed.md"
            )
        return [{name: str(value) for name, value in row.items()} for row in rows]

    return settle()


def needed(pipeline: Pipeline) -> Any:
    @task(task_id="needed_position", trigger_rule="none_failed")
    def needed_position() -> list[Any]:
        """The LSN that the log must have reached, and whose log: 0 in a backfill, which folds nothing new."""
        assert pipeline.speed is not None
        reads = _reads(pipeline)
        return [max((read.after for read in reads.values()), default=0), pipeline.speed.connection]

    return needed_position()


def wait(pipeline: Pipeline, needed: Any) -> Any:
    """Until S has come; not for ever: without it the run goes on in mode batch and says why."""
    assert pipeline.speed is not None
    return PostgresConditionOperator(
        task_id="wait_for_log",
        conn_id=LEDGER,
        sql=_COMPLETE,
        parameters=needed,
        timeout=pipeline.speed.wait.total_seconds(),
        trigger_rule="none_failed",
    )


def _reads(pipeline: Pipeline) -> dict[str, Read]:
    """By captured stream, what the run read around its group's sync; nothing in a backfill.

    Raises NoReadError for a group that has no read: taken for a backfill, the run would be green and fold nothing.
    """
    if is_backfill():
        return {}
    ti, found, captured = get_current_context()["ti"], dict[str, Read](), set(pipeline.cdc_streams)
    for group in pipeline.groups:
        if not captured.intersection(group.streams):
            continue
        facts = ti.xcom_pull(task_ids=f"ingest.{group.name}.record") or []
        own = [fact for fact in facts if fact["lsn_before"] and fact["lsn_after"]]
        if not own:
            raise NoReadError(
                f"no sync of group {group.name} has the source's positions before and after it. Clear the tasks of "
                f"ingest.{group.name}: they sync again, and read them"
            )
        newest = own[-1]
        read = Read(
            speed.lsn_number(newest["lsn_before"]), speed.lsn_number(newest["lsn_after"]), int(newest["job_id"])
        )
        found |= {stream.name: read for stream in group.streams}
    return found


def prepare(pipeline: Pipeline) -> Any:
    @task(task_id=FOLD_TASK, trigger_rule="none_failed")
    def prepare_fold(waited: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Decides each entity's fold, takes silver back to what is published, writes the log's slices to bronze."""
        assert pipeline.speed is not None
        decide_turn(pipeline.name)
        reads = _reads(pipeline)
        with connections.connect(LEDGER) as conn:
            log = speed.position(conn, pipeline.speed.connection)
            pins = speed.pins(conn, pipeline.name)
            speed.make_views(conn, pipeline)
        reason = "" if waited["reached"] else f"the log was not complete after {waited['seconds']:g} s"
        hook, folds = DremioHook(DREMIO), {}
        for stream in pipeline.cdc_streams:
            decided = decide(stream.name, reads.get(stream.name), log, pins.get(stream.name), reason)
            fold = serving.prepare(hook.run_sql, stream, decided, dataset_columns(pipeline.name, stream.name))
            print(f"{stream.name}: {fold.mode} from {fold.watermark} to {fold.before} {fold.reason}".rstrip())
            folds[stream.name] = asdict(fold)
        return folds

    return prepare_fold


def folds_of_run() -> dict[str, Fold]:
    """What `prepare_fold` of this run has decided."""
    return from_xcom(get_current_context()["ti"].xcom_pull(task_ids=FOLD_TASK))
