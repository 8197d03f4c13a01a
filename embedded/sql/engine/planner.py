"""Resolves the names of a query: tables become common table expressions over the right files, views are expanded.

One Plan may hold several pieces of one statement (the query, the ON of a MERGE): they share its definitions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa
from sqlglot import exp

from embedded.sql.datasets import Catalog, Dataset, IcebergTable, Path, SystemTable, View
from embedded.sql.engine.database import Job
from embedded.sql.engine.datatypes import quote
from embedded.sql.engine.dialect import parse_expression, parse_query
from embedded.sql.engine.metadata_functions import metadata_table, named_table
from embedded.sql.engine.relations import Reader, Relation, Version, dotted
from embedded.sql.engine.translate import Moment, generate, vet
from embedded.sql.errors import NotFound, ParseError, ValidationError

MAX_DEPTH = 100  # of views over views


@dataclass(frozen=True)
class Source:
    """A resolved name: its definition's name in the WITH clause, and what it is."""

    name: str
    path: Path
    dataset: Dataset
    relation: Relation | None  # None for views


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
    definitions: list[tuple[str, str]] = field(default_factory=list)
    sources: dict[Key, Source] = field(default_factory=dict)
    depth: int = 0
    # Planning types only: base tables are replaced by empty ones, so that nothing is read.
    hollow: bool = False

    @property
    def scanned(self) -> list[Path]:
        return [
            s.path for s in self.sources.values() if s.relation is not None and not isinstance(s.dataset, SystemTable)
        ]

    def query(self, sql: str, context: Path) -> str:
        """DuckDB SQL of a Dremio query, without the WITH clause that `with_clause` gives."""
        tree = parse_query(sql)
        vet(tree)
        self.resolve(tree, context)
        return generate(tree, self.moment)

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
        return TableExpression(generate(tree, self.moment).removeprefix("SELECT * FROM "), item.alias)

    def expression(self, sql: str, context: Path, names: dict[Path, str] | None = None) -> str:
        """A scalar expression. `names` are paths of tables that its columns may be written with, and their aliases."""
        tree = parse_expression(sql)
        vet(tree)
        holder = exp.Paren(this=tree)
        self.resolve(holder, context)
        if names:
            _shorten_columns(holder, names)
        return generate(holder, self.moment)

    def complete(self, sql: str) -> str:
        """The query with the definitions of its names; its own CTEs come after ours."""
        clause = self.with_clause()
        if clause and sql.startswith("WITH "):
            return clause.rstrip() + ", " + sql.removeprefix("WITH ")
        return clause + sql

    def with_clause(self) -> str:
        if not self.definitions:
            return ""
        return "WITH " + ", ".join(f"{quote(name)} AS NOT MATERIALIZED ({sql})" for name, sql in self.definitions) + " "

    def resolve(self, tree: exp.Expr, context: Path) -> None:
        """Replace every table name in `tree`. CTE names of the query hide tables, as in SQL."""
        self._visit(tree, frozenset(), context)

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
        key: Key = (tuple(p.lower() for p in path), version, tuple(p.lower() for p in context))
        if known := self.sources.get(key):
            return known
        return self._keep(key, resolve(self.catalog, path, context), version)

    def _keep(self, key: Key, dataset: Dataset, version: Version | None) -> Source:
        name = self.job.fresh_name()
        if isinstance(dataset, View):
            source = Source(name, dataset.path, dataset, None)
            sql = self._view(dataset, version)
        else:
            relation = self.reader.read(dataset, version)
            source = Source(name, dataset.path, dataset, relation)
            sql = relation.sql
        self.sources[key] = source
        self.definitions.append((name, sql))
        return source

    def _view(self, view: View, version: Version | None) -> str:
        if version is not None:
            raise ValidationError(f"Time travel is not supported on view '{dotted(view.path)}'")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ValidationError(f"View '{dotted(view.path)}' is nested too deeply or refers to itself.")
        try:
            return self.query(view.sql, view.context)
        finally:
            self.depth -= 1

    def _function(self, node: exp.Table, context: Path) -> Source:
        """TABLE(table_snapshot('a.b')), TABLE(a.b(type => 'text'))"""
        call = node.this
        if not isinstance(call, exp.Anonymous) or call.name.upper() != "TABLE" or len(call.expressions) != 1:
            raise ParseError("Failure parsing the query. A table function must be written TABLE(function(...)).")
        inner = call.expressions[0]
        key: Key = ("TABLE", inner.sql(), tuple(context))
        if known := self.sources.get(key):
            return known

        def look_up(path: Path) -> Dataset:
            return resolve(self.catalog, path, context)

        resolved = metadata_table(inner, look_up) or named_table(inner, look_up)
        return self._keep(key, resolved, None)

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
    """The columns that DuckDB gives a query, without running it."""
    return job.arrow(f"SELECT * FROM ({sql}) LIMIT 0").schema
