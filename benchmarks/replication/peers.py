"""The other ways from a PostgreSQL table to Parquet: `python peers.py NAME DSN FOLDER`, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import Any

TABLE = "promotions"


def duckdb(dsn: str, folder: str, codec: str) -> None:
    """DuckDB's scanner writing plain Parquet to local disk: no Airbyte columns, no S3, no state."""
    import duckdb as engine

    spec = util.find_spec("duckdb_extension_postgres_scanner")
    assert spec is not None
    locations = list(spec.submodule_search_locations or [])
    (extension,) = Path(locations[0]).rglob("*.duckdb_extension")
    db = engine.connect()
    db.execute(f"load '{extension}'")
    db.execute(f"attach '{dsn}' as pg (type postgres, read_only)")
    db.execute(
        f"copy (select * from pg.retail.{TABLE}) to '{folder}/out.parquet' (format parquet, compression {codec})"
    )


def dlt(dsn: str, folder: str, backend: str) -> None:
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    import dlt as tool  # type: ignore[import-not-found]  # lives in the benchmark's own venv
    from dlt.sources.sql_database import sql_table  # type: ignore[import-not-found]

    url = dsn.replace("postgresql://", "postgresql+psycopg2://")
    pipeline = tool.pipeline(
        f"bench_{backend}",
        destination=tool.destinations.filesystem(folder),
        dataset_name="out",
        pipelines_dir=f"{folder}/p",
    )
    table = sql_table(credentials=url, schema="retail", table=TABLE, backend=backend, reflection_level="full")
    pipeline.run(table, loader_file_format="parquet")


def dlt_incremental(dsn: str, folder: str, disposition: str) -> None:
    """Rows whose `updated_at` is new since the last run in this folder: appended to Parquet, or merged into DuckDB."""
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    import dlt as tool
    from dlt.sources.sql_database import sql_table

    into: Any = tool.destinations.filesystem(folder)
    if disposition == "merge":
        into = tool.destinations.duckdb(f"{folder}/lake.duckdb")
    pipeline = tool.pipeline(
        f"increment_{disposition}", destination=into, dataset_name="out", pipelines_dir=f"{folder}/p"
    )
    table = sql_table(
        credentials=dsn.replace("postgresql://", "postgresql+psycopg2://"),
        schema="retail",
        table=TABLE,
        backend="pyarrow",
        incremental=tool.sources.incremental("updated_at"),
        primary_key="promotion_id",
        write_disposition=disposition,
    )
    options = {"loader_file_format": "parquet"} if disposition == "append" else {}
    pipeline.run(table, **options)


def sling(dsn: str, folder: str) -> None:
    """The wheel's own binary: its Python entry point would look for a download first."""
    spec = util.find_spec("sling_linux_amd64")
    assert spec is not None, "sling's binary wheel exists for Linux on x86_64 only"
    binary = Path(next(iter(spec.submodule_search_locations or []))) / "bin" / "sling-linux-amd64"
    binary.chmod(0o755)
    environment = {"SLING_DUCKDB_COMPUTE": "false", "SLING_DISABLE_TELEMETRY": "true", "PG": dsn}
    command = [str(binary), "run", "--src-conn", "PG", "--src-stream", f"retail.{TABLE}"]
    command += ["--tgt-object", f"file://{folder}/out.parquet"]
    subprocess.run(command, env={**os.environ, **environment}, check=True)


def main() -> None:
    name, dsn, folder = sys.argv[1:]
    match name.split("-"):
        case ["duckdb", codec]:
            duckdb(dsn, folder, codec)
        case ["dlt", "incremental", disposition]:
            dlt_incremental(dsn, folder, disposition)
        case ["dlt", backend]:
            dlt(dsn, folder, backend)
        case ["sling"]:
            sling(f"{dsn}?sslmode=disable", folder)


if __name__ == "__main__":
    main()
