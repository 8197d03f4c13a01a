"""Expressions of a query: what is in them, when two give the same, and copies with parts replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sqlglot import exp

from embedded.sql.engine import functions

_AGGREGATES = set(functions.AGGREGATES)
# Their value is another in each call, so that an expression must be evaluated where it is written.
VOLATILE = {"RANDOM", "RAND", "UUID", "GEN_RANDOM_UUID"}
# Their value is another in each statement: fine in a query, never in what a refresh stores.
_OF_THE_STATEMENT = {
    "NOW", "SYSDATE", "CURDATE", "CURRENT_DATE", "CURRENT_DATE_UTC", "CURRENT_TIME", "CURRENT_TIMESTAMP",
    "LOCALTIMESTAMP", "LOCALTIME", "TRANSACTION_TIMESTAMP", "UNIX_TIMESTAMP", "USER", "QUERY_USER", "SESSION_USER",
    "CURRENT_USER", "SYSTEM_USER", "CURRENT_SCHEMA", "IS_MEMBER",
}  # fmt: skip
_STATEMENT_NODES = (
    exp.CurrentDate, exp.CurrentTime, exp.CurrentTimestamp, exp.CurrentDatetime, exp.Localtime, exp.Localtimestamp,
    exp.CurrentTimestampLTZ, exp.CurrentUser, exp.SessionUser,
)  # fmt: skip
_MANY_ROWS = {"FLATTEN", "UNNEST"}
# Any other name is a user's function, whose text may change.
_KNOWN = {
    *functions.SAME,
    *functions.ALIASES,
    *functions.AGGREGATES,
    *functions.BUILD,
    *functions.MACROS,
    *functions.WINDOWS,
}


def column(alias: str, name: str) -> exp.Column:
    return exp.Column(this=exp.to_identifier(name, quoted=True), table=exp.to_identifier(alias, quoted=True))


def columns_of(tree: exp.Expr) -> Iterator[exp.Column]:
    """Columns of this level; a subquery inside has its own."""
    if isinstance(tree, exp.Query):
        return
    if isinstance(tree, exp.Column):
        yield tree
        return
    for child in tree.iter_expressions():
        yield from columns_of(child)


def aggregates(trees: Iterator[exp.Expr]) -> Iterator[exp.Anonymous]:
    for tree in trees:
        stack = [tree]
        while stack:
            node = stack.pop()
            if isinstance(node, exp.Query):
                continue
            if is_aggregate(node):
                yield node  # type: ignore[misc]
            stack += list(node.iter_expressions())


def is_aggregate(node: exp.Expr) -> bool:
    return isinstance(node, exp.Anonymous) and node.name.upper() in _AGGREGATES


def rebuild(node: exp.Expr, replaced: Callable[[exp.Expr], exp.Expr | None]) -> exp.Expr:
    """A copy in which `replaced` gives some subtrees their new form; None: look inside."""
    new = replaced(node)
    if new is not None:
        return new
    arguments: dict[str, object] = {}
    for name, value in node.args.items():
        if isinstance(value, exp.Expr):
            arguments[name] = _inside(rebuild(value, replaced), value)
        elif isinstance(value, list):
            arguments[name] = [
                _inside(rebuild(item, replaced), item) if isinstance(item, exp.Expr) else item for item in value
            ]
        else:
            arguments[name] = value
    return type(node)(**arguments)


_ATOMS = (exp.Column, exp.Literal, exp.Anonymous, exp.Cast, exp.Paren, exp.Null, exp.Boolean, exp.Subquery, exp.Case)


def _inside(new: exp.Expr, old: exp.Expr) -> exp.Expr:
    """What took the place of a column inside an expression keeps together."""
    return exp.Paren(this=new) if isinstance(old, exp.Column) and not isinstance(new, _ATOMS) else new


_COMMUTATIVE = (exp.EQ, exp.NEQ, exp.And, exp.Or, exp.Add, exp.Mul)
_FLIPPED: dict[type[exp.Expr], str] = {exp.GT: "LT", exp.GTE: "LTE"}


def canonical(node: exp.Expr) -> str:
    """A text that two expressions share only when they give the same value; columns must be bound."""
    if isinstance(node, exp.Paren):
        return canonical(node.this)
    if isinstance(node, exp.Column):
        return f"{node.table}.{node.name}"
    if isinstance(node, exp.Literal):
        return f"'{node.name}'" if node.is_string else node.name
    if isinstance(node, exp.DataType):
        return node.sql("dremio").upper()
    if isinstance(node, _COMMUTATIVE):
        return f"{type(node).__name__}({', '.join(sorted((canonical(node.this), canonical(node.expression))))})"
    if type(node) in _FLIPPED:
        return f"{_FLIPPED[type(node)]}({canonical(node.expression)}, {canonical(node.this)})"
    name = f"CALL {node.name.upper()}" if isinstance(node, exp.Anonymous) else type(node).__name__
    return f"{name}({', '.join(_arguments(node))})"


def _arguments(node: exp.Expr) -> Iterator[str]:
    for key in sorted(node.args):
        value = node.args[key]
        if value is None or value is False or value == [] or (key == "this" and isinstance(node, exp.Anonymous)):
            continue
        if isinstance(value, list):
            yield f"{key}=[{', '.join(canonical(v) if isinstance(v, exp.Expr) else repr(v) for v in value)}]"
        else:
            yield f"{key}={canonical(value) if isinstance(value, exp.Expr) else repr(value)}"


def conjuncts_of(condition: exp.Expr) -> Iterator[exp.Expr]:
    """a AND b AND c one by one; BETWEEN as its two comparisons."""
    if isinstance(condition, exp.Paren):
        yield from conjuncts_of(condition.this)
    elif isinstance(condition, exp.And):
        yield from conjuncts_of(condition.this)
        yield from conjuncts_of(condition.expression)
    elif isinstance(condition, exp.Between) and not condition.args.get("symmetric"):
        yield exp.GTE(this=condition.this.copy(), expression=condition.args["low"])
        yield exp.LTE(this=condition.this.copy(), expression=condition.args["high"])
    else:
        yield condition


def lasting(tree: exp.Expr) -> bool:
    """Does it give the same at any time and for any user?"""
    for node in tree.walk():
        if isinstance(node, _STATEMENT_NODES):
            return False
        if isinstance(node, exp.Anonymous) and (node.name.upper() in _OF_THE_STATEMENT | VOLATILE or is_foreign(node)):
            return False
        if isinstance(node, exp.Column) and node.name.upper() == "USER" and not node.this.args.get("quoted"):
            return False
    return True


def is_foreign(call: exp.Anonymous) -> bool:
    return call.name.upper() not in _KNOWN | _OF_THE_STATEMENT


def gives_rows(node: exp.Expr) -> bool:
    return isinstance(node, exp.Anonymous) and node.name.upper() in _MANY_ROWS
