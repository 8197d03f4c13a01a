"""The policy as Dremio's users, roles and grants (Enterprise, Cloud), added to what the YAML files declare.

Every role is compared on every object of the policy, also where it must have nothing: a grant by hand is drift. The
Community edition has no roles: there only views, PostgreSQL, S3 and Superset keep people apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from include.specs.dremio import Declaration, Grant, Path, Role, User
from include.specs.policy import ADMIN, Policy

PREFIX = "policy_"
BUILT_IN_ADMIN = "ADMIN"
_SELECT = frozenset({"SELECT"})
_VIEWS = frozenset({"SELECT", "ALTER"})
SPACE = "lakehouse"

OBJECTS: Mapping[Path, Mapping[str, frozenset[str]]] = {
    ("bronze",): {"read_bronze": _SELECT},
    ("lake",): {"read_tables": _SELECT},
    ("ledger",): {"read_operations": _SELECT},
    (SPACE,): {"create_views": _VIEWS},
    (SPACE, "bronze"): {"read_bronze": _SELECT},
    (SPACE, "silver"): {"read_silver": _SELECT},
    (SPACE, "gold"): {"read_gold": _SELECT},
    (SPACE, "serving"): {"read_serving": _SELECT},
}
"""What an action means, by object. `manage_*` is membership in ADMIN."""


def role_name(role: str) -> str:
    return PREFIX + role


def with_policy(declaration: Declaration, policy: Policy) -> Declaration:
    """`declaration` and, behind it, what the policy asks of the objects that it declares."""
    roles = tuple(_roles(policy))
    users = tuple(User(m.name, m.name, "Lakehouse", f"{m.name}@lakehouse.invalid", m.password) for m in policy.members)
    grants = tuple(grant for grant in _grants(policy) if grant.path[0] in declaration.roots)
    return replace(
        declaration,
        users=(*declaration.users, *users),
        roles=(*declaration.roles, *roles),
        grants=(*declaration.grants, *grants),
        administrators=tuple(member.name for member in policy.members if member.role == ADMIN),
    )


def _roles(policy: Policy) -> Iterator[Role]:
    for role in policy.roles.values():
        members = tuple(member.name for member in policy.members if member.role == role.name)
        yield Role(role_name(role.name), role.description, members, ())


def _grants(policy: Policy) -> Iterator[Grant]:
    for path, meanings in OBJECTS.items():
        for role in policy.roles:
            given = [meanings[action] for action in policy.actions(role, "dremio") if action in meanings]
            yield Grant(path, "ROLE", role_name(role), frozenset().union(*given))
        for member in policy.members:  # nothing of their own: what they may, their role may
            yield Grant(path, "USER", member.name, frozenset())
