"""Airflow's own roles and logins as the policy has them, through its auth manager (FAB) over REST.

Airflow's built-in roles stay as Airflow makes them: the policy's admin has Admin, the others have roles of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow.sdk import Connection

from include.connections import resolve
from include.reconcile.plan import ApplyError, Change
from include.specs import policy as spec
from include.specs.policy import ADMIN, Member, Policy
from lakehouse_providers.fab.client import FabClient, Permission
from lakehouse_providers.fab.errors import FabError

CONNECTION = "airflow"
PREFIX = "policy_"
BUILT_IN_ADMIN = "Admin"
_READ = "can_read"
_EVERYBODY = (
    ("can_read", "Website"),
    ("can_read", "My Profile"),
    ("can_read", "My Password"),
    ("can_edit", "My Password"),
)
_LOOK = (
    *("DAGs", "DAG Dependencies", "DAG Runs", "DAG Versions", "DAG Warnings", "Assets", "Asset Aliases", "Backfills"),
    *("Task Instances", "Cluster Activity", "Jobs", "ImportError", "Pools"),
)
_MENUS = ("Browse", "DAGs", "DAG Dependencies", "DAG Runs", "Assets", "Cluster Activity", "Docs", "Documentation")
_ALL = ("can_create", "can_read", "can_edit", "can_delete")


def _of(resources: tuple[str, ...], *actions: str) -> tuple[Permission, ...]:
    return tuple((action, resource) for resource in resources for action in actions)


ACTIONS: Mapping[str, tuple[Permission, ...]] = {
    "read_dags": (*_of(_LOOK, _READ), *_of(_MENUS, "menu_access"), *_EVERYBODY),
    "read_logs": _of(("Task Logs", "XComs", "DAG Code", "HITL Detail"), _READ),
    # Whoever changes a run must be allowed to edit its DAG, says the auth manager; so switching it is the same right.
    "run_dags": (
        ("can_edit", "DAGs"),
        *_of(("DAG Runs", "Task Instances", "Backfills"), "can_create", "can_edit"),
        ("can_create", "Assets"),
        ("can_edit", "HITL Detail"),
    ),
    "manage_connections": (
        *_of(("Connections", "Pools", "Variables"), *_ALL),
        *_of(("Admin", "Connections", "Pools", "Variables"), "menu_access"),
    ),
    "manage_users": (*_of(("Users", "Roles"), *_ALL), *_of(("Security", "List Users", "List Roles"), "menu_access")),
}


def name(role: str) -> str:
    """What a role of the policy is called in Airflow."""
    return BUILT_IN_ADMIN if role == ADMIN else PREFIX + role


def permissions(policy: Policy, role: str) -> frozenset[Permission]:
    return frozenset(one for action in policy.actions(role, "airflow") for one in ACTIONS[action])


class _Walk:
    def __init__(self, client: FabClient, *, apply: bool) -> None:
        self.client, self.apply, self.changes = client, apply, list[Change]()

    def make(self, change: Change, do: Callable[[], Any]) -> None:
        if self.apply:
            try:
                do()
            except FabError as error:
                raise ApplyError(f"{change.action} {change.kind} {change.name}: {error}") from error
        self.changes.append(change)


def run(*, apply: bool, prune: bool = False, policy: Policy | None = None) -> list[Change]:
    """What differs, and with `apply` is made so. Raises SpecError, ApplyError, FabError.

    `prune`: also deletes roles of ours that are no longer declared; users never.
    """
    declared = policy or spec.load()
    conn = Connection.get(CONNECTION)
    with FabClient.connect(conn.host or "", conn.login or "", conn.password or "") as client:
        walk = _Walk(client, apply=apply)
        roles, users = client.roles(), client.users()
        for role in declared.roles:
            if role != ADMIN:
                _role(walk, name(role), permissions(declared, role), roles.get(name(role)))
        for member in declared.members:
            _user(walk, member, users.get(member.name))
        if prune:
            for gone in sorted(set(roles) - set(map(name, declared.roles))):
                if gone.startswith(PREFIX):
                    walk.make(Change("delete", "Airflow role", gone), lambda gone=gone: client.delete_role(gone))  # type: ignore[misc]
    return walk.changes


def _role(walk: _Walk, title: str, wanted: frozenset[Permission], there: frozenset[Permission] | None) -> None:
    if there is None:
        walk.make(Change("create", "Airflow role", title), lambda: walk.client.create_role(title, sorted(wanted)))
        return
    lines = [f"+ {action} on {resource}" for action, resource in sorted(wanted - there)]
    lines += [f"- {action} on {resource}" for action, resource in sorted(there - wanted)]
    if lines:
        change = Change("update", "Airflow role", title, tuple(lines))
        walk.make(change, lambda: walk.client.update_role(title, sorted(wanted)))


def _user(walk: _Walk, member: Member, there: frozenset[str] | None) -> None:
    """A password is set when the login is made, and never afterwards."""
    wanted = name(member.role)
    if there is None:
        email = f"{member.name}@lakehouse.invalid"
        walk.make(
            Change("create", "Airflow login", member.name),
            lambda: walk.client.create_user(member.name, str(resolve(member.password)), [wanted], email),
        )
    elif there != {wanted}:
        lines = tuple([f"+ {wanted}"] * (wanted not in there) + [f"- {one}" for one in sorted(there - {wanted})])
        change = Change("update", "Airflow login", member.name, lines)
        walk.make(change, lambda: walk.client.set_roles(member.name, [wanted]))
