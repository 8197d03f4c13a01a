from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest

from lakehouse_providers.dremio.errors import DremioConfigurationError
from lakehouse_providers.dremio.literals import bind, insert, literal


@pytest.mark.parametrize(
    ("value", "sql"),
    [
        (None, "NULL"),
        (True, "TRUE"),
        (7, "7"),
        (-0.5, "CAST(-0.5 AS DOUBLE)"),
        (float("nan"), "CAST('NaN' AS DOUBLE)"),
        (float("-inf"), "CAST('-Infinity' AS DOUBLE)"),
        (Decimal("1E+3"), "1000"),
        (Decimal("-0.0010"), "-0.0010"),
        ("it's; -- ?", "'it''s; -- ?'"),
        (b"\x00\xff", "FROM_HEX('00ff')"),
        (dt.date(2026, 1, 2), "DATE '2026-01-02'"),
        (dt.datetime.fromisoformat("2026-01-02T03:04:05.678999"), "TIMESTAMP '2026-01-02 03:04:05.678'"),
        (
            dt.datetime(2026, 1, 2, 1, tzinfo=dt.timezone(dt.timedelta(hours=2))),
            "TIMESTAMP '2026-01-01 23:00:00.000'",
        ),
        (dt.time(3, 4, 5), "TIME '03:04:05.000'"),
    ],
)
def test_values(value: Any, sql: str) -> None:
    assert literal(value) == sql


@pytest.mark.parametrize("value", [object(), [1], "a\0b", Decimal("NaN")])
def test_what_has_no_literal_is_refused(value: Any) -> None:
    with pytest.raises(DremioConfigurationError, match="cannot be written as SQL"):
        literal(value)


def test_only_real_placeholders_are_replaced() -> None:
    text = "SELECT '?', 'it''s ?', \"a?\" /* ? \n ? */ FROM t -- ?\nWHERE a = ? // ?\n AND b = ?"
    expected = text.replace("a = ?", "a = 1").replace("b = ?", "b = 'x'")
    assert bind(text, [1, "x"]) == expected
    assert bind(text, None) == text


@pytest.mark.parametrize("parameters", [[], [1, 2], "1", {"a": 1}])
def test_a_number_of_parameters_that_does_not_fit(parameters: Any) -> None:
    with pytest.raises(DremioConfigurationError):
        bind("SELECT ?", parameters)


def test_many_rows_in_one_statement() -> None:
    assert insert(["a", 'b"c'], [(1, None), (2, "x")]) == 'INSERT INTO "a"."b""c" VALUES (1, NULL), (2, \'x\')'
