"""Object keys, as Airbyte's S3 destination (Bulk CDK, 1.x) makes them.

    <bucket path>/<path format><file name pattern>
    bronze/retail/orders/2026_11_23_1795454921000_0.parquet

The path format is joined to the file name as a string: a `/` at its end matters.
"""

from __future__ import annotations

import re
import unicodedata
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

DEFAULT_PATH_FORMAT = "${NAMESPACE}/${STREAM_NAME}/${YEAR}_${MONTH}_${DAY}_${EPOCH}_"
DEFAULT_FILE_PATTERN = "{part_number}{format_extension}"
EXTENSION = ".parquet"

# Airbyte lets `/` through as well; here it would put a stream's files inside another stream's folder.
_UNSAFE = re.compile(r"[^0-9A-Za-z!_.*')(&$@=;:+,?-]")
_NOT_WORD = re.compile(r"[^0-9A-Za-z_]")
_PATH_VARIABLE = re.compile(r"\$\{([A-Z_]+)\}")
_FILE_VARIABLE = re.compile(r"\{([a-z_]+)(?::([^{}]*))?\}")
_JAVA_DATE = re.compile(r"yyyy|MM|dd|HH|mm|ss")
_STRFTIME = {"yyyy": "%Y", "MM": "%m", "dd": "%d", "HH": "%H", "mm": "%M", "ss": "%S"}


class LayoutError(Exception):
    """A path format or file name pattern cannot be used; the message names what is wrong in it."""


@dataclass(frozen=True)
class Layout:
    """The destination's part of every key."""

    bucket_path: str
    path_format: str
    file_pattern: str

    def key(self, namespace: str, stream: str, started: datetime, sync_id: int, part_number: int, ordinal: int) -> str:
        """The key of one part of a stream, for the sync that started at `started` (UTC).

        `ordinal` > 0 tells apart keys that would clash: `-1` and so on before the extension. Raises LayoutError.
        """
        folder = _PATH_VARIABLE.sub(lambda m: _path_variable(m[1], namespace, stream, started), self.path_format)
        name = _FILE_VARIABLE.sub(
            lambda m: _file_variable(m[1], m[2], started, sync_id, part_number), self.file_pattern
        )
        if ordinal:
            stem = name.removesuffix(EXTENSION)
            name = f"{stem}-{ordinal}{name[len(stem) :]}"
        segments = f"{self.bucket_path}/{folder}{name}".split("/")
        key = "/".join(segment for segment in segments if segment)
        return _checked(key)


def layout(bucket_path: str, path_format: str | None, file_pattern: str | None) -> Layout:
    """A layout with Airbyte's defaults for what is missing; raises LayoutError."""
    made = Layout(bucket_path, path_format or DEFAULT_PATH_FORMAT, file_pattern or DEFAULT_FILE_PATTERN)
    made.key("namespace", "stream", datetime.now(UTC), 1, 0, 0)  # an unknown variable shows here, not in a sync
    return made


def _path_variable(variable: str, namespace: str, stream: str, at: datetime) -> str:
    values = {
        "NAMESPACE": safe_segment(namespace),
        "STREAM_NAME": safe_segment(stream),
        "YEAR": f"{at.year:04d}",
        "MONTH": f"{at.month:02d}",
        "DAY": f"{at.day:02d}",
        "HOUR": f"{at.hour:02d}",
        "MINUTE": f"{at.minute:02d}",
        "SECOND": f"{at.second:02d}",
        "MILLISECOND": f"{at.microsecond // 1000:04d}",  # four digits in Airbyte too
        "EPOCH": str(_milliseconds(at)),
        "UUID": str(uuid.uuid4()),
    }
    if variable not in values:
        raise LayoutError(f"s3_path_format: unknown variable ${{{variable}}}; there are {', '.join(values)}")
    return values[variable]


def _file_variable(variable: str, argument: str | None, at: datetime, sync_id: int, part_number: int) -> str:
    now = datetime.now(UTC)
    match variable:
        case "date":
            pattern = _JAVA_DATE.sub(lambda m: _STRFTIME[m[0]], argument or "yyyy_MM_dd")
            return at.strftime(pattern)
        case "timestamp":
            micros = int(now.timestamp() * 1_000_000)
            return str(micros if argument == "micros" else micros // 1000)
        case "part_number":
            return str(part_number)
        case "sync_id":
            return str(sync_id)
        case "format_extension":
            return EXTENSION
    names = "{date}, {timestamp}, {part_number}, {sync_id}, {format_extension}"
    raise LayoutError(f"file_name_pattern: unknown variable {{{variable}}}; there are {names}")


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000 + 0.5)


def _checked(key: str) -> str:
    segments = key.split("/")
    if any(segment in (".", "..") for segment in segments):
        raise LayoutError(f"the path {key!r} has a segment '.' or '..'")
    if any(len(segment.encode()) > 255 for segment in segments) or len(key.encode()) > 1024:
        raise LayoutError(f"the path {key[:80]!r}... is longer than S3 allows (255 bytes a segment, 1024 in all)")
    return key


def safe_segment(name: str) -> str:
    """A namespace or stream name as one path segment."""
    plain = "".join(char for char in unicodedata.normalize("NFKD", name) if not unicodedata.combining(char))
    safe = _UNSAFE.sub("_", plain)
    return re.sub(r"^\.+", lambda dots: "_" * len(dots[0]), safe)


def column_name(name: str) -> str:
    """A column name as Airbyte writes it to Parquet: letters, digits and `_`, not a digit first."""
    plain = "".join(char for char in unicodedata.normalize("NFKD", name) if not unicodedata.combining(char))
    word = _NOT_WORD.sub("_", plain)
    return f"_{word}" if word[:1].isdigit() else word or "_"
