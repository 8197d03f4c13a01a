"""/catalog/{id}/graph: where a dataset comes from and what is built on it."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from embedded.sql.access import Access
from embedded.sql.catalog.lineage import Lineage
from embedded.sql.catalog.service import CatalogService
from embedded.sql.rest import render
from embedded.sql.rest.app import Endpoint
from embedded.sql.rest.calls import Call


class LineageHandlers:
    def __init__(self, catalog: CatalogService, access: Access) -> None:
        self._catalog = catalog
        self._access = access
        self._lineage = Lineage(catalog)

    def endpoints(self) -> list[Endpoint]:
        return [Endpoint("GET", "/api/v3/catalog/{id}/graph", self.graph)]

    def graph(self, call: Call) -> Response:
        dataset = self._catalog.dataset(call.parameters["id"])
        self._access.need("SELECT", dataset.path)
        parents = self._lineage.parents(dataset)
        roots = sorted({entity.path[:1] for entity in [*parents, dataset]})
        found = [self._catalog.entities.find(root) for root in roots]
        parts = {
            "sources": [entity for entity in found if entity is not None and entity.kind == "source"],
            "parents": parents,
            "children": self._lineage.children(dataset),
        }
        return JSONResponse(
            {
                part: [render.item(entity) for entity in entities if self._access.visible(entity.path)]
                for part, entities in parts.items()
            }
        )
