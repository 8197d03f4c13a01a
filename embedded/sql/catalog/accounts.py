"""Users and roles by SQL: CREATE, ALTER and DROP of both, GRANT and REVOKE of roles."""

from __future__ import annotations

import secrets
from typing import Any

from embedded.sql.access import Access
from embedded.sql.catalog.service import CatalogService
from embedded.sql.errors import NotFound, UnsupportedError
from embedded.sql.identity import Identity, User


class Accounts:
    def __init__(self, identity: Identity, access: Access, catalog: CatalogService) -> None:
        self._identity = identity
        self._access = access
        self._catalog = catalog

    def change(self, statement: Any) -> str:
        """Carry out a statement about accounts (statements.Account, statements.GrantRole); gives its summary."""
        if hasattr(statement, "grantee"):
            return self._grant_role(statement)
        self._access.need_enterprise(f"{statement.verb} {statement.kind}")
        changes = {
            ("CREATE", "ROLE"): self._create_role,
            ("DROP", "ROLE"): self._drop_role,
            ("CREATE", "USER"): self._create_user,
            ("ALTER", "USER"): self._alter_user,
            ("DROP", "USER"): self._drop_user,
        }
        change = changes.get((statement.verb, statement.kind))
        if change is None:
            raise UnsupportedError(f"{statement.verb} {statement.kind} is not supported by this server.")
        return change(statement.name, getattr(statement, "password", None))

    def _grant_role(self, statement: Any) -> str:
        self._access.need_enterprise("REVOKE ROLE" if statement.revoke else "GRANT ROLE")
        self._access.need_admin()
        role = self._access.role_named(statement.role)
        change = self._access.remove_member if statement.revoke else self._access.add_member
        change(role, statement.grantee_type, statement.grantee)
        words = "revoked from" if statement.revoke else "granted to"
        return f"Role [{role.name}] {words} {statement.grantee_type} [{statement.grantee}]."

    def _create_role(self, name: str, password: str | None) -> str:
        self._access.need("CREATE ROLE", ())
        self._access.create_role(name)
        return f"Role [{name}] created."

    def _drop_role(self, name: str, password: str | None) -> str:
        self._access.need_admin()
        self._access.drop_role(self._access.role_named(name))
        return f"Role [{name}] dropped."

    def _create_user(self, name: str, password: str | None) -> str:
        """Without a password nobody can log in until ALTER USER sets one."""
        self._access.need("CREATE USER", ())
        user = self._identity.create_user(name, password or secrets.token_urlsafe(24) + "a1")
        self._catalog.create_home(user.name)
        return f"User [{name}] created."

    def _alter_user(self, name: str, password: str | None) -> str:
        user = self._user(name)
        self._access.need_admin()
        if password is None:
            raise UnsupportedError("ALTER USER can set a password only.")
        self._identity.update_user(
            user, None, first=user.first_name, last=user.last_name, email=user.email, password=password
        )
        return f"User [{name}] updated."

    def _drop_user(self, name: str, password: str | None) -> str:
        self._access.need_admin()
        user = self._user(name)
        self._identity.delete_user(user)
        self._access.forget_user(user)
        return f"User [{name}] dropped."

    def _user(self, name: str) -> User:
        user = self._identity.user_named(name)
        if user is None:
            raise NotFound(f"User [{name}] not found.")
        return user
