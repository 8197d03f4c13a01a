"""Users, roles and grants, where the edition has them."""

from __future__ import annotations

from collections.abc import Iterable

from include.connections import resolve
from include.reconcile.dremio.ownership import ROLE_MARK
from include.reconcile.dremio.session import Session
from include.reconcile.plan import Change, diff
from include.specs.dremio import Grant, Path, Role, User
from lakehouse_providers.dremio.administration import Grantee

ADMIN = "ADMIN"


def user(session: Session, wanted: User) -> None:
    """A password is set when the user is made, and never afterwards: it cannot be compared, and is the user's own."""
    names = {"firstName": wanted.first_name, "lastName": wanted.last_name, "email": wanted.email}
    there = session.admin.user(wanted.name)
    if there is None:
        secret = {"password": resolve(wanted.password)} if wanted.password else {}
        body = {"name": wanted.name, **names, **secret}
        session.make(Change("create", "user", wanted.name), lambda: session.admin.create_user(body))
        return
    lines = diff({}, names, {key: there.get(key) or "" for key in names})
    if lines:
        session.make(
            Change("update", "user", wanted.name, lines), lambda: session.admin.update_user(wanted.name, names)
        )


def role(session: Session, wanted: Role) -> None:
    """Its members are exactly the declared ones."""
    text = f"{wanted.description} {ROLE_MARK}".strip()
    there = session.admin.role(wanted.name)
    if there is None:
        session.make(Change("create", "role", wanted.name), lambda: session.admin.create_role(wanted.name, text))
    else:
        lines = diff({}, {"description": text}, {"description": there.get("description") or ""})
        if lines:
            change = Change("update", "role", wanted.name, lines)
            session.make(change, lambda: session.admin.update_role(wanted.name, text))
    _members(session, wanted, known=there is not None or session.apply)


def _members(session: Session, wanted: Role, *, known: bool) -> None:
    should = {Grantee("USER", name) for name in wanted.users} | {Grantee("ROLE", name) for name in wanted.roles}
    members = session.admin.members(wanted.name) if known else []
    there = {Grantee(one.kind, one.name): one for one in members}
    add = sorted(should - set(there), key=str)
    remove = [one for grantee, one in there.items() if grantee not in should]
    if add or remove:
        lines = tuple([f"+ {g.kind.lower()} {g.name}" for g in add] + [f"- {m.kind.lower()} {m.name}" for m in remove])
        session.make(
            Change("update", "members of role", wanted.name, lines),
            lambda: session.admin.change_members(wanted.name, add, remove),
        )


def administrators(session: Session, users: Iterable[str], wanted: Iterable[str]) -> None:
    """Of the declared users, exactly `wanted` are members of Dremio's own ADMIN; who else is, is left alone."""
    there = {one.name: one for one in session.admin.members(ADMIN) if one.kind == "USER"}
    add = [Grantee("USER", name) for name in sorted(set(wanted) - set(there))]
    remove = [there[name] for name in sorted(set(there) & set(users) - set(wanted))]
    if add or remove:
        lines = tuple([f"+ user {one.name}" for one in add] + [f"- user {one.name}" for one in remove])
        change = Change("update", "members of role", ADMIN, lines)
        session.make(change, lambda: session.admin.change_members(ADMIN, add, remove))


def grants(session: Session, path: Path, wanted: list[Grant]) -> None:
    """The privileges of the declared grantees on one object; those of others stay."""
    name = ".".join(path)
    there = session.client.catalog_by_path(path)
    if there is None:
        session.changes.append(Change("await", "grants", name, ("it does not exist yet",)))
        return
    should = {Grantee(grant.kind, grant.grantee): grant.privileges for grant in wanted}  # type: ignore[arg-type]
    actual = session.admin.grants(there["id"])
    lines: list[str] = []
    for grantee, privileges in should.items():
        has = actual.get(grantee, frozenset())
        who = f"{grantee.kind.lower()} {grantee.name}"
        lines += [f"+ {who} {privilege}" for privilege in sorted(privileges - has)]
        lines += [f"- {who} {privilege}" for privilege in sorted(has - privileges)]
    if lines:
        change = Change("update", "grants", name, tuple(lines))
        session.make(change, lambda: session.admin.change_grants(there["id"], should))
