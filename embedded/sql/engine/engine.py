"""The SQL engine of the Dremio-compatible server: parse, plan, run one statement. Safe to call from several threads."""

from __future__ import annotations

import datetime
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path as FilePath
from typing import Any, TypeVar

import pyarrow as pa

from embedded.sql import acting
from embedded.sql.datasets import Catalog, Dataset, IcebergTable, Materialization, Outcome, Path, S3Access, Session
from embedded.sql.engine import alterations, copy_into, ddl, dml, listings, maintenance, streaming, user_functions
from embedded.sql.engine import statements as st
from embedded.sql.engine.commands import parse_statement
from embedded.sql.engine.database import Database, Flag, Job, NeverSet
from embedded.sql.engine.datatypes import type_text
from embedded.sql.engine.increments import Base
from embedded.sql.engine.materialize import Materialized, materialize, versions
from embedded.sql.engine.outcomes import ok, records
from embedded.sql.engine.planner import Plan, output_schema
from embedded.sql.engine.relations import Reader, describe_files, dotted
from embedded.sql.engine.results import normalise_table
from embedded.sql.engine.statements import PartitionTerm
from embedded.sql.engine.streaming import Rows
from embedded.sql.engine.tables import resolve
from embedded.sql.engine.translate import Moment
from embedded.sql.errors import FileGoneError, UnsupportedError, ValidationError

Result = TypeVar("Result")
REPLANNED = 2  # times, while files that a query is to read are gone by then


class Engine:
    """One per server process. `execute` runs in the caller's thread; results are Arrow tables with Dremio's types."""

    def __init__(self, catalog: Catalog, *, scratch: FilePath, memory_limit: str = "1500MB", threads: int = 2) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        # Trees are walked recursively; generated SQL has chains of hundreds of ORs or UNIONs.
        sys.setrecursionlimit(max(sys.getrecursionlimit(), 6_000))
        self.catalog = catalog
        self.database = Database(scratch, memory_limit, threads)
        self._writers: dict[Path, threading.Lock] = {}
        self._guard = threading.Lock()

    def execute(self, sql: str, session: Session, *, cancelled: Flag | None = None) -> Outcome:
        """Run one statement to its end. Raises SqlError subclasses only; Cancelled when `cancelled` or `interrupt`."""
        statement = parse_statement(sql)
        with acting.as_user(session.user), self.database.job(session.job_id, cancelled or NeverSet()) as job:
            run = self._permitted(statement, session, job)
            try:
                table = run.statement(statement)
            except RecursionError:
                raise ValidationError("The query is nested too deeply for this server.") from None
            return Outcome(normalise_table(table), scanned=run.scanned, reflections=run.reflections)

    def stream(self, sql: str, session: Session, *, cancelled: Flag | None = None) -> Rows:
        """Plan one statement and give its rows to be read; what is not a query is carried out before this returns.

        Whoever reads must close. Raises what `execute` raises; errors of a running query come with its rows.
        """
        statement = parse_statement(sql)
        with acting.as_user(session.user), ExitStack() as resources:
            job = resources.enter_context(self.database.job(session.job_id, cancelled or NeverSet()))
            run = self._permitted(statement, session, job)
            try:
                if isinstance(statement, st.Query):
                    rows = run.rows(statement.sql, resources)
                else:
                    rows = streaming.from_table(normalise_table(run.statement(statement)), job)
            except RecursionError:
                raise ValidationError("The query is nested too deeply for this server.") from None
            rows.scanned, rows.reflections = run.scanned, run.reflections
            rows.resources = resources.pop_all()
        return rows

    def _permitted(self, statement: st.Statement, session: Session, job: Job) -> Run:
        """Raises PermissionDenied when the acting user may not run this."""
        self.catalog.permit(statement, session.context)
        return Run(self, job, session)

    def foresee(self, sql: str, session: Session) -> tuple[pa.Schema | None, bool]:
        """The columns of a statement's result without running it, and whether it only reads.

        The columns are None for a command of which only its run tells. Raises what planning raises.
        """
        statement = parse_statement(sql)
        if not isinstance(statement, READING):
            return foreseen(statement), False
        with acting.as_user(session.user), self.database.job("", NeverSet()) as job:
            run = self._permitted(statement, session, job)
            if isinstance(statement, st.Query):
                return run.query_schema(statement.sql), True
            return normalise_table(run.statement(statement)).schema, True

    def reads_only(self, sql: str) -> bool:
        """Whether a statement changes nothing. Raises ParseError for one that this server does not know."""
        return isinstance(parse_statement(sql), READING)

    def describe(self, sql: str, context: Path = (), *, user: str = "") -> pa.Schema:
        """The columns of a query, for a view's fields. Raises what running it would raise at planning."""
        with self.database.job("", NeverSet()) as job:
            run = Run(self, job, Session(user, context))
            return run.query_schema(sql)

    def describe_dataset(self, path: Path, context: Path = ()) -> pa.Schema:
        """The columns of any dataset by name."""
        return self.describe(f"SELECT * FROM {'.'.join(listings.quoted(path))}", context)

    def describe_files(
        self, files: tuple[str, ...], file_format: str, access: S3Access, options: Mapping[str, object] | None = None
    ) -> tuple[tuple[str, str], ...]:
        """(name, Dremio type) of each column in these files: what FileTable.columns holds after a metadata refresh."""
        with self.database.job("", NeverSet()) as job:
            schema = describe_files(self.database, job, files, file_format, access, dict(options or {}))
        return tuple((field.name, type_text(field.type)) for field in schema)

    def materialize(
        self,
        materialization: Materialization,
        folder: str,
        session: Session,
        *,
        order: Sequence[str] = (),
        partition: Sequence[tuple[str, str, int]] = (),
        base: tuple[str, Mapping[Path, str]] | None = None,
        cancelled: Flag | None = None,
    ) -> Materialized:
        """Write a reflection's data below `folder` (s3://...) and say what was read.

        Of `materialization` the definition, the dataset's full path and the access to the distributed store are used.
        `order`: sort columns. `partition`: column, transform and its number. `base`: metadata and versions of the last
        refresh of the same definition, when this one may be incremental.
        """
        terms = [PartitionTerm(column, transform, number) for column, transform, number in partition]  # type: ignore[arg-type]
        with self.database.job(session.job_id, cancelled or NeverSet()) as job:
            run = Run(self, job, session)
            return materialize(run, materialization, folder, order, terms, Base(*base) if base else None)

    def versions(self, dataset: Path) -> Mapping[Path, str]:
        """Lowered path of each table and view that a dataset reads -> its version now; empty: something has none."""
        with self.database.job("", NeverSet()) as job:
            return versions(Run(self, job, Session("")), dataset)

    def interrupt(self, job_id: str) -> bool:
        """Stop a running statement; False when no statement of this job runs."""
        return self.database.interrupt(job_id)

    def close(self) -> None:
        self.database.close()

    @contextmanager
    def writing(self, path: Path, job: Job) -> Iterator[None]:
        """Statements of this process change one table one after the other; waiting can be cancelled."""
        key = tuple(part.lower() for part in path)
        with self._guard:
            lock = self._writers.setdefault(key, threading.Lock())
        while not lock.acquire(timeout=0.1):
            job.check()
        try:
            yield
        finally:
            lock.release()

    def pinned_snapshots(self, path: Path) -> set[int]:
        """Snapshots that views pin, when the catalog can tell: VACUUM keeps them."""
        ask = getattr(self.catalog, "pinned_snapshots", None)
        return set(ask(path)) if callable(ask) else set()


class Run:
    """One statement being run: who asked, in which context, what was read."""

    def __init__(self, engine: Engine, job: Job, session: Session) -> None:
        self.engine = engine
        self.catalog = engine.catalog
        self.job = job
        self.session = session
        job.on_start = session.on_start
        self.context = session.context
        self.reader = Reader(engine.database, job)
        now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        self.moment = Moment(
            now.replace(microsecond=now.microsecond // 1000 * 1000), session.user, dotted(session.context)
        )
        self.scanned: list[Path] = []
        self.reflections: list[Any] = []

    def plan(self, *, accelerate: bool = True, excluded: frozenset[str] = frozenset()) -> Plan:
        return Plan(self.catalog, self.reader.steady(), self.job, self.moment, accelerate=accelerate, excluded=excluded)

    def used(self, plan: Plan) -> None:
        for path in plan.scanned:
            if path not in self.scanned:
                self.scanned.append(path)
        self.reflections += plan.ledger.listed()

    def changed(self, path: Path) -> None:
        self.catalog.table_changed(path)

    def full(self, path: Path) -> Path:
        """Where a new object of this name goes: inside the context when the name has one part."""
        return (*self.context, *path) if len(path) == 1 else path

    def dataset(self, path: Path) -> Dataset:
        """Whatever this name stands for in the context."""
        return resolve(self.catalog, path, self.context)

    def iceberg(self, path: Path) -> IcebergTable:
        dataset = self.dataset(path)
        if not isinstance(dataset, IcebergTable):
            raise UnsupportedError(
                f"DML operations are not supported on [{dotted(dataset.path)}]: it is no Iceberg table."
            )
        return dataset

    def query_schema(self, sql: str) -> pa.Schema:
        plan = self.plan()
        body = plan.query(sql, self.context)
        schema = output_schema(self.job, plan.complete(body))
        return normalise_table(schema.empty_table()).schema

    def tree_schema(self, plan: Plan, tree: Any, context: Path) -> pa.Schema:
        """The columns of a query that is parsed already; of type null where only a call will tell the type."""
        sql = plan.complete(plan.body(tree, context))
        schema = normalise_table(output_schema(self.job, sql).empty_table()).schema
        kinds = [str(row[1]) for row in self.job.rows(f"DESCRIBE {sql}")]
        return pa.schema(
            [pa.field(f.name, pa.null()) if kind == '"NULL"' else f for f, kind in zip(schema, kinds, strict=True)]
        )

    def query(self, sql: str) -> pa.Table:
        table = self._planned(sql, self.job.arrow)
        return table.rename_columns(unique_names(table.column_names))

    def rows(self, sql: str, resources: ExitStack) -> Rows:
        """The same as `query`, read as it comes; `resources` are what the rows hold."""
        return self._planned(sql, lambda generated: streaming.from_query(generated, self.job, resources, unique_names))

    def _planned(self, sql: str, run: Callable[[str], Result]) -> Result:
        """Runs a query. Between planning and reading a table may be dropped, made anew or vacuumed: then what it is now
        is read, or it is not found.
        """
        for _ in range(REPLANNED):
            with suppress(FileGoneError):
                return self._planned_once(sql, run)
        return self._planned_once(sql, run)

    def _planned_once(self, sql: str, run: Callable[[str], Result]) -> Result:
        plan = self.plan()
        result = run(plan.complete(plan.query(sql, self.context)))
        self.used(plan)
        return result

    def statement(self, statement: st.Statement) -> pa.Table:
        return _HANDLERS[type(statement)](self, statement)


def unique_names(names: Sequence[str]) -> list[str]:
    """A name that occurs again gets a number, as Calcite does: id, id0, id1."""
    taken: set[str] = set()
    found: list[str] = []
    for name in names:
        unique, number = name, 0
        while unique.lower() in taken:
            unique, number = f"{name}{number}", number + 1
        taken.add(unique.lower())
        found.append(unique)
    return found


def _create_view(run: Run, s: st.CreateView) -> pa.Table:
    path = run.full(s.path)
    schema = run.query_schema(s.sql)
    sql = s.sql
    if s.columns:
        if len(s.columns) != len(schema.names):
            raise ValidationError(
                f"view's field list and the view's query field list have different counts: {len(s.columns)} "
                f"and {len(schema.names)}"
            )
        names = ", ".join(listings.quoted(s.columns))
        sql = f"SELECT * FROM ({s.sql}\n) AS t({names})"  # the text may end in a comment
        schema = pa.schema([pa.field(n, f.type) for n, f in zip(s.columns, schema, strict=True)])
    lowered = [name.lower() for name in schema.names]
    for name in schema.names:
        if lowered.count(name.lower()) > 1:
            raise ValidationError(f"Duplicate column name [{name}]")
    run.catalog.put_view(path, sql, run.context, schema, replace=s.replace)
    return ok(f"View '{dotted(path)}' {'replaced' if s.replace else 'created'} successfully")


def _drop_view(run: Run, s: st.DropView) -> pa.Table:
    run.catalog.drop_view(run.full(s.path), if_exists=s.if_exists)
    return ok(f"View [{dotted(run.full(s.path))}] deleted successfully.")


def _grant(run: Run, s: st.Grant) -> pa.Table:
    grant = getattr(run.catalog, "grant", None)
    if not callable(grant):
        raise UnsupportedError(f"{'REVOKE' if s.revoke else 'GRANT'} is not supported by this server.")
    return ok(str(grant(s)))


def _security(run: Run, s: st.GrantRole | st.Account, words: str) -> pa.Table:
    """Users and roles belong to the server: `change_accounts` of its catalog takes the statement."""
    change = getattr(run.catalog, "change_accounts", None)
    if not callable(change):
        raise UnsupportedError(f"{words} is not supported by this server.")
    return ok(str(change(s)))


def _set_option(run: Run, s: st.SetOption) -> pa.Table:
    change = getattr(run.catalog, "set_option", None)
    if not callable(change):
        if s.name is None:
            return ok("All options have been reset.")
        raise ValidationError(f"The option '{s.name.lower()}' does not exist.")
    return ok(str(change(s.scope, s.name, s.value)))


def _optional(run: Run, name: str, words: str, *arguments: object) -> pa.Table:
    method = getattr(run.catalog, name, None)
    if not callable(method):
        raise UnsupportedError(f"{words} is not supported by this server.")
    return ok(str(method(*arguments)))


def _counted(change: Callable[[Run, Any], int]) -> Callable[[Run, Any], pa.Table]:
    return lambda run, statement: records(change(run, statement))


def _explain(run: Run, s: st.Explain) -> pa.Table:
    plan = run.plan()
    body = plan.query(s.sql, run.context)
    lines = run.job.rows(f"EXPLAIN {plan.complete(body)}")
    run.used(plan)
    return pa.table({"text": [str(line[1]) for line in lines], "json": ["{}" for _ in lines]})


def _use(run: Run, s: st.Use) -> pa.Table:
    return ok(f"Default schema changed to [{dotted(s.path)}]")


READING = (st.Query, st.Show, st.ShowCreate, st.ShowProperties, st.Describe, st.DescribeFunction, st.Explain)
_OK, _RECORDS = ok("").schema, records(0).schema
_FORESEEN: dict[type, pa.Schema] = {
    **dict.fromkeys((st.Insert, st.Delete, st.Update, st.Merge), _RECORDS),
    **dict.fromkeys((st.CreateView, st.DropView, st.DropTable, st.Truncate, st.Rollback, st.Use, st.Grant), _OK),
    **dict.fromkeys((st.AddColumns, st.DropColumn, st.AlterColumn, st.CreateFolder, st.DropFolder), _OK),
    **dict.fromkeys((st.RefreshMetadata, st.ForgetMetadata, st.CreateReflection, st.DropReflection), _OK),
    **dict.fromkeys((st.SetAcceleration, st.RefreshReflections, st.EnableDefaultReflection), _OK),
}


def foreseen(statement: st.Statement) -> pa.Schema | None:
    """The columns that a command answers with; None where its course decides."""
    if isinstance(statement, st.CreateTable) and not statement.if_not_exists:
        return _RECORDS if statement.query is not None else _OK
    return _FORESEEN.get(type(statement))


_HANDLERS: dict[type, Callable[[Run, Any], pa.Table]] = {
    st.Query: lambda run, s: run.query(s.sql),
    st.CreateView: _create_view,
    st.DropView: _drop_view,
    st.CreateTable: ddl.create_table,
    st.DropTable: ddl.drop_table,
    st.Insert: dml.insert,
    st.Delete: _counted(dml.delete),
    st.Update: _counted(dml.update),
    st.Merge: _counted(dml.merge),
    st.Truncate: dml.truncate,
    st.CopyInto: copy_into.copy_into,
    st.AddColumns: alterations.alter_columns,
    st.DropColumn: alterations.alter_columns,
    st.AlterColumn: alterations.alter_columns,
    st.AlterPartition: alterations.alter_partition,
    st.SetProperties: alterations.set_properties,
    st.SetSort: alterations.set_sort,
    st.SetPrimaryKey: alterations.set_primary_key,
    st.RefreshMetadata: lambda run, s: ok(run.catalog.refresh_metadata(run.full(s.path), s.options)),
    st.ForgetMetadata: lambda run, s: ok(run.catalog.forget_metadata(run.full(s.path))),
    st.CreateReflection: lambda run, s: ok(run.catalog.create_reflection(run.full(s.path), s.definition)),
    st.DropReflection: lambda run, s: ok(run.catalog.drop_reflection(run.full(s.path), s.name)),
    st.SetAcceleration: lambda run, s: ok(run.catalog.set_acceleration(run.full(s.path), s.kind, enabled=s.enabled)),
    st.RefreshReflections: lambda run, s: ok(run.catalog.refresh_reflections(run.full(s.path))),
    st.EnableDefaultReflection: lambda run, s: _optional(
        run, "set_default_reflection", "SET ENABLE_DEFAULT_REFLECTION", run.full(s.path), s.enabled
    ),
    st.CreateFolder: lambda run, s: ok(run.catalog.create_folder(run.full(s.path), if_not_exists=s.if_not_exists)),
    st.DropFolder: lambda run, s: ok(run.catalog.drop_folder(run.full(s.path), if_exists=s.if_exists)),
    st.CreateFunction: user_functions.create,
    st.DropFunction: user_functions.drop,
    st.DescribeFunction: user_functions.describe,
    st.Show: listings.show,
    st.ShowCreate: listings.show_create,
    st.ShowProperties: alterations.show_properties,
    st.Describe: listings.describe,
    st.Explain: _explain,
    st.Use: _use,
    st.SetOption: _set_option,
    st.Rollback: maintenance.rollback,
    st.Vacuum: maintenance.vacuum,
    st.RemoveOrphans: maintenance.remove_orphans,
    st.VacuumCatalog: maintenance.vacuum_catalog,
    st.Optimize: maintenance.optimize,
    st.Versioned: maintenance.no_versions,
    st.Grant: _grant,
    st.GrantRole: lambda run, s: _security(run, s, "REVOKE ROLE" if s.revoke else "GRANT ROLE"),
    st.Account: lambda run, s: _security(run, s, f"{s.verb} {s.kind}"),
}
