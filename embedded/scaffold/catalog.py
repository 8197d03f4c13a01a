"""What a connector can deliver: its streams with keys, cursors and columns, asked of the connector itself."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from embedded.replication.protocol_connectors import registry

NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
DISCOVER_SECONDS = 600
_TIMES = {"date-time": "timestamp", "date": "date"}
_SCALARS = {"integer": "bigint", "number": "double", "boolean": "boolean", "string": "varchar"}


class ScaffoldError(Exception):
    """No pipeline can be written; the message says what to change."""


@dataclass(frozen=True)
class Column:
    """`type`: in SQL; None for what silver leaves in bronze (objects and arrays)."""

    name: str
    type: str | None


@dataclass(frozen=True)
class Stream:
    name: str
    key: tuple[str, ...]
    cursor: str
    incremental: bool
    columns: tuple[Column, ...]

    @property
    def created(self) -> bool:
        """Whether the source says when a row was made."""
        return any(column.name == "created_at" for column in self.columns)


def discover(connector: str, configuration: Mapping[str, Any]) -> list[Stream]:
    """Asks the installed connector. Raises ScaffoldError, also where it is not installed."""
    program = registry.root() / connector / "bin" / connector
    if not program.exists():
        raise ScaffoldError(f"connector {connector} is not installed: run `make connector NAME={connector}`")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:  # 0600: it may hold secrets
        json.dump(configuration, file)
        file.flush()
        done = subprocess.run(
            [str(program), "discover", "--config", file.name],
            capture_output=True,
            text=True,
            check=False,
            timeout=DISCOVER_SECONDS,
        )
    found = [stream for message in _messages(done.stdout) for stream in _streams(message)]
    if not found:
        reason = next((m["trace"]["error"]["message"] for m in _messages(done.stdout) if _is_error(m)), "no catalog")
        raise ScaffoldError(f"{connector} discovered nothing: {reason}; look at its configuration (CONFIG=)")
    return found


def _messages(output: str) -> Iterator[dict[str, Any]]:
    for line in output.splitlines():
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if isinstance(message, dict):
            yield message


def _is_error(message: Mapping[str, Any]) -> bool:
    return message.get("type") == "TRACE" and message.get("trace", {}).get("type") == "ERROR"


def _streams(message: Mapping[str, Any]) -> Iterator[Stream]:
    if message.get("type") != "CATALOG":
        return
    for stream in message["catalog"]["streams"]:
        yield read(stream)


def read(stream: Mapping[str, Any]) -> Stream:
    """One stream of an Airbyte catalog. Raises ScaffoldError naming it when it cannot be told apart or ordered."""
    name = str(stream["name"])
    if not NAME.fullmatch(name):
        raise ScaffoldError(f"stream {name!r}: its name must match {NAME.pattern}; rename it in the source")
    key = tuple(".".join(path) for path in stream.get("source_defined_primary_key") or ())
    cursor = ".".join(stream.get("default_cursor_field") or ())
    columns = tuple(_columns(name, stream["json_schema"].get("properties") or {}))
    known = {column.name for column in columns if column.type}
    for what, needed in (("primary key", key), ("cursor", (cursor,))):
        if not needed or not set(needed) <= known:
            raise ScaffoldError(f"stream {name}: the connector names no {what} among its columns; declare it by hand")
    return Stream(name, key, cursor, "incremental" in stream["supported_sync_modes"], columns)


def _columns(stream: str, properties: Mapping[str, Any]) -> Iterator[Column]:
    for name, schema in properties.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ScaffoldError(f"stream {stream}: column {name!r} is no plain name; declare the stream by hand")
        yield Column(name, _type(schema))


def _type(schema: Mapping[str, Any]) -> str | None:
    given = schema.get("type")
    kinds = [kind for kind in (given if isinstance(given, list) else [given]) if kind != "null"]
    if len(kinds) != 1:
        return None
    if kinds[0] == "string" and schema.get("format") in _TIMES:
        return _TIMES[str(schema["format"])]
    return _SCALARS.get(str(kinds[0]))
