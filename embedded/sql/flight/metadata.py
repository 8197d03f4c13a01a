"""Flight SQL's metadata commands, answered from INFORMATION_SCHEMA with the caller's rights.

As in Dremio there are no catalogs: the column catalog_name is NULL everywhere (dremio-oss 25.2 DremioFlightProducer).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import pyarrow as pa

from embedded.sql.datasets import Path
from embedded.sql.engine.datatypes import sql_type
from embedded.sql.errors import SqlError
from embedded.sql.flight import messages, sql_info, type_info

log = logging.getLogger(__name__)


def _text(name: str, *, needed: bool = False) -> pa.Field:
    return pa.field(name, pa.string(), nullable=not needed)


CATALOGS = pa.schema([_text("catalog_name", needed=True)])
SCHEMAS = pa.schema([_text("catalog_name"), _text("db_schema_name", needed=True)])
TABLE_TYPES = pa.schema([_text("table_type", needed=True)])
TABLES = pa.schema(
    [
        _text("catalog_name"),
        _text("db_schema_name"),
        _text("table_name", needed=True),
        _text("table_type", needed=True),
    ]
)
TABLES_WITH_SCHEMA = TABLES.append(pa.field("table_schema", pa.binary(), nullable=False))
PRIMARY_KEYS = pa.schema(
    [
        _text("catalog_name"),
        _text("db_schema_name"),
        _text("table_name", needed=True),
        _text("column_name", needed=True),
        _text("key_name"),
        pa.field("key_sequence", pa.int32(), nullable=False),
    ]
)
FOREIGN_KEYS = pa.schema(
    [
        *(
            _text(f"{side}_{name}", needed=name in ("table_name", "column_name"))
            for side in ("pk", "fk")
            for name in ("catalog_name", "db_schema_name", "table_name", "column_name")
        ),
        pa.field("key_sequence", pa.int32(), nullable=False),
        _text("fk_key_name"),
        _text("pk_key_name"),
        pa.field("update_rule", pa.uint8(), nullable=False),
        pa.field("delete_rule", pa.uint8(), nullable=False),
    ]
)
TYPES = ("SYSTEM_TABLE", "TABLE", "VIEW")
_CATALOG = "DREMIO"  # INFORMATION_SCHEMA's; a filter may name it


class Metadata:
    """`query` runs SQL and `describe` gives a dataset's columns, both for one caller."""

    def __init__(self, query: Callable[[str], pa.Table], describe: Callable[[Path], pa.Schema]) -> None:
        self._query = query
        self._describe = describe

    def table(self, command: messages.Command) -> pa.Table | None:
        """The answer to a metadata command, None for another command. Raises SqlError."""
        match command:
            case messages.GetSqlInfo(wanted):
                return sql_info.table(wanted)
            case messages.GetTypeInfo(data_type):
                return type_info.table(data_type)
            case messages.GetCatalogs():
                return CATALOGS.empty_table()
            case messages.GetTableTypes():
                return pa.table([pa.array(TYPES)], schema=TABLE_TYPES)
            case messages.GetKeys():
                return schema_of(command).empty_table()  # type: ignore[union-attr]
            case messages.GetSchemas():
                return self._schemas(command)
            case messages.GetTables():
                return self._tables(command)
        return None

    def _schemas(self, command: messages.GetSchemas) -> pa.Table:
        if not _whole(command.catalog):
            return SCHEMAS.empty_table()
        found = self._query('SELECT SCHEMA_NAME FROM INFORMATION_SCHEMA."SCHEMATA"').column(0).to_pylist()
        fits = like(command.schema_pattern)
        rows = [{"db_schema_name": name} for name in sorted(found) if fits(name)]
        return pa.Table.from_pylist(rows, schema=SCHEMAS)

    def _tables(self, command: messages.GetTables) -> pa.Table:
        schema = schema_of(command)
        assert schema is not None
        if not _whole(command.catalog):
            return schema.empty_table()
        listed = self._query('SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE FROM INFORMATION_SCHEMA."TABLES"')
        in_schema, named = like(command.schema_pattern), like(command.table_pattern)
        rows = [
            {"db_schema_name": row["TABLE_SCHEMA"], "table_name": row["TABLE_NAME"], "table_type": row["TABLE_TYPE"]}
            for row in listed.to_pylist()
            if in_schema(row["TABLE_SCHEMA"])
            and named(row["TABLE_NAME"])
            and (not command.types or row["TABLE_TYPE"] in command.types)
        ]
        rows.sort(key=lambda row: (row["table_type"], row["db_schema_name"], row["table_name"]))
        if command.include_schema:
            rows = [{**row, "table_schema": self._columns(row["db_schema_name"], row["table_name"])} for row in rows]
        return pa.Table.from_pylist(rows, schema=schema)

    def _columns(self, schema: str, name: str) -> bytes:
        """The Arrow schema as IPC bytes; without columns when its source is away or it was dropped a moment ago."""
        try:
            found = self._describe((schema, name))
        except SqlError as error:
            log.warning("The columns of %s.%s are left out: %s", schema, name, error.message)
            found = pa.schema([])
        serialized: bytes = pa.schema([_described(field) for field in found]).serialize().to_pybytes()
        return serialized


def _described(field: pa.Field) -> pa.Field:
    facts = {"ARROW:FLIGHT:SQL:TYPE_NAME": sql_type(field.type)}
    if pa.types.is_decimal(field.type):
        facts["ARROW:FLIGHT:SQL:PRECISION"] = str(field.type.precision)
        facts["ARROW:FLIGHT:SQL:SCALE"] = str(field.type.scale)
    return field.with_metadata(facts)


def schema_of(command: messages.Command) -> pa.Schema | None:
    """The columns of a metadata command's answer; None for another command."""
    match command:
        case messages.GetSqlInfo():
            return sql_info.SCHEMA
        case messages.GetTypeInfo():
            return type_info.SCHEMA
        case messages.GetCatalogs():
            return CATALOGS
        case messages.GetSchemas():
            return SCHEMAS
        case messages.GetTableTypes():
            return TABLE_TYPES
        case messages.GetTables():
            return TABLES_WITH_SCHEMA if command.include_schema else TABLES
        case messages.GetKeys():
            return PRIMARY_KEYS if command.kind == "primary" else FOREIGN_KEYS
    return None


def _whole(catalog: str | None) -> bool:
    """Does a catalog filter let anything through? Empty means: what has no catalog, which is everything."""
    return not catalog or catalog.upper() == _CATALOG


def like(pattern: str | None) -> Callable[[str], bool]:
    r"""A test for SQL's LIKE with % and _ and the escape \; everything fits no pattern."""
    if pattern is None:
        return lambda text: True
    words = {"%": ".*", "_": "."}
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    compiled = re.compile("".join(words.get(part) or re.escape(part[-1]) for part in parts), re.DOTALL | re.IGNORECASE)
    return lambda text: compiled.fullmatch(text) is not None
