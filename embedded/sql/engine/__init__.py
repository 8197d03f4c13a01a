"""The SQL engine of the Dremio-compatible server."""

from __future__ import annotations

from embedded.sql.engine.datatypes import dremio_type, parse_type, sql_type, type_json, type_text
from embedded.sql.engine.engine import Engine
from embedded.sql.engine.materialize import Materialized
from embedded.sql.engine.results import encode_results, result_schema

__all__ = [
    "Engine",
    "Materialized",
    "dremio_type",
    "encode_results",
    "parse_type",
    "result_schema",
    "sql_type",
    "type_json",
    "type_text",
]
