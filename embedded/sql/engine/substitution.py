"""Answering queries from reflections, only where the answer is provably the same.

A materialization counts when everything that it was made from stands at the version that the query reads: an older one
never answers (real Dremio serves the last one until it expires; here `AT SNAPSHOT` of that version still finds it).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from sqlglot import exp

from embedded.sql import acting
from embedded.sql.datasets import Dataset, Materialization, Path, View
from embedded.sql.engine.blocks import Block, Flattener, Leaf, NotFlat, digest, hashed, lowered
from embedded.sql.engine.expressions import column
from embedded.sql.engine.matching import NoMatch, Provider, match, provider_of
from embedded.sql.engine.relations import Relation
from embedded.sql.engine.tables import is_name

Relationship = Literal["CONSIDERED", "MATCHED", "CHOSEN"]
_ITEM = 200_000  # bytes: opening one more table and joining it costs about as much as reading these
_SAME = 65_536  # bytes that make no difference: then the one with fewer rows
_RANK: dict[Relationship, int] = {"CONSIDERED": 0, "MATCHED": 1, "CHOSEN": 2}


@dataclass
class Ledger:
    """What became of each reflection in one statement; the strongest relationship wins."""

    entries: dict[str, tuple[str, Path, Relationship]] = field(default_factory=dict)

    def note(self, m: Materialization, relationship: Relationship) -> None:
        known = self.entries.get(m.reflection_id)
        if known is None or _RANK[known[2]] < _RANK[relationship]:
            self.entries[m.reflection_id] = (m.reflection_id, m.dataset, relationship)

    def listed(self) -> list[tuple[str, Path, Relationship]]:
        return list(self.entries.values())


class Emitter(Protocol):
    """The planner's side: FROM items of a block that is written out again."""

    def leaf(self, leaf: Leaf, needed: set[str], hidden: frozenset[str]) -> exp.Expr: ...

    def served(self, m: Materialization, needed: set[str]) -> str: ...

    def inside(self, tree: exp.Expr, context: Path, hidden: frozenset[str]) -> None: ...

    def read_at(self, path: Path, version: str) -> None: ...


class Substitution:
    """One per statement. `made` are the materializations that may answer."""

    def __init__(self, made: list[Materialization], flattener: Flattener, ledger: Ledger) -> None:
        self._made = made
        self._flattener = flattener
        self._ledger = ledger
        self._providers: dict[str, Provider | None] = {}

    # A whole SELECT ---------------------------------------------------------------------------------------------

    def rewrite(self, select: exp.Select, context: Path, hidden: frozenset[str], emitter: Emitter) -> bool:
        """Write `select` anew over reflections, in place; False: as it stands nothing can answer it."""
        try:
            block = self._flattener.block(select, context, hidden)
        except NotFlat:
            return False
        served: dict[str, Materialization] = {}
        providers = list(self._relevant(block))
        while providers:
            found = self._best(block, providers)
            if found is None:
                break
            block, alias, m = found
            self._ledger.note(m, "CHOSEN")
            served[alias] = m
            if m.kind == "AGGREGATION":  # what is grouped already cannot be grouped by another one
                providers = [p for p in providers if p.m.kind == "RAW"]
        if not served:
            return False
        for path, version in block.sources.items():
            emitter.read_at(path, version)
        _Writer(block, served, emitter, context, hidden).write(select)
        return True

    def _best(self, block: Block, providers: list[Provider]) -> tuple[Block, str, Materialization] | None:
        """The one with which the whole block is cheapest: bytes to read, and something for each item to be joined."""
        options = []
        for provider in providers:
            alias = self._flattener.alias()
            try:
                found = match(block, provider, alias)
            except NoMatch:
                continue
            self._ledger.note(provider.m, "MATCHED")
            m = provider.m
            size = sum(leaf.size + _ITEM for leaf in found.leaves)
            cost = (size // _SAME, m.rows, len(m.columns), m.reflection_id)
            options.append((cost, found, alias, m))
        if not options:
            return None
        _, block, alias, m = min(options, key=lambda option: option[0])
        return block, alias, m

    def _relevant(self, block: Block) -> Iterator[Provider]:
        paths = {lowered(leaf.path) for leaf in block.leaves}
        named = paths | block.sources.keys()
        for m in self._made:
            dataset = lowered(m.dataset)
            tables = {path for path, version in m.sources.items() if not version.startswith("view:")}
            if dataset not in named and not (tables and tables <= named):
                continue
            self._ledger.note(m, "CONSIDERED")
            provider = self._provider(m)
            if provider is not None:
                yield provider

    def _provider(self, m: Materialization) -> Provider | None:
        if m.reflection_id not in self._providers:
            try:
                self._providers[m.reflection_id] = provider_of(m, self._block_of(m))
            except (NotFlat, NoMatch):
                self._providers[m.reflection_id] = None
        return self._providers[m.reflection_id]

    def _block_of(self, m: Materialization) -> Block:
        """What the reflection's dataset is, at the versions that were read."""
        path = lowered(m.dataset)
        version = m.sources.get(path)
        if not version:
            raise NotFlat("versions unknown")
        if not version.startswith("view:"):
            names = [*m.display, *(name for name, _ in m.dimensions), *(measure.column for measure in m.measures)]
            columns = {name.lower(): name for name in names}
            alias = self._flattener.alias()
            leaf = Leaf(alias, m.dataset, version, columns)
            return Block([leaf], [], [(name, column(alias, name)) for name in columns])
        # Not by the reader's privileges: those are for what the query names.
        with acting.as_user(None):
            return self._block_of_view(m, version)

    def _block_of_view(self, m: Materialization, version: str) -> Block:
        view = self._flattener.resolve(m.dataset, ())
        if not isinstance(view, View) or digest(view) != version:
            raise NotFlat("another text")
        try:
            block = self._flattener.view_block(view)
        except NotFlat:
            return self._whole(m, view)
        if not block.plain:
            return self._whole(m, view)
        if any(m.sources.get(p) != v for p, v in block.sources.items()):
            raise NotFlat("another view below")
        return replace(block, leaves=[self._as_read(leaf, m) for leaf in block.leaves])

    def _as_read(self, leaf: Leaf, m: Materialization) -> Leaf:
        version = m.sources.get(lowered(leaf.path), "")
        if version.startswith("view:"):  # a view that was kept whole
            self._same(m, leaf.path)
            return leaf
        pinned = isinstance(leaf.node, exp.Table) and leaf.node.args.get("version")
        if not version or (pinned and version != leaf.version):
            raise NotFlat("version")
        return replace(leaf, version=version)

    def _same(self, m: Materialization, path: Path) -> dict[Path, str]:
        view = self._flattener.resolve(path, ())
        if not isinstance(view, View):
            raise NotFlat("view")
        closure = self._flattener.closure(view)
        if any(m.sources.get(p) != v for p, v in closure.items()):
            raise NotFlat("versions")
        return closure

    def _whole(self, m: Materialization, view: View) -> Block:
        """A view that cannot be merged is a table of its own, at the versions of all that it reads."""
        closure = self._same(m, view.path)
        names = [*m.display, *(name for name, _ in m.dimensions), *(measure.column for measure in m.measures)]
        alias = self._flattener.alias()
        columns = {name.lower(): name for name in names}
        leaf = Leaf(alias, view.path, hashed(closure), columns)
        return Block([leaf], [], [(name, column(alias, name)) for name in columns])

    # One name in FROM -------------------------------------------------------------------------------------------

    def table(self, dataset: Dataset, relation: Relation | None, needed: set[str] | None) -> Materialization | None:
        """A RAW reflection that has the rows of a table or view, when it shows all columns that may be needed."""
        path = lowered(dataset.path)
        found = []
        for m in self._made:
            if lowered(m.dataset) != path:
                continue
            self._ledger.note(m, "CONSIDERED")
            if m.kind == "RAW" and self._current(m, dataset, relation) and _covers(m, relation, needed):
                self._ledger.note(m, "MATCHED")
                found.append(m)
        if not found:
            return None
        best = min(found, key=lambda m: (m.size, m.rows, len(m.columns), m.reflection_id))
        self._ledger.note(best, "CHOSEN")
        return best

    def _current(self, m: Materialization, dataset: Dataset, relation: Relation | None) -> bool:
        if isinstance(dataset, View):
            try:
                return self._flattener.closure(dataset) == dict(m.sources)
            except NotFlat:
                return False
        return (
            relation is not None and bool(relation.version) and m.sources == {lowered(dataset.path): relation.version}
        )


def _covers(m: Materialization, relation: Relation | None, needed: set[str] | None) -> bool:
    shown = {name.lower() for name in m.display}
    if relation is None:  # of a view the columns are not known here
        return needed is not None and needed <= shown
    columns = {name.lower() for name in relation.schema.names}
    return (columns if needed is None else columns & needed) <= shown


def names_in(tree: exp.Expr) -> set[str] | None:
    """Every name that occurs in a statement, lowered; None when a star or a natural join names all columns."""
    for star in tree.find_all(exp.Star):
        if not (isinstance(star.parent, exp.Anonymous) and star.parent.name.upper() == "COUNT"):
            return None
    if any(join.method == "NATURAL" for join in tree.find_all(exp.Join)):
        return None
    return {identifier.name.lower() for identifier in tree.find_all(exp.Identifier)}


class _Writer:
    """Writes a block as SQL again."""

    def __init__(
        self,
        block: Block,
        served: dict[str, Materialization],
        emitter: Emitter,
        context: Path,
        hidden: frozenset[str],
    ) -> None:
        self._block = block
        self._served = served
        self._emitter = emitter
        self._context = context
        self._hidden = hidden

    def write(self, select: exp.Select) -> None:
        block = self._block
        # First, because what is put into the SELECT below is copied on the way.
        for tree in [
            *block.expressions(),
            *block.conjuncts,
            *(leaf.on for leaf in block.leaves if leaf.on is not None),
        ]:
            self._emitter.inside(tree, self._context, self._hidden)
        inner = [leaf for leaf in block.leaves if leaf.on is None]
        joins = [exp.Join(this=self._item(leaf), kind="CROSS") for leaf in inner[1:]]
        joins += [
            exp.Join(this=self._item(leaf), side="LEFT", on=leaf.on) for leaf in block.leaves if leaf.on is not None
        ]
        group = exp.Group(expressions=block.group) if block.group else None
        parts: dict[str, object] = {
            "expressions": [exp.alias_(value, name, quoted=True) for name, value in block.outputs],
            "from_": exp.From(this=self._item(inner[0])),
            "joins": joins,
            "where": exp.Where(this=exp.and_(*block.conjuncts)) if block.conjuncts else None,
            "group": group,
            "having": exp.Having(this=block.having) if block.having is not None else None,
            "order": exp.Order(expressions=block.order) if block.order else None,
            "distinct": exp.Distinct() if block.distinct else None,
        }
        for name, value in parts.items():
            select.set(name, value)

    def _item(self, leaf: Leaf) -> exp.Expr:
        needed = self._block.used(leaf.alias)
        alias = exp.to_identifier(leaf.alias, quoted=True)
        m = self._served.get(leaf.alias)
        if m is not None:
            name = self._emitter.served(m, needed)
            return exp.Table(this=exp.to_identifier(name, quoted=True), alias=exp.TableAlias(this=alias))
        item = self._emitter.leaf(leaf, needed, self._hidden)
        columns = [] if leaf.types else [exp.to_identifier(name, quoted=True) for name in leaf.columns.values()]
        item.set("alias", exp.TableAlias(this=alias, columns=columns))
        return item


def inline_ctes(tree: exp.Expr) -> None:
    """A common table expression that one place reads becomes a derived table there, which can be merged."""
    clause = tree.args.get("with_")
    if not isinstance(clause, exp.With) or clause.args.get("recursive"):
        return
    names = [cte.alias.lower() for cte in tree.find_all(exp.CTE)]
    for cte in list(clause.expressions):
        name = cte.alias.lower()
        if names.count(name) > 1 or not isinstance(cte.this, exp.Select):
            continue
        readers = [
            table
            for table in tree.find_all(exp.Table)
            if is_name(table, frozenset()) and len(table.parts) == 1 and table.name.lower() == name
        ]
        if len(readers) != 1 or _before(readers[0], cte, clause) or _would_be_hidden(cte, clause, names):
            continue
        table = readers[0]
        columns = cte.args["alias"].args.get("columns") or []
        alias = table.args.get("alias")
        if columns and alias is not None and alias.args.get("columns"):
            continue
        shown = alias.copy() if alias is not None else exp.TableAlias(this=exp.to_identifier(table.name, quoted=True))
        if columns:
            shown.set("columns", [c.copy() for c in columns])
        if table.args.get("version"):
            continue
        cte.pop()
        table.replace(exp.Subquery(this=cte.this, alias=shown))
    if not clause.expressions:
        tree.set("with_", None)


def _would_be_hidden(cte: exp.CTE, clause: exp.With, names: list[str]) -> bool:
    """Does the text read a table whose name means a later expression where the text would go?"""
    earlier = {other.alias.lower() for other in clause.expressions[: clause.expressions.index(cte)]}
    read = {table.name.lower() for table in cte.this.find_all(exp.Table) if len(table.parts) == 1}
    return bool(read & (set(names) - earlier))


def _before(table: exp.Table, cte: exp.CTE, clause: exp.With) -> bool:
    """Does the name stand in the expression's own text or an earlier one? Then it is another table's."""
    earlier = clause.expressions[: clause.expressions.index(cte) + 1]
    at: exp.Expr | None = table
    while at is not None:
        if any(at is other for other in earlier):
            return True
        at = at.parent
    return False
