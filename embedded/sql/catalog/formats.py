"""Formats of promoted folders other than Parquet: which files a refresh sees, and how their options are checked.

A Delta table is known by its folder and log version, an Iceberg folder by its newest metadata file, so that both stay
as they were at the refresh, whatever is written to them later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from embedded.sql.catalog import names
from embedded.sql.catalog.object_listing import StoredObject
from embedded.sql.catalog.s3_source import S3Source
from embedded.sql.datasets import Path
from embedded.sql.errors import UnsupportedError, ValidationError

PARQUET = "Parquet"
_FLAGS = ("extractHeader", "skipFirstLine", "trimHeader", "autoGenerateColumnNames")
_TEXTS = ("fieldDelimiter", "lineDelimiter", "quote", "escape", "comment")
_OPTIONS: dict[str, tuple[str, ...]] = {
    PARQUET: ("autoCorrectCorruptDates",),
    "Iceberg": (),
    "Delta": (),
    "JSON": (),
    "Text": (*_FLAGS, *_TEXTS),
}
_IGNORED = {"type", "name", "fullPath", "ctime", "isFolder", "location", "metaStoreType", "dataFormatTypeList"}
_TEXT_DEFAULTS: dict[str, Any] = {
    "fieldDelimiter": ",",
    "lineDelimiter": "\r\n",
    "quote": '"',
    "escape": '"',
    "comment": "#",
    "extractHeader": False,
    "skipFirstLine": False,
    "trimHeader": True,
    "autoGenerateColumnNames": True,
}


def checked(format_: Mapping[str, Any]) -> dict[str, Any]:
    """The format with Dremio's spelling and defaults. Raises ValidationError naming the wrong option."""
    asked = str(format_.get("type", PARQUET))
    kind = next((known for known in _OPTIONS if known.lower() == asked.lower()), None)
    if kind is None:
        if asked.lower() in ("excel", "xls", "avro", "arrow", "orc"):
            raise UnsupportedError(f"Format [{asked}] is not supported by this server")
        raise ValidationError("Invalid value found at: format.type")
    found: dict[str, Any] = {"type": kind, **(_TEXT_DEFAULTS if kind == "Text" else {})}
    for name, value in format_.items():
        if name in _IGNORED:
            continue
        if name not in _OPTIONS[kind]:
            raise ValidationError(f"Invalid value found at: format.{name}")
        found[name] = _option(name, value)
    return found


def _option(name: str, value: Any) -> Any:
    if name in _TEXTS:
        longest = 2 if name == "lineDelimiter" else 1
        if not isinstance(value, str) or not value or (name != "lineDelimiter" and len(value) > longest):
            raise ValidationError(f"Invalid value found at: format.{name} (one character)")
        if name == "lineDelimiter" and value not in ("\n", "\r\n", "\r"):
            raise ValidationError("Invalid value found at: format.lineDelimiter (a line feed, carriage return or both)")
        return value
    if not isinstance(value, bool):
        raise ValidationError(f"Invalid value found at: format.{name} (true or false)")
    return value


def listed(source: S3Source, path: Path, kind: str) -> list[tuple[str, StoredObject]]:
    """URI and facts of what a refresh looks at; [] when nothing is there."""
    if kind == "Delta":
        return _delta(source, path)
    if kind == "Iceberg":
        return _iceberg(source, path)
    return source.files(path[1:])


def _delta(source: S3Source, path: Path) -> list[tuple[str, StoredObject]]:
    log = source.everything((*path[1:], "_delta_log"))
    versions = [int(found[1]) for uri, _ in log if (found := re.search(r"/(\d{20})\.json$", uri))]
    if not versions:
        return []
    bucket, key = source.location(path[1:])
    # The version stands where other formats have the file's tag.
    return [(f"s3://{bucket}/{key}", StoredObject(key, 0, str(max(versions))))]


def _iceberg(source: S3Source, path: Path) -> list[tuple[str, StoredObject]]:
    files = [(uri, o) for uri, o in source.everything((*path[1:], "metadata")) if uri.endswith(".metadata.json")]
    hints = [uri for uri, _ in source.everything((*path[1:], "metadata")) if uri.endswith("/version-hint.text")]
    if hints and (hint := source.read(hints[0]).decode().strip()).isdigit():
        hinted = [file for file in files if re.search(rf"/v{hint}(\.gz)?\.metadata\.json$", file[0])]
        files = hinted or files
    if not files:
        return []
    return [max(files, key=lambda file: _metadata_version(file[0]))]


def _metadata_version(uri: str) -> int:
    found = re.search(r"/v?(\d+)[^/]*\.metadata\.json$", uri)
    return int(found[1]) if found else -1


def missing(path: Path, kind: str) -> ValidationError:
    what = {"Delta": "no Delta log", "Iceberg": "no Iceberg metadata"}.get(kind, "no files")
    return ValidationError(f"[{names.dotted(path)}] holds {what}: there is nothing to promote")
