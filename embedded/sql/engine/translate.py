"""From a parsed Dremio query that was vetted (syntax.py) to DuckDB SQL: one deliberate rewrite per construct.

Table names must be resolved before (planner): `render` sees only names that the planner made.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

from sqlglot import ErrorLevel, exp
from sqlglot.errors import SqlglotError
from sqlglot.generators.duckdb import DuckDBGenerator

from embedded.sql.engine import functions as calls
from embedded.sql.engine.datatypes import duckdb_type, parse_type
from embedded.sql.errors import ParseError, UnsupportedError, ValidationError


@dataclass(frozen=True)
class Moment:
    """What the session functions give during one statement."""

    now: datetime.datetime  # UTC, without zone, whole milliseconds
    user: str
    schema: str = ""  # the context, dotted


def name_columns(tree: exp.Expr) -> None:
    """As in Calcite: a column is called as it is written here, an expression without an alias EXPR$<position>."""
    for select in tree.find_all(exp.Select):
        for number, item in enumerate(select.expressions):
            if isinstance(item, exp.Column) and not isinstance(item.this, exp.Star):
                item.replace(exp.alias_(item.copy(), item.name, quoted=True))
            elif not isinstance(item, (exp.Alias, exp.Column, exp.Star, exp.Dot)):
                item.replace(exp.alias_(item.copy(), f"EXPR${number}", quoted=True))


def rewrite(tree: exp.Expr, moment: Moment) -> exp.Expr:
    """A checked tree whose tables are resolved, with DuckDB's functions and operators. Changes the tree in place."""
    holder = exp.Paren(this=tree)
    for node in reversed(list(holder.dfs())):
        if node is holder:
            continue
        rewrite = _rewrite_of(cast(Any, type(node)))
        if rewrite:
            new = rewrite(node, moment)
            if new is not node:
                node.replace(new)
    _finish(holder)
    _balance_pipes(holder)
    inner: exp.Expr = holder.this
    return inner


def render(tree: exp.Expr) -> str:
    """DuckDB SQL of a rewritten tree."""
    try:
        return str(_Duck().generate(tree, copy=False))
    except SqlglotError as error:
        raise UnsupportedError(f"This query is not supported: {str(error).splitlines()[0]}") from None


class _Duck(DuckDBGenerator):
    def __init__(self) -> None:
        super().__init__(dialect="duckdb", identify=True, unsupported_level=ErrorLevel.RAISE, comments=False)


Rewrite = Callable[[exp.Expr, Moment], exp.Expr]


@functools.cache
def _rewrite_of(kind: Any) -> Rewrite | None:
    return next((rewrite for base, rewrite in _REWRITES if issubclass(kind, base)), None)


def _anonymous(node: exp.Expr, moment: Moment) -> exp.Expr:
    name = node.name
    if isinstance(node.parent, exp.Dot):
        raise calls.unknown_function(f"{node.parent.this.sql()}.{name}", node.expressions)
    if name.upper() in ("USER", "QUERY_USER", "SESSION_USER", "CURRENT_USER", "SYSTEM_USER"):
        return exp.Literal.string(moment.user)
    if name.upper() == "CURRENT_SCHEMA":
        return exp.Literal.string(moment.schema)
    if name.upper() == "AVG" and _is_plain_average(node):
        return _average(node.expressions[0])
    new = calls.translate_call(name, list(node.expressions))
    if name.upper() == "LISTAGG":
        return new  # finished by _within_group, or by _finish when there is no WITHIN GROUP
    return _now(new, moment) if isinstance(new, (exp.CurrentTimestamp, exp.CurrentDate, exp.CurrentTime)) else new


def _is_plain_average(node: exp.Expr) -> bool:
    plain = len(node.expressions) == 1 and not isinstance(node.expressions[0], exp.Distinct)
    return plain and not isinstance(node.parent, (exp.Window, exp.Filter, exp.IgnoreNulls, exp.RespectNulls))


def _average(value: exp.Expr) -> exp.Expr:
    """SUM / COUNT as Dremio plans it: the same value as from partial sums and counts (DuckDB divides otherwise)."""
    total = calls.cast(calls.call("SUM", value), "DOUBLE")
    return exp.paren(exp.Div(this=total, expression=calls.call("COUNT", value.copy())))


def _listagg(node: exp.Anonymous, order: exp.Order | None) -> exp.Expr:
    arguments = list(node.expressions)
    distinct = isinstance(arguments[0], exp.Distinct) if arguments else False
    if distinct:
        arguments = [*arguments[0].expressions, *arguments[1:]]
    if not 1 <= len(arguments) <= 2:
        raise calls.unknown_function("LISTAGG", arguments)
    separator: exp.Expr = arguments[1] if len(arguments) == 2 else exp.Literal.string(",")
    value: exp.Expr = _text(arguments[0])
    if distinct:
        value = exp.Distinct(expressions=[value])
    if order:
        separator = exp.Order(this=separator, expressions=order.expressions)
    return calls.call("STRING_AGG", value, separator)


def _is_call(node: exp.Expr | None, name: str) -> bool:
    return isinstance(node, exp.Anonymous) and node.name.upper() == name


def _within_group(node: exp.Expr, moment: Moment) -> exp.Expr:
    inner, order = node.this, node.expression
    if _is_call(inner, "LISTAGG"):
        return _listagg(inner, order)
    for name in ("PERCENTILE_CONT", "PERCENTILE_DISC"):
        if _is_call(inner, name):
            ordered = order.expressions[0]
            fraction = inner.expressions[0]
            if ordered.args.get("desc"):
                fraction = exp.Sub(this=exp.Literal.number(1), expression=exp.paren(fraction))
            return calls.call(name.replace("PERCENTILE", "QUANTILE"), ordered.this, fraction)
    raise UnsupportedError("WITHIN GROUP is supported for LISTAGG, PERCENTILE_CONT and PERCENTILE_DISC only.")


def _divide(node: exp.Expr, moment: Moment) -> exp.Expr:
    return calls.call("fn_divide", node.this, node.expression)


def _modulo(node: exp.Expr, moment: Moment) -> exp.Expr:
    return calls.call("fn_mod", node.this, node.expression)


def _plus(node: exp.Expr, moment: Moment) -> exp.Expr:
    left, right = node.this, node.expression
    if isinstance(left, exp.Interval) and isinstance(node, exp.Add):
        left, right = right, left
    if not isinstance(right, exp.Interval):
        # DuckDB binds an argument of fn_minus once for its type and once more for the result: 2^n times in n of them.
        dates = isinstance(node, exp.Sub) and not (_is_no_date(left) or _is_no_date(right))
        return calls.call("fn_minus", left, right) if dates else node
    unit = calls.interval_unit(right)
    amount: exp.Expr = right.this
    if isinstance(node, exp.Sub):
        amount = exp.Neg(this=exp.paren(amount))
    return calls.add_interval(left, amount, unit)


def _is_no_date(value: exp.Expr) -> bool:
    """Whether a rewritten value alone tells that it is no DATE.

    Dremio counts with numbers and intervals only, and a DATE moved by an interval is a TIMESTAMP in DuckDB: no sum
    and no difference is a DATE. Text may be read as one.
    """
    value = value.unnest()
    if isinstance(value, exp.Case):
        branches = [*(branch.args["true"] for branch in value.args["ifs"]), value.args.get("default")]
        return any(branch is not None and _is_no_date(branch) for branch in branches)
    if isinstance(value, exp.Anonymous) and value.name.upper() in _NO_DATES:
        return True
    if isinstance(value, exp.Literal):
        return not value.is_string
    return isinstance(value, (exp.Add, exp.Sub, exp.Mul, exp.Neg)) or _type_of(value) in _NUMERIC


_NUMERIC = ("INTEGER", "BIGINT", "DOUBLE", "REAL")
_NO_DATES = {"FN_MINUS", "FN_DIVIDE", "FN_MOD", "SUM", "COUNT", "AVG", "ABS", "ROUND"}


def _interval(node: exp.Expr, moment: Moment) -> exp.Expr:
    assert isinstance(node, exp.Interval)
    if isinstance(node.parent, exp.DataType):  # CAST(n AS INTERVAL DAY): _cast makes the interval
        return node
    calls.interval_unit(node)
    if isinstance(node.this, exp.Literal) and node.this.is_string:  # INTERVAL '3' DAY counts with a number
        text = node.this.name
        if not text.lstrip("-").isdigit():
            raise UnsupportedError(f"Interval '{text}' is not supported by this server.")
        node.set(
            "this", exp.Literal.number(text) if not text.startswith("-") else exp.Neg(this=exp.Literal.number(text[1:]))
        )
    return node


def _pipe(node: exp.Expr, moment: Moment) -> exp.Expr:
    node.set("this", _text(node.this))
    node.set("expression", _text(node.expression))
    return node


def _text(value: exp.Expr) -> exp.Expr:
    known = _type_of(value)
    if known == "VARCHAR":
        return value
    if known and not known.startswith("TIME"):
        return calls.cast(value, "VARCHAR")
    return calls.call("fn_to_text", value)


def _whole(value: exp.Expr, to: str) -> exp.Expr:
    known = _type_of(value)
    if known in ("DOUBLE", "REAL"):  # sqlglot's words
        return calls.cast(calls.call("ROUND", value), to)
    return calls.cast(value, to) if known else calls.call(f"fn_to_{to.lower()}", value)


def _type_of(value: exp.Expr) -> str:
    """DuckDB's type of a rewritten value, where the value alone tells it; empty where it may be any.

    The macros of conversions name their argument several times, so a conversion within one within one would grow
    exponentially: what is converted once has a type that is known.
    """
    value = value.unnest()
    if isinstance(value, exp.Cast):
        return value.to.sql("duckdb")
    if isinstance(value, exp.DPipe):
        return "VARCHAR"
    if isinstance(value, exp.Literal):
        return "VARCHAR" if value.is_string else "BIGINT" if value.name.isdigit() else ""
    left = value
    while isinstance(left, (exp.Add, exp.Sub, exp.Mul)):  # a sum of thousands leans to the left: no recursion there
        if _type_of(left.expression) not in ("INTEGER", "BIGINT"):
            return ""
        left = left.this.unnest()
    if left is not value:
        return "BIGINT" if _type_of(left) in ("INTEGER", "BIGINT") else ""
    return _RESULTS.get(value.name.lower(), "") if isinstance(value, exp.Anonymous) else ""


_RESULTS = {
    "fn_to_integer": "INTEGER",
    "fn_to_bigint": "BIGINT",
    **dict.fromkeys(("fn_to_text", "fn_left", "substring", "trim", "ltrim", "rtrim", "upper", "lower"), "VARCHAR"),
}


def _cast(node: exp.Expr, moment: Moment) -> exp.Expr:
    assert isinstance(node, exp.Cast)
    to = node.to
    if isinstance(to.this, exp.Interval):
        return exp.Interval(this=node.this, unit=to.this.unit)
    target = parse_type(_type_text(to))
    text = duckdb_type(target)
    value = node.this
    if isinstance(node, exp.TryCast):  # TRY_CONVERT_FROM: a JSON text that is not of the type is NULL
        return exp.TryCast(this=exp.TryCast(this=value, to=_duck_type("JSON")), to=_duck_type(text))
    if text == "VARCHAR":
        value = _text(value)
        if to.expressions:
            value = calls.call("fn_left", value, exp.Literal.number(to.expressions[0].name))
        return value
    if text in ("INTEGER", "BIGINT"):
        return _whole(value, text)
    if text == "TIMESTAMP":
        return calls.call("DATE_TRUNC", exp.Literal.string("milliseconds"), calls.cast(value, text))
    if text == "BLOB":
        return calls.call("fn_to_binary", value)
    return calls.cast(value, text)


def _duck_type(text: str) -> exp.DataType:
    return exp.DataType.build(text, dialect="duckdb")


def _overlaps(node: exp.Expr, moment: Moment) -> exp.Expr:
    """(start, end) OVERLAPS (start, end); instead of an end there may be an interval."""
    periods: list[exp.Expr] = []
    for side in (node.this, node.expression):
        if not isinstance(side, exp.Tuple) or len(side.expressions) != 2:
            raise ParseError("Failure parsing the query. OVERLAPS expects two periods.")
        start, end = side.expressions
        if isinstance(end, exp.Interval):
            end = calls.add_interval(start.copy(), end.this, calls.interval_unit(end))
        periods += [start, end]
    return calls.call("fn_overlaps", *periods)


def _type_text(data_type: exp.DataType) -> str:
    """The Dremio text of a parsed type, for the one type reader. sqlglot's own names (DType.INT) are mapped back."""
    inner = [_type_text(e) if isinstance(e, exp.DataType) else e.sql() for e in data_type.expressions]
    kind = data_type.this.value if isinstance(data_type.this, exp.DType) else str(data_type.this)
    kind = {"TEXT": "VARCHAR", "ARRAY": "LIST", "NCHAR": "CHAR", "NVARCHAR": "VARCHAR", "DATETIME": "UNKNOWN"}.get(
        kind, kind
    )
    if kind in ("STRUCT", "OBJECT"):
        fields = [
            f"{e.this.sql()} {_type_text(e.kind)}"
            for e in data_type.expressions
            if isinstance(e, exp.ColumnDef) and e.kind
        ]
        return f"ROW({', '.join(fields)})"
    return f"{kind}({', '.join(inner)})" if inner else kind


def _extract(node: exp.Expr, moment: Moment) -> exp.Expr:
    return calls.extract(node.name, node.expression)


def _position(node: exp.Expr, moment: Moment) -> exp.Expr:
    arguments = [node.args["substr"], node.this]
    if node.args.get("position"):
        arguments.append(node.args["position"])
    return calls.call("fn_position", *arguments)


def _substring(node: exp.Expr, moment: Moment) -> exp.Expr:
    parts = [node.this, node.args.get("start"), node.args.get("length")]
    return calls.call("SUBSTRING", *(part for part in parts if part is not None))


def _trim(node: exp.Expr, moment: Moment) -> exp.Expr:
    name = {"LEADING": "LTRIM", "TRAILING": "RTRIM"}.get((node.args.get("position") or "").upper(), "TRIM")
    return calls.call(name, *(x for x in (node.this, node.expression) if x is not None))


def _rounded(node: exp.Expr, moment: Moment) -> exp.Expr:
    name = "FLOOR" if isinstance(node, exp.Floor) else "CEIL"
    to = node.args.get("to")
    if to is not None:
        down = calls.call("fn_date_trunc", exp.Literal.string(to.name.lower()), node.this)
        if name == "FLOOR":
            return down
        unit = calls.interval_unit(exp.Interval(this=exp.Literal.number(1), unit=to))
        up = calls.add_interval(down.copy(), exp.Literal.number(1), unit)
        whole = exp.EQ(this=down, expression=node.this.copy())
        return exp.Case(ifs=[exp.If(this=whole, true=down.copy())], default=up)
    return calls.call(name, *(x for x in (node.this, node.args.get("decimals")) if x is not None))


def _now(node: exp.Expr, moment: Moment) -> exp.Expr:
    if isinstance(node, exp.CurrentDate):
        return calls.cast(exp.Literal.string(moment.now.date().isoformat()), "DATE")
    text = moment.now.isoformat(sep=" ", timespec="milliseconds")
    if isinstance(node, (exp.CurrentTime, exp.Localtime)):
        return calls.cast(exp.Literal.string(text.split(" ")[1]), "TIME")
    return calls.cast(exp.Literal.string(text), "TIMESTAMP")


# DuckDB reads these names as functions of its own when no column has them; not all of them mean the same.
_BARE = {"USER": "user", "SYSTEM_USER": "user", "QUERY_USER": "user", "CURRENT_SCHEMA": "schema"}
_NO_COLUMNS = {"CURRENT_CATALOG", "CURRENT_ROLE"}


def _column(node: exp.Expr, moment: Moment) -> exp.Expr:
    """USER is a reserved word; only quoted can it name a column."""
    identifier = node.this
    if not isinstance(identifier, exp.Identifier) or identifier.args.get("quoted") or node.args.get("table"):
        return node
    name = identifier.name.upper()
    if name in _NO_COLUMNS:
        raise ValidationError(f"Column '{identifier.name}' not found in any table")
    return exp.Literal.string(getattr(moment, _BARE[name])) if name in _BARE else node


def _user(node: exp.Expr, moment: Moment) -> exp.Expr:
    return exp.Literal.string(moment.user)


def _hex(node: exp.Expr, moment: Moment) -> exp.Expr:
    digits = node.name
    if len(digits) % 2 or any(c not in "0123456789abcdefABCDEF" for c in digits):
        raise ParseError("Failure parsing the query. Not a hexadecimal string.")
    return calls.call("UNHEX", exp.Literal.string(digits))


def _similar(node: exp.Expr, moment: Moment) -> exp.Expr:
    return calls.call("fn_similar_to", node.this, node.expression)


def _bracket(node: exp.Expr, moment: Moment) -> exp.Expr:
    if len(node.expressions) != 1:
        raise ParseError("Failure parsing the query. One index is expected.")
    return node


_REWRITES: tuple[tuple[type[exp.Expr] | tuple[type[exp.Expr], ...], Rewrite], ...] = (
    (exp.WithinGroup, _within_group),
    (exp.Anonymous, _anonymous),
    (exp.Div, _divide),
    (exp.Mod, _modulo),
    ((exp.Add, exp.Sub), _plus),
    (exp.Interval, _interval),
    (exp.DPipe, _pipe),
    (exp.Cast, _cast),
    (exp.Extract, _extract),
    (exp.StrPosition, _position),
    (exp.Substring, _substring),
    (exp.Trim, _trim),
    ((exp.Floor, exp.Ceil), _rounded),
    ((exp.CurrentDate, exp.CurrentTime, exp.CurrentTimestamp, exp.CurrentDatetime, exp.Localtime, exp.Localtimestamp,
      exp.CurrentTimestampLTZ), _now),
    ((exp.CurrentUser, exp.SessionUser), _user),
    (exp.HexString, _hex),
    (exp.Column, _column),
    (exp.SimilarTo, _similar),
    (exp.Bracket, _bracket),
    (exp.Overlaps, _overlaps),
)  # fmt: skip


def _balance_pipes(tree: exp.Expr) -> None:
    """a || b || c || ... as a balanced tree: DuckDB's planner is cubic in the depth of such a chain."""
    for top in list(tree.find_all(exp.DPipe)):
        if isinstance(top.parent, exp.DPipe) and top.parent.this is top:
            continue
        leaves: list[exp.Expr] = []
        at: exp.Expr = top
        while isinstance(at, exp.DPipe):
            leaves.append(at.expression)
            at = at.this
        leaves.append(at)
        if len(leaves) > 8:
            top.replace(exp.paren(_joined(leaves[::-1])))


def _joined(parts: list[exp.Expr]) -> exp.Expr:
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    return exp.DPipe(this=exp.paren(_joined(parts[:middle])), expression=exp.paren(_joined(parts[middle:])), safe=True)


def _finish(tree: exp.Expr) -> None:
    """Two FLATTENs give a cross product in Dremio and a zip in DuckDB; LISTAGGs without WITHIN GROUP end here too."""
    for select in tree.find_all(exp.Select):
        calls = [c for item in select.expressions for c in item.find_all(exp.Anonymous) if c.name.upper() == "UNNEST"]
        if len(calls) > 1:
            raise UnsupportedError(
                "Two FLATTENs in one SELECT are not supported by this server; use a subquery for each."
            )
    for loose in list(tree.find_all(exp.Anonymous)):
        if _is_call(loose, "LISTAGG"):
            loose.replace(_listagg(loose, None))


def table_names(tree: exp.Expr) -> Iterable[exp.Table]:
    return tree.find_all(exp.Table)


def require_query(tree: exp.Expr) -> exp.Query:
    if not isinstance(tree, exp.Query):
        raise ValidationError("A query is expected.")
    return tree
