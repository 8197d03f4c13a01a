"""Every example of function_examples.tsv: value and type."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from embedded.sql.engine.datatypes import dremio_type

if TYPE_CHECKING:
    from tests.embedded.sql.engine.conftest import Bench

_FILE = Path(__file__).with_name("function_examples.tsv")
EXAMPLES = [
    tuple(row)
    for row in csv.reader(_FILE.read_text().splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    if row and not row[0].startswith("#")
]


@pytest.mark.parametrize(("call", "result", "kind"), EXAMPLES, ids=[row[0][:60] for row in EXAMPLES])
def test_example(bench: Bench, call: str, result: str, kind: str) -> None:
    table = bench.run(f"SELECT {call} AS v").table
    assert (str(table.column("v")[0].as_py()), dremio_type(table.schema.field("v").type)) == (result, kind)
