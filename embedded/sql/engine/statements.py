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
class AlterPartition:
    """ADD or DROP PARTITION FIELD: only what is written afterwards is laid out anew, as in Iceberg."""

    path: Path
    term: PartitionTerm
    add: bool


@dataclass(frozen=True)
class SetProperties:
    """SET or UNSET TBLPROPERTIES; a value None removes the property."""

    path: Path
    properties: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class SetSort:
    """LOCALSORT BY: the order of rows inside the files written from now on; no column: no order."""

    path: Path
    columns: tuple[str, ...]


@dataclass(frozen=True)
class SetPrimaryKey:
    """ADD or DROP PRIMARY KEY. Dremio does not enforce it; Iceberg's identifier fields hold it."""

    path: Path
    columns: tuple[str, ...]


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
    what: Literal["SCHEMAS", "TABLES", "VIEWS", "FUNCTIONS"]
    within: Path = ()
    like: str | None = None


@dataclass(frozen=True)
class ShowCreate:
    what: Literal["TABLE", "VIEW"]
    path: Path


@dataclass(frozen=True)
class ShowProperties:
    path: Path


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
    """EXPIRE SNAPSHOTS."""

    path: Path
    older_than: str | None
    retain_last: int | None


@dataclass(frozen=True)
class RemoveOrphans:
    """VACUUM TABLE ... REMOVE ORPHAN FILES: what lies in the table's place and no snapshot knows."""

    path: Path
    older_than: str | None
    location: str | None = None


@dataclass(frozen=True)
class VacuumCatalog:
    source: str
    exclude: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Optimize:
    """Sizes in MiB; None: Dremio's defaults. `where` limits the partitions."""

    path: Path
    manifests: bool = False
    target_mb: int = 256
    min_mb: int | None = None
    max_mb: int | None = None
    min_files: int = 5
    where: str | None = None


@dataclass(frozen=True)
class CopyInto:
    """COPY INTO: files of a source into an Iceberg table. `location` is the path after @."""

    path: Path
    location: Path
    files: tuple[str, ...] = ()
    regex: str | None = None
    format: Literal["csv", "json", "parquet"] | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    select: tuple[str, ...] = ()  # the expressions of FROM (SELECT ... FROM '@...'); $1 is the first column


@dataclass(frozen=True)
class Parameter:
    name: str
    type: pa.DataType
    default: str | None = None


@dataclass(frozen=True)
class CreateFunction:
    """A scalar function when `returns` is a type, a tabular one when it is columns."""

    path: Path
    parameters: tuple[Parameter, ...]
    returns: pa.DataType | tuple[ColumnDefinition, ...]
    body: str
    replace: bool = False
    if_not_exists: bool = False


@dataclass(frozen=True)
class DropFunction:
    path: Path
    if_exists: bool


@dataclass(frozen=True)
class DescribeFunction:
    path: Path


@dataclass(frozen=True)
class SetOption:
    """ALTER SYSTEM or SESSION SET; a value None is RESET, the name None all of them."""

    scope: Literal["SYSTEM", "SESSION"]
    name: str | None
    value: object | None


@dataclass(frozen=True)
class Versioned:
    """A command on branches, tags or commits: only a versioned source can obey it."""

    command: str
    source: Path


@dataclass(frozen=True)
class Account:
    """CREATE, ALTER and DROP of users and roles, handed to the catalog when it knows them."""

    verb: Literal["CREATE", "ALTER", "DROP"]
    kind: Literal["USER", "ROLE"]
    name: str
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class GrantRole:
    revoke: bool
    role: str
    grantee_type: Literal["USER", "ROLE"]
    grantee: str


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
    Query | CreateView | DropView | CreateTable | DropTable | Insert | Delete | Update | Merge | Truncate | CopyInto
    | AddColumns | DropColumn | AlterColumn | AlterPartition | SetProperties | SetSort | SetPrimaryKey
    | RefreshMetadata | ForgetMetadata | CreateReflection | DropReflection | SetAcceleration | RefreshReflections
    | EnableDefaultReflection | CreateFolder | DropFolder | CreateFunction | DropFunction | DescribeFunction | Show
    | ShowCreate | ShowProperties | Describe | Explain | Use | SetOption | Rollback | Vacuum | RemoveOrphans
    | VacuumCatalog | Optimize | Versioned | Account | Grant | GrantRole
)  # fmt: skip
