"""Superset as declared state: databases, datasets, charts, dashboards in its own export format, over its REST API."""

from __future__ import annotations

from include.reconcile.superset import access
from include.reconcile.superset.assets import load
from include.reconcile.superset.state import run

__all__ = ["access", "load", "run"]
