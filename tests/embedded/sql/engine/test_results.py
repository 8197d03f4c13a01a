"""Results as the REST API writes them: dremio.md 1.3."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as some

from embedded.sql.engine import dremio_type, encode_results, parse_type, result_schema, sql_type, type_json, type_text
from embedded.sql.engine.results import normalise_table
from embedded.sql.errors import ParseError

MOMENT = datetime.datetime(2024, 2, 29, 1, 2, 3, 45000)  # noqa: DTZ001
TABLE = pa.table(
    {
        "z": pa.array([True, None]),
        "a": pa.array([1, None], pa.int32()),
        "big": pa.array([9007199254740993, None], pa.int64()),
        "f": pa.array([1.1, None], pa.float32()),
        "d": pa.array([0.1, float("nan")], pa.float64()),
        "m": pa.array([Decimal("12345678901234567890.10"), None], pa.decimal128(38, 2)),
        "s": pa.array(['q"\n\u2028é', None]),
        "b": pa.array([b"\x00\xff", None], pa.binary()),
        "dt": pa.array([MOMENT.date(), None]),
        "t": pa.array([MOMENT.time(), None], pa.time32("ms")),
        "ts": pa.array([MOMENT, None], pa.timestamp("ms")),
        "l": pa.array([[1, None], None], pa.list_(pa.int64())),
        "r": pa.array([{"x": 1, "y": None}, None], pa.struct([("x", pa.int32()), ("y", pa.string())])),
        "mp": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int32())),
    }
)


def test_values_and_order() -> None:
    text = encode_results(TABLE, 0, 500).decode()
    document = json.loads(text, parse_float=Decimal)
    assert list(document) == ["rowCount", "schema", "rows"]
    assert document["rowCount"] == 2
    row = document["rows"][0]
    assert list(row) == TABLE.column_names
    assert row == {
        "z": True,
        "a": 1,
        "big": 9007199254740993,
        "f": Decimal("1.1"),
        "d": Decimal("0.1"),
        "m": Decimal("12345678901234567890.10"),
        "s": 'q"\n\u2028é',
        "b": "AP8=",
        "dt": "2024-02-29",
        "t": "01:02:03.045",
        "ts": "2024-02-29 01:02:03.045",
        "l": [1, None],
        "r": {"x": 1},
        "mp": [{"key": "k", "value": 1}],
    }
    assert '"m":12345678901234567890.10' in text
    assert document["rows"][1] == {name: ("NaN" if name == "d" else None) for name in TABLE.column_names}


def test_numbers_as_strings_on_request() -> None:
    row = json.loads(encode_results(TABLE, 0, 1, number_as_string=True))["rows"][0]
    assert (row["big"], row["m"], row["a"]) == ("9007199254740993", "12345678901234567890.10", 1)


def test_pages_and_empty_results() -> None:
    page = json.loads(encode_results(TABLE, 1, 1))
    assert (page["rowCount"], len(page["rows"])) == (2, 1)
    assert json.loads(encode_results(TABLE, 5, 10))["rows"] == []
    empty = json.loads(encode_results(TABLE.slice(0, 0), 0, 10))
    assert (empty["rowCount"], empty["rows"], len(empty["schema"])) == (0, [], 14)


def test_type_names() -> None:
    names = [field["type"]["name"] for field in result_schema(TABLE.schema)]  # type: ignore[index]
    assert names == [
        "BOOLEAN", "INTEGER", "BIGINT", "FLOAT", "DOUBLE", "DECIMAL", "VARCHAR", "VARBINARY", "DATE", "TIME",
        "TIMESTAMP", "LIST", "STRUCT", "MAP",
    ]  # fmt: skip
    assert type_json(pa.decimal128(12, 2)) == {"name": "DECIMAL", "precision": 12, "scale": 2}
    assert type_json(pa.list_(pa.string())) == {"name": "LIST", "subSchema": [{"type": {"name": "VARCHAR"}}]}
    assert sql_type(pa.string()) == "CHARACTER VARYING"
    assert dremio_type(pa.int8()) == "INTEGER"
    assert dremio_type(pa.timestamp("us", tz="UTC")) == "TIMESTAMP"


def test_foreign_types_become_dremios() -> None:
    table = pa.table(
        {
            "i": pa.array([1], pa.int16()),
            "u": pa.array([2**31], pa.uint32()),
            "tz": pa.array([MOMENT], pa.timestamp("us", tz="Europe/Berlin")),
            "e": pa.array(["x"]).dictionary_encode(),
            "n": pa.array([None], pa.null()),
        }
    )
    made = normalise_table(table)
    assert made.schema.types == [pa.int32(), pa.int64(), pa.timestamp("ms"), pa.string(), pa.int32()]
    assert made.column("tz")[0].as_py() == MOMENT


types = some.recursive(
    some.sampled_from(
        [
            *(pa.bool_(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.string(), pa.binary(), pa.date32()),
            *(pa.timestamp("ms"), pa.time32("ms"), pa.decimal128(38, 10)),
        ]
    ),
    lambda inner: some.one_of(
        inner.map(pa.list_),
        some.lists(some.tuples(some.text("aB\"' ,():<>é", min_size=1), inner), min_size=1, max_size=3).map(
            lambda fields: pa.struct([pa.field(f"{name}{i}", kind) for i, (name, kind) in enumerate(fields)])
        ),
        some.tuples(some.just(pa.string()), inner).map(lambda pair: pa.map_(*pair)),
    ),
    max_leaves=6,
)


@given(types)
def test_type_texts_are_read_back(kind: pa.DataType) -> None:
    assert parse_type(type_text(kind)) == kind


@pytest.mark.parametrize(
    "text", ["", "NOPE", "DECIMAL(39,2)", "DECIMAL(5,6)", "LIST", "ROW(a)", "INT INT", "VARCHAR(x)", "LIST(INT>"]
)
def test_wrong_type_texts(text: str) -> None:
    with pytest.raises(ParseError):
        parse_type(text)
