"""Catalog entities as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from embedded.sql import clock
from embedded.sql.access import AVAILABLE, Access
from embedded.sql.catalog import sources
from embedded.sql.catalog.engine_catalog import object_type
from embedded.sql.catalog.entities import Entity
from embedded.sql.catalog.service import CatalogService, Item, Place
from embedded.sql.engine.datatypes import type_json
from embedded.sql.errors import SqlError

_CONTAINERS = {"home": "HOME", "space": "SPACE", "source": "SOURCE", "folder": "FOLDER", "function": "FUNCTION"}
_PAGE = 500  # children of a page that is asked for by token without a size


@dataclass(frozen=True)
class Page:
    """Children from position `first` on; `most` 0: all of them."""

    first: int = 0
    most: int = 0


ALL = Page()


def item(found: Item) -> dict[str, Any]:
    """One line of a listing."""
    if isinstance(found, Place):
        shown: dict[str, Any] = {"id": found.id, "path": list(found.path)}
        if found.kind == "folder":
            return {**shown, "type": "CONTAINER", "containerType": "FOLDER"}
        return {**shown, "type": "FILE"}
    shown = {"id": found.id, "path": list(found.path), "tag": found.tag}
    if found.kind in _CONTAINERS:
        shown |= {"type": "CONTAINER", "containerType": _CONTAINERS[found.kind]}
    else:
        shown |= {"type": "DATASET", "datasetType": _dataset_type(found)}
    return {**shown, "createdAt": clock.iso(found.created_at)}


def _dataset_type(entity: Entity) -> str:
    if entity.kind == "view":
        return "VIRTUAL"
    return "DIRECT" if entity.body.get("live") else "PROMOTED"


class Entities:
    """Whole entities, as far as the user of this call may see them."""

    def __init__(self, service: CatalogService, access: Access) -> None:
        self._service = service
        self._access = access

    def entity(self, found: Item, *, page: Page | None = ALL) -> dict[str, Any]:
        """The whole of one entity; `page` None leaves the children of a container out."""
        if isinstance(found, Place):
            shown: dict[str, Any] = {"entityType": found.kind, "id": found.id, "path": list(found.path)}
        elif found.kind in ("view", "table"):
            return self._dataset(found) | self._who(found)
        elif found.kind == "function":
            return self._function(found) | self._who(found)
        else:
            shown = self._container(found)
        if page is not None and found.kind != "file":
            shown |= self._children(found, page)
        return shown

    def _container(self, found: Entity) -> dict[str, Any]:
        shown: dict[str, Any] = {"entityType": found.kind, "id": found.id, "tag": found.tag}
        if found.kind == "folder":
            shown["path"] = list(found.path)
        else:
            shown["name"] = found.name
        shown["createdAt"] = clock.iso(found.created_at)
        if found.kind == "source":
            shown |= self._source(found)
        return shown | self._who(found)

    def _children(self, found: Item, page: Page) -> dict[str, Any]:
        try:
            inside = [child for child in self._service.children(found) if self._access.visible(child.path)]
        except SqlError:
            if isinstance(found, Entity) and found.kind == "source":
                return {"children": []}  # the state says what is wrong
            raise
        most = page.most or (_PAGE if page.first else len(inside))
        end = page.first + most
        shown: dict[str, Any] = {"children": [item(child) for child in inside[page.first : end]]}
        return {**shown, "nextPageToken": str(end)} if end < len(inside) else shown

    def _source(self, found: Entity) -> dict[str, Any]:
        problem = self._service.source(found).probe()
        state = {
            "status": "good" if problem is None else "bad",
            "suggestedUserAction": "" if problem is None else "Check the source's configuration and whether it runs",
            "messages": [] if problem is None else [{"level": "ERROR", "message": problem}],
        }
        body = {name: value for name, value in found.body.items() if name not in ("type", "config", "owner")}
        return {
            "type": found.body["type"],
            "config": sources.shown(found.body["config"], found.secrets),
            **body,
            "state": state,
        }

    def _dataset(self, found: Entity) -> dict[str, Any]:
        columns = self._service.columns(found)
        shown: dict[str, Any] = {
            "entityType": "dataset",
            "id": found.id,
            "type": "VIRTUAL_DATASET" if found.kind == "view" else "PHYSICAL_DATASET",
            "path": list(found.path),
            "createdAt": clock.iso(found.created_at),
            "tag": found.tag,
        }
        if found.kind == "view":
            shown |= {"sql": found.body["sql"], "sqlContext": found.body["context"] or None}
        else:
            shown |= self._physical(found)
        policy = found.body.get("accelerationRefreshPolicy")
        if policy:
            shown["accelerationRefreshPolicy"] = policy
        shown["approximateStatisticsAllowed"] = False
        shown["fields"] = [{"name": field.name, "type": type_json(field.type)} for field in columns]
        return shown

    def _physical(self, found: Entity) -> dict[str, Any]:
        if found.body.get("live"):
            kind = self._service.root(found.path).body["type"]
            format_ = {"format": {"type": "Iceberg"}} if kind == "RESTCATALOG" else {}
            return {**format_, "isMetadataExpired": False, "lastMetadataRefreshAt": clock.iso(clock.now())}
        known = self._service.known_metadata(found)
        return {
            "format": found.body["format"],
            "isMetadataExpired": self._service.metadata_expired(found),
            "lastMetadataRefreshAt": clock.iso(known.refreshed_at),
        }

    def _function(self, found: Entity) -> dict[str, Any]:
        body = found.body
        returns = body.get("returns", "")
        shown = ", ".join(f"{name} {kind}" for name, kind in returns) if isinstance(returns, list) else returns
        return {
            "entityType": "function",
            "id": found.id,
            "path": list(found.path),
            "tag": found.tag,
            "createdAt": clock.iso(found.created_at),
            "isScalar": not isinstance(returns, list),
            "functionArgList": ", ".join(f"{name} {kind}" for name, kind, *_ in body.get("parameters", ())),
            "functionBody": body.get("sql", ""),
            "returnType": shown,
        }

    # Who may do what --------------------------------------------------------------------------------------------

    def _who(self, found: Entity) -> dict[str, Any]:
        if not self._access.enforced:
            return {}
        shown: dict[str, Any] = {"accessControlList": self.access_control(found), "permissions": []}
        owner = self._service.owner(found.path)
        owner_id = self._access.user_id(owner) if owner else None
        if owner_id is not None:
            shown["owner"] = {"ownerId": owner_id, "ownerType": "USER"}
        return shown

    def access_control(self, found: Item) -> dict[str, Any]:
        """The grants on exactly this object; {} without any."""
        shown: dict[str, dict[str, list[str]]] = {}
        for grant in self._access.grants_on(found.path):
            part = shown.setdefault("users" if grant.kind == "USER" else "roles", {})
            part.setdefault(grant.grantee, []).append(grant.privilege.replace(" ", "_"))
        return {
            part: [{"id": grantee, "permissions": given} for grantee, given in found_.items()]
            for part, found_ in shown.items()
        }

    def permissions(self, found: Item) -> list[str]:
        """What the caller may do with the object."""
        known = AVAILABLE[object_type(found)]
        return sorted(p.replace(" ", "_") for p in known if self._access.allowed(p, found.path))
