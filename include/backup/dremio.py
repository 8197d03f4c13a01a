"""The Dremio part of a set: a portable export of its catalogue over REST, without secrets.

Dremio's own backup restores onto the very same version only. This one is JSON that declares what there was: sources,
spaces, folders, views, wikis, tags, grants, reflections. Files and tables of a source are the source's own backup.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from include.backup.errors import BackupError
from include.backup.manifest import File
from include.backup.sets import SetWriter
from include.backup.settings import Login
from lakehouse_providers.dremio import errors
from lakehouse_providers.dremio.administration import Administration
from lakehouse_providers.dremio.client import DremioClient
from lakehouse_providers.dremio.endpoint import Endpoint
from lakehouse_providers.transport import Call

PART = "dremio"
_SECRET = re.compile(r"passw|secret|token|credential|(access|private|account|shared|sas|api)_?key", re.IGNORECASE)
# Of an entity: what makes it, not what the server adds.
_KEPT = ("entityType", "path", "name", "type", "sql", "sqlContext", "config", "description", "metadataPolicy", "format")
_REFLECTION = re.compile(r"Fields$|^(type|name|enabled|arrowCachingEnabled|partitionDistributionStrategy)$")


class ExportError(BackupError):
    """Dremio refuses to tell something; the message says which object."""


def part(writer: SetWriter, files: list[File], login: Login) -> Mapping[str, Any]:
    """Writes the export as one JSON file; gives how many objects of each kind. Raises ExportError."""
    with DremioClient(_endpoint(login)) as client:
        try:
            found = export(client)
        except errors.DremioError as error:
            raise ExportError(f"the export of Dremio (connection {login.conn_id!r}) failed: {error}") from error
    with writer.file(PART, "catalogue.json", files) as file:
        file.write(json.dumps(found, sort_keys=True, indent=1).encode())
    counts: dict[str, int] = {}
    for item in found["objects"]:
        counts[item["entity"]["entityType"]] = counts.get(item["entity"]["entityType"], 0) + 1
    return {"objects": counts, "reflections": len(found["reflections"]), "grants": found["grants"]}


def _endpoint(login: Login) -> Endpoint:
    scheme = "https" if login.extra.get("use_ssl") else "http"
    token = str(login.extra.get("token") or "")
    given = {"token": token} if token else {"user": login.login, "password": login.password}
    return Endpoint(f"{scheme}://{login.host}:{login.port or 9047}", **given)  # type: ignore[arg-type]


def export(client: DremioClient) -> dict[str, Any]:
    """`grants` says whether this edition has any."""
    admin = Administration(client)
    has_grants = True
    objects = []
    for entity in _walk(client):
        item: dict[str, Any] = {"entity": without_secrets({key: entity[key] for key in _KEPT if key in entity})}
        if wiki := admin.wiki(entity["id"]):
            item["wiki"] = wiki
        if tags := admin.tags(entity["id"]):
            item["tags"] = sorted(tags)
        if has_grants:
            try:
                grants = admin.grants(entity["id"])
                item["grants"] = {f"{who.kind} {who.name}": sorted(what) for who, what in grants.items()}
            except (errors.DremioNotFoundError, errors.DremioRequestError):
                has_grants = False
        objects.append(item)
    roles = _optional(admin.roles) if has_grants else []
    return {
        "objects": objects,
        "reflections": list(_reflections(client)),
        "roles": sorted(str(role["name"]) for role in roles),
        "grants": has_grants,
    }


def _optional(ask: Any) -> list[dict[str, Any]]:
    try:
        return list(ask())
    except (errors.DremioNotFoundError, errors.DremioRequestError):
        return []


def _walk(client: DremioClient) -> Iterator[dict[str, Any]]:
    """Sources as they are, spaces and homes with all that is in them."""
    waiting = [str(item["id"]) for item in client.catalog()]
    while waiting:
        entity = client.entity(waiting.pop())
        yield entity
        if entity.get("entityType") != "source":
            waiting += [str(child["id"]) for child in entity.get("children") or ()]


def _reflections(client: DremioClient) -> Iterator[dict[str, Any]]:
    for row in client.query("SELECT reflection_id, dataset_name FROM sys.reflections", idempotent=True):
        try:
            whole = client.call(Call("GET", f"/api/v3/reflection/{row['reflection_id']}"))
        except errors.DremioNotFoundError:  # dropped since
            continue
        yield {"dataset": row["dataset_name"], **{k: v for k, v in whole.items() if _REFLECTION.search(k)}}


def without_secrets(value: Any) -> Any:
    """The same, without whatever a name says is secret: fields, and entries of name-value lists."""
    if isinstance(value, Mapping):
        if "name" in value and "value" in value and _SECRET.search(str(value["name"])):
            return {"name": value["name"]}
        return {key: without_secrets(item) for key, item in value.items() if not _SECRET.search(str(key))}
    return [without_secrets(item) for item in value] if isinstance(value, list) else value
