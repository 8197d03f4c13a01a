"""The Airbyte protocol without a server: lines, frames, types, retries, lock files, and the end of a process tree."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedded.replication.failures import SyncError
from embedded.replication.protocol_connectors import exact, leash, messages, registry
from embedded.replication.protocol_connectors.batch import Columns, arrow_type, long_numbers
from embedded.replication.protocol_connectors.lock import lock
from embedded.replication.protocol_connectors.schema import shape
from embedded.replication.store.jobs import Retries
from tests.embedded.replication.harness import until
from tests.embedded.replication.scripted import alive

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.text()
    | st.sampled_from(['","emitted_at":1}}', "}}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("emitted_at"), inner, max_size=3),
    max_leaves=8,
)


def record(data: Any, separators: tuple[str, str] = (",", ":"), **more: Any) -> bytes:
    body = {"stream": "s", "data": data, "emitted_at": 1795455052018, **more}
    return json.dumps({"type": "RECORD", "record": body}, separators=separators).encode()


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text(), VALUES, max_size=4), st.booleans())
def test_whatever_a_record_holds_it_is_cut_right(data: dict[str, Any], spaced: bool) -> None:
    separators = (", ", ": ") if spaced else (",", ":")
    first = record({"id": 1}, separators)
    frame = messages.learn(first, exact.loads(first)["record"])
    assert frame is not None
    parts = frame.cut(record(data, separators))
    assert parts is not None
    assert (json.loads(parts[0]), parts[1]) == (data, b"1795455052018")


@pytest.mark.parametrize(
    "line",
    [
        record({"id": 1}, meta={"changes": []}),
        b'{"type":"RECORD","record":{"emitted_at":1,"stream":"s","data":{"id":1}}}',
        b'{"type":"RECORD","record":{"stream":"s","data":{"a":{"b":1,"emitted_at":5}}}}',
        record({"id": 1})[:-9],
        b'{"type":"STATE","state":{}}',
    ],
)
def test_a_line_of_another_shape_is_left_to_the_parser(line: bytes) -> None:
    first = record({"id": 1})
    frame = messages.learn(first, exact.loads(first)["record"])
    assert frame is not None
    assert frame.cut(line) is None


def test_lines_that_are_no_messages() -> None:
    assert messages.parse(b"hello") is None
    assert messages.parse(b"") is None
    for garbled in (b'{"t****pe":"TRACE"}', b'{"type":"RECORD","record":', b'{"type":3}'):
        with pytest.raises(SyncError, match="no message"):
            messages.parse(garbled)


def test_a_persons_error_outweighs_the_ones_that_follow() -> None:
    failure = messages.Failure()
    failure.take({"error": {"message": "the key is wrong", "failure_type": "config_error"}})
    failure.take({"error": {"message": "the stream failed", "failure_type": "system_error"}})
    assert failure.error == SyncError("source", "config_error", "the key is wrong")


@pytest.mark.parametrize(
    ("schema", "written"),
    [
        ({"type": ["null", "integer"]}, "int64"),
        ({"type": "number", "airbyte_type": "integer"}, "int64"),
        ({"type": ["integer", "number"]}, "double"),
        ({"type": "string", "airbyte_type": "big_integer"}, "string"),
        ({"type": "string", "format": "date-time"}, "timestamp[us, UTC]"),
        ({"type": "string", "airbyte_type": "time_without_timezone", "format": "time"}, "time64[us]"),
        ({"oneOf": [{"type": "null"}, {"type": "boolean"}]}, "bool"),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, "string"),
        ({"type": "array"}, "string"),
        ({"type": "array", "items": {"type": "number"}}, "list<double>"),
        ({"properties": {"a": {"type": "string"}}}, 'struct<{"a": "string"}>'),
        ({}, "string"),
        (True, "string"),
    ],
)
def test_types_of_json_schema(schema: Any, written: str) -> None:
    assert shape(schema).written == written


FIELDS = {
    "id": {"type": "integer"},
    "n": {"type": "number"},
    "t": {"type": "string"},
    "at": {"type": "string", "format": "date-time"},
    "free": {"type": "object"},
    "l": {"type": "array", "items": {"type": "string"}},
    "o": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string", "format": "date"}}},
}
ANY = (
    st.none() | st.integers() | st.floats() | st.text() | st.lists(st.text(), max_size=2) | st.just({"a": 1, "b": "x"})
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, ANY)), min_size=1, max_size=6))
def test_a_value_is_carried_exactly_or_named(rows: list[dict[str, Any]]) -> None:
    """The fast path and the exact one agree, and whatever is lost stands in `changes`."""
    fields = [(name, shape(schema)) for name, schema in FIELDS.items()]
    columns, changes = Columns("s", fields).convert([json.dumps(row).encode() for row in rows])
    assert [column.type for column in columns] == [arrow_type(kind) for _, kind in fields]
    for row, values in enumerate(zip(*(column.to_pylist() for column in columns), strict=True)):
        coerce = exact.Coercion()
        for (name, kind), got in zip(fields, values, strict=True):
            wanted = coerce(exact.loads(json.dumps(rows[row].get(name)).encode()), kind, name)
            if kind.kind == "json":  # two writers of JSON: one escapes in capitals
                got, wanted = _escapes_in_one_case(got), _escapes_in_one_case(wanted)
            assert pa.array([got], arrow_type(kind)).equals(pa.array([wanted], arrow_type(kind))) or got != got
        assert changes.get(row, []) == coerce.changes


def _escapes_in_one_case(text: str | None) -> str | None:
    return None if text is None else re.sub(r"\\u[0-9a-fA-F]{4}", lambda found: found[0].lower(), text)


def test_long_numbers_are_found_by_row() -> None:
    lines = [b'{"a":1234567890123456}', b'{"a":12345678901234567}', b'{"a":"x"}', b'{"a":0.1234567890123456}']
    assert long_numbers(b"\n".join(lines)) == [1, 3]
    columns, changes = Columns("s", [("a", shape({"type": "number"}))]).convert([lines[1], b'{"a":1.5}'])
    assert columns[0].to_pylist() == [12345678901234568.0, 1.5]
    assert changes == {0: [{"field": "a", "change": "TRUNCATED", "reason": "DESTINATION_FIELD_SIZE_LIMITATION"}]}
    assert exact.dumps(exact.loads(b'{"a":1.10,"b":[1e400,null]}')) == '{"a":1.10,"b":[1E+400,null]}'
    assert exact.loads(b"0.1") == Decimal("0.1")


@pytest.mark.parametrize(
    ("progressed", "wait"),
    [
        ([False], 10),
        ([False, False, False], 90),
        ([False] * 4, 270),
        ([False] * 5, None),
        ([False] * 4 + [True], 0),
        ([False] * 4 + [True] + [False], 10),
        ([True] * 19, 0),
        ([True] * 20, None),
        ([False, True] * 8 + [False], 10),
        ([False, True] * 9 + [False], None),
    ],
)
def test_retries_are_airbytes(progressed: list[bool], wait: float | None) -> None:
    """5 failures in a row or 10 in all without progress, 20 with; 10, 30, 90, 270 s; none after progress."""
    assert Retries().wait(progressed) == wait
    assert Retries(in_row=50).wait([False] * 12) == 1800


def test_lock_files(tmp_path: Path) -> None:
    assert {"faker", "hardcoded-records", "s3", "file"} <= registry.definitions().keys()
    for definition in registry.definitions().values():
        text = definition.lock.read_text()
        assert f"airbyte-{definition.name}=={definition.version}" in text
        assert "--hash=sha256:" in text
    wrong = tmp_path / "source-x.txt"
    wrong.write_text("# package: airbyte-source-y==1\n")
    with pytest.raises(ValueError, match=r"source-x\.txt: the first line must be"):
        registry.definitions(tmp_path, tmp_path)
    wrong.write_text("# package: airbyte-source-x==1\n# definition-id: none\n")
    with pytest.raises(ValueError, match="definition-id: UUID"):
        registry.definitions(tmp_path, tmp_path)
    with pytest.raises(ValueError, match="must be a pinned connector"):
        lock("airbyte-source-faker", None, "uv")


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="looks at processes through /proc")
def test_a_leash_ends_whatever_is_on_it(tmp_path: Path) -> None:
    """A grandchild in a session of its own that ignores SIGTERM, when the holder of the leash goes away."""
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    program = (
        "import os, subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {stubborn!r}], start_new_session=True)\n"
        f"open({str(tmp_path / 'pids')!r} + '.new', 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        f"os.rename({str(tmp_path / 'pids')!r} + '.new', {str(tmp_path / 'pids')!r})\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-I", "-S", leash.__file__, "0.2", sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as process:
        until((tmp_path / "pids").exists, "the program runs")
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        assert all(map(alive, pids))
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 143
    assert not any(map(alive, pids))
    command = [*command[:5], sys.executable, "-c", "raise SystemExit(7)"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.wait(60) == 7
