"""Plan and apply: what differs between the files and Superset, imported in one transaction, then looked at again."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

import yaml

from include import connections
from include.reconcile.plan import ApplyError, Change
from include.reconcile.superset.assets import KINDS, OWNER, TITLES, Asset, load, reading
from include.reconcile.superset.normal import differences, normal
from lakehouse_providers.superset import errors
from lakehouse_providers.superset.client import SupersetClient

Content = dict[str, Any]
METADATA = {"version": "1.0.0", "type": "assets", "timestamp": "2017-01-01T00:00:00+00:00"}


def run(
    client: SupersetClient,
    *,
    apply: bool,
    prune: bool = False,
    assets: Sequence[Asset] | None = None,
    empty: Collection[str] = (),
) -> list[Change]:
    """What differs from the files; with `apply` it is made so and looked at again.

    `prune`: also deletes what was made from files that are gone, and nothing else; never a database. `empty`: published
    views that nothing fills yet; what would show them is not made. Running it again changes nothing. Raises SpecError,
    ApplyError, SupersetError.
    """
    declared = list(assets if assets is not None else load())
    there = actual(client)
    waiting = {uuid for uuid in reading(declared, empty) if not any(uuid == known for _, known in there)}
    wanted = {asset: resolved(asset) for asset in declared if asset.uuid not in waiting}
    awaited = [_awaited(asset) for asset in declared if asset.uuid in waiting]
    changes = [*_changes(client, wanted, there), *(_gone(declared, there) if prune else [])]
    if not apply or not changes:
        return changes + awaited
    _import(client, [asset for asset in wanted if _named(asset, changes)], wanted, there)
    if prune:
        _delete(client, declared, there)
    left = _changes(client, wanted, actual(client))
    if left:
        raise ApplyError("Superset took these assets and shows them otherwise:\n" + "\n".join(map(str, left)))
    return changes + awaited


def _awaited(asset: Asset) -> Change:
    return Change("await", asset.kind[:-1], asset.name, ("the source of its pipeline is not in Airbyte",))


def resolved(asset: Asset) -> Content:
    """With references to connections replaced. Raises ValueError naming an empty field."""
    if asset.kind != "databases":
        return dict(asset.content)
    content = dict(asset.content)
    content["sqlalchemy_uri"] = connections.resolve_url(str(content["sqlalchemy_uri"]))
    return {str(key): connections.resolve(value) for key, value in content.items()}


def actual(client: SupersetClient) -> dict[tuple[str, str], Content]:
    """Everything that Superset has, by kind and UUID."""
    found = {}
    for path, text in client.export_assets().items():
        kind = path.split("/", 1)[0]
        if kind in KINDS:
            content = yaml.safe_load(text)
            found[kind, str(content["uuid"])] = content
    return found


def _changes(
    client: SupersetClient, wanted: Mapping[Asset, Content], there: Mapping[tuple[str, str], Content]
) -> list[Change]:
    changes = []
    for asset, content in wanted.items():
        found = there.get((asset.kind, asset.uuid))
        if found is None:
            changes.append(Change("create", asset.kind[:-1], asset.name))
            continue
        unequal = list(differences(normal(asset.kind, content), normal(asset.kind, found)))
        lines = [f"{field}: {_short(before)} -> {_short(after)}" for field, before, after in unequal]
        if asset.kind == "databases" and not lines:
            lines = _refused(client, asset)
        if lines:
            changes.append(Change("update", asset.kind[:-1], asset.name, tuple(lines)))
    return changes


def _refused(client: SupersetClient, asset: Asset) -> list[str]:
    """A password that no longer opens the database is a difference that no export shows."""
    for item in client.items("database", ("id", "uuid")):
        if item["uuid"] == asset.uuid:
            try:
                client.schemas(int(item["id"]))
            except errors.SupersetResponseError as error:
                return [f"password: Superset cannot sign in with the one it has ({error.message[:200]})"]
    return []


def _named(asset: Asset, changes: Sequence[Change]) -> bool:
    return any((change.kind, change.name) == (asset.kind[:-1], asset.name) for change in changes)


def _import(
    client: SupersetClient,
    changed: Sequence[Asset],
    wanted: Mapping[Asset, Content],
    there: Mapping[tuple[str, str], Content],
) -> None:
    files = {"metadata.yaml": yaml.safe_dump(METADATA)}
    passwords = {}
    for asset in changed:
        content = _emptied(asset, wanted[asset], there.get((asset.kind, asset.uuid), {}))
        password = content.pop("password", None)
        if password:
            passwords[asset.path] = str(password)
        files[asset.path] = yaml.safe_dump(content, sort_keys=False)
    if not changed:
        return
    try:
        client.import_assets(files, passwords)
    except errors.SupersetResponseError as error:
        names = ", ".join(asset.label for asset in changed)
        raise ApplyError(f"import of {names}: {error}. Nothing of it was applied.") from error


def _emptied(asset: Asset, content: Content, found: Content) -> Content:
    """With null for what Superset has and the file does not: an import leaves alone what it does not name."""
    extra = normal(asset.kind, found).keys() - normal(asset.kind, content).keys()
    return dict.fromkeys(sorted(extra)) | content


def _gone(declared: Sequence[Asset], there: Mapping[tuple[str, str], Content]) -> list[Change]:
    """What we made, and no file declares any more; dashboards before their charts."""
    kept = {(asset.kind, asset.uuid) for asset in declared}
    return [
        Change("delete", kind[:-1], str(content[TITLES[kind]]))
        for kind in reversed(KINDS)
        for (of, uuid), content in there.items()
        if of == kind and (kind, uuid) not in kept and is_ours(kind, content)
    ]


def is_ours(kind: str, content: Mapping[str, Any]) -> bool:
    """Made from a file: certified in our name, with a UUID made from a name. A copy by a user gets a random one."""
    if kind == "databases" or UUID(str(content["uuid"])).version != 5:
        return False
    if kind == "datasets":
        extra = content.get("extra") or {}
        extra = json.loads(extra) if isinstance(extra, str) else extra
        return bool((extra.get("certification") or {}).get("certified_by") == OWNER)
    return bool(content.get("certified_by") == OWNER)


def _delete(client: SupersetClient, declared: Sequence[Asset], there: Mapping[tuple[str, str], Content]) -> None:
    kept = {(asset.kind, asset.uuid) for asset in declared}
    for kind in reversed(KINDS[1:]):
        doomed = {uuid for (of, uuid), one in there.items() if of == kind and is_ours(kind, one)}
        doomed -= {uuid for of, uuid in kept if of == kind}
        if not doomed:
            continue
        for item in list(client.items(kind[:-1], ("id", "uuid"))):
            if item.get("uuid") in doomed:
                client.delete(kind[:-1], int(item["id"]))


def _short(value: Any, limit: int = 160) -> str:
    text = "nothing" if value is None else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= limit else text[:limit] + "..."
