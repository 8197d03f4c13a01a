"""Tables as Airbyte's destination-postgres 3.x makes them: four `_airbyte_*` columns, then the stream's own.

Types are Airbyte's, except that numbers keep their precision: numeric(p,s) stays that, numeric without a scale too.
A connector's fields, and times with a zone, have the types of the Parquet output (docs/connectors.md says where these
differ): another type for the same field would be refused by every table that is there already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from psycopg import sql

from embedded.replication.records import Field

_NAME_BYTES = 63
META_COLUMNS = (
    ("_airbyte_raw_id", "varchar"),
    ("_airbyte_extracted_at", "timestamptz"),
    ("_airbyte_meta", "jsonb"),
    ("_airbyte_generation_id", "bigint"),
)


def shortened(name: str) -> str:
    """A name as PostgreSQL keeps it: at most 63 bytes."""
    return name.encode()[:_NAME_BYTES].decode("utf-8", "ignore")


def column_type(field: Field) -> str:
    """The type of a column, as PostgreSQL spells it."""
    if field.logical is not None:
        return field.logical
    type_ = field.type
    if pa.types.is_decimal(type_):
        return f"numeric({type_.precision},{type_.scale})"
    if pa.types.is_nested(type_):
        return "jsonb"
    return _TYPES.get(str(type_), "varchar")


_TYPES = {
    "bool": "boolean",
    "int64": "bigint",
    "double": "double precision",
    "string": "varchar",
    "date32[day]": "date",
    "time64[us]": "time",
    "timestamp[us, tz=UTC]": "timestamptz",
}


@dataclass(frozen=True)
class TableLayout:
    """A table: where it is, its columns in order with their types, its primary key if rows are deduplicated by it."""

    schema: str
    name: str
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    cursor: str | None

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.columns]

    @property
    def types(self) -> list[str]:
        return [type_ for _, type_ in self.columns]

    def column_list(self) -> sql.Composed:
        return sql.SQL(", ").join(sql.Identifier(name) for name in self.names)

    def create(self, identifier: sql.Identifier | None = None) -> sql.Composed:
        required = {name for name, _ in META_COLUMNS}
        parts = [
            sql.SQL("{} {}{}").format(
                sql.Identifier(name), sql.SQL(type_), sql.SQL(" not null" if name in required else "")
            )
            for name, type_ in self.columns
        ]
        return sql.SQL("create table {} ({})").format(identifier or self.identifier, sql.SQL(", ").join(parts))

    def index_statements(
        self, *, deduplicated: bool, log: bool, identifier: sql.Identifier | None = None
    ) -> list[sql.Composed]:
        """Airbyte's plain indexes; for an append-only log also the rule that a change is there once."""
        table = identifier or self.identifier
        plain = [["_airbyte_extracted_at"]]
        if deduplicated and self.key:
            plain.insert(0, list(self.key))
        if self.cursor:
            plain.append([self.cursor])
        statements = [
            sql.SQL("create index on {} ({})").format(table, sql.SQL(", ").join(map(sql.Identifier, columns)))
            for columns in plain
        ]
        if log:
            # LSNs first: rows arrive in that order, and readers ask for ranges of it. Markers have no key.
            unique = ["_airbyte_generation_id", "_ab_cdc_commit_lsn", "_ab_cdc_lsn", *self.key]
            columns = sql.SQL(", ").join(map(sql.Identifier, unique))
            statements.append(sql.SQL("create unique index on {} ({}) nulls not distinct").format(table, columns))
        return statements


def table_layout(
    schema: str, name: str, fields: Sequence[Field], key: Sequence[str], cursor: str | None
) -> TableLayout:
    columns = (*META_COLUMNS, *((field.name, column_type(field)) for field in fields))
    return TableLayout(schema, name, columns, tuple(key), cursor)
