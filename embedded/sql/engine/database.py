"""The one DuckDB database inside the server: extensions, secrets, limits, and a cursor per job that can be interrupted.

User text never reaches it: only SQL that `translate` generated from a checked tree. As a second line the database has
no access to local files (only s3:// and its own spill folder), installs nothing, and its configuration is locked.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import duckdb
import pyarrow as pa

from embedded.sql.datasets import S3Access
from embedded.sql.engine import native_functions
from embedded.sql.engine.datatypes import literal, quote
from embedded.sql.engine.postgres import passfile_entry
from embedded.sql.engine.settle import make_variants
from embedded.sql.errors import (
    Cancelled,
    DataReadError,
    FileGoneError,
    ResourceError,
    SqlError,
    UnsupportedError,
    ValidationError,
)

EXTENSIONS = ("httpfs", "avro", "iceberg", "delta", "postgres_scanner")
_MACROS = Path(__file__).with_name("functions.sql")


class Flag(Protocol):
    """A threading.Event as far as the engine needs it."""

    def is_set(self) -> bool: ...


class NeverSet:
    def is_set(self) -> bool:
        return False


def extension_path(name: str) -> Path:
    """Where the wheel duckdb-extension-<name> put the signed binary of exactly this DuckDB version."""
    spec = importlib.util.find_spec(f"duckdb_extension_{name}")
    if spec is None or spec.origin is None:
        raise ResourceError(f"The DuckDB extension {name} is not installed: install duckdb-extension-{name}.")
    folder = Path(spec.origin).parent / "extensions" / f"v{duckdb.__version__}"
    found = sorted(folder.rglob("*.duckdb_extension"))
    if not found:
        raise ResourceError(f"The DuckDB extension {name} has another version than DuckDB {duckdb.__version__}.")
    return found[0]


_WIDE = {"HUGEINT", "UHUGEINT"}  # sums of whole numbers; Dremio's are BIGINT


def _narrow(table: pa.Table, columns: list[int]) -> pa.Table:
    for index in columns:
        try:
            column = table.column(index).cast(pa.int64())
        except pa.ArrowInvalid:
            raise DataReadError(f"Numeric overflow in column '{table.column_names[index]}'") from None
        table = table.set_column(index, table.column_names[index], column)
    return table


class Job:
    """One statement's connection: runs generated SQL, knows whether it was cancelled."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, cancelled: Flag, prefix: str) -> None:
        self.connection = connection
        self.cancelled = cancelled
        self.prefix = prefix  # unique per job: names of its temporary tables begin with it
        self.interrupted = False
        self.on_start: Callable[[], None] | None = None  # told once, before the first statement
        self.files: list[str] = []  # data files this statement writes: no orphans yet
        self.snapshots: set[int] = set()  # Iceberg snapshots this statement reads
        self.started = time.time()
        self._temporary: list[str] = []
        self._count = 0

    def check(self) -> None:
        if self.interrupted or self.cancelled.is_set():
            raise Cancelled("Query cancelled by user")

    def execute(self, sql: str) -> duckdb.DuckDBPyConnection:
        self.check()
        if self.on_start is not None:
            self.on_start()
            self.on_start = None
        try:
            return self.connection.execute(sql)
        except duckdb.Error as error:
            self.check()
            raise translate_error(error) from None

    def arrow(self, sql: str) -> pa.Table:
        result = self.execute(sql)
        try:
            wide = [i for i, column in enumerate(result.description or []) if str(column[1]) in _WIDE]
            return _narrow(result.to_arrow_table(), wide)
        except duckdb.Error as error:
            self.check()
            raise translate_error(error) from None

    def reader(self, sql: str, rows: Callable[[int], int]) -> tuple[pa.RecordBatchReader, set[int]]:
        """Batches computed as they are read, and which columns are HUGEINT. Close the reader.

        `rows`: how many of them a batch has, by its number of columns.
        """
        result = self.execute(sql)
        columns = result.description or []
        wide = {i for i, column in enumerate(columns) if str(column[1]) in _WIDE}
        try:
            return result.to_arrow_reader(rows(len(columns))), wide
        except duckdb.Error as error:
            self.check()
            raise translate_error(error) from None

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        result = self.execute(sql)
        try:
            return result.fetchall()
        except duckdb.Error as error:
            self.check()
            raise translate_error(error) from None

    def fresh_name(self) -> str:
        self._count += 1
        return f"{self.prefix}_{self._count}"

    def temporary(self, sql: str) -> str:
        """Keep the result of a query as a temporary table (it may spill) and return its quoted name."""
        name = self.fresh_name()
        self.execute(f"CREATE TEMP TABLE {quote(name)} AS {sql}")
        self._temporary.append(name)
        return quote(name)

    def register(self, data: pa.Table) -> str:
        name = self.fresh_name()
        self.connection.register(name, data)
        return quote(name)

    def close(self) -> None:
        self.connection.close()  # temporary tables and registered data go with it


class Database:
    def __init__(self, scratch: Path, memory_limit: str, threads: int) -> None:
        spill = scratch / "spill"
        spill.mkdir(parents=True, exist_ok=True)
        self._root = duckdb.connect(
            ":memory:",
            config={
                "threads": threads,
                "memory_limit": memory_limit,
                "temp_directory": str(spill),
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "allow_community_extensions": False,
                "secret_directory": str(scratch / "no-secrets"),  # never written: all secrets are temporary
            },
        )
        for name in EXTENSIONS:
            self._root.execute(f"LOAD {literal(str(extension_path(name)))}")
        self._root.execute("SET GLOBAL TimeZone = 'UTC'")
        self._root.execute("SET GLOBAL s3_uploader_max_filesize = '50GB'")  # parts of 5 MB, not 80: memory
        self._root.execute("SET GLOBAL http_retries = 3")
        native_functions.register(self._root)
        self._root.execute(_MACROS.read_text())
        self.variants = make_variants(self._root)
        self._root.execute("SET GLOBAL allow_persistent_secrets = false")
        self._root.execute("SET GLOBAL allowed_directories = ['s3://']")
        self._root.execute("SET GLOBAL enable_external_access = false")
        self._lock = threading.Lock()
        self._secrets: dict[str, S3Access] = {}
        self._jobs: dict[str, Job] = {}
        self._live: set[Job] = set()
        self._metadata: dict[str, str] = {}  # metadata file -> table uuid
        self._serial = 0
        self._passwords = scratch / "pgpass"
        self._passwords.mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def job(self, job_id: str, cancelled: Flag) -> Iterator[Job]:
        with self._lock:
            self._serial += 1
            job = Job(self._root.cursor(), cancelled, f"__job{self._serial}")
            self._live.add(job)
            if job_id:
                self._jobs[job_id] = job
        try:
            yield job
        finally:
            with self._lock:
                self._live.discard(job)
                if self._jobs.get(job_id) is job:
                    del self._jobs[job_id]
                job.close()

    def interrupt(self, job_id: str) -> bool:
        """Stop the statement of a job; False when it does not run (any more)."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None:
                return False
            job.interrupted = True
            job.connection.interrupt()
            return True

    def readers(self, own: Job) -> tuple[float | None, set[int]]:
        """When the oldest other running statement began (seconds since 1970), and the snapshots that they all read."""
        with self._lock:
            others = [job for job in self._live if job is not own]
            return min((job.started for job in others), default=None), {
                s for job in others for s in list(job.snapshots)
            }

    def files_in_flight(self) -> set[str]:
        """What running statements have written and not yet committed."""
        with self._lock:
            return {uri for job in self._live for uri in job.files}

    def allow_s3(self, uris: Iterable[str], access: S3Access) -> None:
        """Let DuckDB read and write the buckets of these URIs with these keys. Secrets live in memory only."""
        for bucket in {_bucket(uri) for uri in uris}:
            with self._lock:
                known = self._secrets.get(bucket)
                if known == access:
                    continue
                if known is not None and known.endpoint != access.endpoint:
                    raise UnsupportedError(
                        f"Bucket [{bucket}] exists in two object stores ({known.endpoint}, {access.endpoint}); "
                        "one server can use one of them."
                    )
                name = "s3_" + hashlib.sha256(bucket.encode()).hexdigest()[:16]
                self._root.execute(
                    f"CREATE OR REPLACE TEMPORARY SECRET {name} (TYPE s3, KEY_ID {literal(access.access_key)}, "
                    f"SECRET {literal(access.secret_key)}, ENDPOINT {literal(access.endpoint)}, URL_STYLE 'path', "
                    f"USE_SSL {str(access.secure).lower()}, REGION {literal(access.region)}, "
                    f"SCOPE {literal(f's3://{bucket}/')})"
                )
                self._secrets[bucket] = access

    def trust_metadata(self, location: str, table_uuid: str) -> None:
        """Forget cached files when this metadata file belongs to another table than last time (DROP, then CREATE).

        DuckDB's file cache would go on serving the old content of the same name for a while.
        """
        with self._lock:
            known = self._metadata.setdefault(location, table_uuid)
            if known != table_uuid or len(self._metadata) > 100_000:
                self._root.execute("SET GLOBAL enable_external_file_cache = false")
                self._root.execute("SET GLOBAL enable_external_file_cache = true")
                self._metadata = {location: table_uuid}

    def postgres_dsn(self, dsn: str) -> str:
        """The same connection with its password moved to a 0600 file that libpq reads."""
        plain, line, name = passfile_entry(dsn)
        file = self._passwords / name
        with self._lock:
            if not file.exists() or file.read_text() != line + "\n":
                fresh = file.with_suffix(".new")
                fresh.touch(mode=0o600)
                fresh.write_text(line + "\n")
                fresh.replace(file)
        return f"{plain} passfile='{file}' connect_timeout=10"

    def close(self) -> None:
        with self._lock:
            for job in self._jobs.values():
                job.interrupted = True
                job.connection.interrupt()
            self._root.close()


def _bucket(uri: str) -> str:
    match = re.match(r"s3[an]?://([^/]+)/", uri)
    if not match:
        raise DataReadError(f"Not an S3 location: {uri}")
    return match[1]


_PATTERNS: tuple[tuple[re.Pattern[str], type[SqlError], str], ...] = (
    (
        re.compile(r'Column "([^"]*)" referenced that exists in the SELECT clause'),
        ValidationError,
        "Column '{0}' not found in any table",
    ),
    (
        re.compile(r'Referenced column "([^"]*)" (?:was )?not found'),
        ValidationError,
        "Column '{0}' not found in any table",
    ),
    (re.compile(r'does not have a column named "([^"]*)"'), ValidationError, "Column '{0}' not found in any table"),
    (re.compile(r'Ambiguous reference to column name "([^"]*)"'), ValidationError, "Column '{0}' is ambiguous"),
    (re.compile(r'Referenced table "([^"]*)" not found'), ValidationError, "Table '{0}' not found"),
    (
        re.compile(r'column "([^"]*)" must appear in the GROUP BY'),
        ValidationError,
        "Expression '{0}' is not being grouped",
    ),
    (re.compile(r"HTTP Error: .*?s3:/?/?([^'\" ]*)['\" ].*\b404\b"), FileGoneError, "Failed to read file s3://{0}"),
    (re.compile(r"HTTP Error: .*?s3:/?/?([^'\" ]*)"), DataReadError, "Failed to read file s3://{0}"),
)
_KINDS: tuple[tuple[type[Exception], type[SqlError]], ...] = (
    (duckdb.BinderException, ValidationError),
    (duckdb.CatalogException, ValidationError),
    (duckdb.ParserException, ValidationError),
    (duckdb.ConversionException, DataReadError),
    (duckdb.OutOfMemoryException, ResourceError),
    (duckdb.HTTPException, DataReadError),
    (duckdb.IOException, DataReadError),
    (duckdb.InvalidInputException, DataReadError),
    (duckdb.OutOfRangeException, DataReadError),
    (duckdb.NotImplementedException, UnsupportedError),
)


def translate_error(error: duckdb.Error) -> SqlError:
    """Dremio's words for what DuckDB says, without the generated SQL that DuckDB quotes."""
    text = str(error)
    if isinstance(error, duckdb.InterruptException):
        return Cancelled("Query cancelled by user")
    if signature := re.search(r"given name and argument types '([A-Za-z_0-9]+)\((.*?)\)'", text):
        return no_function(signature[1], [_family(t) for t in _split(signature[2])])
    if macro := re.search(r"Macro (?:function )?\"?fn_([a-z_0-9]+)", text, re.IGNORECASE):
        return no_function(macro[1], [])
    for pattern, kind, message in _PATTERNS:
        if match := pattern.search(text):
            return kind(message.format(*match.groups()))
    first = re.split(r"\n\s*LINE \d+:|\n\n", text, maxsplit=1)[0].strip()
    first = re.sub(r"^[A-Z][A-Za-z ]+ Error: ", "", first)
    kind = next((ours for theirs, ours in _KINDS if isinstance(error, theirs)), SqlError)
    return kind(first)


def no_function(name: str, families: list[str]) -> ValidationError:
    """Calcite's text for a call that no operator accepts."""
    return ValidationError(
        f"No match found for function signature {name.removeprefix('fn_').upper()}({', '.join(families)})"
    )


def _split(types: str) -> list[str]:
    parts, depth, current = [], 0, ""
    for character in types:
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            parts.append(current.strip())
            current = ""
        else:
            current += character
    return [*parts, current.strip()] if current.strip() else parts


def _family(duckdb_type: str) -> str:
    head = duckdb_type.upper()
    if head.endswith("[]") or head.startswith(("STRUCT", "MAP")):
        return "<ANY>"
    if head.startswith(("DECIMAL", "NUMERIC")) or ("INT" in head and not head.startswith("INTERVAL")):
        return "<NUMERIC>"
    families = {
        "VARCHAR": "<CHARACTER>",
        "STRING_LITERAL": "<CHARACTER>",
        "DOUBLE": "<NUMERIC>",
        "FLOAT": "<NUMERIC>",
        "BLOB": "<BINARY>",
        "BOOLEAN": "<BOOLEAN>",
        "DATE": "<DATE>",
        "TIME": "<TIME>",
        "TIMESTAMP": "<TIMESTAMP>",
    }
    return families.get(head, "<ANY>")
