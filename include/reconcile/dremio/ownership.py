"""What we own in Dremio is noted in Dremio: in the wiki of the source or space that an object lies in.

So nothing is ever deleted that somebody else made, no second store of state can differ from the first, and whoever
looks at the source sees what is managed. Objects are noted before they are made: a walk that is killed owns a little
more than there is, never less.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from include.reconcile.dremio.session import Session
from include.specs.dremio import Declaration, Path

_HEAD = "<!-- managed by open-lakehouse; do not edit this list"
_BLOCK = re.compile(r"\s*" + re.escape(_HEAD) + r"\n(.*?)-->\s*", re.DOTALL)
ROLE_MARK = "(managed by open-lakehouse)"


@dataclass(frozen=True, order=True)
class Owned:
    """`detail`: the reflection's name, or the grantee as KIND:name; "" for what a path names alone."""

    kind: str  # root, folder, view, reflection, grant
    path: Path
    detail: str = ""

    @property
    def label(self) -> str:
        return ".".join(self.path) + (f":{self.detail}" if self.detail else "")


def split(wiki: str) -> tuple[str, frozenset[Owned]]:
    """What people wrote, and what we own."""
    block = _BLOCK.search(wiki)
    if block is None:
        return wiki, frozenset()
    owned = [json.loads(line) for line in block[1].splitlines() if line.strip()]
    text = wiki[: block.start()] + wiki[block.end() :]
    return text, frozenset(Owned(kind, tuple(path), detail) for kind, path, detail in owned)


def joined(text: str, owned: Iterable[Owned]) -> str:
    # `>` is escaped, since a name with --> in it would end the comment.
    lines = [json.dumps([o.kind, list(o.path), o.detail]).replace(">", "\\u003e") for o in sorted(owned)]
    return text.rstrip() + ("\n\n" if text.strip() else "") + "\n".join([_HEAD, *lines, "-->"])


def declared(state: Declaration) -> dict[str, frozenset[Owned]]:
    """What each source and space must note."""
    found = {name: {Owned("root", (name,))} for name in state.roots}
    for container in state.containers:
        if len(container.path) > 1:
            found[container.path[0]].add(Owned("folder", container.path))
    for view in state.views:
        found[view.path[0]].add(Owned("view", view.path))
    for reflection in state.reflections:
        found[reflection.dataset[0]].add(Owned("reflection", reflection.dataset, reflection.name))
    for grant in state.grants:
        found[grant.path[0]].add(Owned("grant", grant.path, f"{grant.kind}:{grant.grantee}"))
    return {name: frozenset(owned) for name, owned in found.items()}


def noted(session: Session) -> dict[str, frozenset[Owned]]:
    """What the sources and spaces of Dremio say that we own."""
    found = {}
    for item in session.client.catalog():
        if item.get("containerType") in ("SOURCE", "SPACE"):
            _, owned = split(session.admin.wiki(item["id"]))
            if owned:
                found[item["path"][0]] = owned
    return found


def note(session: Session, wanted: Mapping[str, frozenset[Owned]]) -> None:
    """Writes the lists that differ; a root that is not there yet is left to the next walk."""
    for name, owned in wanted.items():
        there = session.client.catalog_by_path([name])
        if there is None or split(session.admin.wiki(there["id"]))[1] == owned:
            continue
        with session.naming(f"note what is managed in {name}"):
            session.admin.set_wiki(there["id"], lambda wiki, owned=owned: joined(split(wiki)[0], owned))  # type: ignore[misc]
