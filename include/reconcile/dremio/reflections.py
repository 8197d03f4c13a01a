"""Reflections: definitions compared by meaning, since Dremio orders and completes what it is given."""

from __future__ import annotations

from typing import Any

from include.reconcile.dremio.session import Session
from include.reconcile.plan import Change, diff
from include.specs import dremio as spec
from include.specs.dremio import Reflection
from lakehouse_providers.dremio.administration import again
from lakehouse_providers.dremio.hook import DremioHook


def reflection_datasets(pipeline: str) -> list[tuple[str, ...]]:
    """The tables that carry declared reflections, each once."""
    return list(dict.fromkeys(one.dataset for one in spec.reflections(pipeline)))


def apply_reflections(hook: DremioHook, pipeline: str) -> list[str]:
    """Creates or updates the declared reflections of a pipeline; gives a line per change.

    Raises ValueError when a dataset or a column is missing, ApplyError when Dremio refuses.
    """
    with hook.client() as client:
        session = Session(client, apply=True)
        for wanted in spec.reflections(pipeline):
            if _dataset(session, wanted) is None:
                path = ".".join(wanted.dataset)
                raise ValueError(f"reflections.yaml: {path} does not exist; is its model built?")
            reflection(session, wanted)
    return [str(change) for change in session.changes] or ["nothing to change"]


def reflection(session: Session, wanted: Reflection) -> None:
    """A dataset that is not built yet is waited for: the pipeline's next run applies its reflections."""
    dataset = _dataset(session, wanted)
    if dataset is None:
        session.changes.append(Change("await", "reflection", wanted.label, ("its dataset is not built yet",)))
        return
    body = payload(wanted, dataset)
    there = _find(session, dataset["id"], wanted.name)
    if there is None:
        session.make(Change("create", "reflection", wanted.label), lambda: session.client.create_reflection(body))
        return
    lines = diff({}, shape(body), shape(there))
    if lines:
        session.make(
            Change("update", "reflection", wanted.label, lines), lambda: _replace(session, dataset["id"], body)
        )


def _dataset(session: Session, wanted: Reflection) -> dict[str, Any] | None:
    """A folder of files that is no table yet is none."""
    found = session.client.catalog_by_path(wanted.dataset)
    return found if found is not None and found.get("entityType") == "dataset" else None


def _find(session: Session, dataset_id: str, name: str) -> dict[str, Any] | None:
    return next((r for r in session.client.dataset_reflections(dataset_id) if r["name"] == name), None)


def _replace(session: Session, dataset_id: str, body: dict[str, Any]) -> None:
    def write() -> None:
        there = _find(session, dataset_id, body["name"])
        if there is not None:
            session.client.update_reflection(there["id"], {**body, "id": there["id"], "tag": there["tag"]})

    again(write)


def payload(wanted: Reflection, dataset: dict[str, Any]) -> dict[str, Any]:
    """The body for REST. Raises ValueError for a column that the dataset lacks."""
    columns = [column["name"] for column in dataset["fields"]]
    partition = [entry["name"] for entry in wanted.partition]
    shown = columns if wanted.display is None else list(wanted.display)
    named = [*wanted.dimensions, *wanted.measures, *partition, *wanted.sort, *wanted.distribution]
    unknown = sorted({*named, *(shown if wanted.type == "RAW" else ())} - set(columns))
    if unknown:
        path = ".".join(wanted.dataset)
        raise ValueError(f"reflections.yaml: {wanted.name}: {path} has no column {', '.join(unknown)}")
    body: dict[str, Any] = {
        "entityType": "reflection",
        "type": wanted.type,
        "name": wanted.name,
        "datasetId": dataset["id"],
        "enabled": wanted.enabled,
        "partitionFields": [dict(entry) for entry in wanted.partition],
        "sortFields": [{"name": name} for name in wanted.sort],
        "distributionFields": [{"name": name} for name in wanted.distribution],
    }
    if wanted.type == "RAW":
        return {**body, "displayFields": [{"name": name} for name in shown]}
    return {
        **body,
        "dimensionFields": [{"name": name, "granularity": grain} for name, grain in wanted.dimensions.items()],
        "measureFields": [
            {"name": name, "measureTypeList": list(functions)} for name, functions in wanted.measures.items()
        ],
    }


def shape(body: dict[str, Any]) -> dict[str, Any]:
    """What makes two definitions the same: fields as sets but for the order of sorting and partitions."""
    return {
        "type": body["type"],
        "enabled": body["enabled"],
        "display": sorted(field["name"] for field in body.get("displayFields") or []),
        "dimensions": sorted(f"{f['name']} {f.get('granularity', 'DATE')}" for f in body.get("dimensionFields") or []),
        "measures": sorted(f"{m['name']} {f}" for m in body.get("measureFields") or [] for f in m["measureTypeList"]),
        "partition": [_partition(field) for field in body.get("partitionFields") or []],
        "sort": [field["name"] for field in body.get("sortFields") or []],
        "distribution": sorted(field["name"] for field in body.get("distributionFields") or []),
    }


def _partition(field: dict[str, Any]) -> str:
    transform = field.get("transform") or {"type": "IDENTITY"}
    counts = [value for part in transform.values() if isinstance(part, dict) for value in part.values()]
    return f"{field['name']}:{transform['type']}{tuple(counts) if counts else ''}"
