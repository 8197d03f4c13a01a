"""Which datasets a view's text names."""

from __future__ import annotations

import threading

from sqlglot import exp

from embedded.sql.catalog.entities import Entity
from embedded.sql.catalog.service import CatalogService
from embedded.sql.datasets import Path
from embedded.sql.engine.dialect import parse_query
from embedded.sql.errors import SqlError


def table_names(sql: str) -> list[Path]:
    """Every table name of a query, as written, without the names of its own CTEs; [] when it cannot be parsed."""
    try:
        tree = parse_query(sql)
    except SqlError:
        return []
    ctes = {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
    found: list[Path] = []
    for table in tree.find_all(exp.Table):
        path = tuple(part.name for part in table.parts if isinstance(part, exp.Identifier))
        if path and not (len(path) == 1 and path[0].lower() in ctes) and path not in found:
            found.append(path)
    return found


class Lineage:
    """Parents and children of datasets; texts are parsed once per tag."""

    def __init__(self, catalog: CatalogService) -> None:
        self._catalog = catalog
        self._guard = threading.Lock()
        self._parsed: dict[str, tuple[str, list[Path]]] = {}  # entity id -> tag, names

    def parents(self, dataset: Entity) -> list[Entity]:
        """The datasets that a view reads directly; a table has none."""
        if dataset.kind != "view":
            return []
        context = tuple(dataset.body["context"])
        found: list[Entity] = []
        for path in self._names(dataset):
            entity = self._named(path, context)
            if entity is not None and entity not in found:
                found.append(entity)
        return found

    def children(self, dataset: Entity) -> list[Entity]:
        """The views that read a dataset directly."""
        views = self._catalog.entities.of_kind("view")
        return [view for view in views if any(parent.id == dataset.id for parent in self.parents(view))]

    def _names(self, view: Entity) -> list[Path]:
        with self._guard:
            known = self._parsed.get(view.id)
        if known is None or known[0] != view.tag:
            known = (view.tag, table_names(view.body["sql"]))
            with self._guard:
                self._parsed[view.id] = known
        return known[1]

    def _named(self, path: Path, context: Path) -> Entity | None:
        for candidate in ((*context, *path), path):
            try:
                item = self._catalog.find(candidate)
            except SqlError:  # its source is away
                continue
            if isinstance(item, Entity) and item.kind in ("view", "table"):
                return item
        return None
