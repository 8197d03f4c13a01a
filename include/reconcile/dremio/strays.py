"""Privileges that somebody gave a role or user of the policy on an object of which the policy does not speak."""

from __future__ import annotations

from collections.abc import Iterable

from include.reconcile.dremio.session import Session
from include.reconcile.plan import Change
from include.specs.dremio import Grant, Path
from lakehouse_providers.dremio.administration import Grantee

_GRANTED = "select grantee_id, grantee_type, privilege, object_id from sys.privileges"


def run(session: Session, declared: Iterable[Grant]) -> None:
    """`declared`: grants of the policy; those on its own objects were compared already, one object at a time."""
    spoken_of = {(grant.kind, grant.grantee, ".".join(grant.path)) for grant in declared}
    ours = {(kind, name) for kind, name, _ in spoken_of}
    found: dict[tuple[str, str, str], set[str]] = {}
    for row in session.client.query(_GRANTED):
        who = (str(row["grantee_type"]).upper(), str(row["grantee_id"]))
        place = str(row["object_id"]).replace('"', "")
        if who in ours and (*who, place) not in spoken_of:
            found.setdefault((*who, place), set()).add(str(row["privilege"]))
    for (kind, name, place), privileges in sorted(found.items()):
        _take(session, kind, name, place, privileges)


def _take(session: Session, kind: str, name: str, place: str, privileges: set[str]) -> None:
    path: Path = tuple(place.split("."))
    there = session.client.catalog_by_path(path)
    lines = tuple(f"- {kind.lower()} {name} {privilege}" for privilege in sorted(privileges))
    change = Change("delete", "grants", place or "SYSTEM", lines)
    if there is None:  # of the system, or of a name with a dot in it: only a person can say what it is
        session.changes.append(Change("await", "grants", place or "SYSTEM", (*lines, "revoke it by hand")))
        return
    grantee = Grantee("USER" if kind == "USER" else "ROLE", name)
    session.make(change, lambda: session.admin.change_grants(there["id"], {grantee: frozenset()}))
