"""Every statement that is not a query, as data. `commands.parse_statement` makes them, `engine.Engine` runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

from embedded.sql.datasets import Path


@dataclass(frozen=True)
class Query:
    sql: str


@dataclass(frozen=True)
class ColumnDefinition:
    name: str
    type: pa.DataType | None  # None: CREATE TABLE t (a, b) AS ... only renames
    nullable: bool = True


@dataclass(frozen=True)
class PartitionTerm:
    """One term of PARTITION BY. `argument` is the count of bucket() or the width of truncate()."""

    column: str
    transform: Literal["identity", "year", "month", "day", "hour", "bucket", "truncate"] = "identity"
    argument: int = 0


@dataclass(frozen=True)
class Layout:
    partition: tuple[PartitionTerm, ...] = ()
    sort: tuple[str, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)  # STORE AS and TBLPROPERTIES
    single_writer: bool = False


@dataclass(frozen=True)
class CreateView:
    path: Path
    sql: str
    replace: bool
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class DropView:
    path: Path
    if_exists: bool


@dataclass(frozen=True)
class CreateTable:
    """CREATE TABLE with columns, or AS a query, or both."""

    path: Path
    layout: Layout
    columns: tuple[ColumnDefinition, ...] = ()
    query: str | None = None
    if_not_exists: bool = False


@dataclass(frozen=True)
class DropTable:
    path: Path
    if_exists: bool


@dataclass(frozen=True)
class Insert:
    path: Path
    columns: tuple[str, ...]
    query: str


@dataclass(frozen=True)
class Target:
    """The table that a DML statement changes, and the name it has inside the statement."""

    path: Path
    alias: str


@dataclass(frozen=True)
class Delete:
    target: Target
    using: str | None
    where: str | None


@dataclass(frozen=True)
class Update:
    target: Target
    assignments: tuple[tuple[str, str], ...]  # column and expression text
    source: str | None
    where: str | None


@dataclass(frozen=True)
class Merge:
    target: Target
    source: str  # a table expression with its alias, as written after USING
    on: str
    update: tuple[tuple[str, str], ...] | Literal["*"] | None
    insert_columns: tuple[str, ...]
    insert_values: tuple[str, ...] | Literal["*"] | None


@dataclass(frozen=True)
class Truncate:
    path: Path
    if_exists: bool


@dataclass(frozen=True)
class AddColumns:
    path: Path
    columns: tuple[ColumnDefinition, ...]


@dataclass(frozen=True)
class DropColumn:
    path: Path
    column: str


@dataclass(frozen=True)
class AlterColumn:
    path: Path
    column: str
    definition: ColumnDefinition


@dataclass(frozen=True)
class RefreshMetadata:
    """Options: files, partitions, promotion (AUTO|AVOID), update (FORCE|LAZY), missing (DELETE|MAINTAIN)."""

    path: Path
    options: Mapping[str, object]


@dataclass(frozen=True)
class ForgetMetadata:
    path: Path


@dataclass(frozen=True)
class CreateReflection:
    path: Path
    definition: Mapping[str, object]  # the REST body of POST /reflection without datasetId


@dataclass(frozen=True)
class DropReflection:
    path: Path
    name: str


@dataclass(frozen=True)
class SetAcceleration:
    path: Path
    kind: Literal["RAW", "AGGREGATION"]
    enabled: bool


@dataclass(frozen=True)
class RefreshReflections:
    path: Path


@dataclass(frozen=True)
class EnableDefaultReflection:
    path: Path
    enabled: bool


@dataclass(frozen=True)
class CreateFolder:
    path: Path
    if_not_exists: bool


@dataclass(frozen=True)
class DropFolder:
    path: Path
    if_exists: bool


@dataclass(frozen=True)
class Show:
    what: Literal["SCHEMAS", "TABLES", "VIEWS"]
    within: Path = ()
    like: str | None = None


@dataclass(frozen=True)
class Describe:
    path: Path
    column: str | None = None


@dataclass(frozen=True)
class Explain:
    sql: str


@dataclass(frozen=True)
class Use:
    path: Path


@dataclass(frozen=True)
class Rollback:
    path: Path
    snapshot: str | None
    timestamp: str | None


@dataclass(frozen=True)
class Vacuum:
    path: Path
    older_than: str | None
    retain_last: int | None


@dataclass(frozen=True)
class Optimize:
    path: Path


@dataclass(frozen=True)
class Grant:
    """GRANT or REVOKE, handed to the catalog when it knows privileges."""

    revoke: bool
    privileges: tuple[str, ...]
    object_type: str
    path: Path
    grantee_type: str
    grantee: str


Statement = (
    Query | CreateView | DropView | CreateTable | DropTable | Insert | Delete | Update | Merge | Truncate | AddColumns
    | DropColumn | AlterColumn | RefreshMetadata | ForgetMetadata | CreateReflection | DropReflection | SetAcceleration
    | RefreshReflections | EnableDefaultReflection | CreateFolder | DropFolder | Show | Describe | Explain | Use
    | Rollback | Vacuum | Optimize | Grant
)  # fmt: skip
