"""Which dbt models readers see, and the view that pins each of them to one snapshot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from include.paths import DBT_MANIFEST

LAKE = "lake"
SPACE = "lakehouse"
LAYERS = ("silver", "gold")


class PublicationError(Exception):
    """The manifest or the lake does not hold what publication needs."""


@dataclass(frozen=True)
class Dataset:
    """A published table: `lake.<layer>.<name>` as built, `lakehouse.<layer>.<name>` as read. `columns` are public."""

    layer: str
    name: str
    columns: tuple[str, ...]
    quarantine: bool

    @property
    def id(self) -> str:
        return f"{self.layer}.{self.name}"

    @property
    def table(self) -> tuple[str, ...]:
        return (LAKE, self.layer, self.name)


def quote(path: Sequence[str]) -> str:
    """A dotted Dremio path with every part quoted."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in path)


@lru_cache
def _nodes(manifest: Path) -> tuple[dict[str, object], ...]:
    if not manifest.exists():
        raise PublicationError(f"{manifest.name} is missing; run `make setup` (dbt parse) first")
    nodes = json.loads(manifest.read_text(encoding="utf-8"))["nodes"]
    return tuple(node for node in nodes.values() if node["resource_type"] == "model")


def datasets(pipeline: str, manifest: Path = DBT_MANIFEST) -> tuple[Dataset, ...]:
    """Models of a pipeline with `meta.publish`, silver before gold; columns without a leading underscore are public."""
    found = []
    for node in _nodes(manifest):
        config = node["config"]
        assert isinstance(config, dict)
        if not config.get("meta", {}).get("publish") or pipeline not in config.get("tags", []):
            continue
        columns = node["columns"]
        assert isinstance(columns, dict)
        layer = next((tag for tag in config["tags"] if tag in LAYERS), None)
        if layer is None or not columns:
            raise PublicationError(f"model {node['name']}: a published model needs a layer tag and documented columns")
        public = tuple(name for name in columns if not name.startswith("_") or name == "_quality_score")
        found.append(
            Dataset(layer=layer, name=str(node["alias"]), columns=public, quarantine="_quarantine_reason" in columns)
        )
    return tuple(sorted(found, key=lambda dataset: (LAYERS.index(dataset.layer), dataset.name)))


def dataset_columns(pipeline: str, stream: str, manifest: Path = DBT_MANIFEST) -> tuple[str, ...]:
    """The source's columns of a stream that the dbt project declares, as its bronze view lists them.

    Raises PublicationError when there is no bronze view `<pipeline>_<stream>`.
    """
    for node in _nodes(manifest):
        config, columns = node["config"], node["columns"]
        assert isinstance(config, dict)
        assert isinstance(columns, dict)
        if "bronze" in config.get("tags", []) and node["name"] == f"{pipeline}_{stream}":
            return tuple(name for name in columns if not name.startswith("_"))
    raise PublicationError(f"the dbt project has no bronze view {pipeline}_{stream}")


def views(dataset: Dataset, snapshot_id: int, extra: Sequence[str] = ()) -> list[tuple[tuple[str, ...], str]]:
    """The views of a dataset at one snapshot: path and SELECT. Silver shows good rows, and its quarantine beside.

    `extra`: columns of the table that no model declares yet.
    """
    columns = ", ".join(quote([column]) for column in (*dataset.columns, *extra))
    base = f"FROM {quote(dataset.table)} AT SNAPSHOT '{int(snapshot_id)}'"
    path = (SPACE, dataset.layer, dataset.name)
    if not dataset.quarantine:
        return [(path, f"SELECT {columns} {base}")]
    return [
        (path, f'SELECT {columns} {base} WHERE "_quarantine_reason" IS NULL'),
        (
            (*path[:-1], f"{dataset.name}_quarantine"),
            f'SELECT {columns}, "_quarantine_reason" {base} WHERE "_quarantine_reason" IS NOT NULL',
        ),
    ]


def head_snapshot_sql(table: Sequence[str]) -> str:
    """Gives a table's current snapshot in one row.

    From its history, not its snapshots: the newest of those may be one that a run has rolled back.
    """
    name = quote(table).replace("'", "''")
    return f"SELECT snapshot_id FROM TABLE(table_history('{name}')) ORDER BY made_current_at DESC LIMIT 1"
