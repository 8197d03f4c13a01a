"""Division of decimals, exact and with Dremio's result type, which DuckDB lacks (it divides as DOUBLE).

Types: Gandiva's DecimalTypeUtil as used by dremio-oss RelDataTypeSystemImpl; whole numbers count as DECIMAL(10,0) and
DECIMAL(19,0).
"""

from __future__ import annotations

import re

from sqlglot import exp

from embedded.sql.engine import functions

MAX_PRECISION = 38
MIN_SCALE = 6
_WHOLE = {
    "TINYINT": 10, "SMALLINT": 10, "INTEGER": 10, "INTEGER_LITERAL": 10, "UTINYINT": 10, "USMALLINT": 10,
    "UINTEGER": 10, "BIGINT": 19, "UBIGINT": 19, "HUGEINT": 19, "UHUGEINT": 19,
}  # fmt: skip

Decimal = tuple[int, int]  # precision, scale


def read_decimal(duckdb_type: str) -> Decimal | None:
    """Precision and scale of a decimal or whole number type; None for any other."""
    if match := re.fullmatch(r"DECIMAL\((\d+),\s*(\d+)\)", duckdb_type):
        return int(match[1]), int(match[2])
    return (_WHOLE[duckdb_type], 0) if duckdb_type in _WHOLE else None


def quotient_type(left: Decimal, right: Decimal) -> Decimal:
    """Precision and scale of left / right."""
    (p1, s1), (p2, s2) = left, right
    scale = max(MIN_SCALE, s1 + p2 + 1)
    precision = p1 - s1 + s2 + scale
    if precision > MAX_PRECISION:
        scale = max(scale - (precision - MAX_PRECISION), min(scale, MIN_SCALE))
        precision = MAX_PRECISION
    return precision, scale


def exact_quotient(a: exp.Expr, b: exp.Expr, left: Decimal, right: Decimal) -> exp.Expr:
    """a / b by whole numbers: (A * 10^k) / B rounded half up, then the decimal point is put back."""
    precision, scale = quotient_type(left, right)
    shift = scale + right[1] - left[1]
    numerator, denominator = _unscaled(a, left), _unscaled(b, right)
    if shift >= 0:
        numerator = exp.Mul(this=numerator, expression=_power(shift))
    else:
        denominator = exp.Mul(this=denominator, expression=_power(-shift))
    rounded = functions.call("fn_round_divide", numerator, denominator)
    point = exp.cast(exp.Literal.string("0." + "0" * (scale - 1) + "1"), f"DECIMAL({scale},{scale})")
    whole = exp.cast(rounded, "DECIMAL(38,0)")
    return exp.paren(exp.cast(exp.Mul(this=whole, expression=point), f"DECIMAL({precision},{scale})"))


def _unscaled(value: exp.Expr, kind: Decimal) -> exp.Expr:
    value = exp.paren(value)
    if kind[1]:
        power = exp.cast(exp.Literal.string("1" + "0" * kind[1]), f"DECIMAL({kind[1] + 1},0)")
        value = exp.Mul(this=value, expression=power)
    return exp.cast(value, "HUGEINT", dialect="duckdb")


def _power(exponent: int) -> exp.Expr:
    return exp.cast(exp.Literal.string("1" + "0" * exponent), "HUGEINT", dialect="duckdb")
