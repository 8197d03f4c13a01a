"""What a sync does about a source whose schema is not the one the connection was configured with.

| change | ignore (default) | propagate_columns, propagate_fully | disable_connection |
|---|---|---|---|
| column added | not copied | copied from this sync on | connection inactive |
| column type, same type written | copied | copied | copied |
| column type, DECIMAL grows | copied | copied | copied |
| column type, other | fails | copied with its new type | connection inactive |
| known column gone or renamed | fails | no longer copied | connection inactive |
| selected column, key or cursor gone | fails | fails | fails |
| table gone | fails | fails; propagate_fully: no longer copied | fails |
| table added | not copied | propagate_fully: copied, full refresh | connection inactive |

Where a sync fails it is a config_error that names the change. Airbyte under `ignore` would go on and write nulls for
a column that is gone; a renamed column then looks like lost data, so here it fails. Nothing is ever cleared.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from embedded.replication.catalog import CDC_CURSOR, Catalog, Offer, StreamConfig, configure, field
from embedded.replication.failures import SyncError
from embedded.replication.postgres.discovery import Table


@dataclass(frozen=True)
class Stream:
    """One stream of this sync. `fields` is what the connection remembers from now on, if the sync succeeds."""

    table: Table
    config: dict[str, Any]
    fields: list[dict[str, str]]

    @property
    def columns(self) -> list[str]:
        return [item["name"] for item in self.fields]


def resolve(
    configured: list[dict[str, Any]], catalog: Catalog, behaviour: str, offered: Offer
) -> tuple[list[Stream], list[str], list[dict[str, Any]] | None]:
    """The streams to copy, what changed in words, and the stored streams if their list itself changed.

    `configured`: rows of the table `streams`. Raises SyncError.
    """
    streams: list[Stream] = []
    notes: list[str] = []
    stored: list[dict[str, Any]] = []
    for row in configured:
        table = catalog.get((row["namespace"], row["name"]))
        if table is None or not table.readable:
            if behaviour == "propagate_fully" and table is None:
                notes.append(f"table {row['namespace']}.{row['name']} is gone and no longer copied")
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
            notes.append(f"table {table.namespace}.{table.name} is new and copied from now on")
            stored += new
            streams += [Stream(table, item["config"], item["fields"]) for item in new]
    if notes and behaviour == "disable_connection":
        reason = "; ".join(notes)
        message = f"The schema changed: {reason}. Review the connection and set it active again."
        raise SyncError("source", "config_error", message, disables_connection=True)
    same = [(r["namespace"], r["name"]) for r in stored] == [(r["namespace"], r["name"]) for r in configured]
    return streams, notes, None if same else stored


def _missing(row: dict[str, Any], table: Table | None) -> SyncError:
    name = f"{row['namespace']}.{row['name']}"
    if table is not None:
        message = f"The source's role may not read table {name}: grant SELECT on it, and USAGE on its schema."
        return SyncError("source", "config_error", message)
    message = f"Table {name} is not in the source: it was dropped or renamed. Restore it, or take the stream out."
    return SyncError("source", "config_error", message)


def _resolve_stream(row: dict[str, Any], table: Table, behaviour: str) -> tuple[Stream, list[str]]:
    config = StreamConfig.model_validate(row["config"])
    name = f"{table.namespace}.{table.name}"
    selected = [item.fieldPath[0] for item in config.selectedFields or []]
    needed = [*selected, *_cursor(config), *(path[0] for path in config.primaryKey or [])]
    adapts = behaviour.startswith("propagate")
    known = {item["name"]: item for item in row["fields"]}
    notes: list[str] = []
    fields: list[dict[str, str]] = []
    gone = [column for column in known if table.column(column) is None]
    fatal = [column for column in gone if column in needed or behaviour == "ignore"]
    fatal += [column for column in needed if column not in known and table.column(column) is None]
    if fatal:
        raise _column_gone(name, fatal, table, known)
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


def _column_gone(name: str, gone: list[str], table: Table, known: dict[str, Any]) -> SyncError:
    new = [column.name for column in table.columns if column.name not in known]
    hint = f" Columns that the connection does not know: {', '.join(new)}." if new else ""
    message = (
        f"Column {', '.join(dict.fromkeys(gone))} of table {name} is gone or was renamed.{hint}"
        " Restore it, or configure the stream again."
    )
    return SyncError("source", "config_error", message)


def _column_changed(change: str) -> SyncError:
    message = (
        f"The {change}, which would mix two types in one folder. Configure the stream again to accept it,"
        " or set nonBreakingSchemaUpdatesBehavior to propagate_columns."
    )
    return SyncError("source", "config_error", message)


def _widened(before: str, now: str) -> bool:
    """A DECIMAL that grew on the left of the point: readers of the old files read the new ones."""
    old, new = (re.fullmatch(r"decimal128\((\d+), (\d+)\)", text) for text in (before, now))
    return bool(old and new and old[2] == new[2] and int(new[1]) >= int(old[1]))
