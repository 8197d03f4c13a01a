"""Sources, spaces, folders, views, and the notes on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from include.connections import resolve
from include.reconcile.dremio.ownership import joined, split
from include.reconcile.dremio.session import Session
from include.reconcile.plan import Change, diff
from include.specs.dremio import Container, Notes, Path, Source, View


def source(session: Session, wanted: Source) -> None:
    body = {"entityType": "source", "name": wanted.name, **resolve(wanted.definition)}
    there = session.client.catalog_by_path([wanted.name])
    if there is None:
        session.make(Change("create", "source", wanted.name), lambda: session.client.create_catalog(body))
        return
    lines = diff(wanted.definition, body, there)
    if lines:
        session.make(Change("update", "source", wanted.name, lines), lambda: _write(session, wanted.name, body))
    elif session.apply:
        # Secrets come back masked and cannot be compared, so the declared ones are written again.
        with session.naming(f"write the secrets of source {wanted.name}"):
            _write(session, wanted.name, body)


def _write(session: Session, name: str, body: Mapping[str, Any]) -> None:
    session.admin.rewrite(
        [name], lambda there: {**there, **body, "config": {**(there.get("config") or {}), **body["config"]}}
    )


def container(session: Session, wanted: Container) -> None:
    if session.client.catalog_by_path(wanted.path) is not None:
        return
    body: dict[str, Any] = {"entityType": "folder", "path": list(wanted.path)}
    kind = "folder"
    if len(wanted.path) == 1:
        body, kind = {"entityType": "space", "name": wanted.path[0]}, "space"
    session.make(Change("create", kind, ".".join(wanted.path)), lambda: session.client.create_catalog(body))


def view(session: Session, wanted: View) -> None:
    name = ".".join(wanted.path)
    there = session.client.catalog_by_path(wanted.path)
    body = {"entityType": "dataset", "type": "VIRTUAL_DATASET", "path": list(wanted.path), "sql": wanted.sql}
    body["sqlContext"] = list(wanted.context)
    if there is None:
        session.make(Change("create", "view", name), lambda: session.client.create_catalog(body))
        return
    if there.get("type") != "VIRTUAL_DATASET":
        raise ValueError(f"views.yaml: {name} is a table in Dremio; choose another path")
    actual = {"sql": str(there.get("sql") or "").strip(), "context": list(there.get("sqlContext") or [])}
    lines = diff({}, {"sql": wanted.sql, "context": list(wanted.context)}, actual)
    if lines:
        change = Change("update", "view", name, lines)
        session.make(change, lambda: session.admin.rewrite(wanted.path, lambda now: {**now, **body}))


def notes(session: Session, path: Path, wanted: Notes) -> None:
    """Wiki and tags, where they are declared. Below the wiki of a source or space stands the list of what we own."""
    if wanted == Notes():
        return
    name = ".".join(path)
    there = session.client.catalog_by_path(path)
    if there is None:
        if not session.apply:
            session.changes.append(Change("await", "notes", name, ("it does not exist yet",)))
        return
    if wanted.wiki is not None:
        _wiki(session, there["id"], name, wanted.wiki.strip())
    if wanted.tags is not None:
        actual = session.admin.tags(there["id"])
        lines = diff({}, {"tags": sorted(wanted.tags)}, {"tags": sorted(actual)})
        if lines:
            tags = wanted.tags
            session.make(Change("update", "tags", name, lines), lambda: session.admin.set_tags(there["id"], tags))


def _wiki(session: Session, identity: str, name: str, text: str) -> None:
    shown, _ = split(session.admin.wiki(identity))
    lines = diff({}, {"wiki": text}, {"wiki": shown.strip()})

    def write(now: str) -> str:
        owned = split(now)[1]
        return joined(text, owned) if owned else text

    if lines:
        session.make(Change("update", "wiki", name, lines), lambda: session.admin.set_wiki(identity, write))
