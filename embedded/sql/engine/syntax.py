"""The allow-list of syntax.

What is not on it is refused, so that foreign syntax which sqlglot happens to read never runs as something near.
"""

from __future__ import annotations

import functools
from typing import Any, cast

from sqlglot import exp

from embedded.sql.errors import ParseError

_ALLOWED: tuple[type[exp.Expr], ...] = (
    # structure
    exp.Select, exp.SetOperation, exp.Subquery, exp.With, exp.CTE, exp.From, exp.Join, exp.Table, exp.TableAlias,
    exp.Where, exp.Group, exp.Rollup, exp.Cube, exp.GroupingSets, exp.Having, exp.Qualify, exp.Order, exp.Ordered,
    exp.Limit, exp.Fetch, exp.LimitOptions, exp.Offset, exp.Values, exp.Tuple, exp.Distinct, exp.Star, exp.Window,
    exp.WindowSpec,
    exp.Version, exp.Alias, exp.Paren, exp.Kwarg,
    # values
    exp.Literal, exp.Boolean, exp.Null, exp.Identifier, exp.Column, exp.Dot, exp.Var, exp.HexString, exp.DataType,
    exp.DataTypeParam, exp.Interval, exp.Bracket, exp.ColumnDef, exp.Array,
    # operators
    exp.And, exp.Or, exp.Not, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Is, exp.In, exp.Between, exp.Like,
    exp.ILike, exp.SimilarTo, exp.Escape, exp.Exists, exp.Any, exp.All, exp.NullSafeEQ, exp.NullSafeNEQ, exp.Add,
    exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.Neg, exp.DPipe, exp.Case, exp.If, exp.Concat,
    # calls with syntax of their own
    exp.Anonymous, exp.Cast, exp.Extract, exp.StrPosition, exp.Substring, exp.Trim, exp.Floor, exp.Ceil, exp.Filter,
    exp.WithinGroup, exp.IgnoreNulls, exp.RespectNulls, exp.CurrentDate, exp.CurrentTime, exp.CurrentTimestamp,
    exp.Overlaps,
    exp.CurrentDatetime, exp.CurrentUser, exp.Localtime, exp.Localtimestamp, exp.CurrentTimestampLTZ, exp.SessionUser,
)  # fmt: skip
_FORBIDDEN_ARGS: dict[type[exp.Expr], tuple[str, ...]] = {
    exp.Select: ("hint", "kind", "into", "laterals", "match", "connect", "cluster", "distribute", "sort", "sample",
                 "pivots", "settings", "format", "prewhere", "operation_modifiers", "locks", "options", "for_"),
    exp.Star: ("except_", "replace", "rename"),
    exp.Table: ("pivots", "hints", "sample", "only", "partition", "rows_from", "when", "changes", "joins", "laterals"),
    exp.Join: ("match_condition", "global_", "hint", "pivots"),
    exp.With: ("recursive",),
    exp.Group: ("all", "totals"),
    exp.SetOperation: ("by_name", "side", "kind", "on"),
    exp.Distinct: ("on",),
    exp.CTE: ("scalar", "materialized", "key_expressions"),
    exp.Cast: ("format", "safe", "action", "default"),
}  # fmt: skip


@functools.cache
def _rules(kind: Any) -> tuple[bool, tuple[str, ...]]:
    """Is this node type allowed, and which of its arguments are not?"""
    forbidden = tuple(name for base, names in _FORBIDDEN_ARGS.items() if issubclass(kind, base) for name in names)
    return issubclass(kind, _ALLOWED), forbidden


def vet(tree: exp.Expr) -> None:
    """Refuse every construct that is not Dremio's or that this server does not know."""
    for node in tree.walk():
        allowed, forbidden = _rules(cast(Any, type(node)))
        if not allowed:
            raise ParseError(f"Failure parsing the query. {_describe(node)} is not supported.")
        for name in forbidden:
            if node.args.get(name):
                raise ParseError(f"Failure parsing the query. {name.strip('_').upper()} is not supported here.")
        if isinstance(node, exp.Join) and (node.kind in ("SEMI", "ANTI") or node.method == "ASOF"):
            raise ParseError(f"Failure parsing the query. {node.kind or node.method} JOIN is not supported.")


def _describe(node: exp.Expr) -> str:
    return type(node).__name__.upper()
