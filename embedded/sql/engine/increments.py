"""What an incremental refresh has to read: the rules of Dremio's documentation, where they can be proven.

Of all that a reflection reads exactly one Iceberg table has changed, it occurs once and not on the optional side of a
join, and nothing is grouped, united or limited before the reflection itself. Then either

* all that happened to the table was appending (and OPTIMIZE, which changes no row): the appended files are read; or
* the table and the reflection are partitioned alike: the partitions with other files than before are read again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyiceberg.manifest import DataFile, ManifestContent, ManifestEntryStatus
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot
from sqlglot import exp

from embedded.sql.datasets import IcebergTable, Materialization, Path, View
from embedded.sql.engine import iceberg
from embedded.sql.engine.blocks import Block, NotFlat, lowered
from embedded.sql.engine.relations import Reader
from embedded.sql.engine.statements import PartitionTerm
from embedded.sql.engine.tables import resolve

if TYPE_CHECKING:
    from embedded.sql.engine.engine import Run

Key = tuple[object, ...]


@dataclass(frozen=True)
class Base:
    """The last refresh: its Iceberg table, and the versions that it read."""

    metadata: str
    sources: Mapping[Path, str]


@dataclass(frozen=True)
class Increment:
    """Read `files` of one table only; of what is stored drop the partitions in `dropped`, keep the rest."""

    base: Base
    reader: Reader  # sees all tables at the versions in `sources`
    table: Table
    path: Path
    files: list[DataFile]
    sources: dict[Path, str]
    dropped: frozenset[Key] = frozenset()
    stored_fields: tuple[int, ...] = ()  # positions of the key in a stored file's partition

    def kept(self, stored: Sequence[DataFile]) -> list[DataFile]:
        return [file for file in stored if not self.dropped or _key(file, self.stored_fields) not in self.dropped]


class _Whole(Exception):
    """Only a full refresh will do."""


def increment(run: Run, m: Materialization, partition: Sequence[PartitionTerm], base: Base) -> Increment | None:
    """None: refresh in full."""
    try:
        return _increment(run, m, partition, base)
    except (NotFlat, _Whole):
        return None


def _increment(run: Run, m: Materialization, partition: Sequence[PartitionTerm], base: Base) -> Increment:
    plan = run.plan(accelerate=False)
    dataset = resolve(run.catalog, m.dataset, ())
    sources = dict(plan.flattener.versions(dataset))
    changed = [path for path, version in sources.items() if base.sources.get(path) != version]
    if len(changed) != 1 or sources.keys() != base.sources.keys():
        raise _Whole
    path = changed[0]
    if isinstance(dataset, View):
        block = plan.flattener.view_block(dataset)
        columns = _own_columns(block, path)
        anchor = resolve(run.catalog, next(leaf.path for leaf in block.leaves if lowered(leaf.path) == path), ())
    else:
        columns, anchor = None, dataset
    if not isinstance(anchor, IcebergTable):
        raise _Whole
    table = plan.reader.loaded(anchor)
    old, new = _snapshots(table, base.sources[path], sources[path])
    try:
        files = list(_appended(table, old, new))
    except _Whole:
        return _by_partition(
            m, partition, columns, Increment(base, plan.reader, table, anchor.path, [], sources), old, new
        )
    return Increment(base, plan.reader, table, anchor.path, files, sources)


def _own_columns(block: Block, path: Path) -> dict[str, str]:
    """(lowered) column of the view -> column of the changed table, where the view shows it as it is."""
    mine = [leaf for leaf in block.leaves if lowered(leaf.path) == path]
    if not block.plain or len(mine) != 1 or mine[0].on is not None or not all(leaf.types for leaf in block.leaves):
        raise _Whole
    if isinstance(mine[0].node, exp.Table) and mine[0].node.args.get("version"):
        raise _Whole
    own = {name.lower(): value for name, value in block.outputs}
    return {n: v.name for n, v in own.items() if isinstance(v, exp.Column) and v.table == mine[0].alias}


def _snapshots(table: Table, before: str, now: str) -> tuple[Snapshot, Snapshot]:
    """Both snapshots; the schema must not have changed in between."""
    old_id, _, old_schema = before.partition(".")
    new_id, _, new_schema = now.partition(".")
    if old_schema != new_schema or not old_id.lstrip("-").isdigit() or not new_id.lstrip("-").isdigit():
        raise _Whole
    old, new = table.snapshot_by_id(int(old_id)), table.snapshot_by_id(int(new_id))
    if old is None or new is None:
        raise _Whole
    return old, new


def _appended(table: Table, old: Snapshot, new: Snapshot) -> Iterator[DataFile]:
    """The files that snapshots after `old` appended, when nothing else happened to the rows."""
    at = new
    while at.snapshot_id != old.snapshot_id:
        summary = at.summary
        if summary is None or at.parent_snapshot_id is None:
            raise _Whole
        if summary.operation == Operation.APPEND:
            yield from _added(table, at)
        elif summary.operation != Operation.REPLACE and not summary.additional_properties.get(iceberg.SAME_ROWS):
            raise _Whole
        parent = table.snapshot_by_id(at.parent_snapshot_id)
        if parent is None:
            raise _Whole
        at = parent


def _added(table: Table, snapshot: Snapshot) -> Iterator[DataFile]:
    for manifest in snapshot.manifests(table.io):
        if manifest.added_snapshot_id != snapshot.snapshot_id:
            continue
        if manifest.content != ManifestContent.DATA:
            raise _Whole
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
            if entry.status == ManifestEntryStatus.ADDED and entry.snapshot_id in (None, snapshot.snapshot_id):
                yield _checked(table, entry.data_file)


def _checked(table: Table, file: DataFile) -> DataFile:
    if file.spec_id != table.spec().spec_id:
        raise _Whole
    return file


def _by_partition(
    m: Materialization,
    partition: Sequence[PartitionTerm],
    columns: Mapping[str, str] | None,
    found: Increment,
    old: Snapshot,
    new: Snapshot,
) -> Increment:
    fields = list(_common_fields(m, partition, columns, found.table))
    if not fields:
        raise _Whole
    own = tuple(position for position, _ in fields)
    before, now = _live(found.table, old), _live(found.table, new)
    differing = before.keys() ^ now.keys()
    dropped = frozenset(_key({**before, **now}[path], own) for path in differing)
    files = [file for file in now.values() if _key(file, own) in dropped]
    stored = tuple(position for _, position in fields)
    return replace(found, files=files, dropped=dropped, stored_fields=stored)


def _common_fields(
    m: Materialization, partition: Sequence[PartitionTerm], columns: Mapping[str, str] | None, table: Table
) -> Iterator[tuple[int, int]]:
    """Positions in the table's and in the reflection's partition of what both are partitioned by."""
    shown = [name.lower() for name in m.display] or [name.lower() for name, _ in m.dimensions]
    kept = [term for term in partition if term.column.lower() in shown]
    granularity = {name.lower(): word for name, word in m.dimensions}
    schema = table.schema()
    theirs = {
        (schema.find_column_name(field.source_id), str(field.transform)): number
        for number, field in enumerate(table.spec().fields)
    }
    for number, term in enumerate(kept):
        name = term.column.lower() if columns is None else columns.get(term.column.lower())
        transform = str(iceberg.transform_of(term))
        for (column, other), position in theirs.items():
            if column is None or column.lower() != name or other != transform:
                continue
            kind = str(schema.find_field(column).field_type)
            by_day = granularity.get(term.column.lower()) == "DATE" and kind.startswith("timestamp")
            if not by_day or transform in ("year", "month", "day"):
                yield position, number


def _live(table: Table, snapshot: Snapshot) -> dict[str, DataFile]:
    files: dict[str, DataFile] = {}
    for task in table.scan(snapshot_id=snapshot.snapshot_id).plan_files():
        if task.delete_files:
            raise _Whole
        files[task.file.file_path] = _checked(table, task.file)
    return files


def _key(file: DataFile, positions: Sequence[int]) -> Key:
    return tuple(file.partition[position] for position in positions)
