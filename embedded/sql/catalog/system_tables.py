"""The sys tables that have something to say here; the rest does not exist, and a query on it says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pyarrow as pa

Rows = Iterable[Mapping[str, Any]]

_TEXT, _INT, _LONG, _BOOL, _TIME = pa.string(), pa.int32(), pa.int64(), pa.bool_(), pa.timestamp("ms")

SCHEMAS: dict[str, pa.Schema] = {
    "reflections": pa.schema(
        [
            *[(name, _TEXT) for name in ("reflection_id", "reflection_name", "type")],
            ("created_at", _TIME),
            ("updated_at", _TIME),
            *[(name, _TEXT) for name in ("status", "dataset_id", "dataset_name", "dataset_type", "sort_columns")],
            *[(name, _TEXT) for name in ("partition_columns", "distribution_columns", "dimensions", "measures")],
            *[(name, _TEXT) for name in ("display_columns", "external_reflection")],
            ("num_failures", _INT),
            ("last_failure_message", _TEXT),
            ("last_failure_stack", _TEXT),
            ("arrow_cache", _BOOL),
            ("refresh_status", _TEXT),
            ("acceleration_status", _TEXT),
            ("record_count", _LONG),
            ("current_footprint_bytes", _LONG),
            ("total_footprint_bytes", _LONG),
            ("last_refresh_duration_millis", _LONG),
            ("last_refresh_from_table", _TIME),
            ("refresh_method", _TEXT),
            ("available_until", _TIME),
            ("considered_count", _INT),
            ("matched_count", _INT),
            ("accelerated_count", _INT),
            ("last_refresh_finished", _TIME),
        ]
    ),
    "materializations": pa.schema(
        [
            ("reflection_id", _TEXT),
            ("materialization_id", _TEXT),
            ("created", _TIME),
            ("expires", _TIME),
            ("size_bytes", _LONG),
            ("series_id", _LONG),
            ("init_refresh_job_id", _TEXT),
            ("series_ordinal", _INT),
            ("join_analysis", _TEXT),
            ("state", _TEXT),
            ("failure_msg", _TEXT),
            ("data_partitions", _TEXT),
            ("last_refresh_from_pds", _TIME),
            ("last_refresh_finished", _TIME),
            ("last_refresh_duration_millis", _LONG),
        ]
    ),
    "refreshes": pa.schema(
        [
            *[(name, _TEXT) for name in ("id", "reflection_id")],
            ("series_id", _LONG),
            ("created_at", _TIME),
            ("modified_at", _TIME),
            ("path", _TEXT),
            ("job_id", _TEXT),
            ("series_ordinal", _INT),
            ("output_records", _LONG),
            ("output_bytes", _LONG),
        ]
    ),
    "reflection_dependencies": pa.schema(
        [(name, _TEXT) for name in ("reflection_id", "dependency_id", "dependency_type", "dependency_path")]
    ),
    "jobs_recent": pa.schema(
        [
            *[(name, _TEXT) for name in ("job_id", "status", "query_type", "user_name")],
            *[(name, _TEXT) for name in ("queried_datasets", "scanned_datasets")],
            ("submitted_ts", _TIME),
            ("execution_start_ts", _TIME),
            ("final_state_ts", _TIME),
            ("submitted_epoch", _LONG),
            ("final_state_epoch", _LONG),
            ("rows_returned", _LONG),
            ("accelerated", _BOOL),
            ("error_msg", _TEXT),
            ("query", _TEXT),
        ]
    ),
    "version": pa.schema(
        [
            ("version", _TEXT),
            ("commit_id", _TEXT),
            ("commit_message", _TEXT),
            ("commit_time", _TEXT),
            ("build_email", _TEXT),
            ("build_time", _TEXT),
        ]
    ),
    "privileges": pa.schema(
        [(name, _TEXT) for name in ("grantee_id", "grantee_type", "privilege", "object_id", "object_type")]
    ),
    "roles": pa.schema(
        [(name, _TEXT) for name in ("role_id", "role_name", "role_type", "owner_id", "owner_type", "created_by")]
    ),
    "membership": pa.schema([(name, _TEXT) for name in ("role_name", "member_name", "member_type")]),
    "users": pa.schema(
        [(name, _TEXT) for name in ("user_id", "user_name", "user_type", "owner_id", "owner_type", "created_by")]
    ),
    "options": pa.schema([(name, _TEXT) for name in ("name", "kind", "type", "status", "value")]),
}


class SystemTables:
    """`rows` gives the rows of a table by name; they are read when the query is planned."""

    def __init__(self, rows: Mapping[str, Callable[[], Rows]]) -> None:
        self._rows = rows

    def table(self, name: str) -> pa.Table | None:
        name = name.lower()
        schema = SCHEMAS.get(name)
        if schema is None:
            return None
        rows = list(self._rows[name]()) if name in self._rows else []
        return pa.Table.from_pylist([dict(row) for row in rows], schema=schema)

    def schemas(self) -> dict[str, pa.Schema]:
        return SCHEMAS
