"""/catalog: spaces, folders, views, sources, promoted tables."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from starlette.responses import JSONResponse, Response

from embedded.sql.access import Access
from embedded.sql.catalog.entities import Entity, check_tag
from embedded.sql.catalog.service import CatalogService, Item, Place
from embedded.sql.errors import NotFound, SqlError, UnsupportedError, ValidationError
from embedded.sql.rest import bodies, render
from embedded.sql.rest.app import Endpoint
from embedded.sql.rest.calls import Call, empty


class CatalogHandlers:
    """`refresh` asks for a refresh of the reflections on a dataset."""

    def __init__(self, service: CatalogService, refresh: Callable[[Entity], None], access: Access) -> None:
        self._service = service
        self._refresh = refresh
        self._access = access
        self._render = render.Entities(service, access)

    def endpoints(self) -> list[Endpoint]:
        base = "/api/v3/catalog"
        return [
            Endpoint("GET", base, self.roots),
            Endpoint("POST", base, self.create, partial="no homes, no uploads"),
            Endpoint("GET", f"{base}/search", self.search, partial="finds words of the path only"),
            Endpoint("POST", f"{base}/by-ids", self.by_ids),
            Endpoint("POST", f"{base}/by-paths", self.by_paths),
            Endpoint("GET", f"{base}/by-path/{{tail:path}}", self.by_path, partial="no versions"),
            Endpoint("GET", f"{base}/{{id}}", self.by_id, partial="no versions"),
            Endpoint("POST", f"{base}/{{id}}", self.promote, partial="Parquet, Iceberg, Delta, JSON and Text"),
            Endpoint("PUT", f"{base}/{{id}}", self.replace, partial="no renaming; privileges by /grants"),
            Endpoint("DELETE", f"{base}/{{id}}", self.delete),
            Endpoint("POST", f"{base}/{{id}}/refresh", self.refresh),
        ]

    # Reading ----------------------------------------------------------------------------------------------------

    def roots(self, call: Call) -> Response:
        entities = self._service.entities.of_kind("home", "space", "source")
        return JSONResponse({"data": [render.item(e) for e in entities if self._access.visible(e.path)]})

    def by_path(self, call: Call) -> Response:
        if not call.tail:
            raise NotFound("Could not find entity with path []")
        return self._answer(self._service.by_path(call.tail), call)

    def by_id(self, call: Call) -> Response:
        return self._answer(self._service.by_id(call.parameters["id"]), call)

    def _answer(self, found: Item, call: Call) -> Response:
        """A query parameter that the product does not know is refused: a mistyped one must not widen the answer."""
        self._access.need_visible(found.path)
        excluded, included = _words(call, "exclude", {"children"}), _words(call, "include", _INCLUDES)
        if call.query.get("versionType") or call.query.get("versionValue"):
            raise UnsupportedError("Versions need a versioned catalog, which is not supported")
        page = render.Page(call.integer("pageToken", 0), call.integer("maxChildren", 0))
        shown = self._render.entity(found, page=None if "children" in excluded else page)
        if "permissions" in included:
            shown["permissions"] = self._render.permissions(found)
        return JSONResponse(shown)

    def search(self, call: Call) -> Response:
        """Entities whose path holds the words of `query`."""
        words = call.query.get("query", "").lower().split()
        kinds = self._service.entities.of_kind("home", "space", "source", "folder", "view", "table")
        matching = [e for e in kinds if all(word in ".".join(e.key) for word in words)]
        found = [entity for entity in matching if self._access.visible(entity.path)]
        return JSONResponse({"data": [render.item(entity) for entity in found]})

    def by_ids(self, call: Call) -> Response:
        body = call.body(bodies.ByIds)
        return self._many([functools.partial(self._service.by_id, i) for i in body.ids], body.maxChildren)

    def by_paths(self, call: Call) -> Response:
        body = call.body(bodies.ByPaths)
        reads = [functools.partial(self._service.by_path, tuple(path)) for path in body.paths]
        return self._many(reads, body.maxChildren)

    def _many(self, reads: Sequence[Callable[[], Item]], most: int) -> Response:
        """What cannot be read has its error in its place; without maxChildren no children are listed."""
        found: list[dict[str, Any]] = []
        for read in reads:
            try:
                item = read()
                self._access.need_visible(item.path)
                found.append(self._render.entity(item, page=render.Page(0, most) if most else None))
            except SqlError as error:
                found.append({"errorMessage": error.message})
        return JSONResponse({"data": found})

    # Writing ----------------------------------------------------------------------------------------------------

    def create(self, call: Call) -> Response:
        body = call.body(bodies.Entity)
        makers: dict[str, Callable[[Call, bodies.Entity], Item]] = {
            "space": self._space,
            "folder": self._folder,
            "source": self._source,
            "dataset": self._view,
        }
        if body.entityType not in makers:
            raise UnsupportedError(f"Entities of type [{body.entityType}] cannot be created here")
        return JSONResponse(self._render.entity(makers[body.entityType](call, body)))

    def _space(self, call: Call, body: bodies.Entity) -> Item:
        self._access.need("CREATE SPACE", ())
        return self._service.create_space(_need(body.name, "name"), owner=call.caller.name)

    def _folder(self, call: Call, body: bodies.Entity) -> Item:
        path = tuple(_need(body.path, "path"))
        self._access.need("ALTER", path[:-1])
        return self._service.create_folder(path, owner=call.caller.name)

    def _source(self, call: Call, body: bodies.Entity) -> Item:
        self._access.need("CREATE SOURCE", ())
        options = {**_options(body), "owner": call.caller.name}
        return self._service.create_source(
            _need(body.name, "name"), _need(body.type, "type"), body.config or {}, options
        )

    def _view(self, call: Call, body: bodies.Entity) -> Item:
        if body.type != "VIRTUAL_DATASET":
            raise ValidationError("Only virtual datasets can be created here; promote a folder with POST /catalog/{id}")
        path = tuple(_need(body.path, "path"))
        self._access.need("ALTER", path[:-1])
        return self._service.save_view(
            path,
            _need(body.sql, "sql"),
            tuple(body.sqlContext or ()),
            owner=call.caller.name,
        )

    def promote(self, call: Call) -> Response:
        body = call.body(bodies.Entity)
        found = self._service.by_id(call.parameters["id"])
        if body.entityType != "dataset" or body.type != "PHYSICAL_DATASET":
            raise ValidationError("Promotion needs entityType dataset and type PHYSICAL_DATASET")
        self._access.need("ALTER", found.path)
        if not isinstance(found, Place):
            raise ValidationError(f"[{'.'.join(found.path)}] is already a dataset or no folder of files")
        entity = self._service.promote(found.path, _need(body.format, "format"))
        if body.accelerationRefreshPolicy:
            policy = {"accelerationRefreshPolicy": body.accelerationRefreshPolicy.stored()}
            entity = self._service.entities.update(entity, {**entity.body, **policy})
        return JSONResponse(self._render.entity(entity))

    def replace(self, call: Call) -> Response:
        """PUT: the whole entity, with the tag that was read."""
        body = call.body(bodies.Entity)
        found = self._service.by_id(call.parameters["id"])
        if isinstance(found, Place):
            raise ValidationError(f"[{'.'.join(found.path)}] cannot be changed")
        self._access.need("MODIFY" if found.kind in ("source", "space") else "ALTER", found.path)
        _check_same(found, body)
        if body.accessControlList not in (None, {}, self._render.access_control(found)):
            raise UnsupportedError("accessControlList cannot be changed here: use PUT /api/v3/catalog/{id}/grants")
        if found.kind == "source":
            found = self._service.update_source(
                found, body.tag, _need(body.type, "type"), body.config or {}, _options(body)
            )
        elif found.kind == "view":
            found = self._service.update_view(
                found, body.tag, _need(body.sql, "sql"), tuple(body.sqlContext or ()), owner=call.caller.name
            )
            found = self._keep_policy(found, body)
        elif found.kind == "table":
            check_tag(found, body.tag)
            found = self._keep_policy(self._keep_format(found, body), body)
        else:
            check_tag(found, body.tag)
        return JSONResponse(self._render.entity(found))

    def _keep_format(self, found: Entity, body: bodies.Entity) -> Entity:
        """Another format, or other options, mean that the files are read anew."""
        if body.format is None or found.body.get("live") or body.format == found.body["format"]:
            return found
        return self._service.reformat(found, body.format)

    def _keep_policy(self, found: Entity, body: bodies.Entity) -> Entity:
        policy = body.accelerationRefreshPolicy.stored() if body.accelerationRefreshPolicy else None
        if policy == found.body.get("accelerationRefreshPolicy"):
            return found
        changed = {**found.body, "accelerationRefreshPolicy": policy}
        return self._service.entities.update(found, changed)

    def delete(self, call: Call) -> Response:
        found = self._service.by_id(call.parameters["id"])
        self._access.need("MODIFY" if found.kind in ("source", "space") else "ALTER", found.path)
        self._service.delete(found, call.query.get("tag"))
        return empty()

    def refresh(self, call: Call) -> Response:
        dataset = self._service.dataset(call.parameters["id"])
        self._access.need("ALTER REFLECTION", dataset.path)
        self._refresh(dataset)
        return empty()


_INCLUDES = {"permissions", "datasetCount"}


def _words(call: Call, name: str, known: set[str]) -> set[str]:
    found = {word.strip() for word in call.query.get(name, "").split(",") if word.strip()}
    if found - known:
        raise ValidationError(f"Invalid value found at: {name}")
    return found


def _need(value: Any, name: str) -> Any:
    if not value:
        raise ValidationError(f"Invalid value found at: {name}")
    return value


def _options(body: bodies.Entity) -> dict[str, Any]:
    chosen = {name: getattr(body, name) for name in bodies.SOURCE_OPTIONS if getattr(body, name) is not None}
    policy = chosen.get("metadataPolicy", {})
    for name in ("authTTLMs", "namesRefreshMs", "datasetRefreshAfterMs", "datasetExpireAfterMs"):
        if name in policy and int(policy[name]) < 60_000:
            raise ValidationError(f"Invalid value found at: metadataPolicy.{name} (at least 60000)")
    return chosen


def _check_same(found: Entity, body: bodies.Entity) -> None:
    kind = "dataset" if found.kind in ("view", "table") else found.kind
    if body.entityType != kind:
        raise ValidationError(f"The entity is a [{kind}], not a [{body.entityType}]")
    if body.id is not None and body.id != found.id:
        raise ValidationError("Invalid value found at: id")
    path = tuple(body.path) if body.path is not None else (body.name,) if body.name is not None else found.path
    if tuple(part.lower() for part in path if part) != found.key:
        raise ValidationError("An entity cannot be renamed or moved here")
