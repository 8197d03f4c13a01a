"""What a plan is: one line per object that is missing or different."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

MASKED = ("**********", "$DREMIO_EXISTING_VALUE$")


class ApplyError(Exception):
    """An object could not be made as declared; the message names it. What was applied before it stays."""


@dataclass(frozen=True)
class Change:
    """`action`: create, update, delete, or await (it can only be made when something else has been).

    `fields`: what differs, one line each; never the value of a secret.
    """

    action: str
    kind: str
    name: str
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([f"{self.action} {self.kind} {self.name}", *(f"    {line}" for line in self.fields)])

    @property
    def differs(self) -> bool:
        """Whether the platform is not what is declared; waiting for a first run is no difference."""
        return self.action != "await"


def declared(file: Path) -> dict[str, Any]:
    """A file of declared state; raises ValueError naming it when it is not a mapping."""
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(data, dict):
        raise ValueError(f"{file.name}: must be a mapping of names to definitions")
    return data


def differences(wanted: Any, actual: Any) -> list[str]:
    """Fields of `wanted` that `actual` lacks or has otherwise. Masked secrets cannot be compared and count as equal."""
    return [field for field, *_ in _unequal(wanted, wanted, actual, "")]


def diff(written: Any, wanted: Any, actual: Any) -> tuple[str, ...]:
    """The differences as lines for people: `field: before -> after`.

    `written`: `wanted` as it stands in the file; what refers to a connection there is a secret and not shown.
    """
    return tuple(
        f"{field}: differs (its value comes from an Airflow connection)"
        if isinstance(source, str) and "{{" in source
        else f"{field}: {_short(before)} -> {_short(after)}"
        for field, source, after, before in _unequal(written, wanted, actual, "")
    )


def _unequal(written: Any, wanted: Any, actual: Any, field: str) -> Iterator[tuple[str, Any, Any, Any]]:
    """Field, and its value as written, wanted and actual; lists of named things are compared by name."""
    if isinstance(wanted, Mapping):
        for key, value in wanted.items():
            yield from _unequal(_get(written, key), value, _get(actual, key), f"{field}.{key}" if field else str(key))
    elif isinstance(wanted, list) and wanted and all(isinstance(item, Mapping) and "name" in item for item in wanted):
        sources, there = _by_name(written), _by_name(actual)
        for item in wanted:
            name = item["name"]
            yield from _unequal(sources.get(name), item, there.get(name), f"{field}.{name}")
    elif not (actual in MASKED or (actual is not None and str(wanted) == str(actual)) or wanted == actual):
        yield field, written, wanted, actual


def _get(value: Any, key: Any) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None


def _by_name(value: Any) -> dict[Any, Any]:
    return {item.get("name"): item for item in value if isinstance(item, Mapping)} if isinstance(value, list) else {}


def _short(value: Any, limit: int = 200) -> str:
    text = "nothing" if value is None else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= limit else text[:limit] + "..."
