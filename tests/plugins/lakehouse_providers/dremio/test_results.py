from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from lakehouse_providers.dremio.results import Result, describe, excerpt, to_arrow


def column(name: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": {"name": kind, **more}}


INNER = [{"name": "a", "type": {"name": "DECIMAL", "precision": 5, "scale": 1}}]
SCHEMA = [
    column("i", "INTEGER"),
    column("d", "DECIMAL", precision=38, scale=4),
    column("f", "DOUBLE"),
    column("b", "VARBINARY"),
    column("day", "DATE"),
    column("at", "TIMESTAMP"),
    column("t", "TIME"),
    column("l", "LIST", subSchema=[{"type": {"name": "BIGINT"}}]),
    column("s", "STRUCT", subSchema=INNER),
    column("m", "MAP"),
]
ROW = (
    '{"i": 1, "d": 12345678901234567890123456789012.3456, "f": 0.1, "b": "AP8=", "day": "2026-01-02",'
    ' "at": "2026-01-02 03:04:05.678", "t": "03:04:05.000", "l": [1, null], "s": {"a": 0.3}, "m": {"k": 1}}'
)


@pytest.fixture
def result(dremio: Any) -> Result:
    """Through the wire, where JSON could make a float of a decimal."""
    empty = ", ".join(f'"{c["name"]}": null' for c in SCHEMA)
    schema = str(SCHEMA).replace("'", '"')
    body = f'{{"rowCount": 2, "schema": {schema}, "rows": [{ROW}, {{{empty}}}]}}'
    dremio.jobs["j"] = {"jobState": "COMPLETED"}
    dremio.wire.fail(200, body, path="/results")
    with dremio.client() as client:
        found: Result = client.result("j")
        return found


def test_values_are_exact(result: Result) -> None:
    assert result.rows[0]["d"] == Decimal("12345678901234567890123456789012.3456")
    assert result.rows[0]["f"] == 0.1
    assert result.rows[0]["s"] == {"a": Decimal("0.3")}
    assert type(result.rows[0]["f"]) is float
    assert set(result.rows[1].values()) == {None}


def test_arrow_has_dremios_types(result: Result) -> None:
    table = to_arrow(result)
    assert table.schema.field("d").type == pa.decimal128(38, 4)
    assert table.schema.field("at").type == pa.timestamp("ms")
    assert table.to_pylist()[0] == {
        "i": 1,
        "d": Decimal("12345678901234567890123456789012.3456"),
        "f": 0.1,
        "b": b"\x00\xff",
        "day": dt.date(2026, 1, 2),
        "at": dt.datetime.fromisoformat("2026-01-02T03:04:05.678"),
        "t": dt.time(3, 4, 5),
        "l": [1, None],
        "s": {"a": Decimal("0.3")},
        "m": '{"k": 1}',
    }
    assert to_arrow(Result(SCHEMA, [], 0)).schema == table.schema


def test_xcom_gets_decimals_as_text(result: Result) -> None:
    shown = excerpt(result, 10_000)
    assert shown.rows[0]["d"] == "12345678901234567890123456789012.3456"
    assert not shown.truncated
    assert excerpt(result, 10).rows == []
    assert excerpt(result, 10).truncated


def test_the_schema_in_short() -> None:
    assert describe(SCHEMA)[:3] == [
        {"name": "i", "type": "INTEGER"},
        {"name": "d", "type": "DECIMAL(38,4)"},
        {"name": "f", "type": "DOUBLE"},
    ]
