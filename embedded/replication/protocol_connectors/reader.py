"""Reads a source through its connector: pipeline.Reader over the Airbyte protocol."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
from psycopg.rows import DictRow

from embedded.replication import changes
from embedded.replication.catalog import Offer
from embedded.replication.failures import SyncError
from embedded.replication.pipeline import (
    Event,
    Key,
    Log,
    Progress,
    Reach,
    Rows,
    Selection,
    SourceStream,
    State,
    StreamEnd,
)
from embedded.replication.protocol_connectors import catalog, messages
from embedded.replication.protocol_connectors.batch import Columns, arrow_type
from embedded.replication.protocol_connectors.calls import program
from embedded.replication.protocol_connectors.process import Process
from embedded.replication.protocol_connectors.registry import Definition
from embedded.replication.protocol_connectors.states import CONNECTOR_STATE, is_legacy, of, without
from embedded.replication.records import Field

# A batch is cut at whichever comes first; records.py takes no more rows at once.
_BATCH_BYTES = 4 << 20
_BATCH_ROWS = 32768
# A state makes a batch of what waits, but not one of a few rows for each of a thousand states.
_STATE_ROWS, _STATE_SECONDS = 4096, 1.0
_LOG_LINES = 2000
_LEVELS = {"FATAL": "error", "ERROR": "error", "WARN": "warn", "INFO": "info", "DEBUG": "debug", "TRACE": "debug"}


@dataclass
class _Lane:
    """One stream while it is read."""

    index: int
    item: changes.Stream[catalog.Stream]
    columns: Columns
    frame: messages.Frame | None = None
    waiting: messages.Waiting = field(default_factory=messages.Waiting)
    state: dict[str, Any] | None = None
    covered: int | None = 0  # how many of the waiting rows `state` covers; None: rows beyond it have gone on
    status: str | None = None
    ended: bool = False
    flushed_at: float = field(default_factory=time.monotonic)


class ConnectorReader:
    """Implements pipeline.Reader; a context manager."""

    def __init__(
        self,
        definition: Definition,
        configuration: dict[str, Any],
        streams: catalog.Streams,
        offered: Offer,
        folder: Path,
        log: Log,
        *,
        silence: float,
        on_output: Callable[[], None],
        reach: Reach,
        save_configuration: Callable[[dict[str, Any]], None],
    ) -> None:
        """`silence`: seconds without a message before the connector is given up.

        `on_output` is called whenever it says something. `save_configuration` keeps what the connector changed in its
        configuration (refreshed tokens).
        """
        self._definition = definition
        self._configuration = configuration
        self._streams = streams
        self._offered = offered
        self._folder = folder
        self._log = log
        self._silence = silence
        self._on_output = on_output
        self._reach = reach
        self._save_configuration = save_configuration
        self._selected: list[changes.Stream[catalog.Stream]] = []
        self._shared: State | None = None
        self._failure = messages.Failure()
        self._logged = 0
        self._stderr: list[str] = []  # from another thread; the log's connection is this one's

    def __enter__(self) -> ConnectorReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The process belongs to `read`, which ends it."""

    def position(self) -> dict[str, Any]:
        return {"connector": self._definition.name, "version": self._definition.version}

    def select(self, configured: list[DictRow], behaviour: str, shared: State | None) -> Selection:
        self._selected, notes, stored = changes.resolve(configured, self._streams, behaviour, self._offered)
        return Selection([self._describe(item) for item in self._selected], notes, stored)

    def _describe(self, item: changes.Stream[catalog.Stream]) -> SourceStream:
        table = item.table
        key = table.primary_key[0] if len(table.primary_key) == 1 else None
        fields = tuple(
            Field(column.name, column.name, arrow_type(column.shape), distinct=column.name == key)
            for column in table.columns
            if column.name in item.columns
        )
        return SourceStream(table.namespace, table.name, item.config, fields, (), item.fields, tuple(table.primary_key))

    def restarted(self, shared: State | None, keys: Collection[Key]) -> State | None:
        return without(shared, keys)

    def read(self, selection: Selection, states: Mapping[Key, State | None], shared: State | None) -> Iterator[Event]:
        files = {
            "config": self._configuration,
            "catalog": {"streams": [self._configured(item) for item in self._selected]},
        }
        given = self._given(states, shared)
        state = self._state(given, shared)
        if state:
            files["state"] = state
        self._lanes = {
            (item.table.namespace, item.table.name): self._lane(i, item, given) for i, item in enumerate(self._selected)
        }
        with Process(
            program(self._definition),
            "read",
            files,
            self._folder,
            silence=self._silence,
            on_output=self._on_output,
            on_stderr=self._stderr.append,
        ) as process:
            self._log("info", f"{self._definition.name} {self._definition.version} runs as group {process.group}")
            self._reach("after_snapshot")
            yield from self._events(process)
            code = process.wait()
        for line in self._stderr:
            self._note("info", line)
        self._judge(code)
        for lane in self._lanes.values():
            if not lane.ended:
                yield from self._end(lane)
        if self._shared is not None:
            yield Progress({}, self._shared)

    def _given(self, states: Mapping[Key, State | None], shared: State | None) -> dict[Key, dict[str, Any]]:
        """States of streams: none for one that is read from the start, and none at all beside a shared state."""
        if of(shared) is not None:
            return {}
        return {key: own for key, state in states.items() if (own := of(state)) is not None}

    def _lane(self, index: int, item: changes.Stream[catalog.Stream], given: Mapping[Key, dict[str, Any]]) -> _Lane:
        """A stream that sends no STATE (nothing was new) stays where it was."""
        table = item.table
        name = ".".join(filter(None, (table.namespace, table.name)))
        fields = [(column.name, column.shape) for column in table.columns if column.name in item.columns]
        return _Lane(index, item, Columns(name, fields), state=given.get((table.namespace, table.name)))

    def _configured(self, item: changes.Stream[catalog.Stream]) -> dict[str, Any]:
        return catalog.configured(item.table, item.config, item.columns)

    def _state(self, given: Mapping[Key, dict[str, Any]], shared: State | None) -> Any:
        """The `--state` file: a list of messages, or the one object of a connector that knows no streams."""
        kept = of(shared)
        if kept is not None:
            return kept["legacy"] if is_legacy(shared) else [{"type": "GLOBAL", "global": kept}]
        found = []
        for (namespace, name), own in given.items():
            descriptor = {"name": name, **({"namespace": namespace} if namespace else {})}
            found.append({"type": "STREAM", "stream": {"stream_descriptor": descriptor, "stream_state": own}})
        return found

    def _events(self, process: Process) -> Iterator[Event]:
        """The hot loop: a record of the stream that came last costs one comparison and two cuts."""
        last: _Lane | None = None
        for line in process.lines():
            lane, parts = self._cut(line, last)
            if lane is not None and parts is not None:
                lane.waiting.add(*parts)
                if lane is not last or lane.waiting.size >= _BATCH_BYTES or len(lane.waiting.data) >= _BATCH_ROWS:
                    yield from self._turn(lane)
                last = lane
                continue
            message = messages.parse(line)
            if message is None:
                self._note("info", line.decode("utf-8", "replace"))
            elif message["type"] == "RECORD":
                last = self._record(line, message)
                yield from self._turn(last)
            elif message["type"] == "STATE":
                yield from self._state_message(message.get("state") or {})
            else:
                self._other(message)

    def _cut(self, line: bytes, last: _Lane | None) -> tuple[_Lane | None, tuple[bytes, bytes] | None]:
        """The stream of a record, and its parts; streams may take turns line by line."""
        parts = last.frame.cut(line) if last is not None and last.frame is not None else None
        if parts is not None:
            return last, parts
        for lane in self._lanes.values():
            if lane is not last and lane.frame is not None and not lane.ended:
                parts = lane.frame.cut(line)
                if parts is not None:
                    return lane, parts
        return None, None

    def _record(self, line: bytes, message: dict[str, Any]) -> _Lane:
        record = message.get("record")
        if not isinstance(record, dict) or not isinstance(record.get("data"), dict) or "emitted_at" not in record:
            raise SyncError("source", "system_error", "The connector sent a RECORD without data or emitted_at.")
        lane = self._lane_of(record.get("namespace"), record.get("stream"))
        if lane.ended:
            raise SyncError("source", "system_error", f"Stream {lane.item.table.name} went on after it was complete.")
        if lane.frame is None:
            lane.frame = messages.learn(line, record)
        lane.waiting.add_parsed(record)
        return lane

    def _lane_of(self, namespace: Any, name: Any) -> _Lane:
        lane = self._lanes.get((namespace or "", str(name)))
        if lane is None:
            raise SyncError("source", "system_error", f"The connector sent stream {name}, which was not asked for.")
        return lane

    def _turn(self, lane: _Lane) -> Iterator[Event]:
        """Another stream's turn: those that said they are complete end here, which frees their memory."""
        if len(lane.waiting.data) >= _BATCH_ROWS or lane.waiting.size >= _BATCH_BYTES:
            yield from self._flush(lane)
        for other in self._lanes.values():
            if other is not lane and other.status == "COMPLETE" and not other.ended:
                yield from self._end(other)

    def _flush(self, lane: _Lane) -> Iterator[Event]:
        waiting, lane.waiting = lane.waiting, messages.Waiting()
        if not waiting.data:
            return
        lane.covered = 0 if lane.covered == len(waiting.data) else None
        arrays, noted = lane.columns.convert(waiting.data)
        for row, items in waiting.changes.items():
            noted.setdefault(row, []).extend(items)
        lane.flushed_at = time.monotonic()
        batch = pa.RecordBatch.from_arrays(arrays, [f"c{i}" for i in range(len(arrays))])
        yield Rows(lane.index, batch, extracted=_instants(waiting.stamps), changes=noted)

    def _end(self, lane: _Lane) -> Iterator[Event]:
        lane.ended = True
        yield from self._flush(lane)
        state = None if lane.state is None else {CONNECTOR_STATE: lane.state}
        if state is not None and lane.covered == 0:
            yield Progress({lane.index: state})
        yield StreamEnd(lane.index, state, {"status": lane.status})

    def _state_message(self, state: dict[str, Any]) -> Iterator[Event]:
        """Every record before a STATE is covered by it: they go on first."""
        kind = state.get("type") or "LEGACY"
        if kind == "STREAM":
            stream = messages.plain(state.get("stream") or {})
            descriptor = stream.get("stream_descriptor") or {}
            lane = self._lane_of(descriptor.get("namespace"), descriptor.get("name"))
            lane.state, lane.covered = stream.get("stream_state") or {}, len(lane.waiting.data)
            if len(lane.waiting.data) >= _STATE_ROWS or time.monotonic() - lane.flushed_at > _STATE_SECONDS:
                yield from self._flush(lane)
                yield Progress({lane.index: {CONNECTOR_STATE: lane.state}})
            return
        for lane in self._lanes.values():
            yield from self._flush(lane)
        content = state.get("global") if kind == "GLOBAL" else {"legacy": state.get("data") or {}}
        self._shared = {CONNECTOR_STATE: messages.plain(content or {})}
        yield Progress({}, self._shared)

    def _other(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "TRACE":
                self._trace(message.get("trace") or {})
            case "LOG":
                log = message.get("log") or {}
                text = "\n".join(str(log[key]) for key in ("message", "stack_trace") if log.get(key))
                self._note(_LEVELS.get(str(log.get("level")), "info"), text)
            case "CONTROL":
                changed = messages.changed_configuration(message)
                if changed is not None:
                    self._save_configuration(changed)
                    self._log("info", "the connector changed its configuration; it is kept")

    def _trace(self, trace: dict[str, Any]) -> None:
        match trace.get("type"):
            case "ERROR":
                details = self._failure.take(trace)
                if details:
                    self._note("error", details)
            case "STREAM_STATUS":
                status = trace.get("stream_status") or {}
                descriptor = status.get("stream_descriptor") or {}
                self._lane_of(descriptor.get("namespace"), descriptor.get("name")).status = status.get("status")

    def _note(self, level: str, text: str) -> None:
        """A line of the connector in the job's log; a connector that prints without end does not fill the database."""
        self._logged += 1
        if self._logged < _LOG_LINES:
            self._log(level, f"{self._definition.name}: {text[:4000]}")
        elif self._logged == _LOG_LINES:
            self._log("warn", f"{self._definition.name} prints more than {_LOG_LINES} lines: the rest is left out")

    def _judge(self, code: int) -> None:
        """Whether all was read: a clean exit, no ERROR, and no stream that says otherwise."""
        if self._failure.error is not None:
            raise self._failure.error
        if code:
            message = f"{self._definition.name} ended with code {code} and gave no reason; see the job's log."
            raise SyncError("source", "system_error", message)
        some = [lane.item.table.name for lane in self._lanes.values() if lane.status not in (None, "COMPLETE")]
        if some:
            message = f"{self._definition.name} ended without completing {', '.join(some)}."
            raise SyncError("source", "system_error", message)

    def acknowledge(self, state: State) -> None:
        """A connector is told by the state of its next run."""


def _instants(stamps: list[bytes]) -> pa.Array:
    """`emitted_at`, milliseconds since 1970, which some connectors send with a fraction."""
    texts = pa.array(stamps, pa.binary()).cast(pa.string())
    try:
        numbers = texts.cast(pa.int64())
    except pa.ArrowInvalid:
        numbers = texts.cast(pa.float64()).cast(pa.int64(), safe=False)
    return numbers.view(pa.timestamp("ms", "UTC"))
