"""What a statement read and wrote, as OpenLineage events; nothing where the OpenLineage provider is not installed."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lakehouse_providers.dremio import errors, sql
from lakehouse_providers.dremio.client import DremioClient

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors.base import OperatorLineage

log = logging.getLogger(__name__)

_NAME = r'(?:"(?:[^"]|"")+"|[^\s".,;()]+)'
_PATH = rf"{_NAME}(?:\s*\.\s*{_NAME})*"
_COMMENTS = re.compile(r"\A(?:\s+|/\*.*?\*/|--[^\n]*(?:\n|\Z)|//[^\n]*(?:\n|\Z))*", re.DOTALL)
_WRITES = re.compile(
    r"(?:CREATE\s+(?:OR\s+REPLACE\s+)?(?:TABLE|VIEW|VDS)(?:\s+IF\s+NOT\s+EXISTS)?"
    r"|(?:INSERT|MERGE|COPY)\s+INTO|UPDATE|DELETE\s+FROM|TRUNCATE(?:\s+TABLE)?(?:\s+IF\s+EXISTS)?)"
    rf"\s+({_PATH})",
    re.IGNORECASE,
)

Path = tuple[str, ...]


def target(statement: str, context: Sequence[str] = ()) -> Path | None:
    """The dataset that a statement writes; None for one that only reads."""
    text = statement[_COMMENTS.match(statement).end() :]  # type: ignore[union-attr]
    found = _WRITES.match(text)
    if found is None:
        return None
    path = sql.path_of(re.sub(rf"({_NAME})\s*\.\s*", r"\1.", found[1]))
    return (*context, *path) if len(path) == 1 else path


def queried(value: object) -> list[Path]:
    """The paths in the system table's `queried_datasets`: a list, or text with or without brackets."""
    texts = value if isinstance(value, list) else re.findall(_PATH, str(value or "").strip().strip("[]"))
    return list(dict.fromkeys(sql.path_of(str(text)) for text in texts))


def namespace(client: DremioClient) -> str:
    """As the OpenLineage integration of dbt names it."""
    parts = urlsplit(client.endpoint.base_url)
    return f"dremio://{parts.hostname}:{parts.port or 443}"


def columns(client: DremioClient, path: Path) -> list[tuple[str, str]]:
    """Name and type of the columns of a dataset; [] where the catalog does not tell."""
    try:
        entity = client.catalog_by_path(path) or {}
    except errors.DremioError as error:
        log.info("No schema of %s: %s", sql.dotted(path), error)
        return []
    return [(field["name"], field["type"]["name"]) for field in entity.get("fields") or []]


def facets(
    client: DremioClient, job_id: str, statement: str, context: Sequence[str] = ()
) -> OperatorLineage[Any, Any] | None:
    """Inputs and outputs of a finished job with their schemas; the job's id and its text.

    None without the OpenLineage provider. What Dremio does not tell is left out.
    """
    try:
        from airflow.providers.common.compat.openlineage import facet
        from airflow.providers.openlineage.extractors.base import OperatorLineage
    except ImportError:
        return None

    place = namespace(client)

    def dataset(path: Path) -> Any:
        found = [facet.SchemaDatasetFacetFields(name=name, type=kind) for name, kind in columns(client, path)]
        described: dict[str, Any] = {"schema": facet.SchemaDatasetFacet(fields=found)} if found else {}
        return facet.Dataset(namespace=place, name=sql.dotted(path), facets=described)

    written = target(statement, context)
    return OperatorLineage(
        inputs=[dataset(path) for path in _read(client, job_id) if path != written],
        outputs=[dataset(written)] if written else [],
        run_facets={"externalQuery": facet.ExternalQueryRunFacet(externalQueryId=job_id, source=place)},
        job_facets={"sql": facet.SQLJobFacet(query=statement)},
    )


def _read(client: DremioClient, job_id: str) -> list[Path]:
    try:
        rows = client.query(sql.job_datasets(job_id, client.endpoint.system), idempotent=True, timeout=60)
    except errors.DremioError as error:
        log.warning("Dremio does not say what job %s read: %s", job_id, error)
        return []
    return queried(rows[0]["queried_datasets"]) if rows else []
