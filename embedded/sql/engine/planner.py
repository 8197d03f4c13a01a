"""Resolves the names of a query: tables become common table expressions over the right files, views are expanded.

One Plan may hold several pieces of one statement (the query, the ON of a MERGE): they share its definitions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa
from sqlglot import exp

from embedded.sql import acting
from embedded.sql.datasets import Catalog, Dataset, Materialization, Path, SystemTable, UserFunction, View
from embedded.sql.engine.blocks import Flattener, Leaf, digest, lowered
from embedded.sql.engine.database import Job
from embedded.sql.engine.datatypes import duckdb_type, parse_type, quote
from embedded.sql.engine.dialect import parse_expression, parse_query
from embedded.sql.engine.metadata_functions import external_query, metadata_table, named_table, system_table
from embedded.sql.engine.relations import Reader, Relation, Version, dotted, empty_select
from embedded.sql.engine.settle import settle
from embedded.sql.engine.stored import stored_relation
from embedded.sql.engine.substitution import Ledger, Substitution, inline_ctes, names_in
from embedded.sql.engine.syntax import vet
from embedded.sql.engine.tables import resolve, version_of
from embedded.sql.engine.translate import Moment, name_columns, render, rewrite
from embedded.sql.engine.user_functions import call_in_from, expand
from embedded.sql.errors import ParseError, ValidationError

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
    excluded: frozenset[str] = frozenset()  # reflections that must not answer
    ledger: Ledger = field(default_factory=Ledger)
    versions: dict[Path, str] = field(default_factory=dict)  # of all that is read; views too, by their text
    answered: list[Path] = field(default_factory=list)  # (lowered) tables that a reflection stands for
    _datasets: dict[tuple[Path, Path, str | None], Dataset] = field(default_factory=dict)  # by name, context and user
    _expanding: list[Path] = field(default_factory=list)  # views, outermost first
    _names: set[str] | None = None  # names that the tree being resolved may use; None: any

    @property
    def scanned(self) -> list[Path]:
        read = [
            s.path for s in self.sources.values() if s.relation is not None and not isinstance(s.dataset, SystemTable)
        ]
        return [*read, *(path for path in self.answered if path not in {lowered(p) for p in read})]

    def query(self, sql: str, context: Path) -> str:
        """DuckDB SQL of a Dremio query, without the WITH clause that `with_clause` gives."""
        tree = parse_query(sql)
        while isinstance(tree, exp.Subquery) and not any(v for k, v in tree.args.items() if k != "this"):
            tree = tree.this  # parentheses around the whole
        vet(tree)
        return self.body(tree, context)

    def body(self, tree: exp.Expr, context: Path) -> str:
        """The same for a query that is checked already; the tree is used up."""
        name_columns(tree)
        tree = expand(self.catalog, tree, context)
        if self._substitution is not None:
            inline_ctes(tree)
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
        holder = exp.Paren(this=expand(self.catalog, tree, context))
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
            if self._substitution is not None and self._substitution.rewrite(node, context, hidden, self):
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
        return self.named(path, version_of(node), context)

    def named(self, path: Path, version: Version | None, context: Path) -> Source:
        # A reflection stands for the whole table only in trees that use no other column, hence the names in the key.
        names = frozenset(self._names) if self._names is not None else None
        # The user too: what a view may read for its owner is not thereby open to its reader.
        key: Key = (tuple(p.lower() for p in path), version, tuple(p.lower() for p in context), names, acting.user())
        if known := self.sources.get(key):
            return known
        return self._keep(key, self.dataset(path, context), version)

    def dataset(self, path: Path, context: Path) -> Dataset:
        """What a name stands for, asked once: matching and writing both ask, and a system table is made when asked."""
        key = (path, context, acting.user())
        if key not in self._datasets:
            self._datasets[key] = resolve(self.catalog, path, context)
        return self._datasets[key]

    def _keep(self, key: Key, dataset: Dataset, version: Version | None) -> Source:
        name = self.job.fresh_name()
        if isinstance(dataset, View):
            source = Source(name, dataset.path, dataset, None)
            sql = hollow = self._from_reflection(dataset, None) or self._view(dataset, version)
            self.read_at(dataset.path, digest(dataset))
        else:
            relation = self.reader.read(dataset, version)
            source = Source(name, dataset.path, dataset, relation)
            sql, hollow = self._from_reflection(dataset, relation) or relation.sql, empty_select(relation.schema)
            self.read_at(dataset.path, relation.version)
        self.sources[key] = source
        self.definitions.append(Definition(name, sql, hollow))
        return source

    def _from_reflection(self, dataset: Dataset, relation: Relation | None) -> str | None:
        """A SELECT of the same rows from a RAW reflection; it may lack columns that nobody asks for."""
        if self._substitution is None:
            return None
        m = self._substitution.table(dataset, relation, self._names)
        if m is None:
            return None
        shown = {column.lower() for column, _ in m.columns}
        name = self.served(m, shown)
        if relation is None:
            return f"SELECT * FROM {quote(name)}"
        columns = ", ".join(quote(f.name) for f in relation.schema if f.name.lower() in shown)
        return f"SELECT {columns} FROM {quote(name)}"

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
            return self.dataset(path, context)

        called = call_in_from(self.catalog, inner, context)
        if called is not None:
            return self._called(key, *called)
        resolved = (
            metadata_table(inner, look_up)
            or external_query(inner, self.catalog)
            or system_table(inner, self.catalog.system_function)
            or named_table(inner, look_up)
        )
        return self._keep(key, resolved, None)

    def _called(self, key: Key, function: UserFunction, query: exp.Expr) -> Source:
        """The rows of a user's table function, under the names and types that it declares."""
        assert not isinstance(function.returns, str)
        name = self.job.fresh_name()
        self.sources[key] = source = Source(name, function.path, View(function.path, function.body), None)
        vet(query)
        inner = self.body(query, function.context)
        columns = ", ".join(
            f"CAST(c{i} AS {duckdb_type(parse_type(kind))}) AS {quote(column)}"
            for i, (column, kind) in enumerate(function.returns)
        )
        sql = f"SELECT {columns} FROM ({numbered(inner, len(function.returns))})"
        self.definitions.append(Definition(name, sql, sql))
        return source

    # Reflections ------------------------------------------------------------------------------------------------

    @cached_property
    def _substitution(self) -> Substitution | None:
        """None when nothing may answer in place of the tables."""
        if not self.accelerate:
            return None
        made = [m for m in self.catalog.materializations() if m.reflection_id not in self.excluded]
        return Substitution(made, self.flattener, self.ledger) if made else None

    @cached_property
    def flattener(self) -> Flattener:
        return Flattener(self.dataset, self.reader.read, self.catalog.on_behalf)

    def leaf(self, leaf: Leaf, needed: set[str], hidden: frozenset[str]) -> exp.Expr:
        """The FROM item of a block's leaf, its names resolved; the block needs these columns of it."""
        assert leaf.node is not None
        with acting.as_user(leaf.user):
            return self._item(leaf, leaf.node.copy(), needed, hidden)

    def _item(self, leaf: Leaf, node: exp.Expr, needed: set[str], hidden: frozenset[str]) -> exp.Expr:
        if not isinstance(node, exp.Table):
            self._visit(node, hidden, leaf.context)
            return node
        outer, self._names = self._names, needed if leaf.types else self._names
        try:
            source = self.source(node, leaf.context)
        finally:
            self._names = outer
        return exp.Table(this=exp.to_identifier(source.name, quoted=True))

    def served(self, m: Materialization, needed: set[str]) -> str:
        """The name of a definition that reads a materialization."""
        self.reader.database.allow_s3([m.metadata], m.access)
        sql = stored_relation(m, [name for name, _ in m.columns if name.lower() in needed])
        name = self.job.fresh_name()
        self.definitions.append(Definition(name, sql, f"{sql} LIMIT 0"))
        for path, version in m.sources.items():
            self.read_at(path, version)
        self.answered += [path for path, version in m.sources.items() if not version.startswith("view:")]
        return name

    def inside(self, tree: exp.Expr, context: Path, hidden: frozenset[str]) -> None:
        """Resolve the subqueries in an expression whose columns are bound."""
        for query in [node for node in tree.find_all(exp.Query) if node.find_ancestor(exp.Query) is None]:
            self._visit(query, hidden, context)

    def read_at(self, path: Path, version: str) -> None:
        """Remember at which version something is read; two versions of one table count as unknown."""
        key = lowered(path)
        if self.versions.setdefault(key, version) != version:
            self.versions[key] = ""


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
    """The columns that DuckDB gives a query, under their own names (which may repeat), without running it.

    The query is bound once: each binding reads the metadata of all its Iceberg tables.
    """
    described = [(str(row[0]), str(row[1])) for row in job.rows(f"DESCRIBE {sql}")]
    nulls = ", ".join(f"CAST(NULL AS {kind}) AS c{i}" for i, (_, kind) in enumerate(described))
    found = job.arrow(f"SELECT {nulls} LIMIT 0").schema
    return pa.schema([pa.field(name, field.type) for (name, _), field in zip(described, found, strict=True)])


def numbered(sql: str, count: int) -> str:
    """The query with its columns named c0, c1, ... for use by position."""
    return f"SELECT * FROM ({sql}) AS q({', '.join(f'c{i}' for i in range(count))})"
