"""What a plan is: one line per object that is missing or different."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

MASKED = ("**********", "$DREMIO_EXISTING_VALUE$")


@dataclass(frozen=True)
class Change:
    """`action` is create or update; `fields` names what differs, never the values: some are secrets."""

    action: str
    kind: str
    name: str
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        which = f" ({', '.join(self.fields)})" if self.fields else ""
        return f"{self.action} {self.kind} {self.name}{which}"


def declared(file: Path) -> dict[str, Any]:
    """A file of declared state; raises ValueError naming it when it is not a mapping."""
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(data, dict):
        raise ValueError(f"{file.name}: must be a mapping of names to definitions")
    return data


def differences(wanted: Any, actual: Any, field: str = "") -> list[str]:
    """Fields of `wanted` that `actual` lacks or has otherwise. Masked secrets cannot be compared and count as equal."""
    if isinstance(wanted, Mapping):
        there = actual if isinstance(actual, Mapping) else {}
        return [
            path
            for key, value in wanted.items()
            for path in differences(value, there.get(key), f"{field}.{key}" if field else str(key))
        ]
    if isinstance(wanted, list) and wanted and all(isinstance(item, Mapping) and "name" in item for item in wanted):
        by_name = {item.get("name"): item for item in actual or []}
        return [
            path for item in wanted for path in differences(item, by_name.get(item["name"]), f"{field}.{item['name']}")
        ]
    if actual in MASKED or (actual is not None and str(wanted) == str(actual)) or wanted == actual:
        return []
    return [field]
