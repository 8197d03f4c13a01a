"""One SELECT in a normal form that two SELECTs can be compared in: which tables at which versions, which conditions,
what comes out. Views, derived tables and joins are merged into it as far as that cannot change the result.

Whatever has another shape raises NotFlat, and is then planned as it is written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import pyarrow as pa
from sqlglot import exp

from embedded.sql import acting
from embedded.sql.datasets import Dataset, FileTable, IcebergTable, Path, View
from embedded.sql.engine.dialect import parse_query
from embedded.sql.engine.expressions import (
    VOLATILE,
    aggregates,
    canonical,
    column,
    columns_of,
    conjuncts_of,
    gives_rows,
    is_foreign,
    lasting,
    rebuild,
)
from embedded.sql.engine.relations import Relation, Version
from embedded.sql.engine.tables import is_name, version_of
from embedded.sql.engine.translate import name_columns
from embedded.sql.errors import SqlError

_SELECT_ARGS = {
    "expressions", "from_", "joins", "where", "group", "having", "order", "limit", "offset", "distinct", "with_",
}  # fmt: skip


class NotFlat(Exception):
    """A SELECT that has no normal form here."""


@dataclass(frozen=True)
class Leaf:
    """One item of FROM. `version` tells which rows it has; empty: unknown, so that nothing can stand for it."""

    alias: str
    path: Path
    version: str
    columns: Mapping[str, str]  # lowered name -> own spelling, in order
    types: Mapping[str, pa.DataType] = field(default_factory=dict)
    node: exp.Expr | None = None  # the table or subquery as written
    context: Path = ()
    user: str | None = None  # with whose privileges it is read
    size: int = 0  # bytes to read for it; 0: unknown
    on: exp.Expr | None = None  # the condition of a LEFT JOIN; None: an inner join, its condition is a conjunct

    @property
    def identity(self) -> tuple[Path, str]:
        return lowered(self.path), self.version


@dataclass
class Block:
    """FROM all leaves (left joins in order), WHERE all conjuncts; columns are written <leaf alias>.<lowered name>."""

    leaves: list[Leaf]
    conjuncts: list[exp.Expr]
    outputs: list[tuple[str, exp.Expr]]
    group: list[exp.Expr] | None = None
    having: exp.Expr | None = None
    order: list[exp.Ordered] = field(default_factory=list)
    limits: dict[str, exp.Expr] = field(default_factory=dict)
    distinct: bool = False
    sources: dict[Path, str] = field(default_factory=dict)  # views merged or kept whole, and their versions

    @property
    def aggregating(self) -> bool:
        return self.group is not None or self.distinct or any(True for _ in aggregates(self.expressions()))

    @property
    def plain(self) -> bool:
        """Nothing but joins, conditions and expressions."""
        return not (self.aggregating or self.having or self.order or self.limits)

    def expressions(self) -> Iterator[exp.Expr]:
        """Everything that columns occur in, but conditions of joins and WHERE."""
        yield from (value for _, value in self.outputs)
        yield from self.group or ()
        yield from [self.having] if self.having is not None else []
        yield from self.order

    def used(self, alias: str) -> set[str]:
        """The columns of one leaf that the block needs."""
        everything = [*self.expressions(), *self.conjuncts, *(leaf.on for leaf in self.leaves if leaf.on is not None)]
        return {c.name for tree in everything for c in columns_of(tree) if c.table == alias}


def lowered(path: Path) -> Path:
    return tuple(part.lower() for part in path)


def digest(view: View) -> str:
    """The version of a view's text."""
    text = "\x00".join((view.sql, *view.context))
    return "view:" + hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass
class _Item:
    """What names of one FROM item stand for: lowered column -> bound expression; None: the name is not unique."""

    alias: str
    written: Path
    values: dict[str, exp.Expr | None]
    spelling: list[tuple[str, str]]  # name as shown, lowered


@dataclass
class Flattener:
    """`resolve` and `read` are the planner's. One per statement: it remembers what it has seen."""

    resolve: Callable[[Path, Path], Dataset]
    read: Callable[[IcebergTable | FileTable, Version | None], Relation]
    on_behalf: Callable[[View], AbstractContextManager[None]]
    depth: int = 12  # of views over views
    _count: int = 0
    _versions: dict[Path, dict[Path, str]] = field(default_factory=dict)

    def block(self, select: exp.Select, context: Path, hidden: frozenset[str], depth: int = 0) -> Block:
        """Raises NotFlat; does not change `select`."""
        try:
            return _Builder(self, context, hidden, depth).build(select)
        except SqlError:
            raise NotFlat("names") from None  # planning it as written gives the error its proper words

    def view_block(self, view: View, depth: int = 0) -> Block:
        tree = parse_query(view.sql)
        if not isinstance(tree, exp.Select) or depth > self.depth:
            raise NotFlat("view")
        name_columns(tree)
        with self.on_behalf(view):
            return self.block(tree, view.context, frozenset(), depth)

    def alias(self) -> str:
        self._count += 1
        return f"t{self._count}"

    def versions(self, dataset: Dataset) -> dict[Path, str]:
        """Of a dataset and all that it reads. NotFlat when one has none, or the rows are others each time."""
        if isinstance(dataset, View):
            return self.closure(dataset)
        if not isinstance(dataset, (IcebergTable, FileTable)):
            raise NotFlat("dataset")
        version = self.read(dataset, None).version
        if not version:
            raise NotFlat("no version")
        return {lowered(dataset.path): version}

    def closure(self, view: View, depth: int = 0) -> dict[Path, str]:
        """Every table and view that a view reads, itself included, with versions. NotFlat when one has none."""
        key = lowered(view.path)
        if key not in self._versions:
            if depth > self.depth:
                raise NotFlat("depth")
            found = {key: digest(view)}
            tree = parse_query(view.sql)
            if not lasting(tree):
                raise NotFlat("not lasting")
            with self.on_behalf(view):
                self._collect(tree, frozenset(), view.context, found, depth)
            self._versions[key] = found
        return self._versions[key]

    def _collect(
        self, node: exp.Expr, hidden: frozenset[str], context: Path, found: dict[Path, str], depth: int
    ) -> None:
        ctes = node.args.get("with_")
        if isinstance(ctes, exp.With):
            for cte in ctes.expressions:
                self._collect(cte.this, hidden, context, found, depth)
                hidden |= {cte.alias.lower()}
        if isinstance(node, exp.Table):
            self._collect_table(node, hidden, context, found, depth)
            return
        for child in node.iter_expressions():
            if child is not ctes:
                self._collect(child, hidden, context, found, depth)

    def _collect_table(
        self, node: exp.Table, hidden: frozenset[str], context: Path, found: dict[Path, str], depth: int
    ) -> None:
        if not is_name(node, hidden):
            if len(node.parts) == 1 and isinstance(node.this, exp.Identifier):
                return  # a common table expression
            raise NotFlat("table function")
        dataset = self.resolve(tuple(part.name for part in node.parts), context)
        if isinstance(dataset, View):
            more = self.closure(dataset, depth + 1)
        elif isinstance(dataset, (IcebergTable, FileTable)):
            more = {lowered(dataset.path): self.read(dataset, version_of(node)).version}
        else:
            raise NotFlat("no version")
        for path, version in more.items():
            if not version or found.setdefault(path, version) != version:
                raise NotFlat("versions")


class _Builder:
    def __init__(self, flattener: Flattener, context: Path, hidden: frozenset[str], depth: int) -> None:
        self._flattener = flattener
        self._context = context
        self._hidden = hidden
        self._depth = depth
        self._items: list[_Item] = []
        self._leaves: list[Leaf] = []
        self._conjuncts: list[exp.Expr] = []
        self._sources: dict[Path, str] = {}
        self._aliases: dict[str, exp.Expr] = {}

    def build(self, select: exp.Select) -> Block:
        if any(value and name not in _SELECT_ARGS for name, value in select.args.items()):
            raise NotFlat("clause")
        if select.args.get("with_") and self._depth:
            raise NotFlat("CTE")
        if not select.args.get("from_"):
            raise NotFlat("FROM")
        self._add(select.args["from_"].this, None)
        for join in select.args.get("joins") or ():
            self._join(join)
        if select.args.get("where"):
            self._conjuncts += conjuncts_of(self._bind(select.args["where"].this))
        outputs = self._outputs(select)
        for name, value in outputs:
            self._aliases.setdefault(name.lower(), value)
        distinct = select.args.get("distinct")
        if distinct and distinct.args.get("on"):
            raise NotFlat("DISTINCT ON")
        having = select.args.get("having")
        return Block(
            self._leaves,
            self._conjuncts,
            outputs,
            group=self._group(select.args["group"], outputs) if select.args.get("group") else None,
            having=self._bind(having.this, aliases=True) if having else None,
            order=[self._ordered(item, outputs) for item in select.args["order"].expressions]
            if select.args.get("order")
            else [],
            limits={name: select.args[name].copy() for name in ("limit", "offset") if select.args.get(name)},
            distinct=bool(distinct),
            sources=self._sources,
        )

    # FROM -------------------------------------------------------------------------------------------------------

    def _join(self, join: exp.Join) -> None:
        left = join.side == "LEFT"
        if join.args.get("using") or join.method or join.side not in ("", "LEFT") or join.kind not in _KINDS:
            raise NotFlat("join")
        condition = join.args.get("on")
        if left and condition is None:
            raise NotFlat("join")
        self._add(join.this, condition, left=left)
        if not left and condition is not None:
            self._conjuncts += conjuncts_of(self._bind(condition))

    def _add(self, node: exp.Expr, condition: exp.Expr | None, *, left: bool = False) -> None:
        if isinstance(node, exp.Table) and is_name(node, self._hidden):
            self._add_table(node, condition, left)
        elif isinstance(node, exp.Subquery) and isinstance(node.this, exp.Select) and node.alias:
            if any(v for k, v in node.args.items() if k not in ("this", "alias")):
                raise NotFlat("derived table")
            below = self._flattener.block(node.this, self._context, self._hidden, self._depth + 1)
            self._add_query(node, below, node.alias, (), condition, left)
        else:
            raise NotFlat("FROM item")

    def _add_table(self, node: exp.Table, condition: exp.Expr | None, left: bool) -> None:
        path = tuple(part.name for part in node.parts)
        dataset = self._flattener.resolve(path, self._context)
        alias = node.alias or path[-1]
        written = lowered(path) if not node.alias else ()
        if isinstance(dataset, View):
            if node.args.get("version"):
                raise NotFlat("version of a view")
            self._add_view(node, dataset, condition, left)
            return
        if not isinstance(dataset, (IcebergTable, FileTable)):
            raise NotFlat("dataset")
        relation = self._flattener.read(dataset, version_of(node))
        columns = {f.name.lower(): f.name for f in relation.schema}
        types = {f.name.lower(): f.type for f in relation.schema}
        leaf = Leaf(
            self._flattener.alias(),
            dataset.path,
            relation.version,
            columns,
            types,
            node,
            self._context,
            acting.user(),
            relation.size,
        )
        self._add_leaf(leaf, alias, written, condition, left, _alias_columns(node))

    def _add_view(self, node: exp.Table, view: View, condition: exp.Expr | None, left: bool) -> None:
        alias = node.alias or node.parts[-1].name
        written = () if node.alias else lowered(tuple(part.name for part in node.parts))
        try:
            below = self._flattener.view_block(view, self._depth + 1)
        except NotFlat:
            below = Block([], [], [(name, exp.Null()) for name in _names_of(view)], distinct=True)  # kept whole
        self._sources[lowered(view.path)] = digest(view)
        try:
            whole = view.path, hashed(self._flattener.closure(view))
        except NotFlat:
            whole = (), ""
        self._add_query(node, below, alias, written, condition, left, whole)

    def _add_leaf(
        self, leaf: Leaf, alias: str, written: Path, condition: exp.Expr | None, left: bool, renamed: Sequence[str]
    ) -> None:
        shown = list(leaf.columns.values())
        if renamed:
            if len(renamed) > len(shown):
                raise NotFlat("column names")
            shown[: len(renamed)] = renamed
        values: dict[str, exp.Expr | None] = {}
        for name, own in zip(shown, leaf.columns, strict=True):
            values[name.lower()] = None if name.lower() in values else column(leaf.alias, own)
        self._items.append(_Item(alias.lower(), written, values, [(name, name.lower()) for name in shown]))
        on = self._bind(condition) if left and condition is not None else None
        self._leaves.append(Leaf(**{**leaf.__dict__, "on": on}))

    def _add_query(
        self,
        node: exp.Expr,
        below: Block,
        alias: str,
        written: Path,
        condition: exp.Expr | None,
        left: bool,
        whole: tuple[Path, str] | None = None,
    ) -> None:
        renamed = _alias_columns(node)
        names = [name for name, _ in below.outputs]
        names[: len(renamed)] = renamed
        if len(names) != len(below.outputs):
            raise NotFlat("column names")
        merged = below.plain
        if left and merged:
            # Evaluated before the join, an expression over missing rows could be something else than NULL.
            merged = len(below.leaves) == 1 and not below.conjuncts
            merged = merged and all(isinstance(value, exp.Column) for _, value in below.outputs)
        self._sources |= below.sources
        if not merged:
            columns = {name.lower(): name for name in names}
            if len(columns) != len(names):
                raise NotFlat("names")
            path, version = whole or ((), "")
            leaf = Leaf(self._flattener.alias(), path, version, columns, {}, node, self._context, acting.user())
            self._add_leaf(leaf, alias, written, condition, left, ())
            return
        values: dict[str, exp.Expr | None] = {}
        for name, (_, value) in zip(names, below.outputs, strict=True):
            values[name.lower()] = None if name.lower() in values else value
        self._items.append(_Item(alias.lower(), written, values, [(name, name.lower()) for name in names]))
        self._conjuncts += below.conjuncts
        if left:
            assert condition is not None
            self._leaves.append(Leaf(**{**below.leaves[0].__dict__, "on": self._bind(condition)}))
        else:
            self._leaves += below.leaves

    # Names ------------------------------------------------------------------------------------------------------

    def _bind(self, tree: exp.Expr, *, aliases: bool = False) -> exp.Expr:
        def replaced(node: exp.Expr) -> exp.Expr | None:
            if isinstance(node, exp.Column):
                return self._column(node, aliases)
            if isinstance(node, exp.Query):
                return self._standing_alone(node)
            if isinstance(node, exp.Anonymous) and (node.name.upper() in VOLATILE or is_foreign(node)):
                raise NotFlat("function")
            if isinstance(node, (exp.Window, exp.Dot, exp.Filter, exp.WithinGroup, exp.Kwarg)) or gives_rows(node):
                raise NotFlat("expression")
            return None

        return rebuild(tree, replaced)

    def _standing_alone(self, query: exp.Query) -> exp.Expr:
        """A subquery that names nothing of ours may stay as it is."""
        inner = query.this if isinstance(query, exp.Subquery) else query
        if self._depth or not isinstance(inner, exp.Select):
            raise NotFlat("subquery")
        self._flattener.block(inner, self._context, self._hidden, self._depth + 1)
        return query.copy()

    def _column(self, node: exp.Column, aliases: bool) -> exp.Expr:
        parts = tuple(part.name.lower() for part in node.parts)
        if isinstance(node.this, exp.Star):
            raise NotFlat("star")
        if parts == ("user",) and not node.this.args.get("quoted"):
            raise NotFlat("USER")
        table, name = parts[:-1], parts[-1]
        found = [item for item in self._items if name in item.values and _names_item(table, item)]
        alias = self._aliases.get(name) if aliases and not table else None
        if len(found) > 1 or (not found and alias is None):
            raise NotFlat("column")
        if not found:
            assert alias is not None
            return alias.copy()
        value = found[0].values[name]
        if value is None or (alias is not None and canonical(alias) != canonical(value)):
            raise NotFlat("ambiguous")
        return value.copy()

    def _outputs(self, select: exp.Select) -> list[tuple[str, exp.Expr]]:
        outputs: list[tuple[str, exp.Expr]] = []
        for item in select.expressions:
            star = item if isinstance(item, exp.Star) else item.this if isinstance(item, exp.Column) else None
            if isinstance(star, exp.Star):
                table = tuple(part.name.lower() for part in item.parts[:-1]) if isinstance(item, exp.Column) else ()
                outputs += self._expanded(table)
            elif isinstance(item, exp.Alias):
                outputs.append((item.alias, self._bind(item.this)))
            else:
                raise NotFlat("unnamed")
        return outputs

    def _expanded(self, table: Path) -> Iterator[tuple[str, exp.Expr]]:
        for item in self._items:
            if _names_item(table, item):
                for name, key in item.spelling:
                    value = item.values[key]
                    if value is None:
                        raise NotFlat("ambiguous")
                    yield name, value.copy()

    def _group(self, group: exp.Group, outputs: Sequence[tuple[str, exp.Expr]]) -> list[exp.Expr]:
        if any(value for name, value in group.args.items() if name != "expressions"):
            raise NotFlat("grouping sets")
        return [self._by_number(item, outputs) or self._bind(item, aliases=True) for item in group.expressions]

    def _by_number(self, item: exp.Expr, outputs: Sequence[tuple[str, exp.Expr]]) -> exp.Expr | None:
        if isinstance(item, exp.Literal) and item.is_int:
            if not 0 < int(item.name) <= len(outputs):
                raise NotFlat("position")
            return outputs[int(item.name) - 1][1].copy()
        return None

    def _ordered(self, item: exp.Expr, outputs: Sequence[tuple[str, exp.Expr]]) -> exp.Ordered:
        """ORDER BY finds names of the select list first: they become positions."""
        if not isinstance(item, exp.Ordered) or item.args.get("with_fill"):
            raise NotFlat("order")
        key = item.this
        if isinstance(key, exp.Column) and len(key.parts) == 1:
            names = [name.lower() for name, _ in outputs]
            if names.count(key.name.lower()) == 1:
                key = exp.Literal.number(names.index(key.name.lower()) + 1)
        bound = key.copy() if isinstance(key, exp.Literal) else self._bind(key, aliases=True)
        return exp.Ordered(**{**item.args, "this": bound})


_KINDS = ("", "INNER", "CROSS", "OUTER")


def _names_item(table: Path, item: _Item) -> bool:
    return not table or table == (item.alias,) or (len(table) > 1 and table == item.written)


def _alias_columns(node: exp.Expr) -> list[str]:
    alias = node.args.get("alias")
    return [c.name for c in alias.args.get("columns") or ()] if isinstance(alias, exp.TableAlias) else []


def _names_of(view: View) -> list[str]:
    """The columns of a view whose text names them all."""
    tree: exp.Expr = parse_query(view.sql)
    while isinstance(tree, (exp.SetOperation, exp.Subquery)):
        tree = tree.this
    if not isinstance(tree, exp.Select):
        raise NotFlat("view")
    name_columns(tree)
    if not all(isinstance(item, exp.Alias) for item in tree.expressions):
        raise NotFlat("view")
    return [item.alias for item in tree.expressions]


def hashed(versions: Mapping[Path, str]) -> str:
    return hashlib.sha256(repr(sorted(versions.items())).encode()).hexdigest()
