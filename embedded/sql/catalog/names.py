"""Paths and names: look-ups ignore case, spelling is kept."""

from __future__ import annotations

import json
import re

from embedded.sql.datasets import Path
from embedded.sql.errors import ValidationError

Key = tuple[str, ...]

RESERVED_ROOTS = frozenset({"information_schema", "sys"})
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*\Z")
_MAX_NAME = 255  # a path segment above 255 bytes is refused by object stores


def key(path: Path) -> Key:
    """The form in which paths are compared."""
    return tuple(part.lower() for part in path)


def key_text(path: Path) -> str:
    """The same as one string, without doubt about where a part ends."""
    return json.dumps(key(path), ensure_ascii=False)


def encode(path: Path) -> str:
    """A path as one string, spelling kept; `decode` reads it back."""
    return json.dumps(list(path), ensure_ascii=False)


def decode(text: str) -> Path:
    return tuple(json.loads(text))


def dotted(path: Path) -> str:
    """`lake.silver.orders`: for messages and INFORMATION_SCHEMA."""
    return ".".join(path)


def quoted(path: Path) -> str:
    """`lake.silver."my table"`: parts that are no plain identifiers are quoted."""
    return ".".join(part if _PLAIN.match(part) else '"' + part.replace('"', '""') + '"' for part in path)


def check_root(name: str) -> None:
    """Raises ValidationError for a name that a space or source must not have."""
    _check(name, '."@', "space or source")
    if name.lower() in RESERVED_ROOTS:
        raise ValidationError(f"The name [{name}] is reserved")


def check_folder(name: str) -> None:
    """Raises ValidationError for a name that a folder must not have."""
    _check(name, '."/', "folder")


def check_dataset(name: str) -> None:
    """Raises ValidationError for a name that a view or table must not have."""
    _check(name, "/", "dataset")


def _check(name: str, forbidden: str, what: str) -> None:
    if not name or name != name.strip() or not name.isprintable() or len(name.encode()) > _MAX_NAME:
        raise ValidationError(f"Invalid {what} name [{name!r}]: it must be printable, at most 255 bytes, not empty")
    bad = sorted(set(name) & set(forbidden))
    if bad or name in (".", ".."):
        raise ValidationError(f"Invalid {what} name [{name}]: it must not contain {' '.join(bad or [name])}")
