"""Deletes what we own and no longer declare, in the opposite order of its making; nothing else, ever."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from include.reconcile.dremio.ownership import ROLE_MARK, Owned
from include.reconcile.dremio.session import Session
from include.reconcile.plan import ApplyError, Change
from include.specs.dremio import Declaration
from lakehouse_providers.dremio.administration import Grantee

_ORDER = ("grant", "reflection", "view", "folder", "root")


def prune(
    session: Session,
    declared: Mapping[str, frozenset[Owned]],
    noted: Mapping[str, frozenset[Owned]],
) -> None:
    """Users are never deleted: what they own would go with them."""
    gone = [owned for name, found in noted.items() for owned in found - declared.get(name, frozenset())]
    for owned in sorted(gone, key=lambda one: (_ORDER.index(one.kind), -len(one.path), one)):
        _ACTIONS[owned.kind](session, owned)


def roles(session: Session, state: Declaration) -> None:
    kept = {role.name for role in state.roles}
    for there in session.admin.roles():
        if ROLE_MARK in (there.get("description") or "") and there["name"] not in kept:
            name = str(there["name"])
            session.make(Change("delete", "role", name), lambda name=name: session.admin.delete_role(name))  # type: ignore[misc]


def _grant(session: Session, owned: Owned) -> None:
    there = session.client.catalog_by_path(owned.path)
    if there is None:
        return
    kind, _, name = owned.detail.partition(":")
    grantee = Grantee("USER" if kind == "USER" else "ROLE", name)
    if grantee in session.admin.grants(there["id"]):
        session.make(
            Change("delete", "grants", owned.label),
            lambda: session.admin.change_grants(there["id"], {grantee: frozenset()}),
        )


def _reflection(session: Session, owned: Owned) -> None:
    dataset = session.client.catalog_by_path(owned.path)
    found = session.client.dataset_reflections(dataset["id"]) if dataset else []
    for one in found:
        if one["name"] == owned.detail:
            session.make(
                Change("delete", "reflection", owned.label),
                lambda one=one: session.client.delete_reflection(one["id"]),  # type: ignore[misc]
            )


def _view(session: Session, owned: Owned) -> None:
    there = session.client.catalog_by_path(owned.path)
    if there is not None and there.get("type") == "VIRTUAL_DATASET":
        session.make(
            Change("delete", "view", owned.label), lambda: session.client.delete_catalog(there["id"], there.get("tag"))
        )


def _container(session: Session, owned: Owned) -> None:
    """A folder or space goes only when it is empty: Dremio would delete what others put there along with it."""
    there = session.client.catalog_by_path(owned.path)
    if there is None:
        return
    kind = str(there["entityType"])
    inside = [".".join(child["path"]) for child in there.get("children") or []]
    if kind != "source" and inside and session.apply:
        raise ApplyError(
            f"delete {kind} {owned.label}: it still holds {', '.join(sorted(inside)[:5])}, "
            "which nothing here declares; move or delete them, or declare it again"
        )
    session.make(
        Change("delete", kind, owned.label), lambda: session.client.delete_catalog(there["id"], there.get("tag"))
    )


_ACTIONS: dict[str, Callable[[Session, Owned], None]] = {
    "grant": _grant,
    "reflection": _reflection,
    "view": _view,
    "folder": _container,
    "root": _container,
}
