"""A group role for each role of the policy, a login for each member. Nothing that is not marked as ours is touched."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from include.connections import resolve
from include.reconcile.plan import Change
from include.reconcile.postgres.session import MARK, Session
from include.specs.policy import Member, Policy

PREFIX = "policy_"
# What no role of the policy has, with what takes it away; whoever was given it by hand could pass every grant.
_ATTRIBUTES = {
    "rolsuper": "nosuperuser",
    "rolcreaterole": "nocreaterole",
    "rolcreatedb": "nocreatedb",
    "rolreplication": "noreplication",
    "rolbypassrls": "nobypassrls",
}
_ROLES = """
select r.rolname as name, rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls
from pg_roles as r where shobj_description(r.oid, 'pg_authid') = %s or r.rolname = any(%s)
"""


def group(role: str) -> str:
    return PREFIX + role


def names(policy: Policy) -> list[str]:
    """All roles that the policy declares in PostgreSQL: groups, then logins."""
    return [*map(group, policy.roles), *(member.name for member in policy.members)]


def ours(session: Session, policy: Policy) -> list[str]:
    """The declared roles, and those that we made and that are no longer declared."""
    found = [row["name"] for row in session.rows(_ROLES, MARK, [])]
    return list(dict.fromkeys([*names(policy), *sorted(found)]))


def run(session: Session, policy: Policy) -> None:
    there = {row["name"]: row for row in session.rows(_ROLES, MARK, names(policy))}
    for role in policy.roles:
        _role(session, group(role), there.get(group(role)), None)
    for member in policy.members:
        _role(session, member.name, there.get(member.name), member)
        _membership(session, member)


def _role(session: Session, name: str, there: dict[str, object] | None, member: Member | None) -> None:
    """A password is set when the login is made, and never afterwards: it is the user's own."""
    role = sql.Identifier(name)
    kind = "login" if member else "role"
    if there is None:
        password = sql.SQL("login password {}").format(_hashed(session, member)) if member else sql.SQL("nologin")
        made = sql.SQL("create role {} {}").format(role, password)
        mark = sql.SQL("comment on role {} is {}").format(role, sql.Literal(MARK))
        session.make(Change("create", kind, name), [made, mark])
        return
    wanted = {**dict.fromkeys(_ATTRIBUTES, False), "rolcanlogin": member is not None}
    wrong = [attribute for attribute, value in wanted.items() if there[attribute] is not value]
    words = {**_ATTRIBUTES, "rolcanlogin": "login" if member else "nologin"}
    if wrong:
        lines = tuple(f"{words[attribute]}: is not so" for attribute in wrong)
        statement = sql.SQL("alter role {} {}").format(role, sql.SQL(" ".join(words[one] for one in wrong)))
        session.make(Change("update", kind, name, lines), [statement])


def _hashed(session: Session, member: Member | None) -> sql.Composable:
    """Hashed here: neither the server's log nor its statistics ever hold the password."""
    if member is None or not session.apply:
        return sql.Literal("")
    password = str(resolve(member.password))
    code = session.conn.pgconn.encrypt_password(password.encode(), member.name.encode(), b"scram-sha-256")
    return sql.Literal(code.decode())


def _membership(session: Session, member: Member) -> None:
    wanted = {group(member.role)}
    rows = session.rows(
        "select g.rolname as name from pg_auth_members as m join pg_roles as g on g.oid = m.roleid "
        "join pg_roles as u on u.oid = m.member where u.rolname = %s",
        member.name,
    )
    there = {row["name"] for row in rows}
    lines = [f"+ member of {name}" for name in sorted(wanted - there)]
    lines += [f"- member of {name}" for name in sorted(there - wanted)]
    if lines:
        who = sql.Identifier(member.name)
        statements = [sql.SQL("grant {} to {}").format(sql.Identifier(name), who) for name in wanted - there]
        statements += [sql.SQL("revoke {} from {}").format(sql.Identifier(name), who) for name in there - wanted]
        session.make(Change("update", "login", member.name, tuple(lines)), statements)


def undeclared(session: Session, policy: Policy) -> Iterator[str]:
    declared = set(names(policy))
    yield from (row["name"] for row in session.rows(_ROLES, MARK, []) if row["name"] not in declared)


def prune(session: Session, policy: Policy) -> None:
    """Drops roles that we made and that are no longer declared; PostgreSQL refuses while they own anything."""
    for name in undeclared(session, policy):
        session.make(Change("delete", "role", name), [sql.SQL("drop role {}").format(sql.Identifier(name))])
