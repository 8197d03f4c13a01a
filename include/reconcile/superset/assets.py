"""The declared assets: YAML files as Superset exports them, one object a file, named by what they are.

A file differs from Superset's own export in two ways: a password refers to an Airflow connection, and ids of one
installation are left out. What refers to another object does so by UUID.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml

from include.paths import PLATFORM
from include.publication import SPACE
from include.specs.reader import SpecError

FOLDER = PLATFORM / "superset"
# In the order in which each finds what it needs.
KINDS = ("databases", "datasets", "charts", "dashboards")
TITLES = {
    "databases": "database_name",
    "datasets": "table_name",
    "charts": "slice_name",
    "dashboards": "dashboard_title",
}
OWNER = "Open Lakehouse"


@dataclass(frozen=True, eq=False)
class Asset:
    """`name`: the file's stem. `content`: as written; secrets are still references."""

    kind: str
    name: str
    content: Mapping[str, Any]

    @property
    def uuid(self) -> str:
        return str(self.content["uuid"])

    @property
    def title(self) -> str:
        return str(self.content[TITLES[self.kind]])

    @property
    def label(self) -> str:
        """For people: what it is and what its file is called."""
        return f"{self.kind[:-1]} {self.name}"

    @property
    def path(self) -> str:
        """Its place in an import."""
        return f"{self.kind}/{self.name}.yaml"

    @property
    def view(self) -> str:
        """`layer.name` of the published view that a dataset shows; "" for another source, a query, another kind."""
        space, _, layer = str(self.content.get("schema") or "").partition(".")
        return f"{layer}.{self.title}" if space == SPACE and not self.content.get("sql") else ""

    def needs(self) -> Iterator[tuple[str, str]]:
        """Kind and UUID of the objects that it refers to."""
        if self.kind == "datasets":
            yield "databases", str(self.content["database_uuid"])
        elif self.kind == "charts":
            yield "datasets", str(self.content["dataset_uuid"])
        elif self.kind == "dashboards":
            for part in charts_of(self.content):
                yield "charts", str(part["uuid"])
            for target in filter_targets(self.content):
                yield "datasets", str(target["datasetUuid"])


def charts_of(dashboard: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The charts on a dashboard, as its layout names them: uuid, sliceName, width, height."""
    parts = dashboard.get("position") or {}
    return [part["meta"] for part in parts.values() if isinstance(part, Mapping) and part.get("type") == "CHART"]


def filter_targets(dashboard: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The dataset and column of each of a dashboard's filters that has one."""
    filters = (dashboard.get("metadata") or {}).get("native_filter_configuration") or []
    return [target for one in filters for target in one.get("targets") or [] if "datasetUuid" in target]


def reading(assets: Iterable[Asset], views: Collection[str]) -> set[str]:
    """UUIDs of the datasets on these published views, and of the charts and dashboards that show them."""
    found: set[str] = set()
    for asset in assets:  # what an asset needs comes before it
        if asset.view in views or any(uuid in found for _, uuid in asset.needs()):
            found.add(asset.uuid)
    return found


def load(folder: Path = FOLDER) -> list[Asset]:
    """Every declared asset, dependencies first.

    Raises SpecError naming the file when one is unreadable, lacks its UUID or refers to what is not declared.
    """
    found = [
        Asset(kind, file.stem, _read(file, kind)) for kind in KINDS for file in sorted((folder / kind).glob("*.yaml"))
    ]
    _check(found)
    return found


def _read(file: Path, kind: str) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise SpecError(f"superset/{kind}/{file.name} is not valid YAML: {error}") from None
    if not isinstance(content, Mapping):
        raise SpecError(f"superset/{kind}/{file.name}: must be a mapping, as Superset exports it")
    needed = {"databases": (), "datasets": ("database_uuid",), "charts": ("dataset_uuid",), "dashboards": ("position",)}
    for key in ("uuid", "version", TITLES[kind], *needed[kind]):
        if not content.get(key):
            raise SpecError(f"superset/{kind}/{file.name}: '{key}' is missing; export the object from Superset again")
    try:
        UUID(str(content["uuid"]))
    except ValueError:
        raise SpecError(f"superset/{kind}/{file.name}: 'uuid' {content['uuid']!r} is no UUID") from None
    return content


def _check(assets: list[Asset]) -> None:
    known: dict[tuple[str, str], Asset] = {}
    for asset in assets:
        twin = known.setdefault((asset.kind, asset.uuid), asset)
        if twin is not asset:
            raise SpecError(f"superset/{asset.path}: 'uuid' is that of {twin.path}; give each object its own")
    for asset in assets:
        for need in asset.needs():
            if need not in known:
                raise SpecError(f"superset/{asset.path}: refers to {need[0][:-1]} {need[1]}, which no file declares")
