"""How every dataset of a pipeline stands, read from the ledger alone in a few short queries."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from include.ledger import Connection
from include.specs.pipeline import Pipeline

RUNS_SHOWN = 8


@dataclass(frozen=True)
class Dataset:
    """A published dataset. `state`: fresh, late (older than the objective), stale (its last run failed)."""

    name: str
    state: str
    published_at: dt.datetime
    age: dt.timedelta
    snapshot_id: int
    dag_run: str
    reason: str
    mode: str | None
    watermark: int | None
    lag_seconds: float | None


@dataclass(frozen=True)
class Run:
    """A run that left a receipt."""

    dag_id: str
    run_id: str
    run_type: str
    finished: dt.datetime
    seconds: float | None


@dataclass(frozen=True)
class Stream:
    """One stream of the last reconciled run. `adds_up`: source = bronze keys = silver + quarantined."""

    name: str
    source: int
    bronze: int
    silver: int
    quarantined: int

    @property
    def adds_up(self) -> bool:
        return self.source == self.bronze == self.silver + self.quarantined


@dataclass(frozen=True)
class Sync:
    """The newest sync of an Airbyte connection."""

    connection: str
    lane: str
    status: str
    job_id: int
    rows: int
    ended_at: dt.datetime | None


@dataclass(frozen=True)
class State:
    """All that the page shows of one pipeline. `at`: the ledger's clock, which every age is measured by."""

    pipeline: str
    objective: dt.timedelta
    at: dt.datetime
    datasets: Sequence[Dataset]
    runs: Sequence[Run]
    streams: Sequence[Stream]
    syncs: Sequence[Sync]
    reflections: Sequence[Mapping[str, Any]]
    lease: str | None

    @property
    def attention(self) -> list[Dataset]:
        return [dataset for dataset in self.datasets if dataset.state != "fresh"]


_DATASETS = """
select p.dataset, p.published_at, p.snapshot_id, p.dag_run, s.stale, coalesce(s.reason, '') as reason,
       v.mode, v.watermark, v.lag_seconds
from (
    select distinct on (dataset) dataset, published_at, snapshot_id, dag_run
    from lakehouse.publications where pipeline = %(pipeline)s
    order by dataset, publication_id desc
) as p
left join lakehouse.dataset_status as s on s.dataset = p.dataset
left join lakehouse.serving_status as v on p.dataset in ('silver.' || v.entity, 'serving.' || v.entity)
order by p.dataset
"""

_RUNS = """
select dag_id, run_id, written_at, receipt ->> 'run_type' as run_type, receipt ->> 'started' as started
from lakehouse.receipts where receipt ->> 'pipeline' = %(pipeline)s
order by written_at desc limit %(limit)s
"""

_LAST = """
select receipt from lakehouse.receipts
where receipt ->> 'pipeline' = %(pipeline)s and jsonb_typeof(receipt -> 'streams') = 'array'
order by written_at desc limit 1
"""

_SYNCS = """
select distinct on (connection) connection, lane, status, job_id, rows_committed, ended_at
from lakehouse.sync_ledger where pipeline = %(pipeline)s
order by connection, job_id desc
"""

_LEASE = "select holder from lakehouse.leases where name = %(pipeline)s and expires_at > clock_timestamp()"


def read(conn: Connection, pipeline: Pipeline) -> State:
    """How `pipeline` stands now."""
    names = {"pipeline": pipeline.name, "limit": RUNS_SHOWN}
    (now,) = conn.execute("select clock_timestamp() as at").fetchall()
    at: dt.datetime = now["at"]
    last = conn.execute(_LAST, names).fetchone()
    receipt: Mapping[str, Any] = last["receipt"] if last else {}
    lease = conn.execute(_LEASE, names).fetchone()
    return State(
        pipeline=pipeline.name,
        objective=pipeline.freshness,
        at=at,
        datasets=[_dataset(row, at, pipeline.freshness) for row in conn.execute(_DATASETS, names)],
        runs=[_run(row) for row in conn.execute(_RUNS, names)],
        streams=_streams(receipt),
        syncs=[
            Sync(r["connection"], r["lane"], r["status"], r["job_id"], r["rows_committed"], r["ended_at"])
            for r in conn.execute(_SYNCS, names)
        ],
        reflections=_reflections(receipt),
        lease=lease["holder"] if lease else None,
    )


def _dataset(row: Mapping[str, Any], at: dt.datetime, objective: dt.timedelta) -> Dataset:
    age = at - row["published_at"]
    state = "stale" if row["stale"] else "late" if age > objective else "fresh"
    return Dataset(
        name=row["dataset"],
        state=state,
        published_at=row["published_at"],
        age=age,
        snapshot_id=row["snapshot_id"],
        dag_run=row["dag_run"],
        reason=row["reason"],
        mode=row["mode"],
        watermark=row["watermark"],
        lag_seconds=row["lag_seconds"],
    )


def _run(row: Mapping[str, Any]) -> Run:
    try:
        seconds = (row["written_at"] - dt.datetime.fromisoformat(row["started"])).total_seconds()
    except (TypeError, ValueError):  # a receipt without its start
        seconds = None
    return Run(row["dag_id"], row["run_id"], row["run_type"] or "", row["written_at"], seconds)


def _streams(receipt: Mapping[str, Any]) -> list[Stream]:
    silver = (receipt.get("layers") or {}).get("silver") or {}
    return [
        Stream(
            name=line["stream"],
            source=int(line["source_rows"]),
            bronze=int(line["bronze_keys"]),
            silver=int(silver.get(line["stream"], {}).get("rows", 0)),
            quarantined=int(silver.get(line["stream"], {}).get("quarantined", 0)),
        )
        for line in receipt.get("streams") or []
    ]


def _reflections(receipt: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    facts = receipt.get("reflections")
    found = facts.get("reflections") if isinstance(facts, Mapping) else None
    return [item for item in found or [] if isinstance(item, Mapping)]
