"""INFORMATION_SCHEMA, in Dremio's columns and spelling (not ANSI's)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from embedded.sql.catalog import names
from embedded.sql.catalog.entities import Entity
from embedded.sql.catalog.service import CatalogService
from embedded.sql.datasets import Path
from embedded.sql.engine.datatypes import sql_type
from embedded.sql.errors import SqlError

log = logging.getLogger(__name__)

_TEXT, _INT = pa.string(), pa.int32()
_SCHEMAS: dict[str, list[tuple[str, pa.DataType]]] = {
    "CATALOGS": [("CATALOG_NAME", _TEXT), ("CATALOG_DESCRIPTION", _TEXT), ("CATALOG_CONNECT", _TEXT)],
    "SCHEMATA": [
        ("CATALOG_NAME", _TEXT),
        ("SCHEMA_NAME", _TEXT),
        ("SCHEMA_OWNER", _TEXT),
        ("TYPE", _TEXT),
        ("IS_MUTABLE", _TEXT),
    ],
    "TABLES": [("TABLE_CATALOG", _TEXT), ("TABLE_SCHEMA", _TEXT), ("TABLE_NAME", _TEXT), ("TABLE_TYPE", _TEXT)],
    "VIEWS": [
        ("TABLE_CATALOG", _TEXT),
        ("TABLE_SCHEMA", _TEXT),
        ("TABLE_NAME", _TEXT),
        ("VIEW_DEFINITION", _TEXT),
    ],
    "COLUMNS": [
        ("TABLE_CATALOG", _TEXT),
        ("TABLE_SCHEMA", _TEXT),
        ("TABLE_NAME", _TEXT),
        ("COLUMN_NAME", _TEXT),
        ("ORDINAL_POSITION", _INT),
        ("COLUMN_DEFAULT", _TEXT),
        ("IS_NULLABLE", _TEXT),
        ("DATA_TYPE", _TEXT),
        ("COLUMN_SIZE", _INT),
        ("CHARACTER_MAXIMUM_LENGTH", _INT),
        ("CHARACTER_OCTET_LENGTH", _INT),
        ("NUMERIC_PRECISION", _INT),
        ("NUMERIC_PRECISION_RADIX", _INT),
        ("NUMERIC_SCALE", _INT),
        ("DATETIME_PRECISION", _INT),
        ("INTERVAL_TYPE", _TEXT),
        ("INTERVAL_PRECISION", _INT),
    ],
}
TABLES = tuple(_SCHEMAS)
_CATALOG = "DREMIO"
_LONGEST = 65536  # what Dremio says of every VARCHAR
_NUMERIC = {"INTEGER": (32, 0), "BIGINT": (64, 0), "FLOAT": (24, None), "DOUBLE": (53, None)}
_SIZES = {"BOOLEAN": 1, "INTEGER": 32, "BIGINT": 64, "FLOAT": 24, "DOUBLE": 53, "DATE": 10, "TIME": 12, "TIMESTAMP": 23}


class InformationSchema:
    """`system_tables` lists the sys tables, which appear here too."""

    def __init__(
        self,
        service: CatalogService,
        system_tables: Callable[[], dict[str, pa.Schema]],
        visible: Callable[[Path], bool] = lambda path: True,
    ) -> None:
        self._service = service
        self._system_tables = system_tables
        self._visible = visible

    def table(self, name: str) -> pa.Table | None:
        """One table by name, or None. A source that is away leaves its tables out, as in Dremio; the log says so."""
        name = name.upper()
        if name not in _SCHEMAS:
            return None
        builders: dict[str, Callable[[], Iterator[tuple[Any, ...]]]] = {
            "CATALOGS": lambda: iter([(_CATALOG, "The internal metadata used by Dremio", "")]),
            "SCHEMATA": self._schemata,
            "TABLES": self._tables,
            "VIEWS": self._views,
            "COLUMNS": self._columns,
        }
        rows = list(builders[name]())
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(_SCHEMAS[name])
        return pa.table(
            [pa.array(values, kind) for values, (_, kind) in zip(columns, _SCHEMAS[name], strict=True)],
            names=[column for column, _ in _SCHEMAS[name]],
        )

    def _from_sources(self, read: Callable[[Entity], list[Path]]) -> Iterator[Path]:
        for root in self._service.entities.of_kind("source"):
            try:
                yield from read(root)
            except SqlError as error:
                log.warning("INFORMATION_SCHEMA without source %s: %s", root.name, error.message)

    def _containers(self) -> list[Path]:
        rows = self._service.entities.of_kind("home", "space", "source", "folder")
        paths = {entity.path for entity in rows}
        paths.update(self._from_sources(lambda root: self._service.source(root).folders()))
        # Folders between a source and its promoted tables have no rows.
        for table in self._service.entities.of_kind("table"):
            paths.update(table.path[:depth] for depth in range(1, len(table.path)))
        return sorted(path for path in paths if self._visible(path))

    def _schemata(self) -> Iterator[tuple[Any, ...]]:
        for path in [*self._containers(), ("INFORMATION_SCHEMA",), ("sys",)]:
            yield (_CATALOG, names.dotted(path), "<owner>", "SIMPLE", "NO")

    def _live(self) -> Iterator[Path]:
        for path in self._from_sources(lambda root: self._service.source(root).tables()):
            if self._visible(path):
                yield path

    def _promoted(self) -> list[Entity]:
        tables = self._service.entities.of_kind("table")
        return [entity for entity in tables if not entity.body.get("live") and self._visible(entity.path)]

    def _known_views(self) -> list[Entity]:
        return [entity for entity in self._service.entities.of_kind("view") if self._visible(entity.path)]

    def _tables(self) -> Iterator[tuple[Any, ...]]:
        for path in [entity.path for entity in self._promoted()] + list(self._live()):
            yield (_CATALOG, names.dotted(path[:-1]), path[-1], "TABLE")
        for view in self._known_views():
            yield (_CATALOG, names.dotted(view.path[:-1]), view.name, "VIEW")
        for name in _SCHEMAS:
            yield (_CATALOG, "INFORMATION_SCHEMA", name, "SYSTEM_TABLE")
        for name in self._system_tables():
            yield (_CATALOG, "sys", name, "SYSTEM_TABLE")

    def _views(self) -> Iterator[tuple[Any, ...]]:
        for view in self._known_views():
            yield (_CATALOG, names.dotted(view.path[:-1]), view.name, view.body["sql"])

    def _columns(self) -> Iterator[tuple[Any, ...]]:
        for entity in [*self._promoted(), *self._known_views()]:
            yield from self._safely(entity.path, lambda: self._service.columns(entity))  # noqa: B023 - called at once
        for path in self._live():
            source = self._service.source(self._service.root(path))
            yield from self._safely(path, lambda: source.columns(path))  # noqa: B023 - called at once
        for name, fields in _SCHEMAS.items():
            yield from _described(("INFORMATION_SCHEMA", name), pa.schema(fields))
        for name, schema in self._system_tables().items():
            yield from _described(("sys", name), schema)

    def _safely(self, path: Path, read: Callable[[], pa.Schema]) -> Iterator[tuple[Any, ...]]:
        try:
            schema = read()
        except SqlError as error:  # dropped a moment ago, or its source is away
            log.warning("INFORMATION_SCHEMA.COLUMNS without %s: %s", names.dotted(path), error.message)
            return
        yield from _described(path, schema)


def _described(path: Path, schema: pa.Schema) -> Iterator[tuple[Any, ...]]:
    for position, field in enumerate(schema, start=1):
        kind = sql_type(field.type)
        text = kind in ("CHARACTER VARYING", "BINARY VARYING")
        precision, scale = _numeric(field.type, kind)
        yield (
            _CATALOG,
            names.dotted(path[:-1]),
            path[-1],
            field.name,
            position,
            None,
            "YES" if field.nullable else "NO",
            kind,
            precision if kind == "DECIMAL" else _LONGEST if text else _SIZES.get(kind),
            _LONGEST if text else None,
            _LONGEST * 4 if text else None,
            precision,
            (10 if kind == "DECIMAL" else 2) if precision is not None else None,
            scale,
            {"TIMESTAMP": 3, "TIME": 3, "DATE": 0}.get(kind),
            None,
            None,
        )


def _numeric(data_type: pa.DataType, kind: str) -> tuple[int | None, int | None]:
    if pa.types.is_decimal(data_type):
        return data_type.precision, data_type.scale
    return _NUMERIC.get(kind, (None, None))
