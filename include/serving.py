"""Moves the change log into the lake and publishes the serving views. No Airflow: statements go through `Sql`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from include.fold import Fold, FoldError, Pin
from include.paths import DBT_MANIFEST
from include.publication import LAKE, SPACE, PublicationError, head_snapshot_sql, quote
from include.specs.pipeline import Stream
from include.speed import CHANGE, COMMIT, DELETED, EPOCH

Sql = Callable[[str], Sequence[Mapping[str, Any]]]

LOG = "ledger"  # the Dremio source that mounts the log's database
FOLDER = "serving"
KINDS = ("unified", "batch", "speed")
# Columns of the log that are not the source's, and what bronze keeps of them.
_KEPT = ("_airbyte_raw_id", "_airbyte_extracted_at", EPOCH, CHANGE, COMMIT, DELETED)
_OWN = {"_epoch": "BIGINT", "_sync_id": "BIGINT"}


class ColumnChangedError(FoldError):
    """A column changed its type at the source; the message names it and what to do."""


def log_table(stream: str) -> tuple[str, ...]:
    return (LOG, "speed", stream)


def changes_table(stream: str) -> tuple[str, ...]:
    """Bronze stream `<name>__changes`."""
    return (LAKE, "bronze", f"{stream}__changes")


def _columns(run_sql: Sql, path: tuple[str, ...]) -> dict[str, str]:
    """Names and Dremio types, in order; empty when the table does not exist."""
    schema, name = (".".join(path[:-1]).replace("'", "''"), path[-1].replace("'", "''"))
    rows = run_sql(
        "SELECT column_name, data_type, numeric_precision, numeric_scale FROM INFORMATION_SCHEMA.COLUMNS "
        f"WHERE table_schema = '{schema}' AND table_name = '{name}' ORDER BY ordinal_position"
    )
    return {row["column_name"]: _type(row) for row in rows}


def _type(row: Mapping[str, Any]) -> str:
    names = {"CHARACTER VARYING": "VARCHAR", "BINARY VARYING": "VARBINARY", "INTEGER": "INT"}
    kind = str(row["data_type"]).upper()
    if kind == "DECIMAL":
        return f"DECIMAL({int(row['numeric_precision'])}, {int(row['numeric_scale'])})"
    return names.get(kind, kind)


def _kept(log: Mapping[str, str]) -> dict[str, str]:
    """The log's columns that bronze keeps: the source's own, and those of Airbyte that say what a row is."""
    return {name: kind for name, kind in log.items() if name in _KEPT or not name.startswith(("_airbyte_", "_ab_cdc_"))}


def prepare_changes(run_sql: Sql, stream: Stream) -> tuple[str, ...]:
    """Makes or widens the bronze table of a stream's changes; gives the source's columns in it.

    Raises ColumnChangedError where the log and bronze have one column in two types: what follows would guess.
    """
    log = _kept(_columns(run_sql, log_table(stream.name)))
    if not log:
        raise FoldError(f"{quote(log_table(stream.name))} does not exist in Dremio; refresh the source {LOG!r}")
    path = changes_table(stream.name)
    there = _columns(run_sql, path)
    if not there:
        run_sql(f"CREATE FOLDER IF NOT EXISTS {quote(path[:-1])}")
        listed = ", ".join(f"{quote([name])} {kind}" for name, kind in {**log, **_OWN}.items())
        run_sql(f"CREATE TABLE IF NOT EXISTS {quote(path)} ({listed})")
        there = {**log, **_OWN}
    changed = [f"{name} from {there[name]} to {kind}" for name, kind in log.items() if there.get(name, kind) != kind]
    if changed:
        raise ColumnChangedError(
            f"stream {stream.name} is stopped: the source changed {', '.join(changed)}. Give the column its old type "
            "back, or add the new type as a column of another name; readers keep the last good version until then"
        )
    fresh = {name: kind for name, kind in log.items() if name not in there}
    if fresh:
        listed = ", ".join(f"{quote([name])} {kind}" for name, kind in fresh.items())
        run_sql(f"ALTER TABLE {quote(path)} ADD COLUMNS ({listed})")
    return tuple(name for name in log if not name.startswith("_"))


def slice_changes(run_sql: Sql, stream: Stream, fold: Fold) -> int:
    """Writes the log above what bronze has, up to `after`, into bronze in one commit; gives the rows written.

    Safe to repeat: what is there is not written again, and a change that stood there twice would be the same change.
    """
    path = changes_table(stream.name)
    newest = run_sql(f'SELECT MAX("{COMMIT}") AS newest FROM {quote(path)} WHERE "_epoch" = {fold.epoch}')[0]["newest"]
    above = int(newest) if newest is not None else 0
    if above >= fold.after:
        return 0
    names = ", ".join(quote([name]) for name in _kept(_columns(run_sql, log_table(stream.name))))
    # Of the epoch that was read with S: rows of a snapshot that began since count in a later run.
    where = f'"{EPOCH}" = {fold.epoch} AND "{COMMIT}" > {above} AND "{COMMIT}" <= {fold.after}'
    count = int(run_sql(f"SELECT COUNT(*) AS n FROM {quote(log_table(stream.name))} WHERE {where}")[0]["n"])
    if count:
        run_sql(
            f'INSERT INTO {quote(path)} ({names}, "_epoch", "_sync_id") '
            f"SELECT {names}, {fold.epoch}, {fold.applied_job} FROM {quote(log_table(stream.name))} WHERE {where}"
        )
    return count


def prepare(run_sql: Sql, stream: Stream, fold: Fold, declared: Sequence[str]) -> Fold:
    """Takes silver back to what is published, and what the fold needs of the log into bronze.

    A run that died after it had built silver leaves a newer head behind; the fold starts from the pinned snapshot.
    """
    if fold.pinned_snapshot is not None:
        roll_back(run_sql, (LAKE, "silver", stream.name), fold.pinned_snapshot)
    if fold.mode != "unified":
        if fold.pinned_snapshot is None:
            return fold
        return replace(fold, extra=passed_through(run_sql, stream.name, fold.pinned_snapshot, declared))
    names = prepare_changes(run_sql, stream)
    slice_changes(run_sql, stream, fold)
    return replace(fold, extra=tuple(name for name in names if name not in declared))


def passed_through(run_sql: Sql, stream: str, snapshot_id: int, declared: Sequence[str]) -> tuple[str, ...]:
    """The source's columns that silver has at a snapshot and no model declares: folds of the log brought them."""
    table = f"{quote((LAKE, 'silver', stream))} AT SNAPSHOT '{int(snapshot_id)}'"
    # Always one row, so that its names are known: the table itself may have got more columns since that snapshot.
    row = run_sql(
        "SELECT s.* FROM (SELECT 1 AS _one) AS o "
        f"LEFT JOIN (SELECT *, 1 AS _one FROM {table} LIMIT 0) AS s ON o._one = s._one"
    )[0]
    names = _columns(run_sql, changes_table(stream))
    return tuple(name for name in names if name in row and name not in declared and not name.startswith("_"))


def roll_back(run_sql: Sql, table: tuple[str, ...], snapshot_id: int) -> None:
    """Makes `snapshot_id` the table's newest state; does nothing when it is."""
    head = run_sql(head_snapshot_sql(table))
    if head and int(head[0]["snapshot_id"]) != snapshot_id:
        run_sql(f"ROLLBACK TABLE {quote(table)} TO SNAPSHOT '{int(snapshot_id)}'")


@lru_cache
def _compiled(manifest: Path) -> dict[str, str]:
    nodes = json.loads(manifest.read_text(encoding="utf-8"))["nodes"].values()
    return {n["name"]: n.get("compiled_code") or "" for n in nodes if "serving" in n["config"].get("tags", [])}


def template(stream: str, kind: str, manifest: Path = DBT_MANIFEST) -> str:
    """The compiled dbt model of a serving view. Raises PublicationError when the manifest holds it uncompiled."""
    name = f"serving_{stream}" if kind == "unified" else f"serving_{stream}_{kind}"
    found = _compiled(manifest).get(name)
    if not found:
        raise PublicationError(f"dbt model {name} is not compiled in {manifest.name}; run `make setup`")
    return found


def select(fold: Fold, kind: str, snapshot_id: int, manifest: Path = DBT_MANIFEST) -> str:
    """The text of a serving view with its pins. `kind` is unified, batch or speed."""
    names = [quote([name]) for name in fold.extra]
    extra = {
        "/*extra*/": "".join(f", {name}" for name in names),
        "/*extra_columns*/": "".join(f"{name}, " for name in names),
        "/*extra_chosen*/": "".join(f"CASE WHEN v._is_change THEN v.{n} ELSE s.{n} END AS {n}, " for n in names),
        "__SNAPSHOT__": str(int(snapshot_id)),
        "__WATERMARK__": str(int(fold.published_watermark)),
        "__EPOCH__": str(int(fold.epoch)),
    }
    text = template(fold.stream, kind, manifest)
    for mark, value in extra.items():
        text = text.replace(mark, value)
    return text


def view_path(stream: str, kind: str = "unified") -> tuple[str, ...]:
    return (SPACE, FOLDER, stream if kind == "unified" else f"{stream}_{kind}")


def publish(run_sql: Sql, fold: Fold, snapshot_id: int, manifest: Path = DBT_MANIFEST) -> None:
    """Replaces an entity's serving view by one statement, which pins silver's snapshot and W; then those beside it."""
    chosen = "unified" if fold.mode == "unified" else "batch"
    text = select(fold, chosen, snapshot_id, manifest)
    run_sql(f"CREATE OR REPLACE VIEW {quote(view_path(fold.stream))} AS {text}")
    for kind in ("batch", "speed") if fold.mode == "unified" else ("batch",):
        text = select(fold, kind, snapshot_id, manifest)
        run_sql(f"CREATE OR REPLACE VIEW {quote(view_path(fold.stream, kind))} AS {text}")


def fall_back(run_sql: Sql, entity: str, pin: Pin, declared: Sequence[str], reason: str) -> None:
    """Shows an entity's pinned silver alone, in mode batch: what the log says cannot be trusted."""
    fold = Fold(
        stream=entity,
        mode="batch",
        watermark=pin.watermark,
        before=pin.watermark,
        after=pin.watermark,
        epoch=pin.epoch,
        from_job=pin.job,
        job=pin.job,
        pinned_snapshot=pin.snapshot_id,
        reason=reason,
        extra=passed_through(run_sql, entity, pin.snapshot_id, declared),
    )
    publish(run_sql, fold, pin.snapshot_id)


def make_folder(run_sql: Sql) -> None:
    """Where serving views lie; apply_platform declares it, a platform of before may lack it."""
    run_sql(f"CREATE FOLDER IF NOT EXISTS {quote((SPACE, FOLDER))}")


def publish_status(run_sql: Sql) -> None:
    """`lakehouse.serving.serving_status`: what each serving view is worth right now."""
    path = quote((SPACE, FOLDER, "serving_status"))
    run_sql(f"CREATE OR REPLACE VIEW {path} AS SELECT * FROM {quote((LOG, 'lakehouse', 'serving_status'))}")
