"""PostgreSQL as declared state: databases, the policy's roles and logins, their grants, row security."""

from __future__ import annotations

from include.reconcile.postgres.state import run

__all__ = ["run"]
