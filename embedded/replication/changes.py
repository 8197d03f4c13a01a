"""What a sync does about a source whose schema is not the one the connection was configured with.

| change | ignore (default) | propagate_columns, propagate_fully | disable_connection |
|---|---|---|---|
| column added | not copied | copied from this sync on | connection inactive |
| column type, same type written | copied | copied | copied |
| column type, DECIMAL grows | copied | copied | copied |
| column type, other | fails | copied with its new type | connection inactive |
| known column gone or renamed | fails | no longer copied | connection inactive |
| selected column gone | fails | fails | fails |
| key or cursor gone, primary key changed | connection inactive | connection inactive | connection inactive |
| table gone | fails | fails; propagate_fully: no longer copied | fails |
| table added | not copied | propagate_fully: copied, full refresh | connection inactive |

Where a sync fails it is a config_error that names the change. Airbyte under `ignore` would go on and write nulls for
a column that is gone; a renamed column then looks like lost data, so here it fails. Nothing is ever cleared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from embedded.replication.catalog import CDC_CURSOR, Offer, StreamConfig, Table, configure, field
from embedded.replication.failures import SyncError

T = TypeVar("T", bound=Table)


@dataclass(frozen=True)
class Stream(Generic[T]):
    """One stream of this sync. `fields` is what the connection remembers from now on, if the sync succeeds."""

    table: T
    config: dict[str, Any]
    fields: list[dict[str, str]]

    @property
    def columns(self) -> list[str]:
        return [item["name"] for item in self.fields]


def resolve(
    configured: list[dict[str, Any]], catalog: Mapping[tuple[str, str], T], behaviour: str, offered: Offer
) -> tuple[list[Stream[T]], list[str], list[dict[str, Any]] | None]:
    """The streams to copy, what changed in words, and the stored streams if their list itself changed.

    `configured`: rows of the table `streams`. Raises SyncError.
    """
    streams: list[Stream[T]] = []
    notes: list[str] = []
    stored: list[dict[str, Any]] = []
    for row in configured:
        table = catalog.get((row["namespace"], row["name"]))
        if table is None or not table.readable:
            if behaviour == "propagate_fully" and table is None:
                notes.append(f"table {_label(row['namespace'], row['name'])} is gone and no longer copied")
                continue
            raise _missing(row, table)
        stream, changed = _resolve_stream(row, table, behaviour)
        streams.append(stream)
        notes += changed
        stored.append({**{key: row[key] for key in ("namespace", "name", "config")}, "fields": stream.fields})
    added = [table for key, table in catalog.items() if not any((r["namespace"], r["name"]) == key for r in configured)]
    if behaviour == "propagate_fully":
        for table in added:
            new = configure(None, {(table.namespace, table.name): table}, offered)
            notes.append(f"table {_label(table.namespace, table.name)} is new and copied from now on")
            stored += new
            streams += [Stream(table, item["config"], item["fields"]) for item in new]
    if notes and behaviour == "disable_connection":
        reason = "; ".join(notes)
        message = f"The schema changed: {reason}. Review the connection and set it active again."
        raise SyncError("source", "config_error", message, disables_connection=True)
    same = [(r["namespace"], r["name"]) for r in stored] == [(r["namespace"], r["name"]) for r in configured]
    return streams, notes, None if same else stored


def _label(namespace: str, name: str) -> str:
    return f"{namespace}.{name}" if namespace else name


def _missing(row: dict[str, Any], table: Table | None) -> SyncError:
    name = _label(row["namespace"], row["name"])
    if table is not None:
        message = f"The source's role may not read table {name}: grant SELECT on it, and USAGE on its schema."
        return SyncError("source", "config_error", message)
    message = f"Table {name} is not in the source: it was dropped or renamed. Restore it, or take the stream out."
    return SyncError("source", "config_error", message)


def _resolve_stream(row: dict[str, Any], table: T, behaviour: str) -> tuple[Stream[T], list[str]]:
    config = StreamConfig.model_validate(row["config"])
    name = _label(table.namespace, table.name)
    _check_key(name, [path[0] for path in config.primaryKey or []], table)
    selected = [item.fieldPath[0] for item in config.selectedFields or []]
    keys = [*_cursor(config), *(path[0] for path in config.primaryKey or [])]
    needed = [*selected, *keys]
    adapts = behaviour.startswith("propagate")
    known = {item["name"]: item for item in row["fields"]}
    notes: list[str] = []
    fields: list[dict[str, str]] = []
    gone = [column for column in known if table.column(column) is None]
    fatal = [column for column in gone if column in needed or behaviour == "ignore"]
    fatal += [column for column in needed if column not in known and table.column(column) is None]
    if fatal:
        raise _column_gone(name, fatal, table, known, breaking=any(column in keys for column in fatal))
    notes += [f"column {column} of {name} is gone" for column in gone]
    for column in table.columns:
        now = field(column)
        before = known.get(column.name)
        if before is None:
            if not selected and behaviour != "ignore":
                notes.append(f"column {column.name} {now['type']} of {name} is new")
                if adapts:
                    fields.append(now)
            continue
        if before["written"] != now["written"] and not _widened(before["written"], now["written"]):
            change = f"column {column.name} of {name} changed from {before['type']} to {now['type']}"
            if behaviour == "ignore":
                raise _column_changed(change)
            notes.append(change)
        fields.append(now)
    return Stream(table, row["config"], fields), notes


def _cursor(config: StreamConfig) -> list[str]:
    return [name for name in config.cursorField or [] if name != CDC_CURSOR]


def _check_key(name: str, wanted: list[str], table: Table) -> None:
    """Raise SyncError if the source's primary key is not the one that the connection was configured with."""
    if wanted and table.primary_key and set(wanted) != set(table.primary_key):
        message = (
            f"The primary key of {name} changed from {', '.join(wanted)} to {', '.join(table.primary_key)}."
            " Configure the stream again to accept it, and set the connection active."
        )
        raise SyncError("source", "config_error", message, disables_connection=True)


def _column_gone(name: str, gone: list[str], table: Table, known: dict[str, Any], *, breaking: bool) -> SyncError:
    """breaking: a key or cursor is among them, so the connection stops until somebody has looked at it."""
    new = [column.name for column in table.columns if column.name not in known]
    hint = f" Columns that the connection does not know: {', '.join(new)}." if new else ""
    message = (
        f"Column {', '.join(dict.fromkeys(gone))} of table {name} is gone or was renamed.{hint}"
        " Restore it, or configure the stream again."
    )
    if breaking:
        message += " Then set the connection active."
    return SyncError("source", "config_error", message, disables_connection=breaking)


def _column_changed(change: str) -> SyncError:
    message = (
        f"The {change}, which would mix two types in one folder. Configure the stream again to accept it,"
        " or set nonBreakingSchemaUpdatesBehavior to propagate_columns."
    )
    return SyncError("source", "config_error", message)


def _widened(before: str, now: str) -> bool:
    """A DECIMAL that grew on the left of the point, a struct with more members: the new files fit the old ones."""
    if before.startswith("struct<") and now.startswith("struct<"):
        known, found = json.loads(before[7:-1]), json.loads(now[7:-1])
        return all(
            name in found and (found[name] == type_ or _widened(type_, found[name])) for name, type_ in known.items()
        )
    old, new = (re.fullmatch(r"decimal128\((\d+), (\d+)\)", text) for text in (before, now))
    return bool(old and new and old[2] == new[2] and int(new[1]) >= int(old[1]))
