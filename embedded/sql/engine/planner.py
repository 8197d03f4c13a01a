"""Resolves the names of a query: tables become common table expressions over the right files, views are expanded.

One Plan may hold several pieces of one statement (the query, the ON of a MERGE): they share its definitions.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import pyarrow as pa
from sqlglot import exp

from embedded.sql import acting
from embedded.sql.datasets import Catalog, Dataset, IcebergTable, Path, SystemTable, View
from embedded.sql.engine.database import Job
from embedded.sql.engine.datatypes import quote
from embedded.sql.engine.dialect import parse_expression, parse_query
from embedded.sql.engine.metadata_functions import metadata_table, named_table
from embedded.sql.engine.relations import Reader, Relation, Version, dotted, empty_select
from embedded.sql.engine.settle import settle
from embedded.sql.engine.substitution import (
    Ledger,
    aggregate_columns,
    covers,
    names_in,
    raw_relation,
    roll_up,
    usable,
)
from embedded.sql.engine.translate import Moment, name_columns, render, rewrite, vet
from embedded.sql.errors import NotFound, ParseError, ValidationError

MAX_DEPTH = 40  # of views over views


@dataclass(frozen=True)
class Source:
    """A resolved name: its definition's name in the WITH clause, and what it is."""

    name: str
    path: Path
    dataset: Dataset
    relation: Relation | None  # None for views


@dataclass(frozen=True)
class Definition:
    """One entry of the WITH clause; `hollow` has the same columns and no rows."""

    name: str
    sql: str
    hollow: str


@dataclass(frozen=True)
class TableExpression:
    """One FROM item as DuckDB SQL, and its alias."""

    item: str
    alias: str


Key = tuple[object, ...]


@dataclass
class Plan:
    """Names resolved so far and their SQL. `scanned` are physical datasets, `views` the views used, in order."""

    catalog: Catalog
    reader: Reader
    job: Job
    moment: Moment
    definitions: list[Definition] = field(default_factory=list)
    sources: dict[Key, Source] = field(default_factory=dict)
    accelerate: bool = True  # answer from reflections where possible
    ledger: Ledger = field(default_factory=Ledger)
    _expanding: list[Path] = field(default_factory=list)  # views, outermost first
    _names: set[str] | None = None  # names that the tree being resolved may use; None: any

    @property
    def scanned(self) -> list[Path]:
        return [
            s.path for s in self.sources.values() if s.relation is not None and not isinstance(s.dataset, SystemTable)
        ]

    def query(self, sql: str, context: Path) -> str:
        """DuckDB SQL of a Dremio query, without the WITH clause that `with_clause` gives."""
        tree = parse_query(sql)
        while isinstance(tree, exp.Subquery) and not any(v for k, v in tree.args.items() if k != "this"):
            tree = tree.this  # parentheses around the whole
        vet(tree)
        name_columns(tree)
        self.resolve(tree, context)
        return self.generate(tree)

    def generate(self, tree: exp.Expr, items: str = "") -> str:
        """DuckDB SQL of a resolved tree; `items` are the FROM items that a bare expression belongs to."""
        holder = exp.Paren(this=rewrite(tree, self.moment))

        def bind(sql: str) -> None:
            self.job.connection.execute(f"EXPLAIN {self.complete(sql, hollow=True)}")

        settle(holder, self.reader.database.variants, render, bind, items)
        return render(holder.this)

    def table_expression(self, sql: str, context: Path) -> TableExpression:
        """What stands after USING or FROM in a DML statement: one table, view or subquery with its alias."""
        tree = parse_query(f"SELECT * FROM {sql}")
        extra = [name for name, value in tree.args.items() if value and name not in ("expressions", "from_")]
        if not isinstance(tree, exp.Select) or extra:
            raise ParseError("Failure parsing the query. One table, view or subquery is expected.")
        vet(tree)
        self.resolve(tree, context)
        item = tree.args["from_"].this
        if not item.alias:
            raise ParseError("Failure parsing the query. A subquery needs an alias.")
        return TableExpression(self.generate(tree).removeprefix("SELECT * FROM "), item.alias)

    def expression(self, sql: str, context: Path, items: str, names: dict[Path, str] | None = None) -> str:
        """A scalar expression over the FROM items `items`, which serve to find types only and may be empty tables.

        `names` are paths of tables that its columns may be written with, and their aliases.
        """
        tree = parse_expression(sql)
        vet(tree)
        holder = exp.Paren(this=tree)
        self.resolve(holder, context)
        if names:
            _shorten_columns(holder, names)
        return self.generate(holder, items)

    def complete(self, sql: str, *, hollow: bool = False) -> str:
        """The query with the definitions of its names; its own CTEs come after ours. Hollow: over empty tables."""
        clause = self.with_clause(hollow)
        if clause and sql.startswith("WITH "):
            return clause.rstrip() + ", " + sql.removeprefix("WITH ")
        if clause and sql.startswith("("):  # DuckDB's parser gives up on WITH a (WITH b ...)
            return f"{clause}SELECT * FROM ({sql})"
        return clause + sql

    def with_clause(self, hollow: bool = False) -> str:
        if not self.definitions:
            return ""
        parts = (f"{quote(d.name)} AS NOT MATERIALIZED ({d.hollow if hollow else d.sql})" for d in self.definitions)
        return "WITH " + ", ".join(parts) + " "

    def resolve(self, tree: exp.Expr, context: Path) -> None:
        """Replace every table name in `tree`. CTE names of the query hide tables, as in SQL."""
        outer, self._names = self._names, names_in(tree)
        try:
            self._visit(tree, frozenset(), context)
        finally:
            self._names = outer

    def _visit(self, node: exp.Expr, hidden: frozenset[str], context: Path) -> None:
        ctes = node.args.get("with_")
        if isinstance(ctes, exp.With):
            for cte in ctes.expressions:
                self._visit(cte.this, hidden, context)
                hidden |= {cte.alias.lower()}
        if isinstance(node, exp.Table):
            self._replace(node, hidden, context)
            return
        names: dict[Path, str] = {}
        if isinstance(node, exp.Select):
            if self.accelerate and self._rolled_up(node, hidden, context):
                return
            names = _unaliased(node)
        for child in list(node.iter_expressions()):
            if child is not ctes:
                self._visit(child, hidden, context)
        if names:
            _shorten_columns(node, names)

    def _replace(self, node: exp.Table, hidden: frozenset[str], context: Path) -> None:
        parts = node.parts
        if len(parts) == 1 and isinstance(parts[0], exp.Identifier) and parts[0].name.lower() in hidden:
            if node.args.get("version"):
                raise ValidationError(f"Time travel is not supported on '{parts[0].name}'")
            return
        source = self.source(node, context)
        alias = node.args.get("alias") or exp.TableAlias(this=exp.to_identifier(source.path[-1], quoted=True))
        node.replace(exp.Table(this=exp.to_identifier(source.name, quoted=True), alias=alias))

    def source(self, node: exp.Table, context: Path) -> Source:
        if any(isinstance(part, exp.Anonymous) for part in node.parts) or isinstance(node.this, exp.Anonymous):
            return self._function(node, context)
        path = tuple(part.name for part in node.parts)
        return self.named(path, _version(node), context)

    def named(self, path: Path, version: Version | None, context: Path) -> Source:
        # A reflection stands for the whole table only in trees that use no other column, hence the names in the key.
        names = frozenset(self._names) if self._names is not None else None
        # The user too: what a view may read for its owner is not thereby open to its reader.
        key: Key = (tuple(p.lower() for p in path), version, tuple(p.lower() for p in context), names, acting.user())
        if known := self.sources.get(key):
            return known
        return self._keep(key, resolve(self.catalog, path, context), version)

    def _keep(self, key: Key, dataset: Dataset, version: Version | None) -> Source:
        name = self.job.fresh_name()
        if isinstance(dataset, View):
            source = Source(name, dataset.path, dataset, None)
            sql = hollow = self._view(dataset, version)
        else:
            relation = self._accelerated(dataset, self.reader.read(dataset, version))
            source = Source(name, dataset.path, dataset, relation)
            sql, hollow = relation.sql, empty_select(relation.schema)
        self.sources[key] = source
        self.definitions.append(Definition(name, sql, hollow))
        return source

    def _view(self, view: View, version: Version | None) -> str:
        if version is not None:
            raise ValidationError(f"Time travel is not supported on view '{dotted(view.path)}'")
        name = tuple(part.lower() for part in view.path)
        if name in self._expanding:
            raise ValidationError(f"View '{dotted(view.path)}' refers to itself.")
        if len(self._expanding) >= MAX_DEPTH:
            raise ValidationError(f"View '{dotted(view.path)}' is nested too deeply.")
        self._expanding.append(name)
        try:
            with self.catalog.on_behalf(view):
                return self.query(view.sql, view.context)
        finally:
            self._expanding.pop()

    def _function(self, node: exp.Table, context: Path) -> Source:
        """TABLE(table_snapshot('a.b')), TABLE(a.b(type => 'text'))"""
        call = node.this
        if not isinstance(call, exp.Anonymous) or call.name.upper() != "TABLE" or len(call.expressions) != 1:
            raise ParseError("Failure parsing the query. A table function must be written TABLE(function(...)).")
        inner = call.expressions[0]
        key: Key = ("TABLE", inner.sql(), tuple(context), acting.user())
        if known := self.sources.get(key):
            return known

        def look_up(path: Path) -> Dataset:
            return resolve(self.catalog, path, context)

        resolved = metadata_table(inner, look_up) or named_table(inner, look_up)
        return self._keep(key, resolved, None)

    def _accelerated(self, dataset: Dataset, relation: Relation) -> Relation:
        """The same rows from a RAW reflection that stands at this snapshot, when one shows all that is needed."""
        if not self.accelerate or not isinstance(dataset, IcebergTable):
            return relation
        found = usable(self.catalog.materializations(dataset.path), relation.snapshot_id, relation.schema, self.ledger)
        matching = [m for m in found if m.kind == "RAW" and covers(m, relation.schema, self._names)]
        for m in matching:
            self.ledger.note(m, "MATCHED")
        if not matching:
            return relation
        best = min(matching, key=lambda m: len(m.display))
        self.ledger.note(best, "CHOSEN")
        self.reader.database.allow_s3(best.files, best.access)
        return dataclasses.replace(relation, sql=raw_relation(best, relation.schema))

    def _rolled_up(self, select: exp.Select, hidden: frozenset[str], context: Path) -> bool:
        """Answer a grouping SELECT over one table (or a plain view of it) from an aggregation; False: not possible."""
        table = select.args["from_"].this if select.args.get("from_") else None
        if not isinstance(table, exp.Table) or not aggregate_columns(select) or not _is_name(table, hidden):
            return False
        found = self._anchor(table, context)
        if found is None:
            return False
        dataset, version, renamed = found
        materializations = [m for m in self.catalog.materializations(dataset.path) if m.kind == "AGGREGATION"]
        if not materializations:
            return False
        relation = self.reader.read(dataset, version)
        renamed = renamed if renamed is not None else {f.name.lower(): f.name.lower() for f in relation.schema}
        matching = []
        for m in usable(materializations, relation.snapshot_id, relation.schema, self.ledger):
            if rolled := roll_up(select, m, relation.schema, renamed):
                self.ledger.note(m, "MATCHED")
                matching.append((m, rolled))
        if not matching:
            return False
        best, rolled = min(matching, key=lambda pair: len(pair[0].dimensions))
        self.ledger.note(best, "CHOSEN")
        self.reader.database.allow_s3(best.files, best.access)
        source = Source(self.job.fresh_name(), dataset.path, dataset, relation)
        self.sources[("ROLLUP", source.name)] = source
        self.definitions.append(Definition(source.name, rolled.relation, f"{rolled.relation} LIMIT 0"))
        rolled.apply(select)
        table.replace(exp.Table(this=exp.to_identifier(source.name, quoted=True)))
        return True

    def _anchor(
        self, node: exp.Table, context: Path
    ) -> tuple[IcebergTable, Version | None, dict[str, str] | None] | None:
        """The Iceberg table behind a name, directly or through one view that only selects its columns."""
        dataset = resolve(self.catalog, tuple(part.name for part in node.parts), context)
        version = _version(node)
        if isinstance(dataset, IcebergTable):
            return dataset, version, None
        if not isinstance(dataset, View) or version is not None:
            return None
        plain = _plain_columns(parse_query(dataset.sql))
        if plain is None:
            return None
        inner, renamed = plain
        with self.catalog.on_behalf(dataset):
            below = resolve(self.catalog, tuple(part.name for part in inner.parts), dataset.context)
        return (below, _version(inner), renamed) if isinstance(below, IcebergTable) else None

    def only_path(self) -> Path:
        """The path of the one dataset of a plan over one table; () otherwise."""
        paths = {source.path for source in self.sources.values()}
        return paths.pop() if len(paths) == 1 else ()

    def snapshots(self) -> dict[Path, int | None]:
        """The snapshot that each Iceberg table is read at."""
        return {
            s.path: s.relation.snapshot_id
            for s in self.sources.values()
            if s.relation is not None and isinstance(s.dataset, IcebergTable)
        }


def resolve(catalog: Catalog, path: Path, context: Path) -> Dataset:
    """Look a path up; a schema quoted as one identifier with dots ("a.b"."t") is what SQLAlchemy clients send."""
    try:
        return catalog.resolve(path, context)
    except NotFound:
        split = tuple(part for name in path for part in name.split("."))
        if split == path or not all(split):
            raise
        try:
            return catalog.resolve(split, context)
        except NotFound:
            pass
        raise


def _version(node: exp.Table) -> Version | None:
    version = node.args.get("version")
    if version is None:
        return None
    kind = {"VERSION": "SNAPSHOT"}.get(version.name, version.name)
    value = version.expression
    if version.text("kind") != "AS OF" or kind not in ("SNAPSHOT", "TIMESTAMP", "BRANCH", "TAG"):
        raise ParseError(f"Failure parsing the query. AT {kind} is not supported.")
    if isinstance(value, exp.Cast):
        value = value.this
    if kind in ("SNAPSHOT", "TIMESTAMP") and not (isinstance(value, exp.Literal) and value.is_string):
        raise ParseError(f"Failure parsing the query. AT {kind} expects a text literal.")
    return Version(kind, value.name)


def _is_name(table: exp.Table, hidden: frozenset[str]) -> bool:
    if not all(isinstance(part, exp.Identifier) for part in table.parts):
        return False
    return len(table.parts) > 1 or table.parts[0].name.lower() not in hidden


def _plain_columns(tree: exp.Expr) -> tuple[exp.Table, dict[str, str]] | None:
    """SELECT a, b AS c FROM t [AT SNAPSHOT ...] and nothing else: the table, and shown name -> own name, lowered."""
    if not isinstance(tree, exp.Select) or any(v for k, v in tree.args.items() if k not in ("expressions", "from_")):
        return None
    table = tree.args["from_"].this if tree.args.get("from_") else None
    if not isinstance(table, exp.Table) or not _is_name(table, frozenset()):
        return None
    renamed: dict[str, str] = {}
    for item in tree.expressions:
        column = item.this if isinstance(item, exp.Alias) else item
        if not isinstance(column, exp.Column) or isinstance(column.this, exp.Star) or column.args.get("db"):
            return None
        renamed[item.alias_or_name.lower()] = column.name.lower()
    return table, renamed


def _unaliased(select: exp.Select) -> dict[Path, str]:
    """Tables of this SELECT written with a path of several parts and no alias: their columns may use the path."""
    found: dict[Path, str] = {}
    items = [select.args.get("from_"), *(select.args.get("joins") or [])]
    for item in items:
        table = item.this if item is not None else None
        if isinstance(table, exp.Table) and not table.alias and not isinstance(table.this, exp.Anonymous):
            path = tuple(part.name.lower() for part in table.parts)
            if len(path) > 1:
                found[path] = table.parts[-1].name
    return found


def _shorten_columns(node: exp.Expr, names: dict[Path, str]) -> None:
    """lake.silver.orders.id becomes orders.id where lake.silver.orders is in FROM without an alias."""
    for column in list(node.find_all(exp.Column)):
        top: exp.Expr = column
        parts: list[exp.Expr] = list(column.parts)
        while isinstance(top.parent, exp.Dot) and top.parent.this is top:
            top = top.parent
            parts.append(top.expression)
        lowered = tuple(part.name.lower() for part in parts)
        for path, name in names.items():
            if len(lowered) > len(path) and lowered[: len(path)] == path:
                rest = [exp.to_identifier(p.name, quoted=True) for p in parts[len(path) :]]
                new: exp.Expr = exp.Column(this=rest[0], table=exp.to_identifier(name, quoted=True))
                for field_name in rest[1:]:
                    new = exp.Dot(this=new, expression=field_name)
                top.replace(new)
                break


def output_schema(job: Job, sql: str) -> pa.Schema:
    """The columns that DuckDB gives a query, under their own names (which may repeat), without running it."""
    names = [str(row[0]) for row in job.rows(f"DESCRIBE {sql}")]
    found = job.arrow(f"{numbered(sql, len(names))} LIMIT 0").schema
    return pa.schema([pa.field(name, field.type) for name, field in zip(names, found, strict=True)])


def numbered(sql: str, count: int) -> str:
    """The query with its columns named c0, c1, ... for use by position."""
    return f"SELECT * FROM ({sql}) AS q({', '.join(f'c{i}' for i in range(count))})"
