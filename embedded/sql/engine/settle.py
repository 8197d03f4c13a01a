"""Chooses what depends on types that only a bound query knows: exact decimal division, and the body of a typed macro
over an aggregate (DuckDB selects a macro's body before it knows an aggregate's type, and refuses or takes the last).

DuckDB's own binder tells the types: the arguments in question become a call that no function fits, over empty tables,
and the error names their types. That is exact for any query, reads no data and costs about a millisecond each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
from sqlglot import exp

from embedded.sql.engine import functions
from embedded.sql.engine.decimals import exact_quotient, read_decimal

_PROBE = "lower"  # takes one text: with two arguments more it never binds, and the error lists all types
_PROBE_TYPES = re.compile(r"argument types 'lower\((.*), INTEGER_LITERAL, INTEGER_LITERAL\)'", re.DOTALL)
_AGGREGATES = {*functions.AGGREGATES.values(), "STRING_AGG", "QUANTILE_CONT", "QUANTILE_DISC"}

Bind = Callable[[str], None]  # raises duckdb.Error


@dataclass(frozen=True)
class Variant:
    """One body of a macro under a name of its own. A parameter type None takes anything."""

    name: str
    types: tuple[str | None, ...]


Variants = Mapping[str, Sequence[Variant]]


def make_variants(connection: duckdb.DuckDBPyConnection) -> Variants:
    """Give every body of the macros with typed parameters a name of its own (fn_minus -> fn_minus__0, ...)."""
    found: dict[str, list[Variant]] = {}
    rows = connection.execute(
        "SELECT function_name, parameters, parameter_types, macro_definition FROM duckdb_functions() "
        "WHERE function_type = 'macro' AND starts_with(function_name, 'fn_') ORDER BY function_oid, function_name"
    ).fetchall()
    typed = {row[0] for row in rows if any(row[2])}
    for name, parameters, types, body in rows:
        if name not in typed:
            continue
        variant = Variant(f"{name}__{len(found.get(name, []))}", tuple(t or None for t in types))
        connection.execute(f"CREATE MACRO {variant.name}({', '.join(parameters)}) AS {body}")
        found.setdefault(name, []).append(variant)
    return found


def settle(tree: exp.Expr, variants: Variants, render: Callable[[exp.Expr], str], bind: Bind, items: str = "") -> None:
    """Settle every call in `tree` (in place). `items` are the FROM items of a bare expression."""
    if not any(call.name in variants for call in tree.find_all(exp.Anonymous)):
        return
    for node in list(_in_binding_order(tree)):
        if isinstance(node, exp.Anonymous) and node.name in variants and _undecided(node):
            types = _argument_types(node, render, bind, items)
            if types is not None:
                _decide(node, types, variants[node.name])


def _in_binding_order(node: exp.Expr) -> Iterator[exp.Expr]:
    """CTEs, then FROM, then the rest, and children before parents: what a probe contains is settled before."""
    first = [node.args.get(name) for name in ("with_", "from_")]
    for child in [*first, *(node.args.get("joins") or [])]:
        if isinstance(child, exp.Expr):
            yield from _in_binding_order(child)
    done = {id(child) for child in [*first, *(node.args.get("joins") or [])]}
    for child in node.iter_expressions():
        if id(child) not in done:
            yield from _in_binding_order(child)
    yield node


def _undecided(call: exp.Anonymous) -> bool:
    return call.name == "fn_divide" or any(_holds_aggregate(argument) for argument in call.expressions)


def _holds_aggregate(node: exp.Expr) -> bool:
    if isinstance(node, exp.Query):
        return False
    if isinstance(node, (exp.Window, exp.AggFunc)) or (isinstance(node, exp.Anonymous) and node.name in _AGGREGATES):
        return True
    return any(_holds_aggregate(child) for child in node.iter_expressions())


def _argument_types(call: exp.Anonymous, render: Callable[[exp.Expr], str], bind: Bind, items: str) -> list[str] | None:
    arguments = [render(argument) for argument in call.expressions]
    called = f"SELECT {_PROBE}({', '.join([*arguments, '1', '1'])})"
    select = call.find_ancestor(exp.Select)
    if select is None:
        return _types(called + (f" FROM {items}" if items else ""), len(arguments), bind)
    # GROUP BY a name means a column before it means an item of the select list.
    for aliases in (False, True) if select.args.get("group") else (False,):
        group = _group(select, aliases=aliases)
        if types := _types(_probe(select, called, group, render), len(arguments), bind):
            return types
    return None


def _types(probe: str, count: int, bind: Bind) -> list[str] | None:
    """None: something else is wrong with the query, whose own error will follow."""
    try:
        bind(probe)
    except duckdb.Error as error:
        match = _PROBE_TYPES.search(str(error))
        types = re.split(r",\s*(?![^()]*\))", match[1]) if match else []
        return types if len(types) == count else None
    return None


def _probe(select: exp.Select, called: str, group: exp.Group | None, render: Callable[[exp.Expr], str]) -> str:
    probe = _ctes(select, render) + called
    for value in (*(select.args.get(name) for name in ("from_", "joins")), group, select.args.get("windows")):
        probe += _clause(value, render)
    return probe


def _clause(value: Any, render: Callable[[exp.Expr], str]) -> str:
    if not value:
        return ""
    if isinstance(value, list) and isinstance(value[0], exp.Window):
        return " WINDOW " + ", ".join(render(window) for window in value)
    return "".join(" " + render(part).strip() for part in (value if isinstance(value, list) else [value]))


def _group(select: exp.Select, *, aliases: bool) -> exp.Group | None:
    """The GROUP BY where there is no select list: 1 stands for its first item, and a name may stand for one, too."""
    group = select.args.get("group")
    if group is None:
        return None
    named = {item.alias.lower(): item.unalias() for item in select.expressions if aliases and item.alias}
    copy: exp.Group = group.copy()
    for item in list(copy.expressions):
        if isinstance(item, exp.Literal) and item.is_int and 0 < int(item.name) <= len(select.expressions):
            item.replace(select.expressions[int(item.name) - 1].unalias().copy())
        elif isinstance(item, exp.Column) and not item.table and item.name.lower() in named:
            item.replace(named[item.name.lower()].copy())
    return copy


def _ctes(select: exp.Select, render: Callable[[exp.Expr], str]) -> str:
    """The CTEs that `select` can see: of each enclosing query, those before the one that holds it."""
    visible: dict[str, str] = {}
    below: exp.Expr | None = None
    inside: exp.Expr | None = None
    at: exp.Expr | None = select
    while at is not None:
        clause = at.args.get("with_")
        if isinstance(clause, exp.With):
            before = clause.expressions
            if below is clause:
                before = before[: next(i for i, cte in enumerate(before) if cte is inside)]
            outer = {cte.alias.lower(): render(cte) for cte in before if cte.alias.lower() not in visible}
            visible = {**outer, **visible}
        if isinstance(at, exp.CTE):
            inside = at
        below, at = at, at.parent
    return f"WITH {', '.join(visible.values())} " if visible else ""


def _decide(call: exp.Anonymous, types: Sequence[str], variants: Sequence[Variant]) -> None:
    if call.name == "fn_divide":
        left, right = read_decimal(types[0]), read_decimal(types[1])
        if left and right and any(t.startswith("DECIMAL") for t in types):
            call.replace(exact_quotient(call.expressions[0], call.expressions[1], left, right))
            return
    fitting = [(cost, v) for v in variants if (cost := _cost(types, v.types)) is not None]
    if fitting:
        call.set("this", min(fitting, key=lambda pair: pair[0])[1].name)


_RANKS = {
    "TINYINT": 1, "UTINYINT": 1, "SMALLINT": 2, "USMALLINT": 2, "INTEGER": 3, "UINTEGER": 3, "INTEGER_LITERAL": 3,
    "BIGINT": 4, "UBIGINT": 5, "HUGEINT": 5, "UHUGEINT": 5, "DECIMAL": 6, "FLOAT": 7, "DOUBLE": 8,
}  # fmt: skip


def _cost(given: Sequence[str], wanted: Sequence[str | None]) -> int | None:
    """How far the arguments are from a body's parameters; None when it does not fit."""
    if len(given) != len(wanted):
        return None
    total = 0
    for have, want in zip(given, wanted, strict=True):
        step = _step(have, want)
        if step is None:
            return None
        total += step
    return total


def _step(have: str, want: str | None) -> int | None:
    if want is None:
        return 100
    have, want = re.sub(r"\(.*", "", have), re.sub(r"\(.*", "", want)
    have = {"STRING_LITERAL": "VARCHAR", '"NULL"': want, "NULL": want}.get(have, have)
    if have == want:
        return 0
    if have in _RANKS and want in _RANKS:
        return _RANKS[want] - _RANKS[have] if _RANKS[want] > _RANKS[have] else None
    return 10 if (have, want) == ("DATE", "TIMESTAMP") else None
