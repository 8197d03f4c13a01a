"""The short runs of a connector: spec, check, discover."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from embedded.replication.failures import SyncError
from embedded.replication.protocol_connectors.messages import Failure, changed_configuration, parse, plain
from embedded.replication.protocol_connectors.process import Process
from embedded.replication.protocol_connectors.registry import Definition, NotInstalled

# Seconds without output before a short run is given up.
SILENCE = 300.0

Log = Callable[[str, str], None]
Keep = Callable[[dict[str, Any]], None]


def program(definition: Definition) -> Path:
    """The connector's program; raises SyncError."""
    try:
        return definition.require()
    except NotInstalled as error:
        raise SyncError("source", "config_error", f"{str(error)[:1].upper()}{str(error)[1:]}.") from None


def spec(path: Path, folder: Path) -> dict[str, Any]:
    """The ConnectorSpecification of a program; raises SyncError."""
    return _ask(path, "spec", {}, "SPEC", "spec", folder, keep=lambda changed: None)


def check(definition: Definition, configuration: dict[str, Any], folder: Path, keep: Keep) -> None:
    """Raise SyncError unless the connector can use its source with this configuration.

    `keep` is given what the connector changed in it (a refreshed token), at once: the old one may be void already.
    """
    path = program(definition)
    status = _ask(path, "check", {"config": configuration}, "CONNECTION_STATUS", "connectionStatus", folder, keep=keep)
    if status.get("status") != "SUCCEEDED":
        message = str(status.get("message") or "The connector's check failed without a reason.")
        raise SyncError("source", "config_error", message)


def discover(definition: Definition, configuration: dict[str, Any], folder: Path, keep: Keep) -> dict[str, Any]:
    """The source's AirbyteCatalog; raises SyncError. `keep`: as for `check`."""
    path = program(definition)
    return _ask(path, "discover", {"config": configuration}, "CATALOG", "catalog", folder, keep=keep)


def _ask(
    path: Path,
    command: str,
    files: dict[str, Any],
    type_: str,
    member: str,
    folder: Path,
    *,
    keep: Keep,
) -> dict[str, Any]:
    """Run to the end; gives the one message that is asked for."""
    failure = Failure()
    answer: dict[str, Any] | None = None
    stderr: list[str] = []
    with Process(path, command, files, folder, silence=SILENCE, on_stderr=stderr.append) as process:
        for line in process.lines():
            message = parse(line)
            if message is None:
                continue
            if message["type"] == type_ and isinstance(message.get(member), dict):
                answer = dict(plain(message[member]))
            elif message["type"] == "TRACE" and message.get("trace", {}).get("type") == "ERROR":
                failure.take(message["trace"])
            elif message["type"] == "CONTROL" and (changed := changed_configuration(message)) is not None:
                keep(changed)
        code = process.wait()
    if answer is not None:
        return answer
    if failure.error is not None:
        raise failure.error
    last = f": {stderr[-1]}" if stderr else ""
    raise SyncError("source", "system_error", f"{path.name} {command} ended with code {code} and no answer{last}")
