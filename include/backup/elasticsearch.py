"""The Elasticsearch part of a set: a snapshot of every index, made by Elasticsearch in a repository of its own.

The one supported way; the set binds the snapshot's name and what it holds. Contract: the snapshot API of 8.x.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from include.backup.errors import BackupError
from include.backup.settings import Login

PART = "elasticsearch"


class SnapshotError(BackupError):
    """Elasticsearch did not make a whole snapshot; the message says what it answered."""


def part(set_id: str, login: Login, timeout: float = 3600) -> Mapping[str, Any]:
    """Verifies the repository on every node, then makes a snapshot, or finds the one that an earlier try has made.

    The repository is named in the connection's extra, `repository`. Raises SnapshotError.
    """
    repository = str(login.extra.get("repository") or "lakehouse")
    name = f"lakehouse-{set_id.lower()}"
    with _client(login, timeout) as client:
        _call(client, "POST", f"/_snapshot/{repository}/_verify")
        _call(client, "PUT", f"/_snapshot/{repository}/{name}", exists=True)
        # Whoever made it: what counts is what it holds now.
        answer = _call(client, "GET", f"/_snapshot/{repository}/{name}")
    (found,) = answer["snapshots"]
    shards = found.get("shards") or {}
    if found["state"] != "SUCCESS" or shards.get("failed"):
        raise SnapshotError(
            f"snapshot {name} in repository {repository} is {found['state']}, {shards.get('failed', 0)} shards failed: "
            "delete it, mend the cluster, and clear the task"
        )
    return {
        "repository": repository,
        "snapshot": name,
        "uuid": found["uuid"],
        "indices": sorted(found["indices"]),
        "version": found.get("version", ""),
    }


def _client(login: Login, timeout: float) -> httpx.Client:
    host = login.host if "://" in login.host else f"{login.schema or 'https'}://{login.host}:{login.port or 9200}"
    given = (login.login, login.password) if login.login else None
    return httpx.Client(base_url=host, auth=given, timeout=httpx.Timeout(timeout, connect=10))


def _call(client: httpx.Client, method: str, path: str, *, exists: bool = False) -> Any:
    wait = {"wait_for_completion": "true"} if method == "PUT" else None
    body = {"indices": "*", "include_global_state": True} if method == "PUT" else None
    try:
        answer = client.request(method, path, params=wait, json=body)
    except httpx.TransportError as error:
        raise SnapshotError(f"Elasticsearch at {client.base_url} does not answer: {error}") from error
    if exists and answer.status_code == httpx.codes.BAD_REQUEST and "already exists" in answer.text:
        return None
    if answer.is_error:
        raise SnapshotError(f"{method} {path}: Elasticsearch answered {answer.status_code} {answer.text[:300]}")
    return answer.json()
