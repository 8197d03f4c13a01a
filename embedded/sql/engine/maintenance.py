"""ROLLBACK, VACUUM and OPTIMIZE on Iceberg tables.

Always the commit first, then the removal of what it made useless: a kill in between leaves files that no snapshot
knows, and VACUUM ... REMOVE ORPHAN FILES takes them away.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.fs as pafs
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import DataFile, DataFileContent, ManifestFile
from pyiceberg.table import FileScanTask, Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update.snapshot import _MergeAppendFiles
from pyiceberg.transforms import IdentityTransform

from embedded.sql.datasets import IcebergTable, Path
from embedded.sql.engine import iceberg
from embedded.sql.engine import statements as st
from embedded.sql.engine.datatypes import duckdb_type, literal, quote
from embedded.sql.engine.ddl import table_schema
from embedded.sql.engine.outcomes import ok
from embedded.sql.engine.relations import Version, dotted, load_table, parse_timestamp, snapshot_of
from embedded.sql.errors import ConcurrentModification, NotFound, UnsupportedError, ValidationError

if TYPE_CHECKING:
    from embedded.sql.engine.engine import Run

SNAPSHOT_AGE = datetime.timedelta(days=5)  # Dremio's default for EXPIRE SNAPSHOTS
ORPHAN_AGE = datetime.timedelta(days=3)  # and for REMOVE ORPHAN FILES
_MIB = 2**20


@contextmanager
def administrative(path: Path) -> Iterator[None]:
    """Dremio's words when an administrative commit loses a race or is not allowed."""
    try:
        yield
    except CommitFailedException:
        raise ConcurrentModification(f"Table [{dotted(path)}] was changed by another statement.") from None
    except ValueError as error:
        raise ValidationError(str(error)) from None


def rollback(run: Run, statement: st.Rollback) -> pa.Table:
    dataset = run.iceberg(statement.path)
    with run.engine.writing(dataset.path, run.job):
        table = load_table(dataset)
        if statement.snapshot is not None:
            snapshot = snapshot_of(table, dataset.path, Version("SNAPSHOT", statement.snapshot))
        else:
            snapshot = snapshot_of(table, dataset.path, Version("TIMESTAMP", statement.timestamp or ""))
        assert snapshot is not None
        with administrative(dataset.path), table.manage_snapshots() as manage:
            manage.rollback_to_snapshot(snapshot.snapshot_id)
    run.changed(dataset.path)
    return ok(f"Table [{dotted(dataset.path)}] rollbacked")


# VACUUM -------------------------------------------------------------------------------------------------------------


@dataclass
class Reachable:
    """Every file that some snapshots need."""

    lists: set[str] = field(default_factory=set)
    manifests: dict[str, ManifestFile] = field(default_factory=dict)

    def add(self, table: Table, snapshot: Snapshot) -> None:
        self.lists.add(snapshot.manifest_list)
        self.manifests.update({m.manifest_path: m for m in snapshot.manifests(table.io)})

    def data(self, table: Table, manifests: Iterable[str] | None = None) -> dict[str, DataFileContent]:
        """Path and kind of the files that these manifests (all of them) list as live."""
        chosen = self.manifests if manifests is None else manifests
        return {
            entry.data_file.file_path: entry.data_file.content
            for path in chosen
            for entry in self.manifests[path].fetch_manifest_entry(table.io, discard_deleted=True)
        }


_COUNTED = (
    ("deleted_data_files_count", DataFileContent.DATA),
    ("deleted_position_delete_files_count", DataFileContent.POSITION_DELETES),
    ("deleted_equality_delete_files_count", DataFileContent.EQUALITY_DELETES),
)


def vacuum(run: Run, statement: st.Vacuum) -> pa.Table:
    """EXPIRE SNAPSHOTS, then delete the files that only the expired ones needed. Pinned snapshots stay."""
    dataset = run.iceberg(statement.path)
    with run.engine.writing(dataset.path, run.job):
        table = load_table(dataset)
        doomed = _expired(run, dataset, table, statement)
        counts = dict.fromkeys(_vacuum_columns(), 0)
        if doomed:
            useless, counts = _useless(table, doomed)
            run.job.check()
            with administrative(dataset.path):
                table.maintenance.expire_snapshots().by_ids(list(doomed)).commit()
            iceberg.delete_quietly(table.io, useless)
    run.changed(dataset.path)
    return pa.table({name: pa.array([value], pa.int64()) for name, value in counts.items()})


def _vacuum_columns() -> list[str]:
    names = [name for name, _ in _COUNTED]
    return [
        *names,
        "deleted_manifest_files_count",
        "deleted_manifest_lists_count",
        "deleted_partition_stats_files_count",
    ]


def _expired(run: Run, dataset: IcebergTable, table: Table, statement: st.Vacuum) -> set[int]:
    """As in Dremio: older than the limit, and not among the newest n ancestors of the current snapshot."""
    now = datetime.datetime.now(datetime.UTC)
    limit = parse_timestamp(statement.older_than) if statement.older_than else now - SNAPSHOT_AGE
    keep = {ref.snapshot_id for ref in table.metadata.refs.values()} | run.engine.pinned_snapshots(dataset.path)
    by_id = {s.snapshot_id: s for s in table.snapshots()}
    at = table.metadata.current_snapshot_id
    for _ in range(statement.retain_last or 1):
        if at is None or at not in by_id:
            break
        keep.add(at)
        at = by_id[at].parent_snapshot_id
    keep |= _in_use(run, table)
    return {
        s.snapshot_id for s in by_id.values() if s.snapshot_id not in keep and s.timestamp_ms < limit.timestamp() * 1000
    }


def _in_use(run: Run, table: Table) -> set[int]:
    """Snapshots that a running statement reads, or may be about to read: those that were current since it began."""
    began, found = run.engine.database.readers(run.job)
    if began is None:
        return found
    log = sorted(table.history(), key=lambda entry: entry.timestamp_ms)
    ends = [*(entry.timestamp_ms for entry in log[1:]), None]
    for entry, end in zip(log, ends, strict=True):
        if end is None or end >= began * 1000 - 1:
            found.add(entry.snapshot_id)
    return found


def _useless(table: Table, doomed: set[int]) -> tuple[list[str], dict[str, int]]:
    """The files of expired snapshots that no other snapshot needs, and how many of each kind."""
    kept, gone = Reachable(), Reachable()
    for snapshot in table.snapshots():
        (gone if snapshot.snapshot_id in doomed else kept).add(table, snapshot)
    manifests = [path for path in gone.manifests if path not in kept.manifests]
    alive = kept.data(table)
    data = {path: kind for path, kind in gone.data(table, manifests).items() if path not in alive}
    lists = gone.lists - kept.lists
    counts = {name: sum(kind == content for kind in data.values()) for name, content in _COUNTED}
    counts |= {
        "deleted_manifest_files_count": len(manifests),
        "deleted_manifest_lists_count": len(lists),
        "deleted_partition_stats_files_count": 0,
    }
    # Data first: as long as a manifest list is there, what it needs could still be found and removed.
    return [*data, *manifests, *lists], counts


def remove_orphans(run: Run, statement: st.RemoveOrphans) -> pa.Table:
    """Delete files below the table's place that no snapshot needs and no running statement is writing."""
    dataset = run.iceberg(statement.path)
    with run.engine.writing(dataset.path, run.job):
        table = load_table(dataset)
        limit = (
            parse_timestamp(statement.older_than)
            if statement.older_than
            else datetime.datetime.now(datetime.UTC) - ORPHAN_AGE
        )
        place = _place(table, statement.location)
        known = _known(table) | run.engine.database.files_in_flight()
        orphans = [(uri, size) for uri, size, made in _listed(table, place) if made < limit and uri not in known]
        run.job.check()
        iceberg.delete_quietly(table.io, [uri for uri, _ in orphans])
    return pa.table(
        {
            "deleted_files_count": pa.array([len(orphans)], pa.int64()),
            "deleted_files_size_mb": pa.array([sum(size for _, size in orphans) // _MIB], pa.int64()),
        }
    )


def _place(table: Table, location: str | None) -> str:
    root = _plain(table.location())
    wanted = _plain(location) if location else root
    if wanted != root and not wanted.startswith(root + "/"):
        raise ValidationError(f"LOCATION [{location}] is not inside the table's location [{table.location()}]")
    if ".." in wanted.split("/"):
        raise ValidationError(f"LOCATION [{location}] is not inside the table's location [{table.location()}]")
    return wanted


def _plain(uri: str) -> str:
    """bucket/key of s3://bucket/key, s3a://..."""
    return uri.split("://", 1)[-1].rstrip("/")


def _known(table: Table) -> set[str]:
    found = Reachable()
    for snapshot in table.snapshots():
        found.add(table, snapshot)
    metadata = {table.metadata_location, *(entry.metadata_file for entry in table.metadata.metadata_log)}
    statistics = {s.statistics_path for s in table.metadata.statistics}
    files = metadata | statistics | found.lists | set(found.manifests) | set(found.data(table))
    return {f"s3://{_plain(uri)}" for uri in files}


def _listed(table: Table, place: str) -> list[tuple[str, int, datetime.datetime]]:
    if not isinstance(table.io, PyArrowFileIO):
        raise UnsupportedError("REMOVE ORPHAN FILES needs an object store that this server can list.")
    bucket = place.split("/", 1)[0]
    store: pafs.FileSystem = table.io.fs_by_scheme("s3", bucket)
    found = store.get_file_info(pafs.FileSelector(place, recursive=True, allow_not_found=True))
    return [(f"s3://{f.path}", f.size or 0, f.mtime) for f in found if f.type == pafs.FileType.File]


def vacuum_catalog(run: Run, statement: st.VacuumCatalog) -> pa.Table:
    raise UnsupportedError(f"VACUUM CATALOG is supported only on versioned sources. [{statement.source}] is not one.")


# OPTIMIZE -----------------------------------------------------------------------------------------------------------


def optimize(run: Run, statement: st.Optimize) -> pa.Table:
    """Rewrite small (and too large) files in bins of the target size, in one commit."""
    dataset = run.iceberg(statement.path)
    with run.engine.writing(dataset.path, run.job):
        table = load_table(dataset)
        if statement.manifests:
            return _rewrite_manifests(run, dataset, table)
        chosen = _chosen(run, table, statement)
        bins = _bins(chosen, statement.target_mb * _MIB, table.metadata.default_spec_id)
        if not bins:
            return _optimized(0, 0, 0)
        written = _rewrite(run, dataset, table, bins)
    run.changed(dataset.path)
    deletes = {d.file_path for b in bins for task in b for d in task.delete_files}
    return _optimized(sum(len(b) for b in bins), len(deletes), written)


def _chosen(run: Run, table: Table, o: st.Optimize) -> list[FileScanTask]:
    tasks = list(table.scan().plan_files())
    if o.where is not None:
        tasks = _within(run, table, tasks, o)
    low = (o.min_mb if o.min_mb is not None else o.target_mb * 0.75) * _MIB
    high = (o.max_mb if o.max_mb is not None else o.target_mb * 1.8) * _MIB
    found = [
        task
        for task in tasks
        if not low <= task.file.file_size_in_bytes <= high
        or task.delete_files
        or task.file.spec_id != table.metadata.default_spec_id
    ]
    deletes = {d.file_path for task in found for d in task.delete_files}
    return found if len(found) + len(deletes) >= o.min_files else []


def _within(run: Run, table: Table, tasks: list[FileScanTask], o: st.Optimize) -> list[FileScanTask]:
    """The files of the partitions for which the condition holds: it may use identity partition columns only."""
    fields = [f for f in table.spec().fields if isinstance(f.transform, IdentityTransform)]
    schema = table_schema(table)
    columns = [schema.field(table.schema().find_field(f.source_id).name) for f in fields]
    if not columns:
        raise ValidationError("FOR PARTITIONS needs a table that is partitioned by the values of columns.")
    relevant = [task for task in tasks if task.file.spec_id == table.spec().spec_id]
    positions = [table.spec().fields.index(f) for f in fields]
    arrays: dict[str, Any] = {
        column.name: pa.array([_partition_value(task.file, at) for task in relevant]).cast(column.type)
        for column, at in zip(columns, positions, strict=True)
    }
    registered = run.job.register(pa.table({**arrays, "__file": [task.file.file_path for task in relevant]}))
    typed = ", ".join(f"CAST({quote(c.name)} AS {duckdb_type(c.type)}) AS {quote(c.name)}" for c in columns)
    item = f'(SELECT {typed}, "__file" FROM {registered}) AS {quote(o.path[-1])}'
    plan = run.plan(accelerate=False)
    condition = plan.expression(o.where or "TRUE", run.context, item, {tuple(p.lower() for p in o.path): o.path[-1]})
    names = {str(row[0]) for row in run.job.rows(plan.complete(f'SELECT "__file" FROM {item} WHERE {condition}'))}
    return [task for task in relevant if task.file.file_path in names]


def _partition_value(file: DataFile, at: int) -> Any:
    return file.partition[at]


def _bins(tasks: list[FileScanTask], target: int, spec_id: int) -> list[list[FileScanTask]]:
    """First fit in order of size; a bin never crosses partitions, and one good file alone is left alone."""
    groups: dict[Any, list[FileScanTask]] = {}
    for task in tasks:
        key = (task.file.spec_id, task.file.partition) if task.file.spec_id == spec_id else "other layout"
        groups.setdefault(key, []).append(task)
    found: list[list[FileScanTask]] = []
    for members in groups.values():
        bins: list[list[FileScanTask]] = []
        for task in sorted(members, key=lambda t: t.file.file_size_in_bytes, reverse=True):
            fitting = (b for b in bins if sum(t.file.file_size_in_bytes for t in b) < target)
            fits = next(
                (b for b in fitting if sum(t.file.file_size_in_bytes for t in [*b, task]) <= target * 1.1), None
            )
            if fits is None:
                bins.append([task])
            else:
                fits.append(task)
        found += [b for b in bins if len(b) > 1 or b[0].delete_files or b[0].file.spec_id != spec_id]
    return found


def _rewrite(run: Run, dataset: IcebergTable, table: Table, bins: list[list[FileScanTask]]) -> int:
    relation = run.reader.iceberg(dataset, None)
    if relation.snapshot_id != table.metadata.current_snapshot_id:
        raise ConcurrentModification(f"Table [{dotted(dataset.path)}] was changed by another statement.")
    writer = iceberg.Writer(run.engine.database, run.job, table.metadata, table.io, dataset.access)
    new: list[DataFile] = []
    try:
        for members in bins:
            paths = "(" + ", ".join(literal(task.file.file_path) for task in members) + ")"
            new += writer.write(f"{relation.sql} WHERE filename IN {paths}").files
            run.job.check()
        transaction = table.transaction()
        iceberg.replace(transaction, [task.file for b in bins for task in b], new, run.session.job_id, same_rows=True)
        with iceberg.committing(dataset, run.session.job_id):
            transaction.commit_transaction()
    except iceberg.Conflict:
        writer.discard()
        raise ConcurrentModification(f"Table [{dotted(dataset.path)}] was changed by another statement.") from None
    except BaseException:
        writer.discard()
        raise
    return len(new)


def _rewrite_manifests(run: Run, dataset: IcebergTable, table: Table) -> pa.Table:
    snapshot = table.current_snapshot()
    if snapshot is not None and len(snapshot.manifests(table.io)) > 1:
        transaction = table.transaction()
        marks = iceberg.marks(transaction, run.session.job_id)
        merge = transaction.update_snapshot(snapshot_properties=marks).merge_append()
        assert isinstance(merge, _MergeAppendFiles)
        merge._merge_enabled = True  # pyiceberg takes both from table properties only
        merge._min_count_to_merge = 2
        merge.commit()
        try:
            with iceberg.committing(dataset, run.session.job_id):
                transaction.commit_transaction()
        except iceberg.Conflict:
            raise ConcurrentModification(f"Table [{dotted(dataset.path)}] was changed by another statement.") from None
        run.changed(dataset.path)
    return ok("Optimize table successful")


def _optimized(rewritten: int, deletes: int, new: int) -> pa.Table:
    return pa.table(
        {
            "rewritten_data_files_count": pa.array([rewritten], pa.int64()),
            "rewritten_delete_files_count": pa.array([deletes], pa.int64()),
            "new_data_files_count": pa.array([new], pa.int64()),
        }
    )


def no_versions(run: Run, statement: st.Versioned) -> pa.Table:
    """Branches, tags and commits belong to versioned catalogs (Nessie, Arctic); this server mounts none."""
    name = (statement.source or run.context[:1] or ("",))[0]
    if not name:
        raise ValidationError(f"{statement.command}: no source is given, and the context has none.")
    known = getattr(run.catalog, "has_root", None)
    if callable(known) and not known(name):
        raise NotFound(f"Tried to access non-existent source [{name}].")
    raise UnsupportedError(f"Source {name} does not support versioning.")
