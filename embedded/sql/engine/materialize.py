"""Writing a reflection's data: one Parquet file in the distributed store, and at which snapshots it was read."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedded.sql.datasets import Materialization, Path
from embedded.sql.engine.datatypes import literal, quote
from embedded.sql.engine.planner import output_schema
from embedded.sql.engine.relations import dotted
from embedded.sql.engine.results import normalise_table
from embedded.sql.engine.substitution import materialization_select
from embedded.sql.errors import ValidationError

if TYPE_CHECKING:
    from embedded.sql.engine.engine import Run


@dataclass(frozen=True)
class Materialized:
    files: tuple[str, ...]
    rows: int
    size: int  # bytes
    scanned: tuple[Path, ...]
    snapshots: Mapping[Path, int | None]  # of every Iceberg table that was read
    snapshot_id: int | None  # of the dataset itself when it is an Iceberg table


def materialize(run: Run, m: Materialization, folder: str, order: tuple[str, ...]) -> Materialized:
    """Store what `m` describes (its files and snapshot are ignored) under `folder`, sorted by `order`."""
    plan = run.plan(accelerate=False)
    body = plan.query(f"SELECT * FROM {'.'.join(quote(part) for part in m.dataset)}", ())
    sql = plan.complete(body)
    schema = normalise_table(output_schema(run.job, sql).empty_table()).schema
    columns = {name.lower(): name for name in schema.names}
    used = [*m.display, *(name for name, _ in m.dimensions), *(measure.column for measure in m.measures)]
    for name in used:
        if name.lower() not in columns:
            raise ValidationError(f"Column '{name}' not found in '{dotted(m.dataset)}'")
    select = materialization_select(m, schema, f"({sql}) AS dataset")
    stored = {name.lower(): name for name in m.display}
    if m.kind == "AGGREGATION":
        stored = {name.lower(): f"d{i}" for i, (name, _) in enumerate(m.dimensions)}
    sort = [quote(stored[name.lower()]) for name in order if name.lower() in stored]
    if sort:
        select = f"SELECT * FROM ({select}) ORDER BY {', '.join(dict.fromkeys(sort))}"
    uri = f"{folder.rstrip('/')}/{uuid.uuid4()}.parquet"
    run.engine.database.allow_s3([uri], m.access)
    stats = run.job.rows(f"COPY ({select}) TO {literal(uri)} (FORMAT parquet, COMPRESSION zstd, RETURN_STATS)")
    rows, size = (int(str(stats[0][1])), int(str(stats[0][2]))) if stats else (0, 0)
    run.used(plan)
    snapshots = plan.snapshots()
    return Materialized((uri,), rows, size, tuple(run.scanned), snapshots, snapshots.get(plan.only_path()))
