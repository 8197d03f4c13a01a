"""Elasticsearch as declared state over REST: lifecycle policies first, then the index templates that name them.

Contract: GET and PUT /_ilm/policy/{name} and /_index_template/{name} of Elasticsearch 8. What is declared is compared;
what Elasticsearch adds to it is not. Nothing is deleted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from airflow.sdk import Connection

from include.paths import PLATFORM
from include.reconcile.plan import ApplyError, Change, declared, diff
from lakehouse_providers import transport
from lakehouse_providers.transport import Call, RetryPolicy

CONNECTION = "elasticsearch"
FOLDER = PLATFORM / "elasticsearch"
_MARK = {"managed_by": "open-lakehouse"}
RETRY = RetryPolicy()


@dataclass(frozen=True)
class Kind:
    """A kind of object: its file, its path, and where its definition stands in a reply."""

    title: str
    file: str
    path: str

    def definition(self, name: str, reply: Any) -> Any:
        if self.path == "_ilm/policy":
            return reply[name]["policy"]
        return next(one["index_template"] for one in reply["index_templates"] if one["name"] == name)

    def request(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        marked = {**wanted, "_meta": _MARK}
        return {"policy": marked} if self.path == "_ilm/policy" else marked


KINDS = (
    Kind("lifecycle policy", "lifecycle.yaml", "_ilm/policy"),
    Kind("index template", "index_templates.yaml", "_index_template"),
)


def run(*, apply: bool, folder: Path = FOLDER) -> list[Change]:
    """What differs, and with `apply` is made so. Raises ValueError naming the file, ApplyError."""
    changes: list[Change] = []
    with _client() as client:
        for kind in KINDS:
            for name, wanted in declared(folder / kind.file).items():
                if not isinstance(wanted, Mapping):
                    raise ValueError(f"{kind.file}: {name} must be a mapping, as Elasticsearch takes it")
                changes += _one(client, kind, name, wanted, apply=apply)
    return changes


def _client() -> httpx.Client:
    """`extra.api_key`, or login and password; `extra.verify: false` for a certificate that its owner signed."""
    conn = Connection.get(CONNECTION)
    extra = conn.extra_dejson
    key = extra.get("api_key")
    return httpx.Client(
        base_url=(conn.host or "").rstrip("/"),
        headers={"Authorization": f"ApiKey {key}"} if key else {},
        auth=(conn.login, conn.password or "") if conn.login and not key else None,
        timeout=float(extra.get("timeout") or 30),
        verify=bool(extra.get("verify", True)),
    )


def _one(client: httpx.Client, kind: Kind, name: str, wanted: Mapping[str, Any], *, apply: bool) -> list[Change]:
    path = f"/{kind.path}/{quote(name, safe='')}"
    reply = _send(client, Call("GET", path), missing=True)
    marked = {**wanted, "_meta": _MARK}
    actual = kind.definition(name, reply) if reply is not None else None
    lines = diff(marked, marked, actual) if actual is not None else ()
    if actual is not None and not lines:
        return []
    if apply:  # a PUT is whole: killed before the reply, it is there or it is not, and is found the next time
        _send(client, Call("PUT", path, json=kind.request(wanted)))
    return [Change("update" if actual is not None else "create", kind.title, name, lines)]


def _send(client: httpx.Client, call: Call, *, missing: bool = False) -> Any:
    try:
        reply = transport.send(client, call, RETRY)
    except httpx.HTTPError as error:
        raise ApplyError(f"{call.method} {call.path}: Elasticsearch gave no answer: {type(error).__name__}") from error
    if reply.status_code == httpx.codes.NOT_FOUND and missing:
        return None
    if not reply.is_success:
        raise ApplyError(f"{call.method} {call.path}: HTTP {reply.status_code} {_reason(reply)}".rstrip())
    return reply.json()


def _reason(reply: httpx.Response) -> str:
    try:
        error = reply.json()["error"]
        return str(error["reason"] if isinstance(error, Mapping) else error)
    except (ValueError, KeyError, TypeError):
        return ""
