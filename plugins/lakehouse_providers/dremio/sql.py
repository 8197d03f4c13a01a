"""Names, literals and system-table queries in Dremio's SQL. Everything that reaches SQL passes through here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from lakehouse_providers.dremio.errors import DremioConfigurationError

_PART = re.compile(r'"((?:[^"]|"")+)"|([^."\s]+)')
_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.:-]*")


def path_of(value: str | Sequence[str]) -> tuple[str, ...]:
    """A dataset path from a list of parts, or from dotted text in which parts may be double-quoted."""
    # Any: templates and YAML bring along what they like, whatever the annotation says.
    parts: tuple[Any, ...] = _split(value) if isinstance(value, str) else tuple(value)
    if not parts or not all(isinstance(part, str) and part and "\0" not in part for part in parts):
        raise DremioConfigurationError(f'{value!r} is no dataset path; write it as ["source", "folder", "table"]')
    return parts


def _split(text: str) -> tuple[str, ...]:
    parts: list[str] = []
    at = 0
    while match := _PART.match(text, at):
        parts.append(match[2] if match[1] is None else match[1].replace('""', '"'))
        at = match.end()
        if at == len(text):
            return tuple(parts)
        if text[at] != ".":
            break
        at += 1
    raise DremioConfigurationError(f'{text!r} is no dataset path; quote parts with special characters: source."a.b".t')


def identifier(path: str | Sequence[str]) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in path_of(path))


def dotted(path: Sequence[str]) -> str:
    """For people."""
    return ".".join(path)


def literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _ids(ids: Iterable[str]) -> str:
    checked = list(ids)
    for value in checked:
        if not _ID.fullmatch(value):
            raise DremioConfigurationError(f"{value!r} is not an id that Dremio hands out")
    return ", ".join(literal(value) for value in checked)


def refresh_metadata(
    path: str | Sequence[str],
    *,
    auto_promotion: bool | None = None,
    update: Literal["force", "lazy"] | None = None,
    missing: Literal["delete", "maintain"] | None = None,
) -> str:
    """ALTER TABLE … REFRESH METADATA; without options the server's defaults hold."""
    words = [f"ALTER TABLE {identifier(path)} REFRESH METADATA"]
    if auto_promotion is not None:
        words.append(f"{'AUTO' if auto_promotion else 'AVOID'} PROMOTION")
    for value, allowed, text in (
        (update, ("force", "lazy"), "{} UPDATE"),
        (missing, ("delete", "maintain"), "{} WHEN MISSING"),
    ):
        if value is not None:
            if value not in allowed:
                raise DremioConfigurationError(f"{value!r} must be one of {', '.join(allowed)}")
            words.append(text.format(value.upper()))
    return " ".join(words)


NOW = "SELECT CURRENT_TIMESTAMP AS server_time"

# The system tables: `system` is their schema, sys on Software and sys.project on Cloud.


def dependencies(system: str) -> str:
    return f"SELECT reflection_id, dependency_id, dependency_type FROM {system}.reflection_dependencies"


def materializations(reflection_ids: Iterable[str], system: str) -> str:
    return (
        "SELECT reflection_id, materialization_id, state, created, last_refresh_from_pds, failure_msg, "
        "init_refresh_job_id, size_bytes, last_refresh_duration_millis "
        f"FROM {system}.materializations WHERE reflection_id IN ({_ids(reflection_ids)})"
    )


def record_counts(reflection_ids: Iterable[str], system: str) -> str:
    ids = _ids(reflection_ids)
    return f"SELECT reflection_id, record_count FROM {system}.reflections WHERE reflection_id IN ({ids})"


def job_by_marker(marker: str, system: str) -> str:
    return f"SELECT job_id FROM {system}.jobs_recent WHERE query LIKE {literal(marker + '%')}"


def job_datasets(job_id: str, system: str) -> str:
    """What a job read, as Dremio's planner saw it."""
    return f"SELECT queried_datasets FROM {system}.jobs_recent WHERE job_id = {_ids([job_id])}"
