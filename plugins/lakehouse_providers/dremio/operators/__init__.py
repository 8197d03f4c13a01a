"""Tasks on Dremio: run SQL, refresh the metadata of datasets, refresh reflections and wait for their data."""

from __future__ import annotations

from lakehouse_providers.dremio.operators.link import JOB_URL, DremioJobLink
from lakehouse_providers.dremio.operators.metadata import DremioRefreshMetadataOperator
from lakehouse_providers.dremio.operators.reflections import DremioRefreshReflectionsOperator
from lakehouse_providers.dremio.operators.statement import DremioSqlOperator

__all__ = [
    "JOB_URL",
    "DremioJobLink",
    "DremioRefreshMetadataOperator",
    "DremioRefreshReflectionsOperator",
    "DremioSqlOperator",
]
