"""Which function names a query may call, and what DuckDB call stands for each. Anything else is refused.

SAME have Dremio's meaning in DuckDB; macros named fn_<name> (functions.sql) cover the differences; BUILD holds those
whose translation depends on literal arguments (masks, units). Sources: Dremio's function pages, dremio.md 5.1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlglot import exp

from embedded.sql.engine.masks import strftime_mask, strptime_mask
from embedded.sql.errors import ParseError, UnsupportedError, ValidationError

Arguments = Sequence[exp.Expr]

MACROS = frozenset(
    name.upper()
    for name in re.findall(
        r"^CREATE MACRO fn_([a-z_0-9]+)", Path(__file__).with_name("functions.sql").read_text(), re.M
    )
)
# Macros that only generated code calls.
INTERNAL = {
    "DIVIDE", "ROUND_DIVIDE", "MINUS", "DATE_PLUS", "TIME_PLUS", "PARSE_DATE", "TRY_PARSE_DATE",
    "PARSE_TIMESTAMP", "TO_TEXT", "TRY_PARSE_TIMESTAMP", "PARSE_TIME", "FORMAT_DATE", "MAKE_DATE",
    "TO_INTEGER", "TO_BIGINT", "TO_BINARY", "DATE_PLUS_INTERVAL", "DATE_PLUS_DAYS", "DATE_LESS", "FORMAT_NUMBER",
    "MASK_TEXT", "PACK_INTEGER", "PACK_FLOAT", "PACK_DATE", "PACK_TIME", "UNPACK_DATE", "UNPACK_TIME", "OVERLAPS",
}  # fmt: skip

# Dremio name -> DuckDB name with the same meaning.
SAME: dict[str, str] = {
    **{n: n for n in (
        "ABS ACOS ASIN ATAN ATAN2 CBRT CEIL CEILING COS COSH DEGREES EXP FLOOR LN LOG10 PI POWER POW RADIANS "
        "RANDOM ROUND SIN SINH SQRT TAN TANH GCD FACTORIAL "
        "CONCAT CONCAT_WS LOWER UPPER REPLACE REVERSE LTRIM RTRIM TRIM SUBSTR SUBSTRING "
        "COALESCE IFNULL NULLIF "
    ).split()},
    "LCASE": "LOWER", "UCASE": "UPPER", "BTRIM": "TRIM", "RAND": "RANDOM", "NVL": "COALESCE",
    "STARTS_WITH": "STARTS_WITH",
    "ENDS_WITH": "ENDS_WITH", "SHA1": "SHA1", "SHA256": "SHA256", "LOG2": "LOG2",
}  # fmt: skip

# Dremio name -> fn_ macro of another name.
ALIASES: dict[str, str] = {
    "CHAR_LENGTH": "LENGTH", "CHARACTER_LENGTH": "LENGTH", "LEN": "LENGTH", "CHAR": "CHR", "LOCATE": "POSITION",
    "REPEATSTR": "REPEAT", "TRUNC": "TRUNCATE", "REGEXP_LIKE": "REGEXP_MATCHES", "DAYOFMONTH": "DAY",
    "WEEKOFYEAR": "WEEK", "SIZE": "CARDINALITY", "ARRAY_LENGTH": "CARDINALITY", "ADD_MONTH": "ADD_MONTHS",
}  # fmt: skip

AGGREGATES: dict[str, str] = {
    **{n: n for n in (
        "AVG COUNT MIN MAX SUM MEDIAN ANY_VALUE CORR COVAR_POP COVAR_SAMP STDDEV STDDEV_POP STDDEV_SAMP "
        "VAR_POP VAR_SAMP VARIANCE BIT_AND BIT_OR BOOL_AND BOOL_OR LISTAGG ARRAY_AGG PERCENTILE_CONT PERCENTILE_DISC "
        "GROUPING REGR_SLOPE REGR_INTERCEPT"
    ).split()},
    "APPROX_COUNT_DISTINCT": "APPROX_COUNT_DISTINCT", "NDV": "APPROX_COUNT_DISTINCT", "EVERY": "BOOL_AND",
    "SINGLE_VALUE": "ANY_VALUE", "GROUPING_ID": "GROUPING_ID", "MAX_BY": "MAX_BY", "MIN_BY": "MIN_BY", "MODE": "MODE",
}  # fmt: skip

WINDOWS = {"ROW_NUMBER", "RANK", "DENSE_RANK", "NTILE", "LAG", "LEAD", "FIRST_VALUE", "LAST_VALUE", "NTH_VALUE",
           "CUME_DIST", "PERCENT_RANK"}  # fmt: skip
_TYPED_WINDOWS: dict[str, type[exp.Func]] = {
    "LAG": exp.Lag, "LEAD": exp.Lead, "FIRST_VALUE": exp.FirstValue, "LAST_VALUE": exp.LastValue,
    "NTH_VALUE": exp.NthValue,
}  # fmt: skip

_UNITS = {
    "MILLISECOND": "to_milliseconds", "SECOND": "to_seconds", "MINUTE": "to_minutes", "HOUR": "to_hours",
    "DAY": "to_days", "WEEK": "to_weeks", "MONTH": "to_months", "QUARTER": "to_quarters", "YEAR": "to_years",
}  # fmt: skip
_PARTS = {
    "YEAR": "YEAR", "QUARTER": "QUARTER", "MONTH": "MONTH", "WEEK": "WEEK", "DAY": "DAY", "DOW": "DAYOFWEEK",
    "DAYOFWEEK": "DAYOFWEEK", "DOY": "DAYOFYEAR", "DAYOFYEAR": "DAYOFYEAR", "HOUR": "HOUR", "MINUTE": "MINUTE",
    "SECOND": "SECOND", "EPOCH": "EPOCH", "CENTURY": "CENTURY", "DECADE": "DECADE", "MILLENNIUM": "MILLENNIUM",
}  # fmt: skip


def call(name: str, *arguments: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this=name, expressions=list(arguments))


def cast(value: exp.Expr, to: str) -> exp.Expr:
    return exp.cast(value, to, dialect="duckdb")


def unknown_function(name: str, arguments: Arguments) -> ValidationError:
    families = ", ".join(_family(a) for a in arguments)
    return ValidationError(f"No match found for function signature {name.upper()}({families})")


def _family(argument: exp.Expr) -> str:
    if isinstance(argument, exp.Literal):
        return "<CHARACTER>" if argument.is_string else "<NUMERIC>"
    if isinstance(argument, exp.Boolean):
        return "<BOOLEAN>"
    return "<ANY>"


# What Dremio documents and this server has not, and why.
REFUSED: dict[str, str] = {
    **dict.fromkeys(("AI_CLASSIFY", "AI_COMPLETE", "AI_GENERATE"), "it has no language model"),
    **dict.fromkeys(("IMAXDIR", "IMINDIR", "MAXDIR", "MINDIR"), "it has no directory columns"),
    **dict.fromkeys(("HASH", "HASH64"), "the product's hash is not published"),
    "CONTAINS": "it is for sources of type Elasticsearch only",
    "IS_MEMBER": "ask sys.membership",
    "LIST_FILES": "read the folder as a promoted table",
    "LAST_QUERY_ID": "a statement over REST has no session",
    "TOASCII": "use CONVERT_FROM or ENCODE",
}


def is_known(name: str) -> bool:
    """Does Dremio have a function of this name, as far as this server knows?"""
    upper = name.upper()
    if any(upper in table for table in (BUILD, SAME, AGGREGATES, WINDOWS, _SESSION, REFUSED)):
        return True
    return ALIASES.get(upper, upper) in MACROS and upper not in INTERNAL


# Answered from the session or by the grammar (translate.py), not by a call.
_SESSION = {"USER", "QUERY_USER", "SESSION_USER", "CURRENT_USER", "SYSTEM_USER", "CURRENT_SCHEMA", "TABLE", "UNNEST",
            "VALUES", "IN", "EXISTS"}  # fmt: skip


def translate_call(name: str, arguments: Arguments) -> exp.Expr:
    """The DuckDB expression of one Dremio call whose arguments are translated already."""
    upper = name.upper()
    if build := BUILD.get(upper):
        return build(upper, arguments)
    if same := SAME.get(upper):
        return call(same, *arguments)
    if aggregate := AGGREGATES.get(upper):
        return call(aggregate, *arguments)
    if upper in WINDOWS:
        return _window(upper, arguments)
    if reason := REFUSED.get(upper):
        raise UnsupportedError(f"{upper} is not supported by this server: {reason}.")
    macro = ALIASES.get(upper, upper)
    if macro in MACROS and upper not in INTERNAL:
        return call(f"fn_{macro.lower()}", *arguments)
    raise unknown_function(name, arguments)


def extract(unit: str, value: exp.Expr) -> exp.Expr:
    part = _PARTS.get(unit.upper())
    if not part:
        raise ValidationError(f"Unknown time unit {unit} in EXTRACT")
    return call(f"fn_{part.lower()}", value)


def _window(name: str, arguments: Arguments) -> exp.Expr:
    if typed := _TYPED_WINDOWS.get(name):  # typed nodes, or sqlglot drops IGNORE NULLS
        return typed.from_arg_list(list(arguments))
    if name == "NTILE":
        return call("NTILE", cast(arguments[0], "BIGINT"))
    return call(name, *arguments)


def _unit(argument: exp.Expr) -> str:
    unit = argument.name.upper().removeprefix("SQL_TSI_")
    unit = {"FRAC_SECOND": "MILLISECOND"}.get(unit, unit)
    if unit not in _UNITS:
        raise ValidationError(f"Unknown time unit {argument.name}")
    return unit


def _text(argument: exp.Expr, what: str) -> str:
    if isinstance(argument, exp.Literal) and argument.is_string:
        return str(argument.this)
    raise UnsupportedError(f"{what} must be a text literal on this server.")


def _count(name: str, arguments: Arguments, *allowed: int) -> None:
    if len(arguments) not in allowed:
        raise unknown_function(name, arguments)


def add_interval(value: exp.Expr, amount: exp.Expr, unit: str) -> exp.Expr:
    """value + amount * unit, keeping a DATE a DATE for units of a day and more."""
    step = call(
        _UNITS[unit], cast(amount, "BIGINT" if unit in ("SECOND", "MINUTE", "HOUR", "MILLISECOND") else "INTEGER")
    )
    kind = "fn_time_plus" if unit in ("MILLISECOND", "SECOND", "MINUTE", "HOUR") else "fn_date_plus"
    return call(kind, value, step)


def _timestampadd(name: str, a: Arguments) -> exp.Expr:
    _count(name, a, 3)
    return add_interval(a[2], a[1], _unit(a[0]))


def _timestampdiff(name: str, a: Arguments) -> exp.Expr:
    _count(name, a, 3)
    return call("fn_timestampdiff", exp.Literal.string(_unit(a[0]).lower()), a[1], a[2])


def _date_add(name: str, a: Arguments) -> exp.Expr:
    """DATE_ADD and DATE_SUB: days keep a DATE, an interval gives a TIMESTAMP."""
    _count(name, a, 2)
    sign = -1 if name == "DATE_SUB" else 1
    if isinstance(a[1], exp.Interval):
        return call("fn_date_plus_interval", a[0], _step(a[1], sign))
    return call("fn_date_plus_days", a[0], exp.Neg(this=exp.paren(a[1])) if sign < 0 else a[1])


def _step(interval: exp.Interval, sign: int) -> exp.Expr:
    unit = interval_unit(interval)
    amount = exp.Neg(this=exp.paren(interval.this)) if sign < 0 else interval.this
    whole = "BIGINT" if unit in ("SECOND", "MINUTE", "HOUR", "MILLISECOND") else "INTEGER"
    return call(_UNITS[unit], cast(amount, whole))


def _date_diff(name: str, a: Arguments) -> exp.Expr:
    """Less an interval or a number of days; between two dates or timestamps an interval."""
    _count(name, a, 2)
    if isinstance(a[1], exp.Interval):
        return call("fn_date_plus_interval", a[0], _step(a[1], -1))
    return call("fn_date_less", a[0], a[1])


def interval_unit(interval: exp.Interval) -> str:
    unit = interval.unit.name.upper() if interval.unit else "DAY"
    unit = unit.removesuffix("S") if unit not in _UNITS else unit
    if unit not in _UNITS or not interval.this:
        raise UnsupportedError("Intervals of more than one unit are not supported by this server.")
    return unit


def _parse(kind: str) -> Callable[[str, Arguments], exp.Expr]:
    def build(name: str, a: Arguments) -> exp.Expr:
        _count(name, a, 1, 2, 3)
        if len(a) == 1:
            return call(f"fn_to_{kind}", a[0])
        mask = exp.Literal.string(strptime_mask(_text(a[1], f"The format of {name}")))
        lenient = len(a) == 3 and a[2].name == "1"
        return call(f"fn_{'try_' if lenient else ''}parse_{kind}", a[0], mask)

    return build


def _to_char(name: str, a: Arguments) -> exp.Expr:
    _count(name, a, 2)
    mask = _text(a[1], "The format of TO_CHAR")
    if re.search(r"[#0]", mask) and not re.search(r"[A-DF-Za-df-z]", mask):
        return call("fn_format_number", a[0], exp.Literal.string(mask))
    return call("fn_format_date", a[0], exp.Literal.string(strftime_mask(mask)))


def _unix_timestamp(name: str, a: Arguments) -> exp.Expr:
    _count(name, a, 0, 1, 2)
    if len(a) == 2:
        mask = exp.Literal.string(strptime_mask(_text(a[1], "The format of UNIX_TIMESTAMP")))
        return call("fn_unix_timestamp", call("fn_parse_timestamp", a[0], mask))
    return call("fn_unix_timestamp", a[0] if a else exp.CurrentTimestamp())


def _date_trunc(name: str, a: Arguments) -> exp.Expr:
    _count(name, a, 2)
    return call("fn_date_trunc", exp.Literal.string(_text(a[0], "The unit of DATE_TRUNC").lower()), a[1])


def _date_part(name: str, a: Arguments) -> exp.Expr:
    _count(name, a, 2)
    return extract(_text(a[0], "The unit of DATE_PART"), a[1])


def _greatest(name: str, a: Arguments) -> exp.Expr:
    """NULL when any argument is (DuckDB ignores NULLs)."""
    if not a:
        raise unknown_function(name, a)
    missing = exp.or_(*(exp.Is(this=x.copy(), expression=exp.Null()) for x in a))
    return exp.Case(ifs=[exp.If(this=missing, true=exp.Null())], default=call(name, *a))


def _nvl2(name: str, a: Arguments) -> exp.Expr:
    _count(name, a, 3)
    missing = exp.Is(this=a[0], expression=exp.Null())
    return exp.Case(ifs=[exp.If(this=missing, true=a[2])], default=a[1])


def _now(name: str, a: Arguments) -> exp.Expr:
    _count(name, a, 0)
    return exp.CurrentTimestamp()


def _today(name: str, a: Arguments) -> exp.Expr:
    _count(name, a, 0)
    return exp.CurrentDate()


_INTEGERS = ("INT", "BIGINT", "INT_BE", "BIGINT_BE", "BOOLEAN_BYTE")
_FLOATS = ("FLOAT", "DOUBLE", "FLOAT_BE", "DOUBLE_BE")
_MOMENTS = {"DATE_EPOCH": "date", "TIMESTAMP_EPOCH": "date", "TIME_EPOCH": "time"}
_RESULTS = {"INT": "INTEGER", "FLOAT": "FLOAT", "BOOLEAN_BYTE": "BOOLEAN", "DATE_EPOCH": "DATE"}


def _convert_from(name: str, a: Arguments) -> exp.Expr:
    _count(name, a, 2, 3)
    encoding = _text(a[1], f"The encoding of {name}").upper()
    kind = exp.Literal.string(encoding)
    plain = encoding.removesuffix("_BE")
    if len(a) == 3:
        if encoding not in ("UTF8", "UTF-8"):
            raise ParseError(f"3-argument convert_from only supported for utf8 encoding. Instead, got {encoding}")
        return call("fn_convert_replaceutf8", a[0], a[2])
    if encoding in ("UTF8", "UTF-8"):
        return call("DECODE", a[0])
    if encoding == "JSON":
        return _from_json(a[0])
    if encoding in _INTEGERS:
        return cast(call("py_unpack_integer", a[0], kind), _RESULTS.get(plain, "BIGINT"))
    if encoding in _FLOATS:
        return cast(call("py_unpack_float", a[0], kind), _RESULTS.get(plain, "DOUBLE"))
    if plain in _MOMENTS:
        value = call(f"fn_unpack_{_MOMENTS[plain]}", a[0], kind)
        return cast(value, "DATE") if plain == "DATE_EPOCH" else value
    raise UnsupportedError(f"CONVERT_FROM with [{encoding}] is not supported by this server.")


def _from_json(value: exp.Expr) -> exp.Expr:
    """The type is the text's, so the text must be known when the query is planned."""
    try:
        return _of_json(json.loads(_text(value, "The text of CONVERT_FROM(..., 'JSON')")))
    except json.JSONDecodeError as error:
        raise ValidationError(f"Failure converting from JSON: {error}") from None


def _of_json(value: object) -> exp.Expr:
    if value is None:
        return exp.Null()
    if isinstance(value, bool):
        return exp.true() if value else exp.false()
    if isinstance(value, int):
        return cast(exp.Literal.number(str(value)), "BIGINT")
    if isinstance(value, float):
        return cast(exp.Literal.number(repr(value)), "DOUBLE")
    if isinstance(value, str):
        return exp.Literal.string(value)
    if isinstance(value, list):
        return exp.Array(expressions=[_of_json(item) for item in value])
    assert isinstance(value, dict)
    fields = [
        exp.PropertyEQ(this=exp.to_identifier(key, quoted=True), expression=_of_json(item))
        for key, item in value.items()
    ]
    return exp.Struct(expressions=fields)


def _convert_to(name: str, a: Arguments) -> exp.Expr:
    _count(name, a, 2)
    encoding = _text(a[1], "The encoding of CONVERT_TO").upper()
    kind = exp.Literal.string(encoding)
    if encoding in ("UTF8", "UTF-8"):
        return call("ENCODE", a[0])
    if encoding in ("JSON", "COMPACTJSON", "SIMPLEJSON"):
        return call("ENCODE", cast(call("TO_JSON", a[0]), "VARCHAR"))
    if encoding in _INTEGERS:
        return call("fn_pack_integer", a[0], kind)
    if encoding in _FLOATS:
        return call("fn_pack_float", a[0], kind)
    if (plain := encoding.removesuffix("_BE")) in _MOMENTS:
        return call(f"fn_pack_{_MOMENTS[plain]}", a[0], kind)
    raise UnsupportedError(f"CONVERT_TO with [{encoding}] is not supported by this server.")


def _datetype(name: str, a: Arguments) -> exp.Expr:
    _count(name, a, 3)
    return call("fn_make_date", *a)


def _flatten(name: str, a: Arguments) -> exp.Expr:
    _count(name, a, 1)
    return call("UNNEST", a[0])


def _regexp_extract(name: str, a: Arguments) -> exp.Expr:
    _count(name, a, 3)  # the third argument is the group, not a position as sqlglot takes it
    return call("REGEXP_EXTRACT", *a)


def _array(name: str, a: Arguments) -> exp.Expr:
    return exp.Array(expressions=list(a))


def _if(name: str, a: Arguments) -> exp.Expr:
    _count(name, a, 3)
    return exp.Case(ifs=[exp.If(this=a[0], true=a[1])], default=a[2])


BUILD: dict[str, Callable[[str, Arguments], exp.Expr]] = {
    "ARRAY": _array,
    "CONVERT_FROM": _convert_from,
    "CONVERT_TO": _convert_to,
    "CURDATE": _today,
    "CURRENT_DATE": _today,
    "CURRENT_TIME": lambda name, a: exp.CurrentTime(),
    "CURRENT_TIMESTAMP": _now,
    "LOCALTIME": lambda name, a: exp.CurrentTime(),
    "LOCALTIMESTAMP": _now,
    "TRANSACTION_TIMESTAMP": _now,
    "CURRENT_DATE_UTC": _today,
    "DATE_ADD": _date_add,
    "DATE_DIFF": _date_diff,
    "DATE_PART": _date_part,
    "DATE_SUB": _date_add,
    "DATE_TRUNC": _date_trunc,
    "DATETYPE": _datetype,
    "FLATTEN": _flatten,
    "GREATEST": _greatest,
    "IF": _if,
    "LEAST": _greatest,
    "NOW": _now,
    "NVL2": _nvl2,
    "REGEXP_EXTRACT": _regexp_extract,
    "SYSDATE": _now,
    "TIMESTAMPADD": _timestampadd,
    "TIMESTAMPDIFF": _timestampdiff,
    "TO_CHAR": _to_char,
    "TO_DATE": _parse("date"),
    "TO_TIME": _parse("time"),
    "TO_TIMESTAMP": _parse("timestamp"),
    "UNIX_TIMESTAMP": _unix_timestamp,
}
