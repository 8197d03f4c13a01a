"""Catalog entities as JSON."""

from __future__ import annotations

from typing import Any

from embedded.sql import clock
from embedded.sql.catalog import sources
from embedded.sql.catalog.entities import Entity
from embedded.sql.catalog.service import CatalogService, Item, Place
from embedded.sql.engine.datatypes import type_json
from embedded.sql.errors import SqlError

_CONTAINERS = {"home": "HOME", "space": "SPACE", "source": "SOURCE", "folder": "FOLDER"}


def item(service: CatalogService, found: Item) -> dict[str, Any]:
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


def entity(
    service: CatalogService, found: Item, *, children: bool = True, first: int = 0, most: int = 0
) -> dict[str, Any]:
    """The whole of one entity; `most` above 0 gives that many children from position `first`, and a token."""
    if isinstance(found, Place):
        shown: dict[str, Any] = {"entityType": found.kind, "id": found.id, "path": list(found.path)}
        container = found.kind == "folder"
    elif found.kind in ("view", "table"):
        return _dataset(service, found)
    else:
        shown = {"entityType": found.kind, "id": found.id, "tag": found.tag}
        if found.kind == "folder":
            shown["path"] = list(found.path)
        else:
            shown["name"] = found.name
        shown["createdAt"] = clock.iso(found.created_at)
        if found.kind == "source":
            shown |= _source(service, found)
        container = True
    if container and children:
        shown |= _children(service, found, first, most)
    return shown


def _children(service: CatalogService, found: Item, first: int, most: int) -> dict[str, Any]:
    try:
        inside = service.children(found)
    except SqlError:
        if isinstance(found, Entity) and found.kind == "source":
            return {"children": []}  # the state says what is wrong
        raise
    if not most:
        return {"children": [item(service, child) for child in inside]}
    page = {"children": [item(service, child) for child in inside[first : first + most]]}
    return {**page, "nextPageToken": str(first + most)} if first + most < len(inside) else page


def _source(service: CatalogService, found: Entity) -> dict[str, Any]:
    problem = service.source(found).probe()
    state = {
        "status": "good" if problem is None else "bad",
        "suggestedUserAction": "" if problem is None else "Check the source's configuration and whether it runs",
        "messages": [] if problem is None else [{"level": "ERROR", "message": problem}],
    }
    body = {name: value for name, value in found.body.items() if name not in ("type", "config")}
    return {
        "type": found.body["type"],
        "config": sources.shown(found.body["config"], found.secrets),
        **body,
        "state": state,
    }


def _dataset(service: CatalogService, found: Entity) -> dict[str, Any]:
    columns = service.columns(found)
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
        shown |= _physical(service, found)
    policy = found.body.get("accelerationRefreshPolicy")
    if policy:
        shown["accelerationRefreshPolicy"] = policy
    shown["approximateStatisticsAllowed"] = False
    shown["fields"] = [{"name": field.name, "type": type_json(field.type)} for field in columns]
    return shown


def _physical(service: CatalogService, found: Entity) -> dict[str, Any]:
    if found.body.get("live"):
        kind = service.root(found.path).body["type"]
        format_ = {"format": {"type": "Iceberg"}} if kind == "RESTCATALOG" else {}
        return {**format_, "isMetadataExpired": False, "lastMetadataRefreshAt": clock.iso(clock.now())}
    known = service.known_metadata(found)
    return {
        "format": found.body["format"],
        "isMetadataExpired": False,
        "lastMetadataRefreshAt": clock.iso(known.refreshed_at),
    }
