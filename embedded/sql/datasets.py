"""What a name in SQL can stand for, and the catalog that the engine asks. The one seam between engine and server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.catalog import Catalog as IcebergCatalog

Path = tuple[str, ...]  # ("lake", "silver", "orders"); look-ups ignore case, spelling is kept


@dataclass(frozen=True)
class S3Access:
    """How to reach one S3 endpoint. `endpoint` is host:port without a scheme."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    secure: bool = False
    region: str = "us-east-1"


@dataclass(frozen=True)
class View:
    path: Path
    sql: str
    context: Path = ()
    owner: str = ""  # with whose privileges its text reads; "": the server's


@dataclass(frozen=True)
class FileTable:
    """A promoted folder or file, with the files known at its last metadata refresh; newer files are invisible."""

    path: Path
    files: tuple[str, ...]  # s3:// URIs
    format: Literal["Parquet", "JSON", "Text", "Delta", "Iceberg"]
    access: S3Access
    columns: tuple[tuple[str, str], ...]  # name and Dremio type at the last refresh
    format_options: Mapping[str, object] = field(default_factory=dict)
    version: str = ""  # of what the last metadata refresh saw; empty: unknown


@dataclass(frozen=True)
class IcebergTable:
    """A table of an Iceberg REST catalog source; the engine loads its current metadata at planning."""

    path: Path
    catalog: IcebergCatalog
    identifier: tuple[str, ...]  # ("silver", "orders")
    access: S3Access


@dataclass(frozen=True)
class PostgresTable:
    path: Path
    dsn: str = field(repr=False)
    schema: str = "public"
    table: str = ""


@dataclass(frozen=True)
class PostgresQuery:
    """external_query: a query in the source's own words."""

    path: Path
    dsn: str = field(repr=False)
    sql: str = ""


@dataclass(frozen=True)
class SystemTable:
    """INFORMATION_SCHEMA and sys tables, computed at planning."""

    path: Path
    data: pa.Table


@dataclass(frozen=True)
class UserFunction:
    """CREATE FUNCTION. Types are Dremio's texts; `returns` is one type, or the columns of a tabular function."""

    path: Path
    parameters: tuple[tuple[str, str, str | None], ...]  # name, type, default expression
    returns: str | tuple[tuple[str, str], ...]
    body: str
    context: Path = ()


Dataset = View | FileTable | IcebergTable | PostgresTable | PostgresQuery | SystemTable


@dataclass(frozen=True)
class Measure:
    column: str
    functions: tuple[str, ...]  # SUM, COUNT, MIN, MAX, APPROX_COUNT_DISTINCT


@dataclass(frozen=True)
class Materialization:
    """A finished refresh: rows that stand for `dataset` as it is while everything in `sources` has that version."""

    reflection_id: str
    name: str
    kind: Literal["RAW", "AGGREGATION"]
    dataset: Path
    display: tuple[str, ...]  # RAW
    dimensions: tuple[tuple[str, str], ...]  # AGGREGATION: name and DATE or NORMAL
    measures: tuple[Measure, ...]
    access: S3Access
    metadata: str = ""  # the Iceberg table in the distributed store; empty: nothing is built yet
    files: tuple[str, ...] = ()  # its data files
    columns: tuple[tuple[str, str], ...] = ()  # name and Dremio type of each stored column
    sources: Mapping[Path, str] = field(default_factory=dict)  # tables and views that were read, and their versions
    rows: int = 0
    size: int = 0  # bytes of the data files


@dataclass(frozen=True)
class Session:
    user: str
    context: Path = ()
    job_id: str = ""
    # Called when planning is over and the first statement goes to the database.
    on_start: Callable[[], None] | None = field(default=None, compare=False, repr=False)


Relationship = tuple[str, Path, Literal["CONSIDERED", "MATCHED", "CHOSEN"]]  # reflection id, its dataset, its part


@dataclass
class Outcome:
    """What a statement gave: the result as Arrow (types already Dremio's), and the facts for the job."""

    table: pa.Table
    query_type: str = "REST"
    scanned: list[Path] = field(default_factory=list)
    reflections: list[Relationship] = field(default_factory=list)


class Catalog(Protocol):
    """The server's catalog as the engine sees it. Every method raises errors.SqlError subclasses (Dremio's words)."""

    def resolve(self, path: Path, context: Path) -> Dataset: ...

    def permit(self, statement: object, context: Path) -> None:
        """Before a statement runs: raises PermissionDenied when the user may not do that to what it names."""
        ...

    def on_behalf(self, view: View) -> AbstractContextManager[None]:
        """While a view's text is being resolved: its owner's privileges count, not the reader's."""
        ...

    def iceberg_target(self, path: Path) -> IcebergTable:
        """Where a CREATE TABLE of this path would go; raises when the source cannot hold tables."""
        ...

    def put_view(self, path: Path, sql: str, context: Path, columns: pa.Schema, *, replace: bool) -> None: ...

    def drop_view(self, path: Path, *, if_exists: bool) -> None: ...

    def find_function(self, path: Path, context: Path) -> UserFunction | None:
        """A user's function by name, relative to the context or as it stands."""
        ...

    def functions(self) -> Sequence[UserFunction]: ...

    def put_function(self, function: UserFunction, *, replace: bool) -> None:
        """Create or replace; the path is complete. Raises when it is taken by something else."""
        ...

    def drop_function(self, path: Path) -> bool:
        """False when there is none."""
        ...

    def external_source(self, name: str) -> str | None:
        """The connection of a PostgreSQL source by name; None for a source of another kind. Raises NotFound."""
        ...

    def copy_source(self, location: Path) -> tuple[Sequence[str], S3Access]:
        """The files (s3://...) at a place in a file source: what COPY INTO reads. Raises NotFound when none is there.

        A user who may not read the source is refused here.
        """
        ...

    def table_changed(self, path: Path) -> None:
        """After a commit to, a creation or a drop of an Iceberg table."""
        ...

    def refresh_metadata(self, path: Path, options: Mapping[str, object]) -> str: ...

    def forget_metadata(self, path: Path) -> str: ...

    def create_folder(self, path: Path, *, if_not_exists: bool) -> str: ...

    def drop_folder(self, path: Path, *, if_exists: bool) -> str: ...

    def create_reflection(self, dataset: Path, definition: Mapping[str, object]) -> str: ...

    def drop_reflection(self, dataset: Path, name: str) -> str: ...

    def set_acceleration(self, dataset: Path, kind: Literal["RAW", "AGGREGATION"], *, enabled: bool) -> str: ...

    def refresh_reflections(self, dataset: Path) -> str: ...

    def system_function(self, name: str, argument: str) -> pa.Table | None:
        """TABLE(sys.<name>('argument')); None: there is no such function."""
        ...

    def materializations(self) -> Sequence[Materialization]:
        """Everything that may answer queries now."""
        ...
