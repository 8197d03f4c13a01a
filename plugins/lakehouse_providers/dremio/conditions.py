"""What a sensor waits for, as a conversation with Dremio that tasks and the triggerer share. No Airflow."""

from __future__ import annotations

import datetime as dt
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from lakehouse_providers.dremio import calls, errors, sql
from lakehouse_providers.dremio.calls import Step
from lakehouse_providers.dremio.models import Reflection, instant

Path = tuple[str, ...]


Answers = Generator[Step, Any, str]


class Condition(Protocol):
    """`missing` walks through requests and gives what is still missing, "" when the condition holds."""

    def missing(self) -> Answers: ...

    def dump(self) -> dict[str, Any]:
        """As JSON, for the trigger."""
        ...


@dataclass(frozen=True)
class DatasetsExist:
    datasets: tuple[Path, ...]
    columns: tuple[str, ...] = ()

    def dump(self) -> dict[str, Any]:
        return {"kind": "datasets", "datasets": [list(p) for p in self.datasets], "columns": list(self.columns)}

    def missing(self) -> Answers:
        for path in self.datasets:
            entity = yield from _entity(path)
            if entity is None or entity.get("entityType") != "dataset":
                return f"{sql.dotted(path)} is no dataset yet"
            absent = set(self.columns) - {field["name"] for field in entity.get("fields") or []}
            if absent:
                return f"{sql.dotted(path)} has no column {', '.join(sorted(absent))} yet"
        return ""


@dataclass(frozen=True)
class ReflectionsFresh:
    """Data fetched at or after `since`, or at most `max_age` seconds ago."""

    datasets: tuple[Path, ...]
    names: tuple[str, ...]
    since: dt.datetime | None
    max_age: float | None

    def dump(self) -> dict[str, Any]:
        return {
            "kind": "reflections",
            "datasets": [list(path) for path in self.datasets],
            "names": list(self.names),
            "since": self.since.isoformat() if self.since else None,
            "max_age": self.max_age,
        }

    def missing(self) -> Answers:
        """Raises DremioReflectionError for a reflection that nobody will refresh again."""
        found: set[str] = set()
        for path in self.datasets:
            entity = yield from _entity(path)
            if entity is None or entity.get("entityType") != "dataset":
                return f"{sql.dotted(path)} is no dataset yet"
            shown = [Reflection.parse(item) for item in (yield calls.reflections_of(entity["id"]))["data"]]
            chosen = [one for one in shown if not self.names or {one.name, one.id} & set(self.names)]
            found |= {name for one in chosen for name in (one.name, one.id)}
            if not chosen and not self.names:
                return f"{sql.dotted(path)} has no reflection yet"
            for one in chosen:
                if complaint := self._stale(one):
                    return f"{one.name} on {sql.dotted(path)} {complaint}"
        absent = sorted(set(self.names) - found)
        return f"there is no reflection {', '.join(absent)} yet" if absent else ""

    def _stale(self, one: Reflection) -> str:
        label = f"Reflection {one.name}"
        if not one.enabled:
            raise errors.DremioReflectionError(f"{label} is disabled")
        if one.config == "INVALID":
            raise errors.DremioReflectionError(f"{label} does not fit its dataset. {one.last_failure}".strip())
        # An enabled reflection without any entry also shows GIVEN_UP, but then it has never failed.
        if one.refresh == "GIVEN_UP" and one.failure_count:
            raise errors.DremioReflectionError(
                f"{label} was given up after {one.failure_count} failures: {one.last_failure}"
            )
        if one.availability != "AVAILABLE" or one.last_data_fetch is None:
            return "holds nothing yet"
        if one.last_data_fetch < self._bound():
            return f"holds data of {one.last_data_fetch.isoformat()}"
        return ""

    def _bound(self) -> dt.datetime:
        if self.since is not None:
            return self.since
        return dt.datetime.now(dt.UTC) - dt.timedelta(seconds=self.max_age or 0.0)


def load(data: Mapping[str, Any]) -> Condition:
    paths = tuple(tuple(path) for path in data["datasets"])
    if data["kind"] == "datasets":
        return DatasetsExist(paths, tuple(data["columns"]))
    return ReflectionsFresh(paths, tuple(data["names"]), instant(data["since"]), data["max_age"])


def _entity(path: Path) -> Generator[Step, Any, dict[str, Any] | None]:
    try:
        found: dict[str, Any] = yield calls.by_path(path)
    except errors.DremioNotFoundError:
        return None
    return found
