"""Lines of a connector's output as messages; those of records, nearly all, without parsing them.

A stream's records look alike: `{"type":"RECORD","record":{"stream":"users","data":`, the data,
`,"emitted_at":1795455052018}}`. The first one is parsed and shows prefix and mark; later ones with the same prefix are
cut at the last mark. No data can be taken for the mark: its quotes would be escaped inside a text, and a nested
`emitted_at` is followed by more than two closing braces.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from embedded.replication.failures import Kind, SyncError
from embedded.replication.protocol_connectors import exact

_MARKS = (b',"emitted_at":', b', "emitted_at": ')
_DATA = (b'"data":', b'"data": ')
_KINDS: dict[str, Kind] = {"config_error": "config_error", "transient_error": "transient_error"}
_DIGITS = frozenset(b"0123456789.")
# Texts of which a connector's own masking must not change a letter, or its messages cannot be understood.
VOCABULARY = (
    *("type", "record", "stream", "state", "trace", "log", "control", "data", "namespace", "emitted_at", "message"),
    *("status", "error", "estimate", "stream_status", "stream_descriptor", "stream_state", "shared_state"),
    *("failure_type", "config_error", "system_error", "transient_error", "internal_message", "stack_trace"),
    *("started", "running", "complete", "incomplete", "global", "level", "sourcestats", "recordcount", "meta"),
    *("changes", "catalog", "streams", "connection_status", "connectionstatus", "succeeded", "failed", "spec"),
)


@dataclass
class Frame:
    """How the records of one stream are framed in their lines."""

    prefix: bytes
    mark: bytes

    def cut(self, line: bytes) -> tuple[bytes, bytes] | None:
        """Data and time of a record of this stream; None for any other line, which must then be parsed."""
        if not line.startswith(self.prefix):
            return None
        end = line.rfind(self.mark)
        stamp = line[end + len(self.mark) : -2]
        if end < len(self.prefix) or not line.endswith(b"}}") or not stamp or not _DIGITS.issuperset(stamp):
            return None
        return line[len(self.prefix) : end], stamp


def learn(line: bytes, record: dict[str, Any]) -> Frame | None:
    """The frame of a record that was parsed; None where its shape is another one."""
    if "meta" in record:
        return None
    for word, mark in zip(_DATA, _MARKS, strict=True):
        start = line.find(word)
        if start < 0:
            continue
        frame = Frame(line[: start + len(word)], mark)
        parts = frame.cut(line)
        if parts is not None:
            try:
                same = exact.loads(parts[0]) == record["data"]
            except ValueError:
                same = False
            if same:
                return frame
    return None


def parse(line: bytes) -> dict[str, Any] | None:
    """A message, numbers exact; None for a line that is none (a stray print, part of a traceback).

    Raises SyncError for a line that begins as a message and cannot be understood: a record may be in it.
    """
    if not line.startswith(b"{"):
        return None
    try:
        message = exact.loads(line)
    except (ValueError, RecursionError):
        raise _garbled(line) from None
    if not isinstance(message.get("type"), str):
        raise _garbled(line)
    return dict(message)


def _garbled(line: bytes) -> SyncError:
    text = (
        f"The connector sent a line that is no message ({line[:80].decode('utf-8', 'replace')!r}...)."
        " If it holds `****`, a secret in the configuration is part of an ordinary word: use a longer one."
    )
    return SyncError("source", "system_error", text)


@dataclass
class Failure:
    """What the connector said about its failure; the last ERROR that is a person's to mend, or else the last."""

    error: SyncError | None = None

    def take(self, trace: dict[str, Any]) -> str:
        """Note an ERROR trace; gives its details for the log."""
        error = trace.get("error") or {}
        known = _KINDS.get(str(error.get("failure_type")), "system_error")
        message = str(error.get("message") or error.get("internal_message") or "The connector failed without a reason.")
        stream = (error.get("stream_descriptor") or {}).get("name")
        if self.error is None or self.error.kind != "config_error":
            self.error = SyncError("source", known, f"Stream {stream}: {message}" if stream else message)
        return "\n".join(str(error[key]) for key in ("internal_message", "stack_trace") if error.get(key))


def changed_configuration(message: dict[str, Any]) -> dict[str, Any] | None:
    """The configuration that a CONTROL message says replaces the one given (refreshed tokens); None for another one."""
    control = message.get("control") or {}
    changed = (control.get("connectorConfig") or {}).get("config")
    return plain(changed) if control.get("type") == "CONNECTOR_CONFIG" and isinstance(changed, dict) else None


@dataclass
class Waiting:
    """Records of one stream that wait to become a batch: their data, their times, and what the source changed."""

    data: list[bytes] = field(default_factory=list)
    stamps: list[bytes] = field(default_factory=list)
    changes: dict[int, list[exact.Change]] = field(default_factory=dict)
    size: int = 0

    def add(self, data: bytes, stamp: bytes) -> None:
        self.data.append(data)
        self.stamps.append(stamp)
        self.size += len(data)

    def add_parsed(self, record: dict[str, Any]) -> None:
        """A record that was parsed, because its line is framed otherwise."""
        changes = (record.get("meta") or {}).get("changes") or []
        if changes:
            keys = ("field", "change", "reason")
            self.changes[len(self.data)] = [{key: str(item.get(key) or "") for key in keys} for item in changes]
        self.add(exact.dumps(record["data"]).encode("utf-8", "surrogatepass"), str(record["emitted_at"]).encode())


def plain(value: Any) -> Any:
    """What `exact.loads` gave, as values that JSON columns of the state database take."""
    return json.loads(exact.dumps(value))
