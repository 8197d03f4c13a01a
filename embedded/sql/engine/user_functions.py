"""CREATE FUNCTION: a user's function is kept as text and expanded where it is called, like a view.

An argument can never reach the names inside a body: in a body without tables it is put in place of the parameter, and
otherwise it is computed in a FROM item of its own that stands first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
from sqlglot import exp

from embedded.sql.datasets import Catalog, Path, UserFunction
from embedded.sql.engine import statements as st
from embedded.sql.engine.datatypes import dremio_type, parse_type, quote, type_text
from embedded.sql.engine.dialect import parse_expression, parse_query
from embedded.sql.engine.functions import is_known
from embedded.sql.engine.outcomes import ok
from embedded.sql.engine.relations import dotted
from embedded.sql.errors import ConcurrentModification, NotFound, ValidationError

if TYPE_CHECKING:
    from embedded.sql.engine.engine import Run

MAX_DEPTH = 20  # of functions in functions
_NUMERIC = ("INTEGER", "BIGINT", "FLOAT", "DOUBLE", "DECIMAL")


# Statements ---------------------------------------------------------------------------------------------------------


def create(run: Run, s: st.CreateFunction) -> pa.Table:
    path = run.full(s.path)
    known = run.catalog.find_function(path, ())
    if known is not None and s.if_not_exists:
        return ok(f"Function, {dotted(path)}, already exists.")
    if known is not None and not s.replace:
        raise ConcurrentModification(f"Function, {dotted(path)}, already exists.")
    names = [p.name.lower() for p in s.parameters]
    for name in names:
        if names.count(name) > 1:
            raise ValidationError(f"Parameter name {name} appears more than once")
    returns: str | tuple[tuple[str, str], ...]
    if isinstance(s.returns, tuple):
        returns = tuple((c.name, type_text(c.type)) for c in s.returns if c.type is not None)
    else:
        returns = type_text(s.returns)
    function = UserFunction(
        path, tuple((p.name, type_text(p.type), p.default) for p in s.parameters), returns, s.body, run.context
    )
    _check(run, function)
    run.catalog.put_function(function, replace=s.replace)
    return ok(f"Function, {dotted(path)}, is {'replaced' if known else 'created'}.")


def _check(run: Run, function: UserFunction) -> None:
    """Run the body's planning with NULL arguments: unknown names and wrong types show now, not at the first call."""
    nothing = [parse_expression(f"CAST(NULL AS {kind})") for _, kind, _ in function.parameters]
    for _, kind, default in function.parameters:
        if default is not None:
            run.query_schema(f"SELECT CAST(({default}) AS {kind})")
    plan = run.plan(accelerate=False)
    tree: exp.Expr
    if isinstance(function.returns, str):
        # Columns, not NULLs: a constant would be folded and lose its type.
        names = [f"p{i}" for i in range(len(nothing))]
        columns: list[exp.Expr] = [exp.column(name, table="__given", quoted=True) for name in names]
        value = _scalar(run.catalog, function, columns, cast=False)
        tree = exp.select(exp.alias_(value, "v", quoted=True))
        if nothing:
            given = exp.select(*(exp.alias_(n, name, quoted=True) for n, name in zip(nothing, names, strict=True)))
            tree = tree.from_(given.subquery("__given"))
        wanted = [("v", function.returns)]
    else:
        tree = _tabular(run.catalog, function, nothing)
        wanted = list(function.returns)
    found = run.tree_schema(plan, tree, function.context)
    if len(found) != len(wanted):
        raise ValidationError(f"Row types are different.\nDefined: {len(wanted)} columns, actual: {len(found)} columns")
    for field, (name, kind) in zip(found, wanted, strict=True):
        if not _compatible(field.type, parse_type(kind)):
            raise ValidationError(
                f"Row types are different.\nDefined: [{name} {kind}], Actual: [{name} {dremio_type(field.type)}]"
            )


def _compatible(have: pa.DataType, want: pa.DataType) -> bool:
    if pa.types.is_null(have):
        return True
    actual, defined = dremio_type(have), dremio_type(want)
    return actual == defined or (actual in _NUMERIC and defined in _NUMERIC) or (actual, defined) == (
        "DATE", "TIMESTAMP"
    )  # fmt: skip


def drop(run: Run, s: st.DropFunction) -> pa.Table:
    path = run.full(s.path)
    if run.catalog.drop_function(path):
        return ok(f"Function, {dotted(path)}, is dropped.")
    if not s.if_exists:
        raise NotFound(f"Function, {dotted(path)}, does not exist.")
    return ok(f"Function, {dotted(path)}, does not exist.")


def describe(run: Run, s: st.DescribeFunction) -> pa.Table:
    found = run.catalog.find_function(s.path, run.context)
    if found is None:
        raise NotFound(f"Function, {dotted(s.path)}, does not exist.")
    return pa.table(
        {
            "Name": pa.array([dotted(found.path)], pa.string()),
            "Input": pa.array([", ".join(f"{name} {kind}" for name, kind, _ in found.parameters)], pa.string()),
            "Returns": pa.array([_returns(found)], pa.string()),
            "Body": pa.array([found.body], pa.string()),
            "Created At": pa.array([None], pa.timestamp("ms")),
            "Last Modified At": pa.array([None], pa.timestamp("ms")),
            "Owner": pa.array([None], pa.string()),
        }
    )


def _returns(function: UserFunction) -> str:
    if isinstance(function.returns, str):
        return function.returns
    return f"TABLE ({', '.join(f'{quote(name)} {kind}' for name, kind in function.returns)})"


# Expansion ----------------------------------------------------------------------------------------------------------


def expand(catalog: Catalog, tree: exp.Expr, context: Path, depth: int = 0) -> exp.Expr:
    """The tree with every call of a user's scalar function replaced by its body. Changes the tree in place."""
    holder = exp.Paren(this=tree)
    for call, path in list(_calls(holder)):
        function = catalog.find_function(path, context)
        if function is None or not isinstance(function.returns, str):
            continue  # translation refuses it in Calcite's words
        if depth >= MAX_DEPTH:
            raise ValidationError(f"Function '{dotted(function.path)}' is nested too deeply.")
        arguments = [argument.copy() for argument in _last(call).expressions]
        call.replace(_scalar(catalog, function, arguments, depth=depth))
    inner: exp.Expr = holder.this
    return inner


def _calls(tree: exp.Expr) -> Iterator[tuple[exp.Expr, Path]]:
    """Calls that no built-in function answers, innermost first, with the path they are written with."""
    for node in reversed(list(tree.dfs())):
        if not isinstance(node, exp.Anonymous) or _in_from(node):
            continue
        top: exp.Expr = node
        parts: list[str] = [node.name]
        if isinstance(node.parent, exp.Dot) and node.parent.expression is node:
            top = node.parent
            parts = [*_parts(node.parent.this), node.name]
        if len(parts) > 1 or not is_known(node.name):
            yield top, tuple(parts)


def _in_from(node: exp.Expr) -> bool:
    """TABLE(f(...)) in FROM is the planner's."""
    parent = node.parent
    while isinstance(parent, (exp.Anonymous, exp.Dot)):
        parent = parent.parent
    return isinstance(parent, exp.Table)


def _last(call: exp.Expr) -> exp.Expr:
    return call.expression if isinstance(call, exp.Dot) else call


def _parts(node: exp.Expr) -> list[str]:
    if isinstance(node, exp.Dot):
        return [*_parts(node.this), *_parts(node.expression)]
    if isinstance(node, exp.Column):
        return [part.name for part in node.parts]
    return [node.name]


def _bound(function: UserFunction, arguments: list[exp.Expr]) -> dict[str, exp.Expr]:
    """Lower-cased parameter -> its argument cast to the parameter's type."""
    needed = [name for name, _, default in function.parameters if default is None]
    if not len(needed) <= len(arguments) <= len(function.parameters):
        raise ValidationError(
            f"Invalid number of arguments to function '{function.path[-1].upper()}'. "
            f"Was expecting {len(function.parameters)} arguments"
        )
    given: dict[str, exp.Expr] = {}
    for number, (name, kind, default) in enumerate(function.parameters):
        value = arguments[number] if number < len(arguments) else parse_expression(default or "NULL")
        cast = parse_expression(f"CAST(NULL AS {kind})")
        cast.set("this", exp.paren(value))
        given[name.lower()] = cast
    return given


def _scalar(
    catalog: Catalog, function: UserFunction, arguments: list[exp.Expr], *, cast: bool = True, depth: int = 0
) -> exp.Expr:
    given = _bound(function, arguments)
    body = _body(function)
    if not isinstance(body, exp.Query):
        value = _substituted(expand(catalog, body, function.context, depth + 1), given)
    elif _plain(body):
        value = _substituted(expand(catalog, body.expressions[0].unalias(), function.context, depth + 1), given)
    else:
        query = _qualified(catalog, expand(catalog, body, function.context, depth + 1), function.context)
        value = exp.Subquery(this=_joined(query, given))
    if not cast:
        return exp.paren(value)
    outer = parse_expression(f"CAST(NULL AS {function.returns})")
    outer.set("this", exp.paren(value))
    return outer


def _body(function: UserFunction) -> exp.Expr:
    text = function.body.strip()
    tree = parse_expression(text) if not text.upper().startswith(("SELECT", "WITH", "(SELECT")) else parse_query(text)
    while isinstance(tree, exp.Subquery) and not any(v for k, v in tree.args.items() if k != "this"):
        tree = tree.this
    return tree


def _plain(body: exp.Query) -> bool:
    """SELECT expression, and nothing else."""
    return (
        isinstance(body, exp.Select)
        and len(body.expressions) == 1
        and not any(value for name, value in body.args.items() if name != "expressions")
    )


def _substituted(tree: exp.Expr, given: dict[str, exp.Expr]) -> exp.Expr:
    holder = exp.Paren(this=tree)
    for column in list(holder.find_all(exp.Column)):
        if not column.args.get("table") and column.name.lower() in given:
            column.replace(given[column.name.lower()].copy())
    inner: exp.Expr = holder.this
    return inner


def _joined(query: exp.Expr, given: dict[str, exp.Expr]) -> exp.Expr:
    """The body with its parameters as columns of a FROM item that stands first wherever they are used."""
    if not any(argument.find(exp.Column) for argument in given.values()):
        return _substituted(query, given)  # constants cannot be captured
    for number, select in enumerate(list(query.find_all(exp.Select))):
        used = [
            c
            for c in select.find_all(exp.Column)
            if not c.args.get("table") and c.name.lower() in given and c.find_ancestor(exp.Select) is select
        ]
        if not used:
            continue
        alias = f"__p{number}"
        names = {c.name.lower() for c in used}
        for column in used:
            column.replace(exp.column(column.name.lower(), table=alias, quoted=True))
        items = [exp.alias_(given[name].copy(), name, quoted=True) for name in sorted(names)]
        first = exp.select(*items).subquery(exp.to_identifier(alias, quoted=True))
        before = select.args.get("from_")
        select.set("from_", exp.From(this=first))
        if before is not None:
            joins = select.args.get("joins") or []
            select.set("joins", [exp.Join(this=before.this, kind="CROSS"), *joins])
    return query


def _qualified(catalog: Catalog, tree: exp.Expr, context: Path) -> exp.Expr:
    """Every table by its full path, so that the caller's context cannot change what the body reads."""
    ctes = {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
    for table in list(tree.find_all(exp.Table)):
        parts = table.parts
        if not all(isinstance(part, exp.Identifier) for part in parts):
            continue
        if len(parts) == 1 and parts[0].name.lower() in ctes:
            continue
        path = catalog.resolve(tuple(part.name for part in parts), context).path
        names = [exp.to_identifier(part, quoted=True) for part in path]
        if len(names) > 3:
            rest: exp.Expr = names[2]
            for name in names[3:]:
                rest = exp.Dot(this=rest, expression=name)
            new = exp.Table(this=rest, db=names[1], catalog=names[0])
        else:
            labels = ("catalog", "db", "this")[3 - len(names) :]
            new = exp.Table(**dict(zip(labels, names, strict=True)))
        new.set("alias", table.args.get("alias") or exp.TableAlias(this=exp.to_identifier(parts[-1].name, quoted=True)))
        new.set("version", table.args.get("version"))
        table.replace(new)
    return tree


def _tabular(catalog: Catalog, function: UserFunction, arguments: list[exp.Expr]) -> exp.Expr:
    """The query of a tabular function with constant arguments."""
    given = _bound(function, arguments)
    for argument in given.values():
        if argument.find(exp.Column) or argument.find(exp.Query):
            raise ValidationError(f"Arguments of the table function '{dotted(function.path)}' must be constants.")
    body = _body(function)
    if not isinstance(body, exp.Query):
        raise ValidationError(f"Table function '{dotted(function.path)}' must return a query.")
    query = _qualified(catalog, expand(catalog, body, function.context, 1), function.context)
    return _substituted(query, given)


def call_in_from(catalog: Catalog, inner: exp.Expr, context: Path) -> tuple[UserFunction, exp.Expr] | None:
    """TABLE(f(...)): the tabular function and its query; None when the name is no such function."""
    call = inner
    parts: list[str] = []
    while isinstance(call, exp.Dot):
        parts += _parts(call.this)
        call = call.expression
    if not isinstance(call, exp.Anonymous):
        return None
    function = catalog.find_function((*parts, call.name), context)
    if function is None or isinstance(function.returns, str):
        return None
    return function, _tabular(catalog, function, [argument.copy() for argument in call.expressions])
