"""Dremio as declared state: sources, spaces, folders, views, notes, reflections, users, roles, grants, over REST v3."""

from __future__ import annotations

from include.reconcile.dremio.reflections import apply_reflections, reflection_datasets
from include.reconcile.dremio.state import run

__all__ = ["apply_reflections", "reflection_datasets", "run"]
