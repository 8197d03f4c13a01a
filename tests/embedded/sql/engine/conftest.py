"""The engine over a catalog kept in memory and a real object store with its Iceberg REST catalog."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pytest
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import BadRequestError

from embedded.sql.datasets import (
    Dataset,
    IcebergTable,
    Materialization,
    Outcome,
    Path,
    S3Access,
    Session,
    UserFunction,
    View,
)
from embedded.sql.engine import Engine
from embedded.sql.errors import NotFound, ValidationError

if TYPE_CHECKING:
    from embedded.object_store import ObjectStore


def lower(path: Path) -> Path:
    return tuple(part.lower() for part in path)


@dataclass
class MemoryCatalog:
    """The Catalog protocol over dictionaries; `lake.<namespace>.<table>` is the Iceberg catalog."""

    iceberg: RestCatalog
    access: S3Access
    datasets: dict[Path, Dataset] = field(default_factory=dict)
    changed: list[Path] = field(default_factory=list)
    calls: list[tuple[object, ...]] = field(default_factory=list)
    made: list[Materialization] = field(default_factory=list)
    made_functions: dict[Path, UserFunction] = field(default_factory=dict)
    files: dict[Path, list[str]] = field(default_factory=dict)  # what COPY INTO finds at a place

    def add(self, dataset: Dataset) -> None:
        self.datasets[lower(dataset.path)] = dataset

    def resolve(self, path: Path, context: Path) -> Dataset:
        for candidate in ((*context, *path), path):
            key = lower(candidate)
            if key in self.datasets:
                return self.datasets[key]
            if len(key) > 2 and key[0] == "lake":
                with suppress(BadRequestError):  # a name that the catalog does not take names no table
                    if self.iceberg.table_exists(candidate[1:]):
                        return self.iceberg_target(candidate)
        raise NotFound(f"Object '{path[-1]}' not found within '{'.'.join(path[:-1])}'")

    def permit(self, statement: object, context: Path) -> None:
        """Everybody may do everything here."""

    def on_behalf(self, view: View) -> AbstractContextManager[None]:
        return nullcontext()

    def iceberg_target(self, path: Path) -> IcebergTable:
        if path[0].lower() != "lake":
            raise ValidationError(f"Source [{path[0]}] cannot hold tables")
        return IcebergTable(path, self.iceberg, path[1:], self.access)

    def put_view(self, path: Path, sql: str, context: Path, columns: pa.Schema, *, replace: bool) -> None:
        if not replace and lower(path) in self.datasets:
            raise ValidationError(f"A table or view with given name [{'.'.join(path)}] already exists.")
        self.add(View(path, sql, context))
        self.calls.append(("put_view", path, columns))

    def drop_view(self, path: Path, *, if_exists: bool) -> None:
        if self.datasets.pop(lower(path), None) is None and not if_exists:
            raise NotFound(f"Unknown view [{'.'.join(path)}].")

    def find_function(self, path: Path, context: Path) -> UserFunction | None:
        for candidate in ((*context, *path), path):
            if found := self.made_functions.get(lower(candidate)):
                return found
        return None

    def functions(self) -> Sequence[UserFunction]:
        return list(self.made_functions.values())

    def put_function(self, function: UserFunction, *, replace: bool) -> None:
        self.made_functions[lower(function.path)] = function

    def drop_function(self, path: Path) -> bool:
        return self.made_functions.pop(lower(path), None) is not None

    def external_source(self, name: str) -> str | None:
        return None

    def copy_source(self, location: Path) -> tuple[Sequence[str], S3Access]:
        if location not in self.files:
            raise NotFound(f"No files are found in '@{'/'.join(location)}'")
        return self.files[location], self.access

    def table_changed(self, path: Path) -> None:
        self.changed.append(path)

    def _record(self, *call: object) -> str:
        self.calls.append(call)
        return f"{call[0]} done"

    def refresh_metadata(self, path: Path, options: Mapping[str, object]) -> str:
        return self._record("refresh_metadata", path, dict(options))

    def forget_metadata(self, path: Path) -> str:
        return self._record("forget_metadata", path)

    def create_folder(self, path: Path, *, if_not_exists: bool) -> str:
        return self._record("create_folder", path, if_not_exists)

    def drop_folder(self, path: Path, *, if_exists: bool) -> str:
        return self._record("drop_folder", path, if_exists)

    def create_reflection(self, dataset: Path, definition: Mapping[str, object]) -> str:
        return self._record("create_reflection", dataset, dict(definition))

    def drop_reflection(self, dataset: Path, name: str) -> str:
        return self._record("drop_reflection", dataset, name)

    def set_acceleration(self, dataset: Path, kind: Literal["RAW", "AGGREGATION"], *, enabled: bool) -> str:
        return self._record("set_acceleration", dataset, kind, enabled)

    def refresh_reflections(self, dataset: Path) -> str:
        return self._record("refresh_reflections", dataset)

    def system_function(self, name: str, argument: str) -> pa.Table | None:
        return None

    def materializations(self) -> Sequence[Materialization]:
        return list(self.made)


@dataclass
class Bench:
    """What a test holds: the engine, its catalog, and a namespace of its own."""

    engine: Engine
    catalog: MemoryCatalog
    namespace: str

    def run(
        self,
        sql: str,
        *,
        context: Path = (),
        job_id: str = "",
        cancelled: threading.Event | None = None,
        on_start: Callable[[], None] | None = None,
    ) -> Outcome:
        """`on_start`: called once the statement is planned, before anything is read."""
        session = Session("tester", context, job_id or str(uuid.uuid4()), on_start)
        return self.engine.execute(sql.replace("$ns", f'"lake"."{self.namespace}"'), session, cancelled=cancelled)

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        table = self.run(sql).table
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True))

    def one(self, sql: str) -> object:
        return self.rows(sql)[0][0]

    def table(self, name: str) -> Path:
        return ("lake", self.namespace, name)


@pytest.fixture(scope="session")
def access(object_store: ObjectStore) -> S3Access:
    return S3Access(object_store.endpoint.removeprefix("http://"), object_store.access_key, object_store.secret_key)


@pytest.fixture(scope="session")
def lake(object_store: ObjectStore) -> RestCatalog:
    return rest_catalog(object_store)


def rest_catalog(store: ObjectStore) -> RestCatalog:
    """A client of its own: what another program sees."""
    endpoint = store.endpoint if "://" in store.endpoint else f"http://{store.endpoint}"
    return RestCatalog(
        "lake",
        **{
            "uri": store.iceberg_uri,
            "warehouse": "s3://warehouse",
            "credential": f"{store.access_key}:{store.secret_key}",
            "oauth2-server-uri": f"{store.iceberg_uri}/v1/oauth/tokens",
            "s3.endpoint": endpoint,
            "s3.access-key-id": store.access_key,
            "s3.secret-access-key": store.secret_key,
            "s3.region": "us-east-1",
        },
    )


@pytest.fixture(scope="session")
def shared(lake: RestCatalog, access: S3Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    scratch: FilePath = tmp_path_factory.mktemp("engine")
    catalog = MemoryCatalog(lake, access)
    engine = Engine(catalog, scratch=scratch, memory_limit="1000MB", threads=2)
    yield Bench(engine, catalog, "none")
    engine.close()


@pytest.fixture
def bench(shared: Bench) -> Bench:
    """The shared engine with a fresh catalog content and an unused namespace."""
    shared.catalog.datasets.clear()
    shared.catalog.changed.clear()
    shared.catalog.calls.clear()
    shared.catalog.made.clear()
    shared.catalog.made_functions.clear()
    shared.catalog.files.clear()
    return Bench(shared.engine, shared.catalog, f"t{uuid.uuid4().hex[:12]}")
