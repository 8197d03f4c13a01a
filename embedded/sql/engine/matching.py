"""Can a reflection's rows stand for some leaves of a block? The rules, and the block rewritten by them.

RAW: the reflection joins the same tables at the same versions on conditions that the block has too, and all else that
the block needs can be computed from its columns. AGGREGATION, on top: what is left of the block uses dimensions only,
and every aggregate can be had from partial ones, whatever else the rows are joined with:

* SUM, COUNT, COUNT(*), MIN and MAX of a stored measure; AVG as SUM / COUNT, as Dremio plans it
* SUM and COUNT of CASE WHEN <dimensions> THEN <measure> [ELSE 0 | NULL] END
* MIN, MAX, COUNT(DISTINCT) and APPROX_COUNT_DISTINCT of dimensions: repeated rows do not change them

A sum of floating-point numbers has no one value, with or without a reflection: it depends on the order of the rows,
which SQL leaves open. So SUM and AVG of DOUBLE are taken (the result type is DOUBLE either way); all other results are
equal to the last digit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
from sqlglot import exp

from embedded.sql.datasets import Materialization
from embedded.sql.engine.blocks import Block, Leaf
from embedded.sql.engine.expressions import canonical, column, conjuncts_of, is_aggregate, rebuild
from embedded.sql.engine.stored import ROWS, dimension_columns, measure_columns

_MOST_MAPPINGS = 24  # ways to pair a reflection's tables with a self-joining block's
_DAY_UNITS = ("day", "week", "month", "quarter", "year", "decade", "century")
_DAY_PARTS = {"YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "DOW", "DOY", "DECADE", "CENTURY"}
_DAY_CALLS = {"YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "DAYOFWEEK", "DAYOFYEAR", "DAYOFMONTH", "LAST_DAY"}


class NoMatch(Exception):
    """A reflection cannot stand in here."""


@dataclass
class Provider:
    """What a materialization offers, in a block of its own."""

    m: Materialization
    block: Block  # its leaves and conditions
    values: dict[str, exp.Expr] = field(default_factory=dict)  # RAW column or dimension -> its expression
    measures: list[tuple[exp.Expr | None, str, str]] = field(default_factory=list)  # argument, function, stored name


def provider_of(m: Materialization, block: Block) -> Provider:
    """`block` gives the columns of the reflection's dataset as its outputs."""
    columns = {name.lower(): value for name, value in block.outputs}
    try:
        if m.kind == "RAW":
            return Provider(m, block, {name: columns[name.lower()] for name in m.display})
        values = {stored: columns[name] for name, stored in dimension_columns(m).items()}
        measures = [
            (columns[name] if name else None, function, stored)
            for (name, function), stored in measure_columns(m).items()
        ]
    except KeyError:
        raise NoMatch("column") from None
    return Provider(m, block, values, measures)


def match(block: Block, provider: Provider, alias: str) -> Block:
    """The block with a leaf `alias` (read from the materialization) in place of those that it stands for.

    Raises NoMatch when that is not provably the same.
    """
    if provider.m.kind == "AGGREGATION" and not block.aggregating:
        raise NoMatch("no aggregation")
    for number, mapping in enumerate(_mappings(block, provider.block)):
        if number == _MOST_MAPPINGS:
            break
        try:
            return _Rewriting(block, provider, mapping, alias).apply()
        except NoMatch:
            continue
    raise NoMatch("tables or conditions")


def _mappings(block: Block, own: Block) -> Iterator[dict[str, str]]:
    """Pairings of the reflection's leaves with leaves of the block that have the same rows."""

    def extend(rest: Sequence[Leaf], taken: dict[str, str]) -> Iterator[dict[str, str]]:
        if not rest:
            yield dict(taken)
            return
        leaf = rest[0]
        for candidate in block.leaves:
            if candidate.alias in taken.values() or not leaf.version or candidate.identity != leaf.identity:
                continue
            # A single table without conditions may also stand on the optional side of a join.
            alone = len(own.leaves) == 1 and not own.conjuncts
            if (leaf.on is None) != (candidate.on is None) and not alone:
                continue
            yield from extend(rest[1:], {**taken, leaf.alias: candidate.alias})

    yield from extend(own.leaves, {})


class _Rewriting:
    def __init__(self, block: Block, provider: Provider, mapping: Mapping[str, str], alias: str) -> None:
        self._block = block
        self._provider = provider
        self._mapping = mapping
        self._alias = alias
        self._mapped = set(mapping.values())
        self._values: dict[str, exp.Expr] = {}
        self._days: dict[str, exp.Expr] = {}
        self._measures: dict[tuple[str, str], str] = {}
        self._shapes: set[type[exp.Expr]] = {exp.Column}

    def apply(self) -> Block:
        block, m = self._block, self._provider.m
        optional = self._optional()
        conjuncts = self._residual()
        self._offer(pure=optional is not None)
        rolled = m.kind == "AGGREGATION"
        if rolled and optional is not None:
            raise NoMatch("optional")
        again = self._aggregated if rolled else self._value
        leaves = [
            leaf if leaf.on is None else replace(leaf, on=self._value(leaf.on))
            for leaf in block.leaves
            if leaf.alias not in self._mapped
        ]
        served = Leaf(
            self._alias,
            (),
            "",
            {name.lower(): name for name, _ in m.columns},
            size=m.size,
            on=self._value(optional) if optional is not None else None,
        )
        place = next(i for i, leaf in enumerate(block.leaves) if leaf.alias in self._mapped)
        leaves.insert(place if optional is not None else 0, served)
        group = block.group
        return replace(
            block,
            leaves=leaves,
            conjuncts=[self._value(c) for c in conjuncts],
            outputs=[(name, again(value)) for name, value in block.outputs],
            group=[self._value(g) for g in group] if group is not None else None,
            having=again(block.having) if block.having is not None else None,
            order=[exp.Ordered(**{**o.args, "this": again(o.this)}) for o in block.order],
        )

    # Conditions -------------------------------------------------------------------------------------------------

    def _optional(self) -> exp.Expr | None:
        """The join condition when one optional table is replaced by a reflection of just this table."""
        own = self._provider.block
        leaf = next(leaf for leaf in self._block.leaves if leaf.alias == self._mapping[own.leaves[0].alias])
        return leaf.on if own.leaves[0].on is None else None

    def _mine(self, tree: exp.Expr) -> exp.Expr:
        """An expression of the reflection in the names of the block."""
        return rebuild(tree, lambda n: column(self._mapping[n.table], n.name) if isinstance(n, exp.Column) else None)

    def _residual(self) -> list[exp.Expr]:
        """What the block asks for beyond the reflection's own conditions; NoMatch when these are not all asked for."""
        own = self._provider.block
        theirs = {leaf.alias: leaf for leaf in self._block.leaves}
        for leaf in own.leaves:
            if leaf.on is not None:
                on = theirs[self._mapping[leaf.alias]].on
                if on is None or _set(on) != _set(self._mine(leaf.on)):
                    raise NoMatch("left join")
        wanted = {canonical(self._mine(c)) for c in own.conjuncts}
        asked = {canonical(c): c for c in self._block.conjuncts}
        if not wanted <= asked.keys():
            raise NoMatch("conditions")
        return [c for text, c in asked.items() if text not in wanted]

    # Columns ----------------------------------------------------------------------------------------------------

    def _offer(self, *, pure: bool) -> None:
        """Index what the reflection has. `pure`: before an outer join only plain columns are the same after it."""
        for name, value in self._provider.values.items():
            if pure and not isinstance(value, exp.Column):
                continue
            stored = column(self._alias, name)
            text = canonical(self._mine(value))
            if self._provider.m.kind == "AGGREGATION" and name.endswith("_day"):
                self._days[text] = stored
            else:
                self._values.setdefault(text, stored)
                self._shapes.add(type(value))
        for argument, function, name in self._provider.measures:
            key = canonical(self._mine(argument)) if argument is not None else ""
            self._measures.setdefault((key, function), name)
        for left, right in self._own_equalities():
            for one, other in ((left, right), (right, left)):
                if one in self._values:
                    self._values.setdefault(other, self._values[one])

    def _own_equalities(self) -> Iterator[tuple[str, str]]:
        """Columns that the reflection's own inner joins make equal; of one type, so that either shows the other."""
        types = {leaf.alias: leaf.types for leaf in self._block.leaves}
        for condition in self._provider.block.conjuncts:
            left, right = condition.this, condition.args.get("expression")
            if (
                not isinstance(condition, exp.EQ)
                or not isinstance(left, exp.Column)
                or not isinstance(right, exp.Column)
            ):
                continue
            one, other = self._mine(left), self._mine(right)
            kinds = [types[c.table].get(c.name.lower()) for c in (one, other) if isinstance(c, exp.Column)]
            if len(kinds) == 2 and kinds[0] == kinds[1] and kinds[0] is not None and not pa.types.is_floating(kinds[0]):
                yield canonical(one), canonical(other)

    def _value(self, tree: exp.Expr) -> exp.Expr:
        """A scalar expression over the new leaves. NoMatch when a column is missing."""
        return rebuild(tree, self._replaced)

    def _replaced(self, node: exp.Expr) -> exp.Expr | None:
        if isinstance(node, exp.Query):
            return node.copy()
        if type(node) in self._shapes and (found := self._values.get(canonical(node))) is not None:
            return found.copy()
        if self._days and (day := self._by_day(node)) is not None:
            return day
        if isinstance(node, exp.Column) and node.table in self._mapped:
            raise NoMatch("column")
        return None

    # Timestamps that are kept by day ----------------------------------------------------------------------------

    def _day(self, node: exp.Expr | None) -> exp.Expr | None:
        found = self._days.get(canonical(node)) if isinstance(node, exp.Expr) else None
        return found.copy() if found is not None else None

    def _by_day(self, node: exp.Expr) -> exp.Expr | None:
        if isinstance(node, exp.Cast) and node.is_type("date"):
            return self._day(node.this)
        if isinstance(node, exp.Extract) and node.name.upper() in _DAY_PARTS:
            day = self._day(node.expression)
            return exp.Extract(this=node.this.copy(), expression=_midnight(day)) if day is not None else None
        if isinstance(node, exp.Anonymous):
            return self._call_by_day(node)
        if isinstance(node, (exp.GTE, exp.LT)):
            return self._bound_by_day(type(node), node.this, node.expression)
        if isinstance(node, (exp.LTE, exp.GT)):  # the column stands on the right
            turned = {exp.LTE: exp.GTE, exp.GT: exp.LT}[type(node)]
            return self._bound_by_day(turned, node.expression, node.this)
        return None

    def _call_by_day(self, node: exp.Anonymous) -> exp.Expr | None:
        name, arguments = node.name.upper(), node.expressions
        if name == "DATE_TRUNC" and len(arguments) == 2:
            unit, day = arguments[0], self._day(arguments[1])
            if day is not None and isinstance(unit, exp.Literal) and unit.name.lower() in _DAY_UNITS:
                return exp.Anonymous(this=node.this, expressions=[unit.copy(), _midnight(day)])
        if name in _DAY_CALLS and len(arguments) == 1 and (day := self._day(arguments[0])) is not None:
            return exp.Anonymous(this=node.this, expressions=[_midnight(day)])
        return None

    def _bound_by_day(self, kind: type[exp.Expr], value: exp.Expr, bound: exp.Expr) -> exp.Expr | None:
        """t >= midnight and t < midnight look at the day only."""
        day = self._day(value)
        return kind(this=_midnight(day), expression=bound.copy()) if day is not None and _is_midnight(bound) else None

    # Aggregates -------------------------------------------------------------------------------------------------

    def _aggregated(self, tree: exp.Expr) -> exp.Expr:
        return rebuild(tree, lambda node: self._rolled(node) if is_aggregate(node) else self._replaced(node))

    def _rolled(self, call: exp.Expr) -> exp.Expr:
        function, arguments = call.name.upper(), call.expressions
        if len(arguments) != 1:
            raise NoMatch("aggregate")
        argument = arguments[0]
        if function in ("MIN", "MAX", "COUNT", "APPROX_COUNT_DISTINCT", "NDV"):
            distinct = isinstance(argument, exp.Distinct)
            if function != "COUNT" or distinct:
                try:
                    return exp.Anonymous(this=call.this, expressions=[self._value(argument)])
                except NoMatch:
                    pass
        partial = self._partial(argument, function)
        if function in ("MIN", "MAX"):
            return exp.Anonymous(this=function, expressions=[partial(function)])
        if function == "SUM":
            return _sum(partial("SUM"))
        if function == "COUNT":
            return _count(partial("COUNT"))
        if function == "AVG":
            total = exp.cast(_sum(partial("SUM")), "DOUBLE")
            number = exp.Anonymous(this="NULLIF", expressions=[_sum(partial("COUNT")), exp.Literal.number(0)])
            return exp.Paren(this=exp.Div(this=total, expression=number))
        raise NoMatch("aggregate")

    def _partial(self, argument: exp.Expr, function: str) -> Callable[[str], exp.Expr]:
        """Gives the partial aggregate of an argument, of each group that is stored."""

        def stored(part: str) -> exp.Expr:
            everything = isinstance(argument, exp.Star) or (isinstance(argument, exp.Literal) and argument.is_number)
            if part == "COUNT" and everything:
                return column(self._alias, ROWS)
            name = self._measures.get((canonical(argument), part))
            if name is not None:
                return column(self._alias, name)
            if part == "COUNT":
                return self._counted(argument)
            raise NoMatch("measure")

        if isinstance(argument, exp.Case) and function in ("SUM", "COUNT"):
            return self._conditional(argument)
        return stored

    def _counted(self, argument: exp.Expr) -> exp.Expr:
        """COUNT of an expression over dimensions."""
        if isinstance(argument, exp.Distinct):
            raise NoMatch("distinct")
        known = exp.Not(this=exp.Is(this=exp.Paren(this=self._value(argument)), expression=exp.Null()))
        return exp.Case(ifs=[exp.If(this=known, true=column(self._alias, ROWS))])

    def _conditional(self, case: exp.Case) -> Callable[[str], exp.Expr]:
        """CASE WHEN <dimensions> THEN <measure> ELSE 0 END: the condition is the same for a whole group."""
        if case.this is not None:
            raise NoMatch("case")

        branches = [i.args["true"] for i in case.args["ifs"]]
        branches += [case.args["default"]] if case.args.get("default") is not None else []
        values = [b for b in branches if not isinstance(b, (exp.Null, exp.Literal))]
        numbers = [b.name for b in branches if isinstance(b, exp.Literal)]
        # Branches of several types would give the sum another type than that of the stored one.
        if len(values) > 1 or not all(n in ("0", "1") for n in numbers) or (values and "1" in numbers):
            raise NoMatch("case")

        def branch(value: exp.Expr, part: str) -> exp.Expr:
            if isinstance(value, exp.Null):
                return exp.Null()
            if isinstance(value, exp.Literal):
                is_row = part == "COUNT" or value.name == "1"
                return column(self._alias, ROWS) if is_row else exp.Literal.number(0)
            return self._partial(value, part)(part)

        def rebuilt(part: str) -> exp.Expr:
            ifs = [exp.If(this=self._value(i.this), true=branch(i.args["true"], part)) for i in case.args["ifs"]]
            default = case.args.get("default")
            return exp.Case(ifs=ifs, default=branch(default, part) if default is not None else None)

        return rebuilt


def _set(condition: exp.Expr) -> set[str]:
    return {canonical(c) for c in conjuncts_of(condition)}


def _sum(value: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this="SUM", expressions=[value])


def _count(value: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this="COALESCE", expressions=[exp.cast(_sum(value), "BIGINT"), exp.Literal.number(0)])


def _midnight(day: exp.Expr) -> exp.Expr:
    return exp.cast(day, "TIMESTAMP")


_MASKS = {"YYYY-MM-DD", "YYYY-MM-DD HH24:MI:SS", "YYYY-MM-DD HH24:MI:SS.FFF"}


def _is_midnight(bound: exp.Expr) -> bool:
    """DATE '2024-01-31', TIMESTAMP '2024-01-31 00:00:00[.000]', or the same through TO_DATE and TO_TIMESTAMP."""
    if isinstance(bound, exp.Paren):
        return _is_midnight(bound.this)
    if isinstance(bound, exp.Cast) and (bound.is_type("date") or bound.is_type("timestamp")):
        inner = bound.this
        return isinstance(inner, exp.Literal) and inner.is_string and _midnight_text(inner.name)
    if isinstance(bound, exp.Anonymous) and bound.name.upper() in ("TO_DATE", "TO_TIMESTAMP"):
        texts = [a.name for a in bound.expressions if isinstance(a, exp.Literal) and a.is_string]
        return len(bound.expressions) == 2 == len(texts) and texts[1].upper() in _MASKS and _midnight_text(texts[0])
    return False


def _midnight_text(text: str) -> bool:
    day, _, rest = text.strip().partition(" ")
    return len(day) == 10 and rest in ("", "00:00:00", "00:00:00.000", "00:00")
