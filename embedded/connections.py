"""Loads `airflow_settings.yaml` into Airflow through its REST API, with the addresses of what runs here.

A connection, pool or variable is written when it is missing, or when what is declared for it (address, credentials,
size) is not what was written last. What a user changes in Airflow in between is therefore kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import yaml

from embedded.airflow_client import AirflowClient
from embedded.durable import write_json
from embedded.home import PROJECT

FILE = PROJECT / "airflow_settings.yaml"
PAGE = 1000


class SettingsError(Exception):
    """`airflow_settings.yaml` is wrong; the message says where."""


@dataclass(frozen=True)
class Item:
    """`kind`: the path of its collection; `key`: the field that names it; `body`: as the API takes it."""

    kind: str
    key: str
    body: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.body[self.key])

    @property
    def fingerprint(self) -> str:
        # One way: the bodies hold passwords, all of them generated and long.
        return hashlib.sha256(json.dumps(self.body, sort_keys=True).encode()).hexdigest()


def declared(file: Path, overlays: Mapping[str, Mapping[str, Any]]) -> list[Item]:
    """Everything in the file; `overlays`: fields (`extra` is merged) by connection id. Raises SettingsError."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))["airflow"]
        items = [*_connections(content, overlays), *_pools(content), *_variables(content)]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise SettingsError(f"{file}: {type(error).__name__}: {error}") from error
    unknown = set(overlays) - {item.name for item in items if item.kind == "connections"}
    if unknown:
        raise SettingsError(f"{file} does not declare the connections {', '.join(sorted(unknown))}")
    return items


def _connections(content: Any, overlays: Mapping[str, Mapping[str, Any]]) -> Iterator[Item]:
    for one in content.get("connections") or []:
        given = {name: one.get(f"conn_{name}") for name in ("host", "schema", "login", "password", "port")}
        overlay = dict(overlays.get(one["conn_id"], {}))
        extra = {**(one.get("conn_extra") or {}), **overlay.pop("extra", {})}
        body = {"connection_id": one["conn_id"], "conn_type": one["conn_type"], **given, **overlay}
        yield Item("connections", "connection_id", body | {"extra": json.dumps(extra, sort_keys=True)})


def _pools(content: Any) -> Iterator[Item]:
    for one in content.get("pools") or []:
        description = one.get("pool_description") or ""
        body = {"name": one["pool_name"], "slots": int(one["pool_slot"]), "description": description}
        yield Item("pools", "name", body | {"include_deferred": False})


def _variables(content: Any) -> Iterator[Item]:
    for one in content.get("variables") or []:
        yield Item("variables", "key", {"key": one["variable_name"], "value": str(one["variable_value"])})


def apply(client: AirflowClient, items: list[Item], memory: Path) -> list[str]:
    """Writes what must be written; gives the names. `memory` keeps what was written last, as fingerprints."""
    known: dict[str, str] = json.loads(memory.read_text(encoding="utf-8")) if memory.exists() else {}
    written = []
    for kind in dict.fromkeys(item.kind for item in items):
        existing = _existing(client, kind)
        for item in items:
            label = f"{kind}/{item.name}"
            if item.kind != kind or (item.name in existing and known.get(label) == item.fingerprint):
                continue
            _write(client, item, item.name in existing)
            known[label] = item.fingerprint
            written.append(label)
    if written:
        write_json(memory, known)
    return written


def _write(client: AirflowClient, item: Item, exists: bool) -> None:
    try:
        if exists:
            client.request("PATCH", f"/{item.kind}/{quote(item.name, safe='')}", json=dict(item.body))
        else:
            client.request("POST", f"/{item.kind}", json=dict(item.body))
    except httpx.HTTPStatusError as error:
        # Not its text: a refusal repeats the body, and with it the password.
        status = error.response.status_code
        raise SettingsError(f"Airflow refused {item.kind}/{item.name} with status {status}; see {FILE}") from None


def _existing(client: AirflowClient, kind: str) -> set[str]:
    key = {"connections": "connection_id", "pools": "name", "variables": "key"}[kind]
    return {item[key] for item in client.json("GET", f"/{kind}", params={"limit": PAGE})[kind]}
