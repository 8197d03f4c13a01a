"""Asks the engine to write a materialization, and knows at which versions the tables stood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyiceberg.exceptions import NoSuchTableError

from embedded.sql.catalog import names
from embedded.sql.catalog.engine_catalog import EngineCatalog
from embedded.sql.datasets import IcebergTable, Materialization, Path, S3Access, Session
from embedded.sql.engine_port import Cancellation, Engine
from embedded.sql.errors import NotFound
from embedded.sql.jobs.model import RUNNING, Job
from embedded.sql.reflections.manager import REFRESH_USER, Built
from embedded.sql.reflections.model import Reflection
from embedded.sql.reflections.service import engine_fields


class EngineBuilder:
    """Implements manager.Builder."""

    def __init__(self, engine: Engine, catalog: EngineCatalog, access: S3Access) -> None:
        self._engine = engine
        self._catalog = catalog
        self._access = access

    def versions(self, tables: Sequence[Path]) -> Mapping[str, str] | None:
        """None when a table has no version (PostgreSQL): such a reflection is rebuilt every time."""
        found: dict[str, str] = {}
        for path in tables:
            version = self._version(path)
            if version is None:
                return None
            found[names.encode(path)] = version
        return found

    def _version(self, path: Path) -> str | None:
        dataset = self._catalog.resolve(path, ())
        if not isinstance(dataset, IcebergTable):
            return self._catalog.file_versions().get(names.key(path))
        try:
            return str(dataset.catalog.load_table(dataset.identifier).metadata.current_snapshot_id)
        except NoSuchTableError:
            raise NotFound(f"Table '{names.dotted(path)}' not found") from None

    def build(self, dataset: Path, reflection: Reflection, folder: str, job: Job) -> Built:
        wanted = Materialization(
            reflection_id=reflection.id,
            name=reflection.name,
            kind=reflection.type,
            dataset=dataset,
            snapshot_id=None,
            files=(),
            access=self._access,
            **engine_fields(reflection.definition),
        )
        fields = (*reflection.definition.get("partitionFields", ()), *reflection.definition.get("sortFields", ()))
        # Versions of promoted folders first: what the engine reads is at least as new, so that at worst one refresh
        # too many follows, never one too few.
        before = self._catalog.file_versions()
        written = self._engine.materialize(
            wanted,
            folder,
            Session(REFRESH_USER, job_id=job.id, on_start=lambda: job.advance(RUNNING)),
            order=[field["name"] for field in fields],
            cancelled=Cancellation(job),
        )
        versions = {
            names.encode(path): str(written.snapshots[path])
            if path in written.snapshots
            else before.get(names.key(path), "")
            for path in written.scanned
        }
        return Built(
            written.files, written.rows, written.size, written.scanned, versions, anchor_snapshot=written.snapshot_id
        )
