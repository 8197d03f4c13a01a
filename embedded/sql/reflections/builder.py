"""Asks the engine to write a materialization, and knows at which versions the tables stood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyiceberg.exceptions import NoSuchTableError

from embedded.sql.catalog import names
from embedded.sql.catalog.engine_catalog import EngineCatalog
from embedded.sql.datasets import IcebergTable, Path, Session
from embedded.sql.engine_port import Cancellation, Engine
from embedded.sql.errors import NotFound
from embedded.sql.jobs.model import Job
from embedded.sql.reflections.files import Distributed
from embedded.sql.reflections.manager import REFRESH_USER, Built
from embedded.sql.reflections.model import Reflection
from embedded.sql.reflections.service import engine_fields


class EngineBuilder:
    """Implements manager.Builder."""

    def __init__(self, engine: Engine, catalog: EngineCatalog, distributed: Distributed) -> None:
        self._engine: Any = engine
        self._catalog = catalog
        self._distributed = distributed

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
        if isinstance(dataset, IcebergTable):
            try:
                return str(dataset.catalog.load_table(dataset.identifier).metadata.current_snapshot_id)
            except NoSuchTableError:
                raise NotFound(f"Table '{names.dotted(path)}' not found") from None
        return self._catalog.file_version(path)

    def build(self, dataset: Path, reflection: Reflection, folder: str, job: Job) -> Built:
        raise NotImplementedError(
            (dataset, reflection, folder, job, Session, Cancellation, REFRESH_USER, engine_fields)
        )
