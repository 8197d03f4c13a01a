"""Who may do what: roles, privileges, owners. Enterprise only; in the Community edition everybody may do everything.

Privileges are inherited downwards: one on a space or folder holds for all that lies in it. Owners have all privileges
on what they own, members of ADMIN on everything (docs.dremio.com: privileges, inheritance).
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import psycopg

from embedded.sql import acting
from embedded.sql.catalog import names
from embedded.sql.database import Database, Row
from embedded.sql.datasets import Path
from embedded.sql.errors import NotFound, PermissionDenied, UnsupportedError, ValidationError
from embedded.sql.identity import Identity, User
from embedded.sql.settings import Edition

PUBLIC, ADMIN = "PUBLIC", "ADMIN"

_TABLE = ("ALTER", "ALTER REFLECTION", "DELETE", "DROP", "INSERT", "MANAGE GRANTS", "OWNERSHIP", "SELECT", "TRUNCATE")
_DATASETS = (*_TABLE, "UPDATE", "VIEW REFLECTION")
_CONTAINER = (*_DATASETS, "CREATE TABLE", "MODIFY", "EXTERNAL QUERY")
AVAILABLE: dict[str, tuple[str, ...]] = {
    "TABLE": _DATASETS,
    "VIEW": ("ALTER", "ALTER REFLECTION", "MANAGE GRANTS", "OWNERSHIP", "SELECT", "VIEW REFLECTION"),
    "FUNCTION": ("ALTER", "MANAGE GRANTS", "OWNERSHIP", "SELECT"),
    "FOLDER": _CONTAINER,
    "SPACE": _CONTAINER,
    "SOURCE": _CONTAINER,
    "SYSTEM": (
        *("CREATE ROLE", "CREATE SOURCE", "CREATE SPACE", "CREATE USER", "MANAGE GRANTS", "MONITOR", "SELECT"),
        *("VIEW JOB HISTORY", "OWNERSHIP", "ALTER", "MODIFY"),
    ),
}
"""What can be granted on what, by type of object."""


@dataclass(frozen=True)
class Role:
    id: str
    name: str
    description: str
    system: bool


@dataclass(frozen=True)
class Grant:
    """One privilege of one grantee (`kind` USER or ROLE) on one object; the empty path is the system."""

    kind: str
    grantee: str
    privilege: str
    object_type: str
    path: Path


class Access:
    """Decisions are made from memory; PostgreSQL is written first. `owner` gives the owner's name of an exact path."""

    def __init__(self, database: Database, identity: Identity, edition: Edition) -> None:
        self._database = database
        self._identity = identity
        self.enforced = edition == "enterprise"
        self._guard = threading.RLock()
        self._roles: dict[str, Role] = {}
        self._members: dict[str, set[tuple[str, str]]] = {}  # role id -> (type, id)
        self._grants: dict[names.Key, set[Grant]] = {}
        self.owner: Callable[[Path], str | None] = lambda path: None

    def load(self) -> None:
        with self._guard:
            for name in (ADMIN, PUBLIC):
                self._database.execute(
                    "insert into roles (id, name, system) values (%s, %s, true) on conflict do nothing",
                    (uuid.uuid4(), name),
                )
            for row in self._database.rows("select * from roles"):
                self._remember(row)
            for row in self._database.rows("select * from role_members"):
                self._members[str(row["role_id"])].add((row["member_type"], str(row["member_id"])))
            for row in self._database.rows("select * from privileges"):
                found = Grant(
                    row["grantee_type"],
                    str(row["grantee_id"]),
                    row["privilege"],
                    row["object_type"],
                    tuple(row["object_path"]),
                )
                self._grants.setdefault(names.key(found.path), set()).add(found)

    def _remember(self, row: Row) -> Role:
        role = Role(str(row["id"]), row["name"], row["description"], row["system"])
        self._roles[role.id] = role
        self._members.setdefault(role.id, set())
        return role

    def need_enterprise(self, what: str) -> None:
        """Raises UnsupportedError in the Community edition, which has neither roles nor privileges."""
        if not self.enforced:
            raise UnsupportedError(f"{what} is not supported: it needs the Enterprise edition.")

    # Roles ------------------------------------------------------------------------------------------------------

    def roles(self) -> list[Role]:
        return sorted(self._roles.values(), key=lambda role: role.name.lower())

    def role(self, role_id: str) -> Role:
        role = self._roles.get(role_id.lower())
        if role is None:
            raise NotFound(f"Could not find role with id [{role_id}]")
        return role

    def role_named(self, name: str) -> Role:
        role = next((role for role in self._roles.values() if role.name.lower() == name.lower()), None)
        if role is None:
            raise NotFound(f"Role [{name}] not found.")
        return role

    def create_role(self, name: str, description: str = "") -> Role:
        self.need_enterprise("CREATE ROLE")
        if not name.strip() or not name.isprintable() or len(name) > 255:
            raise ValidationError("Role name must not be empty, at most 255 printable characters")
        try:
            row = self._database.row(
                "insert into roles (id, name, description) values (%s, %s, %s) returning *",
                (uuid.uuid4(), name, description),
            )
        except psycopg.errors.UniqueViolation:
            raise ValidationError(f"Role [{name}] already exists.") from None
        assert row is not None
        with self._guard:
            return self._remember(row)

    def describe_role(self, role: Role, description: str) -> Role:
        row = self._database.row("update roles set description = %s where id = %s returning *", (description, role.id))
        if row is None:
            raise NotFound(f"Could not find role with id [{role.id}]")
        with self._guard:
            return self._remember(row)

    def drop_role(self, role: Role) -> None:
        if role.system:
            raise ValidationError(f"Role [{role.name}] is predefined and cannot be dropped.")
        with self._guard:
            self._forget_grantee("ROLE", role.id)
            self._database.execute("delete from roles where id = %s", (role.id,))
            del self._roles[role.id]
            del self._members[role.id]

    def forget_user(self, user: User) -> None:
        """A user is gone: no later user of the same name inherits anything."""
        with self._guard:
            self._forget_grantee("USER", user.id)

    def _forget_grantee(self, kind: str, grantee_id: str) -> None:
        with self._database.transaction() as connection:
            for statement in (
                "delete from privileges where grantee_type = %s and grantee_id = %s",
                "delete from role_members where member_type = %s and member_id = %s",
            ):
                connection.execute(statement, (kind, grantee_id))
        for found in self._grants.values():
            found -= {grant for grant in found if (grant.kind, grant.grantee) == (kind, grantee_id)}
        for members in self._members.values():
            members.discard((kind, grantee_id))

    def members(self, role: Role) -> list[tuple[str, str, str]]:
        """Type, id and name of the direct members."""
        found = [(kind, member, self._name(kind, member)) for kind, member in self._members[role.id]]
        if role.name == PUBLIC:
            found = [("USER", user.id, user.name) for user in self._identity.users()]
        if role.name == ADMIN:
            found += [("USER", user.id, user.name) for user in self._identity.users() if user.admin]
        return sorted(set(found), key=lambda member: member[2].lower())

    def _name(self, kind: str, grantee_id: str) -> str:
        return self._roles[grantee_id].name if kind == "ROLE" else self._identity.user(grantee_id).name

    def add_member(self, role: Role, kind: str, name: str) -> None:
        grantee = self.grantee(kind, name)
        if role.name == PUBLIC:
            raise ValidationError("Every user is a member of PUBLIC: membership cannot be changed.")
        if kind == "ROLE" and grantee in self._reached({role.id}):
            raise ValidationError(f"Role [{name}] cannot be a member of [{role.name}]: that would be a circle.")
        self._database.execute(
            "insert into role_members (role_id, member_type, member_id) values (%s, %s, %s) on conflict do nothing",
            (role.id, kind, grantee),
        )
        with self._guard:
            self._members[role.id].add((kind, grantee))

    def remove_member(self, role: Role, kind: str, name: str) -> None:
        grantee = self.grantee(kind, name)
        self._database.execute(
            "delete from role_members where role_id = %s and member_type = %s and member_id = %s",
            (role.id, kind, grantee),
        )
        with self._guard:
            self._members[role.id].discard((kind, grantee))

    def _reached(self, roles: set[str]) -> set[str]:
        """These roles and all that have one of them as a member: what is granted to those holds for these too."""
        reached, waiting = set(roles), list(roles)
        while waiting:
            member = waiting.pop()
            for role_id, members in self._members.items():
                if ("ROLE", member) in members and role_id not in reached:
                    reached.add(role_id)
                    waiting.append(role_id)
        return reached

    def roles_of(self, user: User) -> list[Role]:
        """Direct and inherited roles, PUBLIC included."""
        direct = {role_id for role_id, members in self._members.items() if ("USER", user.id) in members}
        direct |= {
            role.id for role in self._roles.values() if role.name == PUBLIC or (role.name == ADMIN and user.admin)
        }
        return sorted((self._roles[i] for i in self._reached(direct)), key=lambda role: role.name.lower())

    def user_id(self, name: str) -> str | None:
        user = self._identity.user_named(name)
        return user.id if user is not None else None

    # Privileges -------------------------------------------------------------------------------------------------

    def grantee(self, kind: str, name: str) -> str:
        """The id of a user or role by name. Raises NotFound in Dremio's words."""
        if kind == "ROLE":
            return self.role_named(name).id
        user = self._identity.user_named(name)
        if user is None:
            raise NotFound(f"User [{name}] not found.")
        return user.id

    def grant(self, kind: str, name: str, privileges: Iterable[str], object_type: str, path: Path) -> None:
        grantee = self.grantee(kind, name)
        for privilege in self._expanded(privileges, object_type):
            given = Grant(kind, grantee, privilege, object_type, path)
            self._database.execute(
                "insert into privileges (grantee_type, grantee_id, privilege, object_type, object_path, key)"
                " values (%s, %s, %s, %s, %s, %s) on conflict do nothing",
                (kind, grantee, privilege, object_type, list(path), names.key_text(path)),
            )
            with self._guard:
                self._grants.setdefault(names.key(path), set()).add(given)

    def revoke(self, kind: str, name: str, privileges: Iterable[str], object_type: str, path: Path) -> None:
        grantee = self.grantee(kind, name)
        doomed = set(self._expanded(privileges, object_type))
        self._database.execute(
            "delete from privileges where key = %s and grantee_type = %s and grantee_id = %s and privilege = any(%s)",
            (names.key_text(path), kind, grantee, list(doomed)),
        )
        with self._guard:
            known = self._grants.get(names.key(path), set())
            known -= {g for g in known if (g.kind, g.grantee) == (kind, grantee) and g.privilege in doomed}

    def _expanded(self, privileges: Iterable[str], object_type: str) -> list[str]:
        known = AVAILABLE[object_type]
        found: list[str] = []
        for privilege in privileges:
            name = privilege.upper().replace("_", " ")
            if name in ("ALL", "ALL PRIVILEGES"):
                found += [p for p in known if p != "OWNERSHIP"]
            elif name in known:
                found.append(name)
            else:
                raise ValidationError(f"Privilege [{privilege.upper()}] cannot be granted on a {object_type}.")
        return found

    def grants_on(self, path: Path) -> list[Grant]:
        """What was granted on exactly this object."""
        found = self._grants.get(names.key(path), set())
        return sorted(found, key=lambda g: (g.kind, g.grantee, g.privilege))

    def all_grants(self) -> list[tuple[Grant, str]]:
        """Every grant and its grantee's name."""
        with self._guard:
            every = [grant for found in self._grants.values() for grant in found]
        return [(grant, self._name(grant.kind, grant.grantee)) for grant in every]

    def forget(self, paths: Sequence[Path]) -> None:
        """These objects are gone, and the privileges on them and below."""
        keys = {names.key(path) for path in paths}
        with self._guard:
            doomed = [k for k in self._grants if any(k[: len(key)] == key for key in keys)]
            if doomed:
                texts = [names.key_text(key) for key in doomed]
                self._database.execute("delete from privileges where key = any(%s)", (texts,))
            for key in doomed:
                del self._grants[key]

    # Decisions --------------------------------------------------------------------------------------------------

    def allowed(self, privilege: str, path: Path) -> bool:
        """Whether the user whom this thread works for has the privilege on the object or anything above it."""
        name = acting.user()
        if name is None or not self.enforced:
            return True
        user = self._identity.user_named(name)
        if user is None:
            return False
        return self._has(user, privilege, path)

    def _has(self, user: User, privilege: str, path: Path) -> bool:
        roles = self.roles_of(user)
        if any(role.name == ADMIN for role in roles):
            return True
        if any(self.owner(path[:depth]) == user.name for depth in range(1, len(path) + 1)):
            return True
        mine = {("USER", user.id)} | {("ROLE", role.id) for role in roles}
        key = names.key(path)
        return any(
            grant.privilege in (privilege, "OWNERSHIP") and (grant.kind, grant.grantee) in mine
            for depth in range(len(key) + 1)
            for grant in self._grants.get(key[:depth], ())
        )

    def visible(self, path: Path) -> bool:
        """Whether the user may know that the object exists: any privilege on it, above it or below it."""
        name = acting.user()
        if name is None or not self.enforced:
            return True
        user = self._identity.user_named(name)
        if user is None:
            return False
        if any(self._has(user, privilege, path) for privilege in _CONTAINER):
            return True
        mine = {("USER", user.id)} | {("ROLE", role.id) for role in self.roles_of(user)}
        key = names.key(path)
        return any(
            known[: len(key)] == key and any((g.kind, g.grantee) in mine for g in grants)
            for known, grants in list(self._grants.items())
        )

    def need(self, privilege: str, path: Path) -> None:
        """Raises PermissionDenied (403) that names privilege and object."""
        if self.allowed(privilege, path):
            return
        shown = names.dotted(path) or "SYSTEM"
        if privilege == "SELECT":
            raise PermissionDenied(f"Access denied reading dataset {shown}.")
        raise PermissionDenied(f"User [{acting.user()}] does not have the privilege {privilege} on [{shown}].")

    def need_visible(self, path: Path) -> None:
        """Raises PermissionDenied (403) for what the user may not even know of."""
        if not self.visible(path):
            raise PermissionDenied(f"User [{acting.user()}] is not authorized to access [{names.dotted(path)}].")

    def need_admin(self) -> None:
        """Raises PermissionDenied for all but administrators."""
        if acting.user() is None or not self.enforced:
            return
        user = self._identity.user_named(acting.user() or "")
        if user is not None and any(role.name == ADMIN for role in self.roles_of(user)):
            return
        raise PermissionDenied("Only administrators can do this.")
