"""COPY INTO: CSV, JSON and Parquet files of a source become rows of an Iceberg table, in one commit.

Every file is read as text (Parquet: as it is), converted column by column, and the rows that do not convert are marked.
ON_ERROR then decides: 'abort' names the first of them, 'continue' leaves them out, 'skip_file' leaves their files out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from embedded.sql.engine import dml, iceberg
from embedded.sql.engine import statements as st
from embedded.sql.engine.datatypes import duckdb_type, literal, quote
from embedded.sql.engine.ddl import table_schema
from embedded.sql.engine.masks import strptime_mask
from embedded.sql.engine.relations import file_list, load_table
from embedded.sql.errors import DataReadError, NotFound, UnsupportedError, ValidationError

if TYPE_CHECKING:
    from embedded.sql.engine.engine import Run

_EXTENSIONS = {"csv": "csv", "txt": "csv", "tsv": "csv", "json": "json", "parquet": "parquet"}
_COMPRESSED = re.compile(r"\.(gz|gzip|zst|snappy)\Z", re.IGNORECASE)
_INTEGERS = (pa.int32(), pa.int64())


@dataclass(frozen=True)
class Batch:
    """Files with the same columns, as one DuckDB table function."""

    source: str
    columns: tuple[str, ...]
    files: tuple[str, ...]


@dataclass
class Loaded:
    """What one statement found: temporary tables of converted rows, and how many rows or files were refused."""

    staged: list[str]
    rejected: int = 0


def copy_into(run: Run, s: st.CopyInto) -> pa.Table:
    dataset = run.iceberg(s.path)
    uris, access = run.catalog.copy_source(s.location)
    files = _chosen(s, uris)
    file_format = s.format or _guessed(files)
    table = load_table(dataset)
    schema = table_schema(table)
    run.engine.database.allow_s3(files, access)
    loaded = _load(run, s, file_format, files, schema)
    sql = _rows(run, s, schema, loaded)
    rows = dml.append_rows(run, dataset, table, sql)
    columns = {"Records": pa.array([rows], pa.int64())}
    if _action(s) != "abort":
        columns["Rejected Records"] = pa.array([loaded.rejected], pa.int64())
    return pa.table(columns)


def _action(s: st.CopyInto) -> str:
    return str(s.options.get("ON_ERROR", "abort")).lower()


# Which files -------------------------------------------------------------------------------------------------------


def _chosen(s: st.CopyInto, uris: Sequence[str]) -> list[str]:
    """By FILES (each must exist), by REGEX over the path inside the location, or all."""
    where = "/".join(s.location)
    folder = _folder(s, uris)
    inside = {uri.removeprefix(folder): uri for uri in uris}
    if s.files:
        missing = [name for name in s.files if name.lstrip("/") not in inside]
        if missing:
            raise NotFound(f"File '{missing[0]}' is not found in '@{where}'")
        return [inside[name.lstrip("/")] for name in s.files]
    if s.regex is not None:
        try:
            pattern = re.compile(s.regex)
        except re.error as error:
            raise ValidationError(f"REGEX '{s.regex}' cannot be read: {error}") from None
        return [uri for name, uri in inside.items() if pattern.fullmatch(name)]
    return list(uris)


def _folder(s: st.CopyInto, uris: Sequence[str]) -> str:
    """The start that all URIs share up to the location; a location that is a file has none."""
    tail = "/" + "/".join(s.location[1:]) + "/"
    if len(s.location) == 1:
        return uris[0][: uris[0].index("/", 5) + 1] if uris else ""
    at = uris[0].find(tail, 4) if uris else -1
    return uris[0][: at + len(tail)] if at >= 0 else ""


def _guessed(files: Sequence[str]) -> str:
    kinds = {_COMPRESSED.sub("", uri).rsplit(".", 1)[-1].lower() for uri in files}
    found = {_EXTENSIONS.get(kind, "") for kind in kinds}
    if len(found) != 1 or "" in found:
        raise ValidationError("FILE_FORMAT is needed: the files' names do not tell it")
    return found.pop()


# Reading -----------------------------------------------------------------------------------------------------------


def _load(run: Run, s: st.CopyInto, file_format: str, files: list[str], schema: pa.Schema) -> Loaded:
    loaded = Loaded([])
    for batch in _batches(run, s, file_format, files, loaded):
        values = _values(run, s, file_format, batch, schema)
        bad = " OR ".join(f"({b})" for _, b in values if b) or "false"
        columns = ", ".join(f"{value} AS v{i}" for i, (value, _) in enumerate(values))
        sql = f"SELECT {columns}, ({bad}) AS bad, filename AS file FROM {batch.source}"
        try:
            staged = run.job.temporary(sql)
        except DataReadError as error:
            if _action(s) == "abort":
                raise DataReadError(f"Failed to read {batch.files[0]}: {error.message}") from None
            loaded.rejected += len(batch.files)
            continue
        loaded.staged.append(staged)
    return loaded


def _batches(run: Run, s: st.CopyInto, file_format: str, files: list[str], loaded: Loaded) -> list[Batch]:
    """Files grouped by their columns. A file that cannot be read at all is refused as a whole unless aborting."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for uri in files:
        try:
            columns = tuple(str(r[0]) for r in run.job.rows(f"DESCRIBE SELECT * FROM {_reader(s, file_format, [uri])}"))
        except (DataReadError, ValidationError, UnsupportedError) as error:
            if _action(s) == "abort":
                raise DataReadError(f"Failed to read {uri}: {error.message}") from None
            loaded.rejected += 1
            continue
        names = tuple(name for name in columns if name != "filename")
        # Another engine's failure in one file must not take its neighbours along.
        groups.setdefault(names if _action(s) == "abort" else (*names, uri), []).append(uri)
    return [
        Batch(_reader(s, file_format, members, names if _action(s) == "abort" else names[:-1]),
              names if _action(s) == "abort" else names[:-1], tuple(members))
        for names, members in groups.items()
    ]  # fmt: skip


def _reader(s: st.CopyInto, file_format: str, files: list[str], columns: tuple[str, ...] | None = None) -> str:
    listed = file_list(files)
    if file_format == "parquet":
        return f"read_parquet({listed}, hive_partitioning = false, filename = true)"
    if file_format == "json":
        keys = "sample_size = -1"
        if columns is not None:
            keys = "columns = {" + ", ".join(f"{quote(name)}: 'VARCHAR'" for name in columns) + "}"
        return f"read_json({listed}, hive_partitioning = false, filename = true, {keys})"
    o = s.options
    settings = {
        "delim": literal(str(o.get("FIELD_DELIMITER", ","))),
        "quote": literal(str(o.get("QUOTE_CHAR", '"'))),
        "escape": literal(str(o.get("ESCAPE_CHAR", '"'))),
        "header": str(bool(o.get("EXTRACT_HEADER", True))).lower(),
        "skip": str(o.get("SKIP_LINES", 0)),
        "all_varchar": "true",
        "null_padding": "true",
        "strict_mode": "false",
        "auto_detect": "true",
        "sample_size": "1000",
    }
    if "RECORD_DELIMITER" in o:
        mark = str(o["RECORD_DELIMITER"])
        if mark not in ("\n", "\r\n", "\r"):
            raise UnsupportedError("RECORD_DELIMITER must be a line break on this server.")
        settings["new_line"] = literal({"\n": "\\n", "\r\n": "\\r\\n", "\r": "\\r"}[mark])
    text = ", ".join(f"{name} = {value}" for name, value in settings.items())
    return f"read_csv({listed}, hive_partitioning = false, filename = true, {text})"


# Converting --------------------------------------------------------------------------------------------------------


def _values(
    run: Run, s: st.CopyInto, file_format: str, batch: Batch, schema: pa.Schema
) -> list[tuple[str, str | None]]:
    """For each column of the table: its converted value, and when it counts as an error."""
    if s.select:
        return _transformed(run, s, file_format, batch, schema)
    sources = _matching(s, file_format, batch, schema)
    return [_converted(sources.get(f.name), f, file_format, s) for f in schema]


def _matching(s: st.CopyInto, file_format: str, batch: Batch, schema: pa.Schema) -> dict[str, str]:
    """Table column -> file column: by name without regard to case, or by position for CSV without a header."""
    if file_format == "csv" and not s.options.get("EXTRACT_HEADER", True):
        return {f.name: name for f, name in zip(schema, batch.columns, strict=False)}
    known = {name.lower().strip(): name for name in batch.columns}
    found = {f.name: known[f.name.lower()] for f in schema if f.name.lower() in known}
    if not found:
        columns = ", ".join(f"{f.name}::{duckdb_type(f.type).lower()}" for f in schema)
        raise ValidationError(f"No column name matches target schema ({columns}) in file {batch.files[0]}")
    return found


def _transformed(
    run: Run, s: st.CopyInto, file_format: str, batch: Batch, schema: pa.Schema
) -> list[tuple[str, str | None]]:
    if file_format == "json":
        raise ValidationError("COPY INTO with a SELECT reads files of type csv and parquet only")
    if len(s.select) != len(schema):
        raise ValidationError(
            f"Number of SELECT items ({len(s.select)}) does not equal number of columns ({len(schema)}) of the table"
        )
    columns = ", ".join(quote(name) for name in batch.columns)
    item = f"(SELECT {columns} FROM {batch.source}) AS f"
    plan = run.plan(accelerate=False)
    found: list[tuple[str, str | None]] = []
    for text, field in zip(s.select, schema, strict=True):
        value = plan.expression(_numbered(text, batch.columns), run.context, item)
        cast = f"TRY_CAST(({value}) AS {duckdb_type(field.type)})"
        found.append((cast, f"({value}) IS NOT NULL AND {cast} IS NULL"))
    if plan.definitions:
        raise ValidationError("COPY INTO with a SELECT reads the files' own columns only")
    return found


def _numbered(text: str, columns: tuple[str, ...]) -> str:
    """$2 becomes the second column; text inside quotes stays."""

    def column(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        number = int(match[1])
        if not 1 <= number <= len(columns):
            raise ValidationError(f"Column ${number} does not exist: the file has {len(columns)} columns")
        return quote(columns[number - 1])

    return re.sub(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\$(\d+)\b", column, text)


def _converted(source: str | None, field: pa.Field, file_format: str, s: st.CopyInto) -> tuple[str, str | None]:
    kind = duckdb_type(field.type)
    if source is None:
        return f"CAST(NULL AS {kind})", None if field.nullable else "true"
    if file_format == "parquet":
        raw = quote(source)
        value = f"TRY_CAST({raw} AS {kind})"
    else:
        raw = _cleaned(quote(source), s)
        value = _parsed(raw, field.type, kind, s)
    bad = f"({raw}) IS NOT NULL AND ({value}) IS NULL"
    return value, bad if field.nullable else f"({value}) IS NULL"


def _cleaned(column: str, s: st.CopyInto) -> str:
    if s.options.get("TRIM_SPACE", False):
        column = f"trim({column})"
    nulls = s.options.get("NULL_IF", ())
    assert isinstance(nulls, tuple)
    for text in nulls:
        column = f"nullif({column}, {literal(text)})"
    return f"nullif({column}, '')" if s.options.get("EMPTY_AS_NULL", True) else column


def _parsed(raw: str, data_type: pa.DataType, kind: str, s: st.CopyInto) -> str:
    formats = {"DATE": "DATE_FORMAT", "TIME": "TIME_FORMAT", "TIMESTAMP": "TIMESTAMP_FORMAT"}
    mask = s.options.get(formats.get(kind, ""))
    if mask:
        return f"CAST(try_strptime({raw}, {literal(strptime_mask(str(mask)))}) AS {kind})"
    if data_type in _INTEGERS:  # DuckDB would round '1.5'
        return f"CASE WHEN regexp_full_match({raw}, '\\s*[+-]?[0-9]+\\s*') THEN TRY_CAST({raw} AS {kind}) END"
    if kind == "BLOB":
        return f"encode({raw})"
    if pa.types.is_nested(data_type):
        return f"TRY_CAST(TRY_CAST({raw} AS JSON) AS {kind})"
    return f"TRY_CAST({raw} AS {kind})"


# Deciding ----------------------------------------------------------------------------------------------------------


def _rows(run: Run, s: st.CopyInto, schema: pa.Schema, loaded: Loaded) -> str:
    """The query of the rows to write; counts what is refused."""
    action = _action(s)
    parts: list[str] = []
    columns = ", ".join(f"{iceberg.stored(f'v{i}', f)} AS {quote(f.name)}" for i, f in enumerate(schema))
    for staged in loaded.staged:
        bad = run.job.rows(f"SELECT count(*), min(file) FROM {staged} WHERE bad")[0]
        count = int(str(bad[0]))
        if count and action == "abort":
            raise DataReadError(f"Failed to load {bad[1]}: {count} row(s) cannot be converted to the table's types.")
        where = "NOT bad"
        if count and action == "skip_file":
            where = f"file NOT IN (SELECT file FROM {staged} WHERE bad)"
            loaded.rejected += int(str(run.job.rows(f"SELECT count(*) FROM {staged} WHERE NOT ({where})")[0][0]))
        else:
            loaded.rejected += count
        parts.append(f"(SELECT {columns} FROM {staged} WHERE {where})")
    if not parts:
        nothing = ", ".join(f"CAST(NULL AS {duckdb_type(f.type)}) AS {quote(f.name)}" for f in schema)
        return f"SELECT {nothing} WHERE false"
    return " UNION ALL ".join(parts)
