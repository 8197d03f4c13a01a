"""Asks the engine to write a materialization, and at which versions tables and views stand."""

from __future__ import annotations

from collections.abc import Mapping

from embedded.sql.catalog import names
from embedded.sql.datasets import Materialization, Path, S3Access, Session
from embedded.sql.engine_port import Cancellation, Engine
from embedded.sql.jobs.model import RUNNING, Job
from embedded.sql.reflections.manager import REFRESH_USER, Built
from embedded.sql.reflections.model import Reflection, Refresh
from embedded.sql.reflections.service import engine_fields


class EngineBuilder:
    """Implements manager.Builder."""

    def __init__(self, engine: Engine, access: S3Access) -> None:
        self._engine = engine
        self._access = access

    def versions(self, dataset: Path) -> Mapping[str, str]:
        return {names.encode(path): version for path, version in self._engine.versions(dataset).items()}

    def build(self, dataset: Path, reflection: Reflection, folder: str, job: Job, base: Refresh | None) -> Built:
        wanted = Materialization(
            reflection_id=reflection.id,
            name=reflection.name,
            kind=reflection.type,
            dataset=dataset,
            access=self._access,
            **engine_fields(reflection.definition),
        )
        last = None
        if base is not None:
            last = base.metadata, {names.decode(path): version for path, version in base.sources.items()}
        written = self._engine.materialize(
            wanted,
            folder,
            Session(REFRESH_USER, job_id=job.id, on_start=lambda: job.advance(RUNNING)),
            order=[field["name"] for field in reflection.definition.get("sortFields", ())],
            partition=[_term(field) for field in reflection.definition.get("partitionFields", ())],
            base=last,
            cancelled=Cancellation(job),
        )
        return Built(
            metadata=written.metadata,
            files=written.files,
            rows=written.rows,
            size=written.size,
            columns=written.columns,
            scanned=written.scanned,
            sources={names.encode(path): version for path, version in written.sources.items()},
            method=written.method,
            parents=written.parents,
        )


def _term(field: Mapping[str, object]) -> tuple[str, str, int]:
    """A partition field of REST: column, transform and its number."""
    transform = field.get("transform")
    given = transform if isinstance(transform, Mapping) else {}
    kind = str(given.get("type", "IDENTITY")).lower()
    details = given.get(f"{kind}Transform")
    number = 0
    if isinstance(details, Mapping):
        number = int(details.get("bucketCount") or details.get("truncateLength") or 0)
    return str(field["name"]), kind, number
