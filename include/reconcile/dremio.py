"""Dremio sources, spaces, folders and reflections as declared state, over REST v3."""

from __future__ import annotations

from typing import Any

from include.connections import resolve
from include.paths import PLATFORM
from include.reconcile.plan import Change, declared, differences
from lakehouse_providers.dremio.hook import DremioHook

FOLDER = PLATFORM / "dremio"


def _source(client: Any, name: str, definition: dict[str, Any], *, apply: bool) -> Change | None:
    wanted = {"entityType": "source", "name": name, **resolve(definition)}
    there = client.catalog_by_path([name])
    if there is None:
        if apply:
            client.create_catalog(wanted)
        return Change("create", "source", name)
    fields = tuple(differences(wanted, there))
    if apply:
        # Secrets come back masked and cannot be compared, so the declared definition is always written.
        client.update_catalog(there["id"], {**there, **wanted, "config": {**there["config"], **wanted["config"]}})
    return Change("update", "source", name, fields) if fields else None


def _container(client: Any, path: list[str], *, apply: bool) -> Change | None:
    if client.catalog_by_path(path) is not None:
        return None
    if apply and len(path) == 1:
        client.create_catalog({"entityType": "space", "name": path[0]})
    elif apply:
        client.create_catalog({"entityType": "folder", "path": path})
    return Change("create", "space" if len(path) == 1 else "folder", ".".join(path))


def run(hook: DremioHook, *, apply: bool) -> list[Change]:
    """Sources, then spaces and their folders."""
    client = hook.client()
    found = [_source(client, name, body, apply=apply) for name, body in declared(FOLDER / "sources.yaml").items()]
    for space, folders in declared(FOLDER / "spaces.yaml").items():
        found += [_container(client, path, apply=apply) for path in ([space], *([space, name] for name in folders))]
    return [change for change in found if change is not None]


def _definitions(pipeline: str) -> list[dict[str, Any]]:
    return list(declared(FOLDER / "reflections.yaml").get(pipeline, []))


def reflection_datasets(pipeline: str) -> list[tuple[str, ...]]:
    """The tables that carry declared reflections, each once."""
    return list(dict.fromkeys(tuple(definition["dataset"]) for definition in _definitions(pipeline)))


def _payload(definition: dict[str, Any], dataset: dict[str, Any]) -> dict[str, Any]:
    columns = [field["name"] for field in dataset["fields"]]
    named = [*definition.get("dimensions", []), *definition.get("measures", {})]
    unknown = sorted(set(named) - set(columns))
    if unknown:
        path = ".".join(definition["dataset"])
        raise ValueError(f"reflections.yaml: {definition['name']}: {path} has no column {', '.join(unknown)}")
    body: dict[str, Any] = {
        "entityType": "reflection",
        "type": definition["type"],
        "name": definition["name"],
        "datasetId": dataset["id"],
        "enabled": True,
    }
    if definition["type"] == "RAW":
        shown = columns if definition["display"] == "*" else definition["display"]
        return {**body, "displayFields": [{"name": column} for column in shown]}
    return {
        **body,
        "dimensionFields": [{"name": column, "granularity": "DATE"} for column in definition["dimensions"]],
        "measureFields": [
            {"name": column, "measureTypeList": list(functions)} for column, functions in definition["measures"].items()
        ],
    }


def _shape(body: dict[str, Any]) -> dict[str, Any]:
    """What makes two definitions the same: names and functions as sets, server fields ignored."""
    return {
        "type": body["type"],
        "enabled": body["enabled"],
        "display": sorted(field["name"] for field in body.get("displayFields") or []),
        "dimensions": sorted(field["name"] for field in body.get("dimensionFields") or []),
        "measures": {f["name"]: sorted(f["measureTypeList"]) for f in body.get("measureFields") or []},
    }


def apply_reflections(hook: DremioHook, pipeline: str) -> list[str]:
    """Creates or updates the declared reflections of a pipeline; gives a line per change."""
    client = hook.client()
    done = []
    for definition in _definitions(pipeline):
        path = list(definition["dataset"])
        dataset = client.catalog_by_path(path)
        if dataset is None:
            raise ValueError(f"reflections.yaml: {'.'.join(path)} does not exist; is its model built?")
        wanted = _payload(definition, dataset)
        there = next((r for r in client.dataset_reflections(dataset["id"]) if r["name"] == wanted["name"]), None)
        if there is None:
            client.create_reflection(wanted)
            done.append(f"create reflection {wanted['name']}")
        elif _shape(there) != _shape(wanted):
            client.update_reflection(there["id"], {**wanted, "tag": there["tag"]})
            done.append(f"update reflection {wanted['name']}")
    return done or ["nothing to change"]
