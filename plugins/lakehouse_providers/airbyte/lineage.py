"""What a sync read and wrote, as OpenLineage events; nothing where the OpenLineage provider is not installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lakehouse_providers.airbyte.client import AirbyteClient, Body

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors.base import OperatorLineage

Name = tuple[str, str]  # namespace and name, as OpenLineage's naming rules have them
_S3_PATH = "${NAMESPACE}/${STREAM_NAME}/"


def source_name(source: Body, stream: Mapping[str, Any], host: str) -> Name:
    """A stream at its source: a table of PostgreSQL, or what a connector calls it."""
    found = source.get("configuration") or {}
    parts = [part for part in (stream.get("namespace"), stream["name"]) if part]
    if source.get("sourceType") == "postgres":
        return f"postgres://{found.get('host')}:{found.get('port', 5432)}", ".".join(
            [str(found.get("database")), *parts]
        )
    return f"airbyte://{host}", ".".join([str(source.get("name")), *parts])


def destination_name(destination: Body, connection: Body, stream: Mapping[str, Any], host: str) -> Name:
    """A stream at its destination: a folder of S3, a table of PostgreSQL, or what the connection calls it."""
    found = destination.get("configuration") or {}
    namespace = _namespace(connection, str(stream.get("namespace") or ""))
    name = f"{connection.get('prefix') or ''}{stream['name']}"
    match destination.get("destinationType"):
        case "s3":
            path = str(found.get("s3_path_format") or _S3_PATH).rpartition("/")[0]
            path = path.replace("${NAMESPACE}", namespace).replace("${STREAM_NAME}", name)
            parts = f"{found.get('s3_bucket_path') or ''}/{path}".split("/")
            return f"s3://{found.get('s3_bucket_name')}", "/".join(part for part in parts if part)
        case "postgres":
            schema = namespace or str(found.get("schema") or "public")
            place = f"postgres://{found.get('host')}:{found.get('port', 5432)}"
            return place, f"{found.get('database')}.{schema}.{name}"
    return f"airbyte://{host}", ".".join(filter(None, (str(destination.get("name")), namespace, name)))


def _namespace(connection: Body, namespace: str) -> str:
    match connection.get("namespaceDefinition"):
        case "source":
            return namespace
        case "custom_format":
            return str(connection.get("namespaceFormat") or "").replace("${SOURCE_NAMESPACE}", namespace)
    return ""


def facets(
    client: AirbyteClient, connection: Body, job_id: int, streams: Sequence[Mapping[str, Any]]
) -> OperatorLineage[Any, Any] | None:
    """Inputs and outputs of a finished job, stream by stream, with rows and bytes where `streams` has them.

    None without the OpenLineage provider.
    """
    try:
        from airflow.providers.common.compat.openlineage import facet
        from airflow.providers.openlineage.extractors.base import OperatorLineage
    except ImportError:
        return None

    host = urlsplit(client.endpoint.base_url).netloc
    source = client.get("source", connection["sourceId"])
    destination = client.get("destination", connection["destinationId"])
    counts = {(item.get("namespace") or "", item["name"]): item for item in streams}
    inputs, outputs = [], []
    for stream in connection["configurations"]["streams"]:
        found = counts.get((stream.get("namespace") or "", stream["name"]), {})
        rows = facet.OutputStatisticsOutputDatasetFacet(rowCount=found.get("records"), size=found.get("bytes"))
        statistics: dict[str, Any] = {"outputStatistics": rows} if "records" in found else {}
        inputs.append(facet.Dataset(*source_name(source, stream, host)))
        place, name = destination_name(destination, connection, stream, host)
        outputs.append(facet.OutputDataset(namespace=place, name=name, outputFacets=statistics))
    query = facet.ExternalQueryRunFacet(externalQueryId=str(job_id), source=f"airbyte://{host}")
    return OperatorLineage(inputs=inputs, outputs=outputs, run_facets={"externalQuery": query})
