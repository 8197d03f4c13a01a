"""What FOR FILES and FOR PARTITIONS of a metadata refresh leave of a promoted folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from embedded.sql.errors import ValidationError

_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class Scope:
    """A partition is a folder: `dir0` the first level below the table's folder, `year` the level year=2026.

    Files are known by their path below the table's folder.
    """

    files: tuple[str, ...] = ()
    partitions: tuple[tuple[str, str | None], ...] = ()  # lower-case names; None: at no value

    @staticmethod
    def of(options: Mapping[str, object]) -> Scope | None:
        """What a statement's options `files` and `partitions` say; None: the whole table."""
        files, partitions = options.get("files"), options.get("partitions")
        named = tuple(str(name) for name in files) if isinstance(files, (list, tuple)) else ()
        values = partitions.items() if isinstance(partitions, Mapping) else ()
        scope = Scope(named, tuple((str(name).lower(), value) for name, value in values))
        return scope if scope.files or scope.partitions else None

    def holds(self, place: str) -> bool:
        if self.files and not any(f"/{place}".endswith(f"/{name}") for name in self.files):
            return False
        values = _values(place)
        return all(values.get(name) == value for name, value in self.partitions)

    def check(self, places: Sequence[str], table: str) -> None:
        """Raises ValidationError for a partition column that no file has."""
        known = {name for place in places for name in _values(place)}
        for name, _ in self.partitions:
            if name not in known:
                raise ValidationError(f"Table '{table}' has no partition column '{name}'")


def _values(place: str) -> dict[str, str | None]:
    values: dict[str, str | None] = {}
    for level, folder in enumerate(place.split("/")[:-1]):
        values[f"dir{level}"] = folder
        column, written, value = folder.partition("=")
        if written:
            values[unquote(column).lower()] = None if value == _NO_VALUE else unquote(value)
    return values
