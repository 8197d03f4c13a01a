"""Compares source, bronze and silver at one position and says which stream differs, where, by how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from include.fold import Fold
from include.publication import quote
from include.source import Totals
from include.specs.pipeline import Pipeline, Stream


class ReconciliationError(Exception):
    """Rows or money are missing or too many; the message lists every difference found."""


@dataclass(frozen=True)
class Bronze:
    """What bronze holds of a stream, counting succeeded syncs only (newest generation of a full refresh)."""

    rows: int
    keys: int
    cursor_max: str | None
    generation: int | None
    by_job: Mapping[int, int] = field(default_factory=dict)


def bronze_sql(pipeline: Pipeline, stream: Stream, jobs: Sequence[int]) -> str:
    """One row: rows, distinct keys, greatest cursor, newest generation among the rows of succeeded jobs."""
    table = quote(pipeline.bronze_path(stream))
    keys = ", ".join(quote([column]) for column in stream.key)
    counted = ", ".join(str(int(job)) for job in jobs)
    newest = "" if stream.incremental else " WHERE g = (SELECT MAX(_airbyte_generation_id) FROM counted)"
    return (
        f"WITH counted AS (SELECT *, _airbyte_generation_id AS g FROM {table} "
        f"WHERE \"_airbyte_meta\"['sync_id'] IN ({counted})), kept AS (SELECT * FROM counted{newest}) "
        f"SELECT (SELECT COUNT(*) FROM kept) AS row_count, "
        f"(SELECT COUNT(*) FROM (SELECT DISTINCT {keys} FROM kept) k) AS key_count, "
        f"(SELECT CAST(MAX({quote([stream.cursor])}) AS VARCHAR) FROM kept) AS cursor_max, "
        f"(SELECT MAX(g) FROM kept) AS generation"
    )


def jobs_sql(pipeline: Pipeline, stream: Stream, jobs: Sequence[int]) -> str:
    """Rows and generation that each of the given jobs left in bronze."""
    counted = ", ".join(str(int(job)) for job in jobs)
    return (
        "SELECT \"_airbyte_meta\"['sync_id'] AS job_id, COUNT(*) AS row_count, "
        "MAX(_airbyte_generation_id) AS generation "
        f"FROM {quote(pipeline.bronze_path(stream))} WHERE \"_airbyte_meta\"['sync_id'] IN ({counted}) GROUP BY 1"
    )


def silver_sql(stream: Stream) -> str:
    """One row: all keys, good keys, and money over all keys of the built silver table."""
    money = "".join(f", SUM({quote([column])}) AS {quote([f'money_{column}'])}" for column in stream.money)
    return (
        "SELECT COUNT(*) AS row_count, COUNT(CASE WHEN _quarantine_reason IS NULL THEN 1 END) AS good_count"
        f"{money} FROM {quote(('lake', 'silver', stream.table))}"
    )


def log_sql(stream: Stream, fold: Fold) -> str:
    """One row: keys alive at the fold's position and their money, from the change log in bronze alone."""
    key = ", ".join(quote([column]) for column in stream.key)
    money = "".join(f", SUM({quote([column])}) AS {quote([f'money_{column}'])}" for column in stream.money)
    counted = f'"_epoch" = {fold.epoch} AND "_ab_cdc_commit_lsn" <= {fold.before}'
    log = quote(("lake", "bronze", f"{stream.name}__changes"))
    first = quote([stream.key[0]])
    # Truncations have no key. What came before the last of them does not count.
    return (
        f"WITH c AS (SELECT * FROM {log} WHERE {counted}), "
        f't AS (SELECT "_ab_cdc_commit_lsn" AS a, "_ab_cdc_lsn" AS b FROM c WHERE {first} IS NULL '
        "ORDER BY 1 DESC, 2 DESC LIMIT 1), "
        f'v AS (SELECT c.*, ROW_NUMBER() OVER (PARTITION BY {key} ORDER BY "_ab_cdc_commit_lsn" DESC, '
        f'"_ab_cdc_lsn" DESC) AS _version FROM c WHERE {first} IS NOT NULL) '
        f"SELECT COUNT(*) AS row_count{money} FROM v LEFT JOIN t ON 1 = 1 "
        'WHERE _version = 1 AND "_ab_cdc_deleted_at" IS NULL AND (a IS NULL OR "_ab_cdc_commit_lsn" > a '
        'OR ("_ab_cdc_commit_lsn" = a AND "_ab_cdc_lsn" > b))'
    )


def folded_differences(stream: Stream, log: Mapping[str, Any], silver: Mapping[str, Any]) -> list[str]:
    """Empty when silver, its quarantine included, is the log at the position: keys and money."""
    names = ["row_count", *(f"money_{column}" for column in stream.money)]
    return [
        f"{stream.name}: {name} is {log[name]} in the change log, {silver[name]} in silver"
        for name in names
        if Decimal(str(log[name] or 0)) != Decimal(str(silver[name] or 0))
    ]


def bronze_differences(stream: Stream, source: Totals, bronze: Bronze, *, captured: bool = False) -> list[str]:
    """Empty when the source at bronze's position has exactly bronze's keys.

    `captured`: the change log knows what was deleted, and silver is compared with that; too many is no difference then.

    A row changed after the sync stands above the position at the source and below it in bronze: `moved` counts those.
    Rows deleted at the source since are unknown to a cursor sync, so bronze may only be short, never checked for excess
    beyond them when the stream is incremental.
    """
    expected = source.rows + source.moved
    if bronze.keys == expected or (captured and bronze.keys > expected):
        return []
    gap = bronze.keys - expected
    word = "too many" if gap > 0 else "missing"
    return [
        f"{stream.name}: source has {expected} rows up to {bronze.cursor_max}, bronze {bronze.keys}: {abs(gap)} {word}"
    ]


def silver_differences(stream: Stream, source: Totals, bronze_keys: int, silver: Mapping[str, Any]) -> list[str]:
    """Empty when silver (with its quarantine) has bronze's keys and, at an unmoved source, the source's money."""
    found = []
    if int(silver["row_count"]) != bronze_keys:
        found.append(f"{stream.name}: bronze has {bronze_keys} keys, silver with quarantine {silver['row_count']}")
    if source.moved:  # the source went on: its sums belong to a later position
        return found
    for column, amount in source.money.items():
        there = Decimal(str(silver[f"money_{column}"] or 0))
        if there != amount:
            found.append(f"{stream.name}.{column}: source sums to {amount}, silver to {there}")
    return found


def check(differences: Sequence[str], where: str) -> None:
    if differences:
        raise ReconciliationError(f"{where}: " + "; ".join(differences))
