"""Reads declared YAML into checked values; every complaint names the file, the field and what would be right."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


class SpecError(ValueError):
    """A declared file is wrong. The message names the file, the field and the fix."""


class Node:
    """One mapping of a YAML file, with its place in it."""

    def __init__(self, data: Any, file: Path, field: str = "") -> None:
        if not isinstance(data, Mapping):
            raise SpecError(f"{file.name}: '{field or 'the file'}' must be a mapping, found {type(data).__name__}")
        self._data: Mapping[str, Any] = data
        self._file, self._field, self._seen = file, field, set[str]()

    def _place(self, key: str) -> str:
        return f"{self._field}.{key}" if self._field else key

    def fail(self, key: str, complaint: str) -> SpecError:
        return SpecError(f"{self._file.name}: '{self._place(key)}' {complaint}")

    def get(self, key: str, kind: type, default: Any = ...) -> Any:
        """The value of `key`, which must be of `kind`; `default` when absent, required without one."""
        self._seen.add(key)
        if key not in self._data:
            if default is ...:
                raise self.fail(key, f"is missing; add a {kind.__name__}")
            return default
        value = self._data[key]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.fail(key, f"must be a {kind.__name__}, found {value!r}")
        return value

    def name(self, key: str) -> str:
        value: str = self.get(key, str)
        if not NAME.fullmatch(value):
            raise self.fail(key, f"must match {NAME.pattern}, found {value!r}")
        return value

    def names(self, key: str, default: Sequence[str] | Any = ...) -> tuple[str, ...]:
        values = self.get(key, list, default)
        for value in values:
            if not isinstance(value, str) or not NAME.fullmatch(value):
                raise self.fail(key, f"must list names matching {NAME.pattern}, found {value!r}")
        return tuple(values)

    def one_of(self, key: str, allowed: Sequence[str], default: Any = ...) -> str:
        value: str = self.get(key, str, default)
        if value not in allowed:
            raise self.fail(key, f"must be one of {', '.join(allowed)}, found {value!r}")
        return value

    @property
    def raw(self) -> Mapping[str, Any]:
        """The mapping as it was read; a key that is only looked at here still counts as unknown in `done`."""
        return self._data

    def item(self, key: str, number: int, value: Any) -> Node:
        """One entry of the list `key`."""
        return Node(value, self._file, f"{self._place(key)}[{number}]")

    def child(self, key: str) -> Node:
        return Node(self.get(key, Mapping), self._file, self._place(key))

    def children(self, key: str) -> dict[str, Node]:
        mapping = self.get(key, Mapping)
        for name in mapping:
            if not isinstance(name, str) or not NAME.fullmatch(name):
                raise self.fail(key, f"has the name {name!r}, which must match {NAME.pattern}")
        return {name: Node(value, self._file, f"{self._place(key)}.{name}") for name, value in mapping.items()}

    def done(self) -> None:
        """Refuses keys nobody asked for: a typo must not be silently ignored."""
        unknown = sorted(set(self._data) - self._seen)
        if unknown:
            raise self.fail(unknown[0], f"is not known here; known: {', '.join(sorted(self._seen))}")


def read(file: Path) -> Node:
    try:
        # libyaml's reader: every parse of a DAG reads these files, and the one in Python takes ten times as long.
        data = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except FileNotFoundError:
        raise SpecError(f"{file} does not exist") from None
    except yaml.YAMLError as error:
        raise SpecError(f"{file.name} is not valid YAML: {error}") from None
    return Node(data, file)
