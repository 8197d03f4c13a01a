"""Takes changes that people made in Superset's pages back into the files: `make export-dashboards`.

    python -m include.reconcile.superset.export

Reads LAKEHOUSE_SUPERSET_URL, LAKEHOUSE_SUPERSET_USER and LAKEHOUSE_SUPERSET_PASSWORD. Of objects that no file declares
it takes those that stand on a declared dashboard, with their datasets.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from include.reconcile.superset.assets import FOLDER, OWNER, TITLES, Asset, load
from include.reconcile.superset.normal import differences, normal
from include.reconcile.superset.state import actual
from include.specs.reader import SpecError
from lakehouse_providers.superset.client import Endpoint, SupersetClient
from lakehouse_providers.superset.errors import SupersetError

Found = Mapping[tuple[str, str], Mapping[str, Any]]


class _Dumper(yaml.SafeDumper):
    """Text of several lines as such, so that a change of one of them is a change of one line."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def export(client: SupersetClient, folder: Path = FOLDER) -> list[str]:
    """Writes what differs, and gives the paths of the files. Databases stay as they are: they hold references."""
    declared, there = load(folder), actual(client)
    written = []
    for asset in declared:
        found = there.get((asset.kind, asset.uuid))
        if asset.kind == "databases" or found is None:
            continue
        if any(differences(normal(asset.kind, asset.content), normal(asset.kind, found))):
            written.append(_write(folder, asset.kind, asset.name, asset.content, found))
    return written + _newcomers(folder, declared, there)


def _newcomers(folder: Path, declared: Sequence[Asset], there: Found) -> list[str]:
    """Charts that people put on a declared dashboard, and the datasets of these."""
    known = {(asset.kind, asset.uuid) for asset in declared}
    names = {(asset.kind, asset.name) for asset in declared}
    pending = [
        need
        for asset in declared
        if asset.kind == "dashboards" and (found := there.get((asset.kind, asset.uuid))) is not None
        for need in Asset(asset.kind, asset.name, found).needs()
    ]
    written = []
    while pending:
        kind, uuid = pending.pop()
        content = there.get((kind, uuid))
        if (kind, uuid) in known or content is None or kind == "databases":
            continue
        known.add((kind, uuid))
        name = _free_name(str(content[TITLES[kind]]), kind, names)
        written.append(_write(folder, kind, name, {}, content))
        pending += Asset(kind, name, content).needs()
    return written


def _free_name(title: str, kind: str, taken: set[tuple[str, str]]) -> str:
    stem = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")[:60] or kind[:-1]
    name, number = stem, 2
    while (kind, name) in taken:
        name, number = f"{stem}_{number}", number + 1
    taken.add((kind, name))
    return name


def _write(folder: Path, kind: str, name: str, before: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    path = folder / kind / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = _portable(kind, found)
    # Keys in the order of the file, so that its diff shows what changed and nothing else.
    ordered = {key: content[key] for key in [*before, *content] if key in content}
    text = yaml.dump(ordered, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    fresh = path.with_suffix(".yaml.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
    return f"{kind}/{path.name}"


def _portable(kind: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Without what only that installation knows."""
    body = {key: value for key, value in found.items() if value not in (None, "")}
    if kind == "charts":
        gone = ("datasource", "slice_id", "dashboards", "dashboardId")
        body["params"] = {key: value for key, value in (body.get("params") or {}).items() if key not in gone}
        if body.get("query_context"):
            context = json.loads(body["query_context"])
            kept = {key: value for key, value in context.items() if key not in ("form_data", "force", "datasource")}
            body["query_context"] = json.dumps(kept, indent=1) + "\n"
        body.setdefault("certified_by", OWNER)
    if kind == "dashboards":
        for number, part in enumerate(_charts(body), 1):
            part["meta"]["chartId"] = number  # any, as long as it is one of a kind
        metadata = body.get("metadata") or {}
        for one in metadata.get("native_filter_configuration") or []:
            one.pop("chartsInScope", None)
            one.pop("tabsInScope", None)
        kept = normal(kind, found).get("metadata", {}).get("chart_configuration", {})
        ids = {part["meta"]["uuid"]: part["meta"]["chartId"] for part in _charts(body)}
        metadata["chart_configuration"] = {
            str(ids[uuid]): {"id": ids[uuid], **one} for uuid, one in kept.items() if uuid in ids
        }
    return body


def _charts(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [p for p in dashboard["position"].values() if isinstance(p, dict) and p.get("type") == "CHART"]


def main() -> int:
    try:
        url, user, password = (os.environ[f"LAKEHOUSE_SUPERSET_{name}"] for name in ("URL", "USER", "PASSWORD"))
        with SupersetClient(Endpoint(url, user, password)) as client:
            written = export(client)
    except KeyError as missing:
        print(f"{missing.args[0]} is not set; on the embedded platform: make export-dashboards", file=sys.stderr)
        return 1
    except (SupersetError, SpecError) as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(f"include/platform/superset/{path}" for path in written) or "nothing has changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
